"""The command line, on click and rich (extra `cli`); nothing else in the package imports it."""
