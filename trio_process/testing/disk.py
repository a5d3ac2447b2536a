"""`FaultyDisk`: simulates a full or broken disk for the files that this package writes."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import TracebackType
from typing import Self, final

from .._core import Draft, bad_option, checks


@final
class FaultyDisk:
    """Inside the block, writes of this package below a directory fail: PID files, registry entries, recordings.

    Args:
        directory: The directory.
        room: How many bytes can still be written to all files together. The write that exceeds it is cut off there, as
            on a real disk, and the next one fails.
        error: The errno of a failure: `errno.ENOSPC`, `errno.EDQUOT`, `errno.EIO`.

    Attributes:
        faults: How many writes have failed, so that a test can check that it hit the fault.

    >>> import pytest
    >>> from trio_process import DaemonError, PIDFile
    >>> def test_a_full_disk_is_reported(tmp_path):
    ...     with FaultyDisk(tmp_path) as disk:
    ...         with pytest.raises(DaemonError):
    ...             PIDFile(tmp_path / "my.pid").acquire()
    ...     assert disk.faults == 1
    """

    def __init__(self, directory: str | os.PathLike[str], *, room: int = 0, error: int = errno.ENOSPC) -> None:
        if error not in errno.errorcode:
            raise bad_option("error", f"must be an errno, such as errno.ENOSPC, got {error!r}")
        self._directory = Path(directory).resolve()
        self._room = int(checks.whole("room", room))
        self._error = error
        self.faults: int = 0

    def __enter__(self) -> Self:
        self._before = Draft.write
        Draft.write = self._write
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        Draft.write = self._before

    def _write(self, directory: Path, descriptor: int, data: memoryview) -> int:
        """Write as much as there is room for; raise once there is none."""
        if not directory.resolve().is_relative_to(self._directory):
            return self._before(directory, descriptor, data)
        granted = min(len(data), self._room)
        if data and not granted:
            self.faults += 1
            raise OSError(self._error, os.strerror(self._error))
        self._room -= granted
        return self._before(directory, descriptor, data[:granted])
