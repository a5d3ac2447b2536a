"""Which daemons run: one JSON file for each, in a directory that go-process shares."""

from .entry import DaemonEntry
from .naming import file_names
from .owner import NotHereError, find_daemon, open_daemon
from .registry import Registration, Registry, default_registry

__all__ = [
    "DaemonEntry",
    "NotHereError",
    "Registration",
    "Registry",
    "default_registry",
    "file_names",
    "find_daemon",
    "open_daemon",
]
