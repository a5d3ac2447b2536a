"""Layer 2, lifecycle: PID file, registry, health, daemon."""

from .pidfile import PIDFile, read_pid

__all__ = [
    "PIDFile",
    "read_pid",
]
