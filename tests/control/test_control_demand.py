"""A server that serves on demand: the HTTP stack is imported when the first client connects."""

import subprocess
import sys
from contextlib import AsyncExitStack

import pytest
import trio
from asking import ask, connect, events, get

from trio_process import ControlServer, DaemonError, Service
from trio_process._control import add_route, serve_on_demand
from trio_process._control import server as server_module

PROGRAM = """
import sys
import trio
from trio_process import ControlServer, Service
from trio_process._control import serve_on_demand

def has_http():
    return any(name in sys.modules for name in ("quart", "hypercorn", "h11", "asyncio"))

async def main():
    async with Service() as service, serve_on_demand(ControlServer("127.0.0.1:0", service=service)) as control:
        await (await service.start("true")).wait()
        before = has_http()
        stream = await trio.open_tcp_stream("127.0.0.1", int(control.addr.split(":")[1]))
        await stream.send_all(b"GET /health HTTP/1.1\\r\\nHost: %b\\r\\n\\r\\n" % control.addr.encode())
        print(before, await stream.receive_some(12), has_http())

trio.run(main)
"""


async def test_the_http_stack_is_imported_when_a_client_connects():
    command = [sys.executable, "-c", PROGRAM]
    with trio.fail_after(60):
        done = await trio.run_process(command, capture_stdout=True, stderr=subprocess.STDOUT)
    assert done.stdout.decode().strip() == "False b'HTTP/1.1 200' True"


async def test_a_client_gets_what_happened_before_it_and_the_farewell():
    async def hello():
        return {"hello": "world"}

    async with AsyncExitStack() as stack, Service() as service:
        server = serve_on_demand(ControlServer("127.0.0.1:0", service=service))
        add_route(server, "/hello", hello)
        async with server as control:
            await (await service.start("echo", "early")).wait()
            assert [row["line"] for row in (await get(control, "/logs")).data["lines"]] == ["early"]
            assert (await ask(control, "GET", "/hello")).json == {"hello": "world"}
            stream = await stack.enter_async_context(events(control))
            await stream.next()
        await stream.until(lambda message: message["type"] == "bye")


async def test_without_a_client_the_block_is_left_at_once():
    with trio.fail_after(10):
        async with Service() as service, serve_on_demand(ControlServer("127.0.0.1:0", service=service)) as control:
            assert control._app is None
    with pytest.raises(OSError, match=r"."):
        await connect(control)


async def test_a_broken_http_stack_ends_the_server_and_nothing_else(monkeypatch, caplog):
    def broken():
        raise DaemonError("the HTTP stack can't be imported")

    monkeypatch.setattr(server_module, "_import_stack", broken)
    async with Service() as service, serve_on_demand(ControlServer("127.0.0.1:0", service=service)) as control:
        async with await connect(control):
            with trio.fail_after(10):
                while "can't be imported" not in caplog.text:
                    await trio.sleep(0.01)
        assert (await service.run("true")).ok
