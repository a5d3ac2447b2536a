"""`NotReadyError`: the error of what doesn't get ready in time."""

from __future__ import annotations

from .._core import ProcessError


class NotReadyError(ProcessError, TimeoutError):
    """Something didn't get ready in time; the text says what it was waiting for."""

    # OSError, a base of TimeoutError, prints its own attributes where it has two
    __str__ = ProcessError.__str__
