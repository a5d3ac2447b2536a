"""`Problem`: the reason why a request was refused, as the error envelope of an answer."""

from __future__ import annotations

from typing import Any, Final, final

STATUS_OF: Final = {
    "invalid_request": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "run_not_allowed": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "conflict": 409,
    "run_failed": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "misdirected": 421,
    "too_many_requests": 429,
    "headers_too_large": 431,
    "internal": 500,
    "not_implemented": 501,
    "unavailable": 503,
}
"""The status of each error code."""


@final
class Problem(Exception):  # noqa: N818 - an answer, which never leaves the server
    """A request that can't be fulfilled.

    Args:
        code: One of `STATUS_OF`.
        message: What was wrong, and what to do about it.
        details: Further details, ready for JSON; ``{"field": NAME}`` for a field that was refused.
        headers: Further headers of the answer.
    """

    def __init__(
        self, code: str, message: str, details: Any = None, *, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = STATUS_OF[code]
        self.message = message
        self.details = details
        self.headers = headers

    def envelope(self) -> dict[str, Any]:
        """Return the body of the answer."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.details is not None:
            error["details"] = self.details
        return {"success": False, "error": error}


def invalid(field: str, message: str) -> Problem:
    """Return the problem for a refused field of the body or the query."""
    return Problem("invalid_request", message, {"field": field})
