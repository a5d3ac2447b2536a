"""Decide when a newly started daemon counts as healthy: by URL, by a line, by a port, or by being alive.

An answer from a target doesn't prove which process answers. So the resident reports each start and each end of a
command: the target must answer while the same command is running, and that command must still be running a moment
later. If the command ends before that, the wait starts over with the next command that the resident starts.
"""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from http.client import HTTPException
from typing import Any, Final, NamedTuple, final
from urllib.parse import unquote, urlsplit, urlunsplit

import trio

from ..._core import DaemonError, OptionError, open_scope
from ..._daemon import Address, ask, parse_destination, why_not_connected
from ..._process import ManagedProcess
from .files import DaemonSpec

_PAUSE: Final = 0.05
_ONE_ATTEMPT: Final = 5.0
_CONFIRMED_AFTER: Final = 0.2
_BEFORE_THE_START: Final = 1.0
_BY_A_GATEWAY: Final = (HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT)
"""The statuses by which a proxy reports that nothing answers behind it (RFC 9110, 15.6.3 and 15.6.5)."""

_QUICK: Final = 1.0  # seconds within which a command that puts itself into the background exits


def check_url(url: str) -> str:
    """Return the URL if it can be requested, or raise an `OptionError`."""
    try:
        parts = urlsplit(url)
        # the attribute `port` raises for an invalid port
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not url.isascii() or any(char.isspace() or not char.isprintable() for char in url):
        raise OptionError(f"takes http://HOST:PORT/PATH, the port from 1 to 65535, got {url!r}")
    return url


def check_line(text: str) -> str:
    """Return the text if a line can contain it, or raise an `OptionError`."""
    if "\n" in text:
        raise OptionError(f"takes text without a line break, as no line has one; got {text!r}")
    return text


def check_tcp(address: str) -> str:
    """Return the address if it can be connected to, or raise an `OptionError`."""
    try:
        parsed = parse_destination(address)
    except OptionError:
        parsed = None
    if parsed is None or parsed.path:
        raise OptionError(f"takes HOST:PORT or :PORT, the port from 1 to 65535, got {address!r}")
    return address


async def refuse_answering_target(spec: DaemonSpec) -> None:
    """Refuse a start whose target already answers: the answer would not come from the command.

    An error status is an answer too: the program that sends it may be healthy a moment later.

    Raises:
        DaemonError: The target answers.
    """
    for target, attempt in _targets(spec):
        found = _Attempt("no answer")
        with trio.move_on_after(_BEFORE_THE_START):
            found = await attempt()
        if found.answered:
            raise DaemonError(
                f"{spec.code}/{spec.daemon} was not started: another program answers at {target} already; stop it, or choose "
                "another address"
            )


async def wait_until_healthy(spec: DaemonSpec, resident: ManagedProcess, messages: trio.abc.ReceiveStream) -> int:
    """Wait until the daemon is healthy; return the PID of its command.

    Args:
        spec: How the daemon was started.
        resident: The supervisor process.
        messages: The messages of the resident.

    Raises:
        DaemonError: It ended, or was not healthy in time.
    """
    command = _Command()
    pid = 0
    with trio.move_on_after(spec.timeout):
        async with open_scope() as nursery:
            nursery.start_soon(command.follow, messages, resident)
            pid = await _become_healthy(spec, command)
            nursery.cancel_scope.cancel()
    if pid:
        return pid
    if command.over:
        raise DaemonError(command.why_over(spec))
    reasons = [reason for reason in (command.refusal, command.last_end) if reason]
    raise DaemonError(": ".join([f"it was not healthy within {spec.timeout:g} s", *reasons]))


@final
class _Command:
    """The resident's reports about its command so far."""

    def __init__(self) -> None:
        self.pid = 0
        self.over = False  # the resident has ended
        self.refusal = "its command has not run yet"  # or why the last probe of the target failed
        self.last_end = ""
        self._ready = 0
        self._failed = ""
        self._quick_success = False
        self._started = 0.0
        self._changed = trio.Event()
        self._life: trio.CancelScope | None = None

    async def follow(self, messages: trio.abc.ReceiveStream, resident: ManagedProcess) -> None:
        """Receive reports until the resident closes the pipe or dies."""
        async for message in _parsed(messages):
            self._take(message)
        await resident.done.wait()
        self.over = True
        self._end_life()
        self._wake()

    def _take(self, message: dict[str, Any]) -> None:
        if "running" in message:
            self.pid, self._ready, self._started = message["running"], 0, trio.current_time()
        elif "ready" in message:
            self._ready = message["ready"]
        elif "ended" in message:
            self._quick_success = message["success"] and trio.current_time() < self._started + _QUICK
            self.last_end = f"its command {message['how']}"
            self.pid = 0
            self._end_life()
        elif "failed" in message:
            self._failed = str(message["failed"])
        self._wake()

    async def running(self) -> int:
        """Wait for a running command; return its PID, or 0 if there will be none."""
        while not self.pid and not self.over:
            await self._changed.wait()
        return self.pid

    async def ready(self) -> None:
        """Wait for the ready line of the running command."""
        while self._ready != self.pid:
            await self._changed.wait()

    def life(self) -> trio.CancelScope:
        """Return a scope that is cancelled when the running command has ended."""
        self._life = trio.CancelScope()
        return self._life

    def why_over(self, spec: DaemonSpec) -> str:
        """Return the reason why there will be no healthy command."""
        if self._failed:
            return self._failed
        if not self.last_end:
            return "it ended before its command ran"
        line = f" and wrote no line with {spec.ready_line!r}" if spec.ready_line else ""
        hint = "; a program that puts itself into the background can't be watched: run it in the foreground"
        return f"{self.last_end} before it was healthy{line}{hint if self._quick_success else ''}"

    def _end_life(self) -> None:
        if self._life is not None:
            self._life.cancel()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


