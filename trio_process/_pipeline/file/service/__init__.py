"""The services of a pipeline file: their keys, the types of their values, and their reader."""
