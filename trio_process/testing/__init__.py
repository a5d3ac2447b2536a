"""Public: what tests of programs built on this package need."""
