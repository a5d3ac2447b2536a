"""Files of derived values: what takes long to find out, kept so that it need not be found out again.

Such a file may be deleted at any time. It is ignored if it can't be read, fails its checksum, or comes from another
Python. Its format is that of `marshal`, which is five times as fast as JSON, but must not be given data of other users:
a file that others could have written is ignored, too.
"""

from __future__ import annotations

import marshal
import sys
import zlib
from pathlib import Path
from typing import Any, Final

from .._core import distrust, open_regular, write_atomically

_FAULTS: Final = (OSError, ValueError, TypeError, EOFError)


def read_derived(path: Path, kind: str) -> tuple[Any, ...] | None:
    """Return the values in a file, or None if they can't be used.

    Args:
        path: The file.
        kind: The kind and version of the values.
    """
    try:
        opened = open_regular(path, follow=False)
        if opened is None:
            return None
        descriptor, status = opened
        with open(descriptor, "rb") as file:
            data = b"" if distrust(status) else file.read()
        head, _, body = data.partition(b"\n")
        if head != _head(kind, body):
            return None
        values = marshal.loads(body)  # noqa: S302 - of a file that only this user or root can write
    except _FAULTS:
        return None
    return values if isinstance(values, tuple) else None


def write_derived(path: Path, kind: str, values: tuple[Any, ...]) -> None:
    """Write values to a file that only this user can read.

    Raises:
        OSError: The file can't be written.
        ValueError: A value is none that `marshal` can write: a text, bytes, a number, None, or a collection of these.
    """
    body = marshal.dumps(values)
    write_atomically(path, _head(kind, body) + b"\n" + body, mode=0o600)


def _head(kind: str, body: bytes) -> bytes:
    python = sys.implementation.cache_tag
    return f"trio-process {kind} {python} {marshal.version} {zlib.crc32(body):08x}".encode()
