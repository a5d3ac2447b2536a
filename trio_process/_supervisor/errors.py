"""`NotReadyError`: units were not ready in time."""

from __future__ import annotations

from .._core import ProcessError


class NotReadyError(ProcessError, TimeoutError, shown_as=TimeoutError):
    """Units were not ready in time; the message says what each was waiting for."""

    # OSError, a base of TimeoutError, prints its own attributes where it has two
    __str__ = ProcessError.__str__
