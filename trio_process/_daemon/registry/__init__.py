"""Which daemons run: one JSON file for each, in a directory that go-process shares."""

from .entry import DaemonEntry
from .naming import file_names
from .owner import open_daemon
from .registry import Registry, default_registry

__all__ = [
    "DaemonEntry",
    "Registry",
    "default_registry",
    "file_names",
    "open_daemon",
]
