"""Process management for Trio, by structured concurrency."""
