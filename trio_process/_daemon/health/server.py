"""`HealthServer`: ``/health`` and ``/ready`` over HTTP, for probes and people."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Final, final

import trio

from ..._core import Block, DaemonError, ProcessError
from ..._core import checks as rules
from .address import parse_address
from .checks import HealthCheck
from .listen import listening
from .state import HealthState

if TYPE_CHECKING:
    from quart_trio import QuartTrio

    from .app import HealthApp

_HTTP_STACK: Final = ("hypercorn>=0.18,<0.19", "quart>=0.22,<0.23", "quart-trio>=0.12")


@final
class HealthServer(Block):
    """A server for ``GET /health`` and ``GET /ready``, on hypercorn and quart-trio.

    Args:
        addr: ``host:port``, ``:port`` (all interfaces), ``[::1]:port`` or ``unix:/path``; port 0 takes a free one.
        checks: The checks that ``/health`` runs; see `HealthCheck`.
        ready: Whether ``/ready`` reports readiness at first.
        check_timeout: Seconds that each check may take.
        max_connections: How many connections are served at once. A new one replaces the one that has been idle for
            longest; if all are busy, it waits.

    Raises:
        OptionError: An option is invalid.

    ``/health`` returns 200 `ok`, or 503 with a line ``unhealthy: <name>: <why>`` for each failed check; ``/ready`` returns
    200 `ready` or 503 ``not ready``. With ``Accept: application/health+json`` or ``application/json`` both respond in JSON
    (draft-inadarei-api-health-check-06). If the address can't be bound, entering raises a `DaemonError` that is also an
    `OSError`.

    >>> async with HealthServer("127.0.0.1:0", ready=False) as server:
    ...     server.add_check(lambda: shutil.disk_usage("/").free > 1e9, name="disk")
    ...     server.set_ready(True)
    """

    __slots__ = ("_addr", "_app", "_bound", "_closing", "_max_connections", "_state")

    def __init__(
        self,
        addr: str,
        *,
        checks: Iterable[HealthCheck] = (),
        ready: bool = True,
        check_timeout: float = 5.0,
        max_connections: int = 256,
    ) -> None:
        super().__init__()
        parse_address(addr)
        self._addr = addr
        self._bound = ""
        self._app: HealthApp | None = None
        self._closing = trio.Event()
        self._max_connections = int(rules.whole("max_connections", max_connections, least=1))
        #: Its state, which a Daemon shares. Not part of the contract.
        self._state: HealthState = HealthState(
            ready=rules.flag("ready", ready),
            check_timeout=rules.seconds("check_timeout", check_timeout, positive=True),
        )
        for check in rules.items("checks", checks, "functions"):
            self._state.checkup.add(check)

    @property
    def addr(self) -> str:
        """The bound address while entered (port 0 resolved), else the configured one."""
        return self._bound or self._addr

    @property
    def ready(self) -> bool:
        """Whether ``/ready`` answers 200."""
        return self._state.ready

    @property
    def app(self) -> QuartTrio:
        """The `QuartTrio` app, for your own routes and hooks, even while it serves; made on first access.

        A route at ``/health`` or ``/ready`` replaces the server's own answer. Hooks such as `before_request` see probes, too.
        Long responses and WebSockets have 64 places of their own, so that probes are always answered; one more gets 503.
        """
        return self._health_app()

    @property
    def closing(self) -> trio.Event:
        """Set when the server begins to close, so that handlers of streams can end then and delay nothing.

        Each entry creates a new event.
        """
        return self._closing

    def set_ready(self, ready: bool) -> None:  # noqa: FBT001 - set_ready(True) is the contract
        """Set whether ``/ready`` reports readiness."""
        self._state.set_ready(ready)

    def add_check(self, check: HealthCheck, name: str | None = None) -> None:
        """Add a check, which runs from the next probe on.

        Args:
            check: A sync or async callable without arguments; see `HealthCheck`.
            name: Its name in responses; an existing check with this name is replaced. None for the name of the function,
                with a number appended if that is taken.

        Raises:
            OptionError: `check` is not callable, or is a generator function.
        """
        self._state.checkup.add(check, None if name is None else rules.text("name", name, empty=False))

    def remove_check(self, name: str) -> None:
        """Remove the check called `name`.

        Raises:
            OptionError: No check has this name; the message names the nearest one.
        """
        self._state.checkup.remove(name)

    def _health_app(self) -> HealthApp:
        if self._app is None:
            from .app import HealthApp  # noqa: PLC0415 - the HTTP stack is most of the import time

            self._app = HealthApp(self._state)
        return self._app

    def _refuse_entry(self) -> None:
        if self._entered is not None:
            raise ProcessError(f"this HealthServer is already serving {self.addr}; create another one")

    @asynccontextmanager
    async def _serve(self) -> AsyncIterator[None]:
        try:
            # bound before the stack is imported: a port in use is reported at once, and early probes wait in the backlog
            async with listening(parse_address(self._addr)) as (listeners, bound):
                await trio.to_thread.run_sync(import_http)
                from .accept import open_server  # noqa: PLC0415 - imported when a server is entered, not before

                self._closing = trio.Event()
                app = self._health_app()
                async with open_server(app, self._state, listeners, max_connections=self._max_connections):
                    self._bound = str(bound)
                    try:
                        yield
                    finally:
                        self._closing.set()
                        self._state.set_stopping(True)
                        with trio.CancelScope(shield=True):
                            await self._state.checkup.aclose()
        finally:
            self._bound = ""
            self._state.set_stopping(False)

    def _block(self) -> AbstractAsyncContextManager[None]:
        return self._serve()


def import_http() -> None:
    """Import the HTTP stack, which takes 200 ms: call it in a thread, so that the loop continues."""
    try:
        from . import accept, app  # noqa: F401, PLC0415 - for the side effect of being imported
    except ImportError as error:
        raise DaemonError(
            f"the health server's HTTP stack can't be imported: {error}; install what it is made for: "
            f"pip install {' '.join(map(repr, _HTTP_STACK))}"
        ) from error
