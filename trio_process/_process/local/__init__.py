"""How a child runs on this machine: spawn, standard streams, watching, reaping."""

from .adopt import adopted_options, follow_log
from .backend import LocalBackend
from .handle import CHUNK
from .stdio import PIPE_CAPACITY, open_path

__all__ = [
    "CHUNK",
    "PIPE_CAPACITY",
    "LocalBackend",
    "adopted_options",
    "follow_log",
    "open_path",
]
