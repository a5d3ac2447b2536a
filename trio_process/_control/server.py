"""`ControlServer`: watch and control running processes over HTTP."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, final

import trio

from .._core import Block, ProcessError, Secret, bad_option, checks, logger, member, open_shielded_scope
from .._daemon import Address, Registry, import_http, listening, parse_address, serving
from .._process import Service
from .._supervisor import Supervisor
from .demand import on_demand
from .gate import Access, Guard, Names, is_loopback

if TYPE_CHECKING:
    from quart_trio import QuartTrio

    from .._pipeline import RunSpec, RunUpdate
    from .live import Plane

_MAX_CONNECTIONS: Final = 256  # besides streams, which have their own slots
_LONGEST_TOKEN: Final = 1024


@final
class ControlServer(Block):
    """Shows and controls running processes: an HTTP API, an event stream, metrics and a page.

    Args:
        addr: ``host:port``, ``:port`` (all interfaces), ``[::1]:port`` or ``unix:/path``; port 0 takes a free one.
        supervisor: The supervisor whose services are shown. It need not be entered yet, so a server around it can show
            how the services are stopped.
        service: The service whose processes are shown; None for that of the supervisor.
        registry: The registry whose daemons are shown.
        access: What clients may do.
        token: The token that clients must send; None to generate one. On a unix socket none is needed, because only its
            owner can connect.
        page: Whether ``/`` serves the page.
        hosts: Further names of the server, `host` or ``host:port``, such as that of a proxy in front of it.
        max_streams: How many event streams may be open at the same time.

    Raises:
        OptionError: An option is invalid, or the address is not loopback and no token was given.

    If the address can't be bound, entering raises a `DaemonError` that is also an `OSError`. Over TCP, everything
    except the page's files, ``/health`` and ``/ready`` needs the token; requests that another site makes a browser send
    are refused.

    >>> async with Service() as service, ControlServer("127.0.0.1:0", service=service) as control:
    ...     assert control.url.startswith("http://127.0.0.1:")
    """

    __slots__ = (
        "_access",
        "_addr",
        "_address",
        "_app",
        "_beside",
        "_bound",
        "_given",
        "_hosts",
        "_on_demand",
        "_page",
        "_plane",
        "_routes",
        "_sources",
        "_token",
    )

    def __init__(
        self,
        addr: str,
        *,
        supervisor: Supervisor | None = None,
        service: Service | None = None,
        registry: Registry | None = None,
        access: Access | str = Access.CONTROL,
        token: Secret | str | None = None,
        page: bool = True,
        hosts: Iterable[str] = (),
        max_streams: int = 64,
    ) -> None:
        super().__init__()
        self._address = parse_address(addr)
        self._addr = addr
        self._bound: Address | None = None
        self._access = member(Access, access, "access")
        self._given = token is not None
        self._token = _checked_token(token)
        self._page = checks.flag("page", page)
        if isinstance(hosts, (str, bytes)):
            raise bad_option(
                "hosts", f"must be a list or tuple of names, got {checks.brief(hosts)}; write [{checks.brief(hosts)}]"
            )
        self._hosts = tuple(checks.items("hosts", hosts, "names"))
        Names((), 0, self._hosts)  # refuses invalid names
        if service is not None and not isinstance(service, Service):
            raise bad_option("service", f"must be a Service or None, got {checks.brief(service)}")
        if supervisor is not None and not isinstance(supervisor, Supervisor):
            raise bad_option("supervisor", f"must be a Supervisor or None, got {checks.brief(supervisor)}")
        if registry is not None and not isinstance(registry, Registry):
            raise bad_option("registry", f"must be a Registry or None, got {checks.brief(registry)}")
        self._sources: dict[str, Any] = {
            "supervisor": supervisor,
            "service": service,
            "registry": registry,
            "access": self._access,
            "max_streams": checks.whole("max_streams", max_streams, least=1),
        }
        self._plane: Plane | None = None
        self._app: QuartTrio | None = None
        self._on_demand = False
        self._beside: ControlServer | None = None
        self._routes: list[tuple[str, Callable[[], Awaitable[Any]], str]] = []
        if not self._address.path and not is_loopback(self._address.host) and _is_literal(self._address.host):
            self._need_given_token()

    @property
    def addr(self) -> str:
        """The bound address while entered (port 0 resolved), else the configured one."""
        return str(self._bound) if self._bound is not None else self._addr

    @property
    def url(self) -> str:
        """The URL of the page; on a unix socket, ``http+unix://`` and the percent-encoded path."""
        address = self._bound or self._address
        if address.path:
            return f"http+unix://{_quoted(address.path)}/"
        return f"http://{address._replace(host=address.reachable_host)}/"

    @property
    def login_url(self) -> Secret:
        """The URL of the page with the token in its fragment, which browsers never send; a unix socket needs no token."""
        if (self._bound or self._address).path:
            return Secret(self.url)
        return Secret(f"{self.url}#token={_quoted(self._token.reveal())}")

    @property
    def token(self) -> Secret:
        """The token that clients must send, unless the server is on a unix socket."""
        return self._token

    @property
    def app(self) -> QuartTrio:
        """The `QuartTrio` app, for your own routes, even while it serves; they are protected, too."""
        if self._app is None:
            from quart_trio import QuartTrio  # noqa: PLC0415 - the HTTP stack is most of the import time

            self._app = QuartTrio("trio_process.control", static_folder=None, root_path=os.path.dirname(__file__))
            for rule, view, method in self._routes:
                self._app.add_url_rule(rule, view_func=view, methods=[method])
        return self._app

    def pipeline(
        self, name: str, specs: Iterable[RunSpec], *, stopping: trio.Event | None = None
    ) -> trio.MemorySendChannel[RunUpdate]:
        """Show a pipeline that is about to run.

        Args:
            name: Its name.
            specs: Its specs.
            stopping: The event that is also passed to `run_all` as `stopping`, so that the page can stop the pipeline;
                None if it can't be stopped from there.

        Returns:
            The channel to pass to a `Runner` as `updates`.

        Raises:
            ProcessError: The server has not been entered.
        """
        if self._plane is None or self._plane.nursery is None:
            raise ProcessError(
                "a pipeline is shown by a server that is entered: async with ControlServer(...) as control"
            )
        pipeline, send, receive = self._plane.pipelines.add(checks.text("name", name, empty=False), specs, stopping)
        self._plane.nursery.start_soon(self._plane.pipelines.follow, pipeline, receive)
        return send

    def _refuse_entry(self) -> None:
        if self._entered is not None:
            raise ProcessError(f"this ControlServer serves {self.addr} already; make another one")

    def _need_given_token(self) -> None:
        if not self._given:
            raise bad_option(
                "addr",
                f"{self._addr!r} can be reached from other machines, so a token must be given: token=Secret(...), "
                "and to the command line in the variable TRIO_PROCESS_TOKEN; or listen at 127.0.0.1, or at a unix socket",
            )

    def _block(self) -> AbstractAsyncContextManager[None]:
        return self._serve()

    @asynccontextmanager
    async def _serve(self) -> AsyncIterator[None]:
        try:
            async with listening(self._address, mode=0o600) as (listeners, bound):
                hosts = [sock.getsockname()[0] for sock in listeners] if not bound.path else []
                if not all(map(is_loopback, hosts)):
                    self._need_given_token()
                    logger.warning(
                        "control server: %s can be reached from other machines; anyone with the token has %s access to what runs "
                        "here, and the network can read the token: put TLS in front of it",
                        bound,
                        self._access.value,
                    )
                if not self._on_demand:
                    await trio.to_thread.run_sync(_import_stack)
                async with self._open(listeners, bound, hosts):
                    yield
        finally:
            self._bound = None

    @asynccontextmanager
    async def _open(self, listeners: list[Any], bound: Address, hosts: list[str]) -> AsyncIterator[None]:
        names = Names([*hosts, self._address.host], bound.port, self._hosts, anything=bool(bound.path))
        guard = Guard(
            names,
            None if bound.path else self._token,
            self._access,
            cookie_name=f"trio-process-{bound.port}",
            clock=trio.current_time,
        )
        async with self._observing() as plane:
            plane.guard = guard
            self._plane = plane
            try:
                async with self._answering(plane, guard, listeners):
                    self._bound = bound
                    try:
                        yield
                    finally:
                        with trio.CancelScope(shield=True):
                            await trio.lowlevel.checkpoint()  # lets events published just now reach the hub
                        plane.close()
            finally:
                self._plane = None

    @asynccontextmanager
    async def _observing(self) -> AsyncIterator[Plane]:
        from .live import Feed, Plane, sample  # noqa: PLC0415 - kept out of the import time

        if self._beside is not None:
            assert self._beside._plane is not None, "it is entered first"
            yield self._beside._plane.beside(self._access, self._sources["max_streams"])
            return
        plane = Plane(**self._sources)
        async with open_shielded_scope() as plane.nursery:
            await plane.nursery.start(Feed(plane).run)
            plane.nursery.start_soon(plane.hub.run)
            plane.nursery.start_soon(plane.daemons.run)
            plane.nursery.start_soon(sample, plane)
            yield plane

    @asynccontextmanager
    async def _answering(self, plane: Plane, guard: Guard, listeners: list[Any]) -> AsyncIterator[None]:
        if not self._on_demand:
            async with self._serving(plane, guard, listeners):
                yield
            return

        async def serve() -> None:
            await trio.to_thread.run_sync(_import_stack)
            async with self._serving(plane, guard, listeners):
                await plane.closing.wait()

        assert plane.nursery is not None, "it is set before the server answers"
        async with on_demand(listeners, plane.closing, serve, plane.nursery):
            yield

    def _serving(self, plane: Plane, guard: Guard, listeners: list[Any]) -> AbstractAsyncContextManager[None]:
        from .api import Router, api_routes, page_routes  # noqa: PLC0415 - it imports everything needed for serving
        from .frontend import Frontend  # noqa: PLC0415 - as above

        router = Router([*api_routes(), *(page_routes() if self._page else [])])
        frontend = Frontend(plane, router, guard, self.app)
        limit = _MAX_CONNECTIONS + plane.max_streams
        return serving(frontend, self.app, listeners, max_connections=limit, refusal=frontend.refusal)


