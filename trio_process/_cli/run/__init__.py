"""The command ``trio-process run``: selection, live view, plain log, summary, reports."""
