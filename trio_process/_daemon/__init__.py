"""Layer 2, lifecycle: PID file, registry, health, daemon."""

from .entry import DaemonEntry
from .pidfile import PIDFile, read_pid
from .registry import Registry, default_registry

__all__ = [
    "DaemonEntry",
    "PIDFile",
    "Registry",
    "default_registry",
    "read_pid",
]
