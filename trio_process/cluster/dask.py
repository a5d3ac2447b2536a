"""Agents on a Dask cluster: one task per worker, which runs an agent that calls back.

Commands are not run as Dask tasks: `future.cancel()` leaves a command running, and Dask runs a finished step again when the
worker that has its result dies. Here a task is only the agent's parent, bound to its worker and never retried.
"""

from __future__ import annotations

import ipaddress
import json
import ssl
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, final

import attrs
import trio

from .._cluster import (
    Agent,
    CallbackListener,
    CommandChannel,
    Crew,
    Hello,
    module_argv,
    open_callbacks,
    open_command,
    server_context,
)
from .._core import ClusterError, open_scope

_CONNECT: Final = 10.0  # seconds
_PAUSES: Final = (0.1, 0.2, 0.3, 0.0)  # seconds between attempts to connect


@final
class DaskChannel:
    """An agent that a Dask worker starts, and that calls back."""

    def __init__(self) -> None:
        self._stream: trio.abc.Stream | None = None
        self._ended = trio.Event()
        self._gone = trio.Event()
        self._words = ""

    @property
    def stream(self) -> trio.abc.Stream:
        """The connection."""
        assert self._stream is not None
        return self._stream

    async def called(self, calls: trio.MemoryReceiveChannel[trio.abc.Stream]) -> None:
        """Wait until the agent calls back.

        Raises:
            ClusterError: The task or the worker has ended first.
        """
        async with trio.open_nursery() as nursery:

            async def wait_for_call() -> None:
                self._stream = await calls.receive()
                nursery.cancel_scope.cancel()

            async def wait_for_end() -> None:
                await self._gone.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(wait_for_call)
            nursery.start_soon(wait_for_end)
        if self._stream is None:
            raise ClusterError(self._words)

    def end(self, words: str) -> None:
        """Note that the task has returned, and its agent has ended."""
        self._words = words
        self._ended.set()
        self._gone.set()

    def lose(self, why: str) -> None:
        """Note that the task or its worker is lost. An agent that has called back notices that by itself, or lives on."""
        if not self._gone.is_set():
            self._words = why
            self._gone.set()

    async def died(self, hello: Hello | None) -> None:
        """Return once it is certain that the agent has ended: its task has."""
        if hello is not None:
            await self._ended.wait()

    def last_words(self) -> str:
        """Return the report of the task."""
        return f"; {self._words}" if self._words else ""

    def give_up(self) -> None:
        """Do nothing more: without its connection the agent ends by itself."""


@final
class Helper:
    """The process that talks to the scheduler; `dask_helper.py` describes its protocol."""

    def __init__(self, channel: CommandChannel) -> None:
        self._channel = channel
        self._lock = trio.Lock()

    async def send(self, **what: Any) -> None:
        """Send a command; does nothing if the helper has ended."""
        try:
            async with self._lock:
                await self._channel.stream.send_all(json.dumps(what).encode() + b"\n")
        except trio.BrokenResourceError:
            pass  # the end of its events says so

    async def events(self) -> AsyncGenerator[dict[str, Any], None]:
        """Yield its events; nothing else is written to its stdout, so every line is an event."""
        rest = b""
        while data := await self._channel.stream.receive_some():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield json.loads(line)

    def last_words(self) -> str:
        """Return how it ended, and the last lines of its stderr."""
        return self._channel.last_words()


