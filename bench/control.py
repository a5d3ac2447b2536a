"""The control plane: a list of services, against supervisord's XML-RPC, and lines on their way to open pages."""

from __future__ import annotations

import base64
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import trio

from trio_process import ControlServer, Supervisor, UnitSpec

from .harness import Benchmark, Contender, Figure, Goal, Values, tool

SERVICES: Final = 100
SECONDS: Final = 3.0
RATE: Final = 4000  # lines a second
PAGES: Final = 50
TICK: Final = 0.05  # seconds between two writes of the service that writes

_ROOT: Final = Path(__file__).parent.parent
_STATES: Final = "process.started,process.exited,process.killed,service.changed,pipeline.update,sample"
_WRITER: Final = f"""
import itertools, sys, time
due = time.monotonic()
for number in itertools.count():
    sys.stdout.write(f"{{number:09d}} a line of some sixty characters, as programs write them\\n" * {round(RATE * TICK)})
    sys.stdout.flush()
    due += {TICK}
    time.sleep(max(0.0, due - time.monotonic()))
"""
_CALL: Final = b"<?xml version='1.0'?><methodCall><methodName>supervisor.getAllProcessInfo</methodName></methodCall>"


async def serve(*specs: UnitSpec) -> None:
    """Serve services until this process is ended."""
    supervisor = Supervisor(specs)
    async with ControlServer("127.0.0.1:0", supervisor=supervisor, max_streams=4 * PAGES) as control, supervisor:
        await supervisor.wait_ready()
        print(control.addr, control.token.reveal(), flush=True)
        await trio.sleep_forever()


def _serve_here(which: str) -> None:
    if which != "write":
        specs = [UnitSpec(name=f"sleeper-{n}", command="sleep", args=["1000"]) for n in range(int(which))]
    else:
        specs = [UnitSpec(name="writer", command=sys.executable, args=["-u", "-c", _WRITER])]
    trio.run(serve, *specs)


@contextmanager
def _ours(which: str) -> Iterator[tuple[int, tuple[str, int], str]]:
    """Run a server of ours; yield its PID, its address and its token."""
    command = [sys.executable, "-m", "bench.control", which]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            addr, token = server.stdout.readline().split()
            host, port = addr.rsplit(":", 1)
            yield server.pid, (host, int(port)), token
        finally:
            server.send_signal(signal.SIGINT)