def serve_on_demand(server: ControlServer) -> ControlServer:
    """Make a server import the HTTP stack when the first client connects, not when it is entered; return it."""
    server._on_demand = True
    return server


def serve_beside(server: ControlServer, first: ControlServer) -> ControlServer:
    """Make a server show what another one shows, also the lines that were written before, while that is entered; return it."""
    server._beside = first
    return server


def add_route(server: ControlServer, rule: str, view: Callable[[], Awaitable[Any]], method: str = "GET") -> None:
    """Add a route to the app of a server, which is not made for that."""
    if server._app is None:
        server._routes.append((rule, view, method))
    else:
        server._app.add_url_rule(rule, view_func=view, methods=[method])


def _checked_token(token: Secret | str | None) -> Secret:
    if token is None:
        import secrets  # noqa: PLC0415 - kept out of the import time

        return Secret(secrets.token_urlsafe(32))
    given = token.reveal() if isinstance(token, Secret) else token
    if not isinstance(given, str):
        raise bad_option("token", f"must be a Secret, a str or None, got a {type(token).__name__}")
    if not given or len(given) > _LONGEST_TOKEN or not all("!" <= char <= "~" for char in given):
        raise bad_option("token", f"must be 1 to {_LONGEST_TOKEN} printable ASCII characters without blanks")
    return Secret(given)


def _quoted(text: str) -> str:
    from urllib.parse import quote  # noqa: PLC0415 - kept out of the import time

    return quote(text, safe="")


def _is_literal(host: str) -> bool:
    """Return whether a host is an address, or all interfaces; names are resolved when the server is entered."""
    return not host or ":" in host or host.replace(".", "").isdigit()


def _import_stack() -> None:
    """Import the HTTP stack, which takes 200 ms: call it in a thread, so that the event loop continues."""
    import_http()
    from . import api, frontend, live  # noqa: F401, PLC0415 - for the side effect of being imported