@final
@attrs.frozen
class DaskLauncher:
    """Requests an agent on each worker, including workers that join later."""

    address: str
    workers: tuple[str, ...] | None
    security: Mapping[str, Any] | None
    tls: Mapping[str, str] | None
    plaintext: bool
    start_timeout: float | None = None  # workers may have to queue themselves

    async def launch(self, crew: Crew) -> None:
        """Follow the helper's events about the cluster, until the service is left."""
        context = server_context(self.tls) if self.tls is not None else None
        loopback = context is None and not self.plaintext
        await _knock(self.address)
        async with (
            open_callbacks(context, loopback=loopback) as callbacks,
            open_command(module_argv("trio_process.cluster.dask_helper")) as channel,
        ):
            helper = Helper(channel)
            await helper.send(address=self.address, security=self.security, workers=self.workers)
            async with open_scope(wait=True) as nursery:
                why = await self._follow(crew, callbacks, helper, nursery)
                if not crew.leaving:
                    why = why or f"the helper for the Dask cluster at {self.address} has ended{helper.last_words()}"
                    crew.roster.failures.append(ClusterError(why))
                crew.roster.expect(launching=False)

    async def _follow(self, crew: Crew, callbacks: CallbackListener, helper: Helper, nursery: trio.Nursery) -> str:
        """Handle the helper's events, until it has ended; return its reason, if it gave one."""
        channels: dict[str, DaskChannel] = {}
        why = ""
        async with aclosing(helper.events()) as events:
            async for event in events:
                match event["event"]:
                    case "worker":
                        channel = channels[event["worker"]] = DaskChannel()
                        agent = crew.roster.add(event["name"], event["host"])
                        nursery.start_soon(self._attend, crew, agent, channel, callbacks, helper, event["worker"])
                    case "listed":
                        crew.roster.expect(launching=False, open_ended=True)
                    case "gone" if event["worker"] in channels:
                        channels[event["worker"]].lose("its worker has gone")
                    case "lost" if event["worker"] in channels:
                        channels[event["worker"]].lose(event["error"])
                    case "done" if event["worker"] in channels:
                        channels[event["worker"]].end(event["error"])
                    case "failed":
                        why = event["error"]
        for channel in channels.values():
            channel.lose("the helper that speaks with Dask has ended")
        return why

    def _check_encryption(self, host: str) -> None:
        if self.tls is None and not self.plaintext and not _is_loopback(host):
            raise ClusterError(
                "it would call back unencrypted; give security=, or plaintext=True where the network is trusted"
            )

    @trio.lowlevel.enable_ki_protection
    async def _attend(
        self,
        crew: Crew,
        agent: Agent,
        channel: DaskChannel,
        callbacks: CallbackListener,
        helper: Helper,
        worker: str,
    ) -> None:
        try:
            self._check_encryption(agent.host)
            token, calls = callbacks.expect()
            try:
                config = {"addresses": callbacks.addresses, "token": token, "secured": self.tls is not None}
                await helper.send(worker=worker, config=config)
                await channel.called(calls)
            finally:
                callbacks.withdraw(token)
        except ClusterError as error:
            text = f"the agent {agent.name} on {agent.host} (Dask worker {worker}) has not come up: {error}"
            crew.roster.failed(agent, ClusterError(text))
            return
        await crew.attend(agent, channel)


async def _knock(address: str) -> None:
    """Connect once: Dask itself would try again for half a minute if the port is closed or the host unknown.

    Raises:
        ClusterError: Nothing can be reached there.
    """
    scheme, _, place = address.rpartition("://")
    host, _, port = place.partition("/")[0].rpartition(":")
    if scheme not in ("", "tcp", "tls") or not host or not port.isdecimal():
        return  # another transport of Dask's, or nothing that it will accept
    for pause in _PAUSES:
        try:
            with trio.move_on_after(_CONNECT):
                await (await trio.open_tcp_stream(host.strip("[]"), int(port))).aclose()
        except (OSError, ValueError, OverflowError) as error:  # a host or a port that can't be, too
            why = error
            await trio.sleep(pause)  # it may be about to listen
        else:
            return
    raise ClusterError(f"the Dask scheduler at {address} can't be reached: {why}") from why


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def make_launcher(address: str, workers: Sequence[str] | None, security: Any, *, plaintext: bool) -> DaskLauncher:
    """Return the launcher that `dask_agents` describes; `security` is a `distributed.Security` or None.

    Raises:
        ClusterError: Its certificates can't be used.
    """
    if security is None:
        return DaskLauncher(address, None if workers is None else tuple(workers), None, None, plaintext)
    fields = {name: getattr(security, name) for name in type(security).__slots__ if name.startswith("tls_")}
    fields = {name: value for name, value in fields.items() if isinstance(value, str)}
    found = security.get_tls_config_for_role("client")
    tls = {"ca": found["ca_file"] or "", "cert": found["cert"] or "", "key": found["key"] or ""}
    try:
        server_context(tls)
    except (OSError, ssl.SSLError) as error:
        raise ClusterError(f"the certificates of the Security can't be used: {error}") from error
    fields["require_encryption"] = security.require_encryption
    return DaskLauncher(address, None if workers is None else tuple(workers), fields, tls, plaintext)
