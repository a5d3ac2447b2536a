"""Which daemons run: one JSON file for each, in a directory that go-process shares."""

from .entry import DaemonEntry
from .naming import file_names
from .owner import NotHereError, find_daemon, open_daemon
from .registration import Registration
from .registry import Registry, default_registry, hold_entry

__all__ = [
    "DaemonEntry",
    "NotHereError",
    "Registration",
    "Registry",
    "default_registry",
    "file_names",
    "find_daemon",
    "hold_entry",
    "open_daemon",
]
