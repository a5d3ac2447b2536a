"""Channels to agents: over the stdio of a launcher's process, or over TCP, by which an agent calls back."""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, final

import trio

from .._core import ClusterError, Viewpoint, escape_controls, open_scope
from .link import WINDOW
from .messages import Hello
from .wire import MAGIC, PREAMBLE_LIMIT

LAST_LINES: Final = 20
"""How many lines of a launcher's stderr an error quotes."""

_KEPT: Final = 2**14  # bytes of stderr
_WORDS_EVERY: Final = 0.05  # seconds between two reads of stderr: a flood waits in its pipe instead of costing our time
_END: Final = 5.0  # seconds that a launcher's process has, once its agent is gone
_CANCEL: Final = 45.0  # seconds for srun to release its allocation: KillWait, 30 by default, and some more
_HEARD_OUT: Final = 0.2  # seconds in which the rest of its stderr is read, once it has ended


@final
class CommandChannel:
    """A command whose stdin and stdout lead to an agent.

    Args:
        process: The command, running.
        proves_death: Whether an exit status of the command, and the end of its stderr, can only mean that the agent has
            ended, too.
        spare: Don't signal the command while its agent may be alive: it ends at the end of its stdin.
        hopeless: Recognizes from its stderr that its retries can't succeed; the command is then terminated.
    """

    def __init__(
        self,
        process: trio.Process,
        proves_death: Callable[[int, bytes], bool],
        *,
        spare: bool = False,
        hopeless: re.Pattern[bytes] | None = None,
    ) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.stream: trio.abc.Stream = trio.StapledStream(process.stdin, process.stdout)
        self._process = process
        self._proves_death = proves_death
        self._spare = spare
        self._hopeless = hopeless
        self._was_hopeless = False
        self._was_killed = False  # by us, so its end says nothing
        self._came_up = False
        self._words = b""
        self._heard_out = trio.Event()

    @trio.lowlevel.enable_ki_protection
    async def read_words(self) -> None:
        """Keep the end of what the command writes to stderr, until it ends."""
        assert self._process.stderr is not None
        try:
            async for data in self._process.stderr:
                self._words = (self._words + data)[-_KEPT:]
                self._end_if_hopeless()
                await trio.sleep(_WORDS_EVERY)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # closed by us
        finally:
            self._heard_out.set()

    def _end_if_hopeless(self) -> None:
        if self._hopeless is None or self._came_up or self._was_hopeless or self._process.returncode is not None:
            return
        if self._hopeless.search(self._words):
            self._was_hopeless = True
            os.killpg(self._process.pid, signal.SIGTERM)  # not reaped, and its group is its own

    def _is_the_agent(self, hello: Hello | None) -> bool:
        """Return whether the command is the agent itself, on this machine, and not an intermediary."""
        return hello is not None and hello.pid == self._process.pid and hello.place == Viewpoint().place != ""

    async def died(self, hello: Hello | None) -> None:
        """Return once it is certain that the agent has ended."""
        self._came_up = self._came_up or hello is not None
        status = await self._process.wait()
        with trio.move_on_after(_HEARD_OUT):
            await self._heard_out.wait()
        if hello is not None and not self._is_the_agent(hello) and not self._proves_death(status, self._words):
            await trio.sleep_forever()

    async def first_of(self, calls: trio.MemoryReceiveChannel[trio.abc.Stream]) -> trio.abc.Stream | None:
        """Return the connection by which the agent calls back; None if it speaks over the command's stdout instead.

        Raises:
            ClusterError: The command has ended before either.
        """
        found: trio.abc.Stream | None = None
        async with trio.open_nursery() as nursery:

            async def wait_for_call() -> None:
                nonlocal found
                found = await calls.receive()
                nursery.cancel_scope.cancel()

            async def wait_for_output() -> None:
                assert self._process.stdin is not None
                assert self._process.stdout is not None
                seen = b""
                while MAGIC not in seen and len(seen) <= PREAMBLE_LIMIT + len(MAGIC):
                    more = await self._process.stdout.receive_some()
                    seen += more
                    if not more:
                        break
                self.stream = trio.StapledStream(self._process.stdin, _Resumed(seen, self._process.stdout))
                nursery.cancel_scope.cancel()

            nursery.start_soon(wait_for_call)
            nursery.start_soon(wait_for_output)
        return found

    def last_words(self) -> str:
        """Return how the command ended, and the last lines of its stderr."""
        status = self._process.returncode
        text = self._words.decode(errors="replace")
        lines = [escape_controls(line) for line in text.splitlines()[-LAST_LINES:] if line.strip()]
        how = "would have tried again and again" if self._was_hopeless else status is not None and _ended(status)
        ended = f"; {_shown(self._process.args)} {how}" if how and not self._was_killed else ""
        return ended + "".join(f"\n  {line}" for line in lines)

    def give_up(self) -> None:
        """Kill the command, unless it must not be signalled."""
        if not self._spare:
            self._kill()

    def _kill(self) -> None:
        """Kill the command's group: it may be a shell whose child is the connection to the agent."""
        if self._process.returncode is None:  # so it is not reaped, and its group ID can't have been reused
            self._was_killed = True
            os.killpg(self._process.pid, signal.SIGKILL)

    async def end(self) -> None:
        """Wait for the end of the command."""
        with trio.CancelScope(shield=True):
            if self._spare and not self._came_up and self._process.returncode is None:
                self._process.terminate()  # a command waiting in a queue doesn't read its stdin
            with trio.move_on_after(_END):
                assert self._process.stdin is not None
                await self._process.stdin.aclose()
                await self._process.wait()
            if self._spare and self._process.returncode is None:
                # its agent does not end, and what ran there has been given up; killed at once, srun would leave its job behind
                self._process.terminate()
                with trio.move_on_after(_CANCEL):
                    await self._process.wait()
            self._kill()
            await self._process.wait()
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                if stream is not None:
                    await stream.aclose()


