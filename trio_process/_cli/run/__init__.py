"""The command ``trio-process run``: selection, execution, memory and reports."""
