"""Many clients, slow clients and much output: none of them keeps a probe from its answer, or the server from its end."""

import os
import time
from contextlib import AsyncExitStack

import trio
from asking import ask, connect

from trio_process import ControlServer, Service

IDLE = 200
SLOW = 5


async def stream_of(control, query=""):
    stream = await connect(control)
    head = f"GET /api/process/events{query} HTTP/1.1\r\nHost: {control.addr}\r\n"
    await stream.send_all(f"{head}Authorization: Bearer {control.token.reveal()}\r\n\r\n".encode())
    return stream


async def test_idle_and_slow_streams_keep_no_probe_from_its_answer():
    delays = []
    async with Service() as service, AsyncExitStack() as streams:
        async with ControlServer("127.0.0.1:0", service=service, max_streams=IDLE + SLOW) as control:
            for number in range(IDLE):
                stream = await stream_of(control, "?channels=process.exited")
                streams.push_async_callback(stream.aclose)
                if number % 20 == 0:
                    assert b"200" in await stream.receive_some(100)
            async with trio.open_nursery() as nursery:

                async def crawl():
                    async with await stream_of(control) as stream:
                        while await stream.receive_some(1):
                            await trio.sleep(0.1)  # ten bytes a second, of megabytes

                for _ in range(SLOW):
                    nursery.start_soon(crawl)
                line = "a line of some sixty characters, as programs write them all day"
                flood = await service.start("yes", line, disable_capture=True, name="flood")
                for _ in range(15):
                    began = time.monotonic()
                    assert (await ask(control, "GET", "/health", token=False)).status == 200
                    delays.append(time.monotonic() - began)
                    await trio.sleep(0.05)
                flood.kill()
                await flood.done.wait()
                metrics = (await ask(control, "GET", "/metrics")).body.decode()
                # slow ones may be cut
                assert int(metrics.rpartition("trio_process_streams_open ")[2].split()[0]) >= IDLE
                nursery.cancel_scope.cancel()
            began = time.monotonic()
        took = time.monotonic() - began
    # 0.1 s each where the machine has nothing else to do; here they must be far from any timeout
    assert sorted(delays)[len(delays) // 2] < 1
    assert max(delays) < 20
    assert took < 20, f"it took {took:.2f} s to stop with {IDLE} streams open"


async def test_streams_that_left_leave_nothing_in_the_server():
    async with Service() as service, ControlServer("127.0.0.1:0", service=service) as control:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            for _ in range(60):
                stream = await stream_of(control)
                await stream.aclose()  # without a word, and without reading
            with trio.fail_after(20):
                while b"trio_process_streams_open 0\n" not in (await ask(control, "GET", "/metrics")).body:
                    await trio.sleep(0.02)
        with trio.fail_after(20):
            while len(os.listdir("/proc/self/fd")) > before:
                await trio.sleep(0.02)
