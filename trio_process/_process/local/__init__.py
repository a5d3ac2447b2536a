"""How a child runs on this machine: spawn, standard streams, watching, reaping."""

from .adopt import adopted_options, follow_log
from .backend import LocalBackend
from .fork_exec import spawn_with_descriptor_limit
from .handle import CHUNK
from .stdio import PIPE_CAPACITY, open_path
from .wants_terminal import WANTS_TERMINAL, keep_terminal

__all__ = [
    "CHUNK",
    "PIPE_CAPACITY",
    "WANTS_TERMINAL",
    "LocalBackend",
    "adopted_options",
    "follow_log",
    "keep_terminal",
    "open_path",
    "spawn_with_descriptor_limit",
]