@final
class _Resumed(trio.abc.ReceiveStream):
    """A stream of which a part has already been read."""

    def __init__(self, seen: bytes, rest: trio.abc.ReceiveStream) -> None:
        self._seen = seen
        self._rest = rest

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return the part already read, then further data."""
        if not self._seen:
            return await self._rest.receive_some(max_bytes)
        await trio.lowlevel.checkpoint()
        seen, self._seen = self._seen, b""
        return seen

    async def aclose(self) -> None:
        """Close it."""
        await self._rest.aclose()


def _shown(args: object) -> str:
    return str(args[0]) if isinstance(args, (list, tuple)) else str(args)


def _ended(status: int) -> str:
    if status >= 0:
        return f"exited with code {status}"
    with suppress(ValueError):
        return f"died of {signal.Signals(-status).name}"
    return f"died of signal {-status}"


@asynccontextmanager
async def open_command(
    argv: Sequence[str],
    *,
    proves_death: Callable[[int, bytes], bool] = lambda status, words: False,  # noqa: ARG005 - the least that is known
    spare: bool = False,
    hopeless: re.Pattern[bytes] | None = None,
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[CommandChannel]:
    """Run a command that leads to an agent, in a session of its own, so that Ctrl-C at the terminal doesn't reach it.

    Raises:
        ClusterError: It can't be started.
    """
    try:
        process = await trio.lowlevel.open_process(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=env,
        )
    except OSError as error:
        raise ClusterError(f"{argv[0]} can't be started: {error.strerror}") from error
    _widen(process)
    channel = CommandChannel(process, proves_death, spare=spare, hopeless=hopeless)
    async with open_scope() as nursery:
        nursery.start_soon(channel.read_words)
        try:
            yield channel
        finally:
            await channel.end()


def _widen(process: trio.Process) -> None:
    """Enlarge the pipes to the size of a window, so that a megabyte takes fewer reads."""
    import fcntl  # noqa: PLC0415 - not everywhere, and only needed here

    for stream in (process.stdin, process.stdout):
        set_size = getattr(fcntl, "F_SETPIPE_SZ", None)
        if set_size is not None and isinstance(stream, trio.lowlevel.FdStream):
            with suppress(OSError):  # above the user's limit (pipe(7)): then as it is
                fcntl.fcntl(stream.fileno(), set_size, WINDOW)


@final
class CallbackChannel:
    """A connection by which an agent has called back, beside the command or task that started it."""

    def __init__(self, stream: trio.abc.Stream, starter: CommandChannel) -> None:
        self.stream = stream
        self._starter = starter

    async def died(self, hello: Hello | None) -> None:
        """Return once it is certain that the agent has ended."""
        await self._starter.died(hello)

    def last_words(self) -> str:
        """Return the last lines of its stderr, and how its starter ended."""
        return self._starter.last_words()

    def give_up(self) -> None:
        """End its starter."""
        self._starter.give_up()


@final
class CallbackListener:
    """Accepts the connections of agents that call back; each proves itself by a token that is valid for one connection."""

    def __init__(
        self, listeners: Sequence[trio.SocketListener], hosts: Sequence[str], context: ssl.SSLContext | None
    ) -> None:
        self._listeners = listeners
        self._context = context
        self._expected: dict[str, trio.MemorySendChannel[trio.abc.Stream]] = {}
        port = listeners[0].socket.getsockname()[1]
        self.addresses = [(host, port) for host in hosts]

    def expect(self) -> tuple[str, trio.MemoryReceiveChannel[trio.abc.Stream]]:
        """Return a new token, and the channel on which the connection that shows it arrives."""
        token = secrets.token_hex(32)
        sender, receiver = trio.open_memory_channel[trio.abc.Stream](1)
        self._expected[token] = sender
        return token, receiver

    def withdraw(self, token: str) -> None:
        """Invalidate a token."""
        self._expected.pop(token, None)

    def config(self, token: str, tls: Mapping[str, str] | None = None) -> bytes:
        """Return the line that an agent reads from its stdin."""
        return json.dumps({"addresses": self.addresses, "token": token, "tls": tls}).encode() + b"\n"

    @trio.lowlevel.enable_ki_protection
    async def serve(self) -> None:
        """Accept connections; close those that don't send a valid token in time."""
        await trio.serve_listeners(self._greet, list(self._listeners))

    async def _greet(self, raw: trio.SocketStream) -> None:
        stream: trio.abc.Stream = raw
        with trio.move_on_after(_GREETING) as deadline, suppress(trio.BrokenResourceError, OSError, ssl.SSLError):
            if self._context is not None:
                secured = trio.SSLStream(raw, self._context, server_side=True)
                await secured.do_handshake()
                stream = secured
            token = await _read_exactly(stream, _TOKEN_SIZE)
            for known in list(self._expected):
                if secrets.compare_digest(token, known.encode()):
                    self._expected.pop(known).send_nowait(stream)
                    deadline.deadline = math.inf
                    await trio.sleep_forever()  # its owner closes it; `serve_listeners` would, once we return


