"""Layer 1, execution."""
