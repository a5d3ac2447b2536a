"""`GET /health` on eight keep-alive connections, against plain quart-trio on hypercorn."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from trio_process import ActionProcessOutput, HealthServer, Service

from .compiled import program
from .harness import Benchmark, Contender, Figure, Goal, Values

CONNECTIONS: Final = 8
SECONDS: Final = 2.0
WRITERS: Final = 200

_REQUEST: Final = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
_PACE: Final = 0.005  # seconds between the requests of one connection where the delay is looked at, not the rate


async def serve(*, writers: int) -> None:
    """Serve `/health` as a Daemon does, maybe beside children that write and a subscriber that reads them."""
    async with Service() as service, HealthServer("127.0.0.1:0") as server:
        print(server.addr, flush=True)
        with service.subscribe(ActionProcessOutput, buffer=100_000) as events:
            for _ in range(writers):
                await service.start(program("writer"))
            while True:
                await events.receive_batch()


async def serve_plain() -> None:
    """Serve the same by plain quart-trio on hypercorn."""
    from hypercorn.config import Config  # noqa: PLC0415 - a peer is imported where it runs
    from hypercorn.trio import serve as serve_app  # noqa: PLC0415
    from quart_trio import QuartTrio  # noqa: PLC0415

    app = QuartTrio("plain")

    @app.get("/health")
    async def health() -> tuple[str, int, dict[str, str]]:
        return "ok\n", 200, {"content-type": "text/plain; charset=utf-8"}

    config = Config()
    config.bind = ["127.0.0.1:0"]
    async with trio.open_nursery() as nursery:
        urls: Any = await nursery.start(serve_app, app, config)
        print(urls[0].removeprefix("http://"), flush=True)


def _serve_here(which: str) -> None:
    if which == "plain":
        trio.run(serve_plain)
    else:
        trio.run(partial(serve, writers=int(which)))


class _Client:
    """Asks on several connections at once, again on each as soon as it has answered (and `pace` seconds have passed)."""

    def __init__(self, address: tuple[str, int], pace: float) -> None:
        self._pace = pace
        self._poll = select.epoll()
        self._connections: dict[int, socket.socket] = {}
        self._answers: dict[int, bytes] = {}
        self._sent: dict[int, float] = {}
        self._due: dict[int, float] = {}
        self._delays: list[float] = []
        self._address = address
        for _ in range(CONNECTIONS):
            self._connect()

    def _connect(self) -> int:
        connection = socket.create_connection(self._address)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections[connection.fileno()] = connection
        self._poll.register(connection.fileno(), select.EPOLLIN)
        return connection.fileno()

    def ask(self, seconds: float) -> Values:
        """Ask for so long, or until there is one answer at least."""
        try:
            begin = time.perf_counter()
            for descriptor in list(self._connections):
                self._send(descriptor)
            while (now := time.perf_counter()) < begin + seconds or not self._delays:
                for descriptor in [one for one, due in self._due.items() if due <= now]:
                    del self._due[descriptor]
                    self._send(descriptor)
                for descriptor, _ in self._poll.poll(0.001 if self._due else 1.0):
                    self._receive(descriptor)
            took = time.perf_counter() - begin
        finally:
            self._poll.close()
            for connection in self._connections.values():
                connection.close()
        self._delays.sort()
        return {"rate": len(self._delays) / took, "p99": self._delays[int(len(self._delays) * 0.99)] * 1000}

    def _send(self, descriptor: int) -> None:
        self._answers[descriptor] = b""
        self._connections[descriptor].sendall(_REQUEST)
        self._sent[descriptor] = time.perf_counter()

    def _receive(self, descriptor: int) -> None:
        data = self._connections[descriptor].recv(65536)
        if not data and not self._answers[descriptor]:  # hypercorn closes a connection after a thousand requests
            self._connections.pop(descriptor).close()
            self._send(self._connect())
            return
        self._answers[descriptor] += data
        answer = self._answers[descriptor]
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"an odd answer: {answer!r}")
        if not answer.endswith(b"\r\n\r\nok\n"):
            return  # the head and the body come one after the other
        now = time.perf_counter()
        self._delays.append(now - self._sent[descriptor])
        if self._pace:
            self._due[descriptor] = now + self._pace
        else:
            self._send(descriptor)


def asked(scale: float, which: str) -> Values:
    """Start a server in a process of its own, and ask it."""
    command = [sys.executable, "-m", "bench.health", which]
    root = Path(__file__).parent.parent
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            host, port = server.stdout.readline().strip().rsplit(":", 1)
            seconds = SECONDS * scale
            time.sleep(min(0.5, seconds))  # the writers start meanwhile
            _Client((host, int(port)), 0.0).ask(seconds / 4)
            pace = _PACE if which not in ("plain", "0") else 0.0
            values = _Client((host, int(port)), pace).ask(seconds)
        finally:
            server.terminate()
    return values if which in ("plain", "0") else {"p99": values["p99"]}


BENCHMARKS: Final = (
    Benchmark(
        name="health",
        title="`GET /health` on 8 keep-alive connections",
        figures=(
            Figure("rate", "answers", "a second"),
            Figure("p99", "delay of the slowest 1 %", "ms", more_is_better=False),
        ),
        contenders=(
            Contender("trio_process", partial(asked, which="0")),
            Contender("plain quart-trio on hypercorn", partial(asked, which="plain")),
            Contender("trio_process, 200 children writing", partial(asked, which=str(WRITERS)), ("/gcc",)),
        ),
        goals=(
            Goal(
                text="ahead of plain quart-trio on hypercorn by 1.3 x",
                figure="rate",
                peer="plain quart-trio on hypercorn",
                least=1.3,
            ),
            Goal(
                text="p99 while 200 children are writing at most 4 x that without them",
                figure="p99",
                ours="trio_process, 200 children writing",
                peer="trio_process",
                most=4.0,
            ),
        ),
    ),
)

if __name__ == "__main__":
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what a server says when it is ended in the middle of a request
    _serve_here(sys.argv[1])