async def _become_healthy(spec: DaemonSpec, command: _Command) -> int:
    """Return the PID of the healthy command, or 0 if there will be none."""
    targets = _targets(spec)
    while pid := await command.running():
        with command.life():
            if spec.ready_line:
                command.refusal = f"it has written no line with {spec.ready_line!r}"
                await command.ready()
            for target, attempt in targets:
                command.refusal = f"no answer came from {target}"
                while why := (await attempt()).why:
                    command.refusal = why
                    await trio.sleep(_PAUSE)
            command.refusal = ""
            await trio.sleep(_CONFIRMED_AFTER if targets or spec.ready_line else spec.settle)
            return pid
    return 0


async def _parsed(stream: trio.abc.ReceiveStream) -> AsyncIterator[dict[str, Any]]:
    buffer = b""
    async for data in stream:
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            yield json.loads(line)


class _Attempt(NamedTuple):
    """The outcome of one attempt to reach a target.

    Attributes:
        why: Why the target is not healthy; empty if it is.
        answered: Whether a program has answered at the target itself.
    """

    why: str
    answered: bool = False


def _http_attempt(status: int, reason: str) -> _Attempt:
    is_healthy = HTTPStatus.OK <= status < HTTPStatus.BAD_REQUEST
    return _Attempt("" if is_healthy else reason, answered=status > 0 and status not in _BY_A_GATEWAY)


def _targets(spec: DaemonSpec) -> list[tuple[str, Callable[[], Awaitable[_Attempt]]]]:
    """Return the targets of a spec, each with a function that makes one attempt to reach it."""
    targets: list[tuple[str, Callable[[], Awaitable[_Attempt]]]] = []
    if spec.health_url:
        parts = urlsplit(spec.health_url)
        shown = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        targets.append((shown, lambda: _ask(spec.health_url)))
    if spec.tcp:
        targets.append((spec.tcp, lambda: _connect(spec.tcp)))
    return targets


async def _ask(url: str) -> _Attempt:
    parts = urlsplit(url)
    credentials = _basic(parts.username, parts.password)
    if parts.scheme == "https":
        bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        return await trio.to_thread.run_sync(_ask_https, bare, credentials, abandon_on_cancel=True)
    path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
    answer = await ask(Address(parts.hostname or "", parts.port or 80), path, authorization=credentials)
    return _http_attempt(answer.status, answer.reason)


def _basic(user: str | None, password: str | None) -> str:
    """Return the value of the Authorization header for the user and password of a URL (RFC 7617)."""
    if user is None and password is None:
        return ""
    pair = f"{unquote(user or '')}:{unquote(password or '')}".encode()
    return f"Basic {base64.b64encode(pair).decode('ascii')}"


class _Stay(urllib.request.HTTPRedirectHandler):
    """Redirects are answers, as they are for http: urllib would send the credentials along to any other host."""

    def redirect_request(self, *_: object) -> None:
        return None


def _ask_https(url: str, credentials: str) -> _Attempt:
    # not through a proxy named in the environment: the command that was just started is on this side of it
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay)
    request = urllib.request.Request(url, headers={"Authorization": credentials} if credentials else {})  # noqa: S310 - https
    try:
        with opener.open(request, timeout=_ONE_ATTEMPT):
            return _Attempt("", answered=True)
    except urllib.error.HTTPError as error:
        with error:
            return _http_attempt(error.code, f"HTTP status {error.code} {error.reason}")
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            return _Attempt(f"its certificate is not valid: {error.reason.verify_message}")
        if isinstance(error.reason, OSError):
            return _Attempt(why_not_connected(error.reason, urlsplit(url).hostname or ""))
        return _Attempt(str(error.reason))
    except (OSError, ValueError, HTTPException) as error:
        return _Attempt(str(error) or type(error).__name__)


async def _connect(address: str) -> _Attempt:
    target = parse_destination(address)
    try:
        stream = await trio.open_tcp_stream(target.reachable_host, target.port)
    except (OSError, UnicodeError) as error:
        return _Attempt(why_not_connected(error, target.host))
    stream.socket.close()
    return _Attempt("", answered=True)