_GREETING: Final = 10.0  # seconds
_TOKEN_SIZE: Final = 64


async def _read_exactly(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await stream.receive_some(size - len(data))
        if not more:
            break
        data += more
    return data


@asynccontextmanager
async def open_callbacks(context: ssl.SSLContext | None, *, loopback: bool = False) -> AsyncIterator[CallbackListener]:
    """Listen for agents that call back, on all interfaces unless on `loopback`.

    Raises:
        ClusterError: No port can be bound.
    """
    try:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1" if loopback else None)
    except OSError as error:
        raise ClusterError(f"no port can be bound for agents to call back: {error}") from error
    if len(listeners) > 1:
        # each family got a port of its own: one is enough
        for spare in listeners[1:]:
            await spare.aclose()
        listeners = listeners[:1]
    hosts = ["127.0.0.1"] if loopback else our_addresses()
    callbacks = CallbackListener(listeners, hosts, context)
    async with open_scope() as nursery:
        nursery.start_soon(callbacks.serve)
        yield callbacks


def our_addresses() -> list[str]:
    """Return the addresses by which this host may be reached: its name, and its address on the default route."""
    found = [socket.gethostname()]
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # TEST-NET-1 (RFC 5737): nothing is sent, only the route is looked up
        found.append(probe.getsockname()[0])
    return list(dict.fromkeys(found))


def python_argv(python: str | None = None) -> list[str]:
    """Return the command of an agent; for our own Python, the one that runs this copy of the package."""
    if python is not None:
        return [python, "-P", "-m", "trio_process.agent"]
    return module_argv("trio_process.agent")


def module_argv(name: str) -> list[str]:
    """Return the command that runs a module of this copy of the package, wherever it was imported from."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = f"import runpy, sys; sys.path.insert(0, {root!r}); runpy.run_module({name!r}, run_name='__main__', alter_sys=True)"
    return [sys.executable, "-P", "-c", code]
