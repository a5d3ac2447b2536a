"""The state behind a health server: readiness, checks, and the responses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, final

from ..._core import checks as rules
from ..._core import dumps
from .checks import CheckResult, HealthChecks, check_owner
from .negotiate import preferred

_JSON_TYPES: Final = ("application/health+json", "application/json")


class Answer(NamedTuple):
    """One response; `allow` is the value of its `Allow` header, "" for no header."""

    status: int
    content_type: str
    body: bytes
    allow: str = ""


_TEXT: Final = "text/plain; charset=utf-8"
_HEALTHY: Final = Answer(200, _TEXT, b"ok\n")
_READY: Final = Answer(200, _TEXT, b"ready\n")
_NOT_READY: Final = Answer(503, _TEXT, b"not ready\n")


@final
class HealthState:
    """The state behind ``/health`` and ``/ready``; a Daemon has it even without a server.

    Args:
        ready: Whether it is ready from the start.
        check_timeout: Seconds that each check may take.

    Attributes:
        checkup: The checks.
    """

    __slots__ = ("_on_ready", "_ready", "_stopping", "checkup")

    def __init__(self, *, ready: bool, check_timeout: float) -> None:
        self.checkup: HealthChecks = HealthChecks(check_timeout)
        self._ready = ready
        self._stopping = False
        self._on_ready: Callable[[], object] | None = None

    @property
    def ready(self) -> bool:
        """Whether ``/ready`` returns 200; never while stopping."""
        return self._ready and not self._stopping

    def set_ready(self, ready: bool) -> None:  # noqa: FBT001 - set_ready(True) is the contract
        """Set the readiness; a change to ready is reported to the watcher."""
        self._ready = rules.flag("ready", ready)
        self._tell()

    def set_stopping(self, stopping: bool) -> None:  # noqa: FBT001 - a setter
        """Set whether the block is being left, and no new work should be sent."""
        self._stopping = stopping

    def watch_ready(self, watcher: Callable[[], object] | None) -> None:
        """Call `watcher` whenever readiness is set to true, and now if it is true; None removes the watcher."""
        self._on_ready = watcher
        self._tell()

    def _tell(self) -> None:
        if self._on_ready is not None and self.ready:
            self._on_ready()

    def remember(self) -> tuple[bool, tuple[Any, ...]]:
        """Return a snapshot for `restore`."""
        return self._ready, self.checkup.snapshot()

    def restore(self, remembered: tuple[bool, tuple[Any, ...]]) -> None:
        """Restore readiness and checks; later changes belonged to one entry of a daemon."""
        self._ready, checks = remembered
        self.checkup.restore(checks)

    @contextmanager
    def checks_of_main(self) -> Iterator[None]:
        """Remove the checks that an earlier call of `main` has added; those added inside the block belong to this call."""
        self.checkup.drop_added_by(self)
        token = check_owner.set(self)
        try:
            yield
        finally:
            check_owner.reset(token)

    async def health(self, accept: str) -> Answer:
        """Run the checks and return the answer to ``GET /health``."""
        results = await self.checkup.results()
        kind = json_type(accept)
        if not kind:
            return _HEALTHY if not any(result.why for result in results) else _unhealthy(results)
        checks: dict[str, list[dict[str, Any]]] = {}
        for result in results:  # a list per name, as in the draft: two checks may share one
            checks.setdefault(result.name, []).append(result.to_dict())
        return _as_json(kind, ok=not any(result.why for result in results), more={"checks": checks})

    def readiness(self, accept: str) -> Answer:
        """Return the answer to ``GET /ready``."""
        kind = json_type(accept)
        if kind:
            return _as_json(kind, ok=self.ready, more={} if self.ready else {"output": "not ready"})
        return _READY if self.ready else _NOT_READY


def json_type(accept: str) -> str:
    """Return the JSON media type that an `Accept` header asks for, "" for plain text."""
    if not accept or accept == "*/*":
        return ""
    kind = preferred(accept, _JSON_TYPES, "text/plain")
    return kind if kind in _JSON_TYPES else ""


def _unhealthy(results: list[CheckResult]) -> Answer:
    lines = [f"unhealthy: {result.name}: {result.why}\n" for result in results if result.why]
    return Answer(503, _TEXT, "".join(lines).encode(errors="backslashreplace"))


def _as_json(kind: str, *, ok: bool, more: dict[str, Any]) -> Answer:
    body = dumps({"status": "pass" if ok else "fail", **more}) + "\n"
    return Answer(200 if ok else 503, kind, body.encode())