@contextmanager
def _supervisord(count: int) -> Iterator[tuple[str, int]]:
    """Run supervisord with the same services; yield its address when all of them run."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = tool("supervisord")
    assert program is not None, "it is skipped where there is none"
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "supervisord.conf")
        path.write_text(
            f"[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile={directory}/pid\n"
            f"childlogdir={directory}\n[inet_http_server]\nport=127.0.0.1:{port}\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
            f"[program:sleeper]\ncommand=sleep 1000\nnumprocs={count}\nprocess_name=%(process_num)d\nstartsecs=0\n"
        )
        with subprocess.Popen(
            [program, "-c", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as server:
            try:
                end = time.monotonic() + 30
                while True:
                    try:
                        if _Asker(("127.0.0.1", port), _xml_rpc(port)).ask().count(b"RUNNING") == count:
                            break
                    except OSError:
                        if time.monotonic() > end:
                            raise
                    time.sleep(0.05)
                yield "127.0.0.1", port
            finally:
                server.terminate()


def _xml_rpc(port: int) -> bytes:
    head = f"POST /RPC2 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: text/xml\r\nContent-Length: {len(_CALL)}\r\n\r\n"
    return head.encode() + _CALL


class _Asker:
    """Sends the same request again and again, on one connection for as long as the server keeps it."""

    def __init__(self, address: tuple[str, int], request: bytes) -> None:
        self._address = address
        self._request = request
        self._connection: socket.socket | None = None

    def ask(self) -> bytes:
        """Return the body of one answer."""
        if self._connection is None:
            self._connection = socket.create_connection(self._address)
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection.sendall(self._request)
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._received(self._connection)
        head = data[:end].lower()
        if not head.startswith((b"http/1.1 200", b"http/1.0 200")):
            raise RuntimeError(f"an odd answer: {data!r}")
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        while len(data) < end + 4 + length:
            data += self._received(self._connection)
        if b"connection: close" in head:
            self.close()
        return data[end + 4 :]

    @staticmethod
    def _received(connection: socket.socket) -> bytes:
        data = connection.recv(2**20)
        if not data:
            raise ConnectionError("the server closed the connection within an answer")
        return data

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def listed(scale: float, which: str) -> Values:
    """Ask for the list of all services, one answer after the other."""
    count = max(1, round(SERVICES * min(1.0, scale)))
    if which == "supervisord":
        with _supervisord(count) as address:
            return _asked(_Asker(address, _xml_rpc(address[1])), SECONDS * scale)
    with _ours(str(count)) as (_, address, token):
        request = f"GET /api/process/services HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n"
        return _asked(_Asker(address, request.encode()), SECONDS * scale)


def _asked(asker: _Asker, seconds: float) -> Values:
    try:
        asker.ask()
        count, begin = 0, time.perf_counter()
        while (took := time.perf_counter() - begin) < seconds or not count:
            asker.ask()
            count += 1
    finally:
        asker.close()
    return {"delay": took / count * 1000}


def followed(scale: float, pages: int) -> Values:
    """Follow a service that writes, as so many open pages do; return the share of a core that the server takes."""
    with _ours("write") as (pid, address, token):
        streams = [_follow(address, token, query) for _ in range(pages) for query in _queries()]
        poll = select.epoll()
        by_number = {stream.fileno(): stream for stream in streams}
        for number in by_number:
            poll.register(number, select.EPOLLIN)
        try:
            received = _read(poll, by_number, min(1.0, SECONDS * scale))  # the snapshots
            spent, begin = _spent(pid), time.perf_counter()
            received = _read(poll, by_number, SECONDS * scale)
            took = time.perf_counter() - begin
            spent = _spent(pid) - spent
        finally:
            poll.close()
            for stream in streams:
                stream.close()
    return {"core": spent / took * 100, "traffic": received / took / 1e6}


def _queries() -> tuple[str, str]:
    """Return what the two streams of a page ask for: the changes of state, and the lines of one service."""
    return f"channels={_STATES}", "channels=process.output&service=writer"


def _follow(address: tuple[str, int], token: str, query: str) -> socket.socket:
    stream = socket.create_connection(address)
    key = base64.b64encode(os.urandom(16)).decode()
    head = (
        f"GET /api/process/events?batch=true&{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    stream.sendall(head.encode())
    data = b""
    while b"\r\n\r\n" not in data:
        data += _Asker._received(stream)
    if b" 101 " not in data.split(b"\r\n")[0]:
        raise RuntimeError(f"an odd answer: {data!r}")
    return stream


def _read(poll: select.epoll, streams: dict[int, socket.socket], seconds: float) -> int:
    count, end = 0, time.perf_counter() + seconds
    while (left := end - time.perf_counter()) > 0:
        for number, _ in poll.poll(left):
            count += len(_Asker._received(streams[number]))
    return count


def _spent(pid: int) -> float:
    """Return the seconds of CPU that a process has taken, all its threads together (nanoseconds in schedstat)."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


BENCHMARKS: Final = (
    Benchmark(
        name="control-list",
        title=f"list {SERVICES} services over HTTP, one request after the other",
        figures=(Figure("delay", "an answer", "ms", more_is_better=False),),
        contenders=(
            Contender("trio_process", partial(listed, which="ours")),
            Contender("supervisord, XML-RPC", partial(listed, which="supervisord"), ("supervisor", "/supervisord")),
        ),
        goals=(
            Goal(text="at most 0.2 x supervisord's XML-RPC", figure="delay", peer="supervisord, XML-RPC", most=0.2),
        ),
    ),
    Benchmark(
        name="control-lines",
        title=f"{RATE} lines a second of one service, on their way to open pages",
        figures=(
            Figure("core", "share of a core that the server takes", "%", more_is_better=False),
            Figure("traffic", "sent to the pages", "MB/s"),
        ),
        contenders=(
            Contender("trio_process", partial(followed, pages=1)),
            Contender("trio_process, no page", partial(followed, pages=0)),
            Contender(f"trio_process, {PAGES} pages", partial(followed, pages=PAGES)),
        ),
        goals=(
            Goal(text="one page: at most 5 % of a core", figure="core", most=5.0),
            Goal(
                text=f"{PAGES} pages: at most 5 x one",
                figure="core",
                ours=f"trio_process, {PAGES} pages",
                peer="trio_process",
                most=5.0,
            ),
        ),
    ),
)

if __name__ == "__main__":
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what a server says when it is ended
    _serve_here(sys.argv[1])
