"""Unix sockets in directories whose path is longer than the kernel takes for a socket.

The address of a unix socket has room for 107 bytes (unix(7), `sun_path` without its NUL). A home directory on a network
disk, or a temporary one of a test, can be longer. On Linux, such a directory is opened, and the socket is addressed by
the descriptor, ``/proc/self/fd/N/name``; only the name is limited then. A change of the working directory would do the
same, but to every thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENAMETOOLONG
from typing import Final

import trio

_DESCRIPTORS: Final = "/proc/self/fd"
_LONGEST: Final = 107
_LONGEST_NAME: Final = _LONGEST - len(
    "/proc/self/fd/1073741816/"
)  # the most descriptors that a process can have (proc(5))


def fault_of_socket_path(path: str) -> str | None:
    """Return why no unix socket can be at `path`, an absolute one; None if one can."""
    if len(os.fsencode(path)) <= _LONGEST:
        return None
    if not hasattr(os, "O_PATH"):
        return f"the path of a unix socket has at most {_LONGEST} bytes"
    if len(os.fsencode(os.path.basename(path))) <= _LONGEST_NAME:
        return None
    return f"the name of a unix socket has at most {_LONGEST_NAME} bytes if its path has more than {_LONGEST}"


@contextmanager
def socket_path(path: str) -> Iterator[str]:
    """Yield a path for bind(2) and connect(2) that leads to the unix socket at `path`, valid inside the block."""
    if len(os.fsencode(path)) <= _LONGEST or not hasattr(os, "O_PATH"):
        yield path
        return
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        short = f"{_DESCRIPTORS}/{directory}"
        if not os.path.exists(short):
            raise OSError(ENAMETOOLONG, f"its path has more than {_LONGEST} bytes, which needs /proc to be mounted")
        yield f"{short}/{os.path.basename(path)}"
    finally:
        os.close(directory)


async def open_unix_stream(path: str) -> trio.SocketStream:
    """Connect to the unix socket at `path`, which may be long."""
    with socket_path(path) as short:
        return await trio.open_unix_socket(short)
