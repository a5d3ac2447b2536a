"""What of `/health` and `/ready` the app decides: methods, hooks, routes of the user's own, streams."""

import logging

import pytest
import trio

from trio_process._daemon import HealthServer
from trio_process._daemon.health import streams
from trio_process.testing.hostile import connect, exchange


async def ask(addr, method, path, *headers, body=""):
    """The status, the headers and the body of a request's answer."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *headers]
    answer = await exchange(addr, ("\r\n".join([*lines, "", ""]) + body).encode())
    head, _, text = answer.partition(b"\r\n\r\n")
    status, *rest = head.decode().split("\r\n")
    return int(status.split()[1]), dict(line.lower().split(": ", 1) for line in rest), text.decode()


@pytest.fixture
async def server():
    with trio.fail_after(60):
        async with HealthServer("127.0.0.1:0") as server:
            yield server


BODY = ("Content-Length: 2",)


@pytest.mark.parametrize("path", ["/health", "/ready"])
@pytest.mark.parametrize(
    "method", ["OPTIONS", "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "BREW"]
)
@pytest.mark.parametrize("hooked", [False, True])
async def test_no_method_ever_gets_a_200_from_a_sick_server(server, method, path, hooked):
    server.add_check(lambda: "down", name="db")
    server.set_ready(False)
    if hooked:
        server.app.before_request(lambda: None)
    for headers, body in ((), ""), (BODY, "{}"):
        status, found, _ = await ask(server.addr, method, path, *headers, body=body)
        assert status == (503 if method in {"OPTIONS", "GET", "HEAD"} else 405)
        if method == "OPTIONS" or status == 405:
            assert found["allow"] == "get, head, options"


async def test_options_reports_a_good_state_with_the_methods_it_allows(server):
    for path, text in ("/health", "ok\n"), ("/ready", "ready\n"):
        status, headers, body = await ask(server.addr, "OPTIONS", path)
        assert (status, body) == (200, text)
        assert headers["allow"] == "get, head, options"


def with_before_request(app):
    from quart import Response

    app.before_request(lambda: Response("no", 401))


def with_a_blueprint(app):
    from quart import Blueprint, Response

    blueprint = Blueprint("guard", __name__)
    blueprint.before_app_request(lambda: Response("no", 401))
    app.register_blueprint(blueprint)


def with_after_request(app):
    from quart import Response

    def refuse(response):
        return Response("no", 401)

    app.after_request(refuse)


def with_middleware(app):
    inner = app.asgi_app

    async def refuse(scope, receive, send):
        if scope["type"] != "http":
            await inner(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"no"})

    app.asgi_app = refuse


@pytest.mark.parametrize("guard", [with_before_request, with_a_blueprint, with_after_request, with_middleware])
async def test_hooks_see_the_probes_also_when_they_come_while_it_serves(server, guard):
    assert (await ask(server.addr, "GET", "/health"))[0] == 200
    guard(server.app)
    for path in "/health", "/ready":
        for method in "GET", "OPTIONS":
            assert (await ask(server.addr, method, path))[0] == 401
        assert (await ask(server.addr, "GET", path, *BODY, body="{}"))[0] == 401


async def test_a_route_of_the_users_wins_whatever_its_function_is_called(server):
    from quart import Blueprint

    assert (await ask(server.addr, "GET", "/health"))[2] == "ok\n"

    @server.app.get("/health")
    async def health():
        return "mine"

    blueprint = Blueprint("own", __name__)

    @blueprint.get("/ready")
    async def ready():
        return "mine, too"

    server.app.register_blueprint(blueprint)
    assert (await ask(server.addr, "GET", "/health"))[2] == "mine"
    assert (await ask(server.addr, "GET", "/ready"))[2] == "mine, too"
    assert (await ask(server.addr, "POST", "/health"))[0] == 405


@pytest.mark.parametrize("path", ["/health", "/ready"])
async def test_options_at_a_route_of_the_users_reports_the_state_that_it_does(server, path):
    @server.app.get(path)
    async def own():
        return "sick", 503

    @server.app.get("/other")
    def other():
        return "sick", 503

    status, headers, body = await ask(server.addr, "OPTIONS", path)
    assert (status, body) == (503, "sick")
    assert "get" in headers["allow"].lower()
    assert (await ask(server.addr, "OPTIONS", "/other"))[0] == 200


async def test_a_catch_all_route_does_not_take_the_probes(server):
    @server.app.route("/<path:path>")
    async def everything(path):
        return f"caught {path}"

    assert (await ask(server.addr, "GET", "/other"))[2] == "caught other"
    assert (await ask(server.addr, "GET", "/health"))[2] == "ok\n"
    assert (await ask(server.addr, "GET", "/ready", *BODY, body="{}"))[2] == "ready\n"


async def test_a_test_client_of_the_app_sees_the_probes(server):
    client = server.app.test_client()
    assert (await client.get("/health")).status_code == 200
    assert (await client.post("/ready")).status_code == 405


@pytest.mark.parametrize("blank", [b"\r\n\r\n", b"\r\n" * 50, b"\n\r\n\n"])
async def test_empty_lines_before_a_request_are_skipped(server, blank):
    stream = await connect(server.addr)
    async with stream:
        await stream.send_all(blank)
        await stream.send_all(b"\r")
        await stream.send_all(b"\nGET /ready HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b"ready\n"):
            answer += await stream.receive_some()
        assert answer.startswith(b"HTTP/1.1 200")


def add_stream(server, until):
    @server.app.get("/stream")
    async def stream():
        async def lines():
            yield b"first\n"
            await until.wait()

        return lines(), 200

    @server.app.websocket("/socket")
    async def socket():
        from quart import websocket

        await websocket.send("first")
        await until.wait()


async def open_stream(addr, path="/stream"):
    """A client that has had the first of a stream's body."""
    stream = await connect(addr)
    upgrade = ""
    if path == "/socket":
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        upgrade = f"Upgrade: websocket\r\nConnection: Upgrade\r\n{key}"
    await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n".encode())
    seen = b""
    while b"first" not in seen:
        chunk = await stream.receive_some()
        assert chunk, seen
        seen += chunk
    return stream


@pytest.mark.parametrize("path", ["/stream", "/socket"])
async def test_open_streams_take_no_place_from_the_probes(path):
    with trio.fail_after(60):
        async with HealthServer("127.0.0.1:0", max_connections=4) as server:
            add_stream(server, server.closing)
            opened = [await open_stream(server.addr, path) for _ in range(12)]
            assert (await ask(server.addr, "GET", "/health"))[0] == 200
            assert (await ask(server.addr, "GET", "/ready"))[0] == 200
        for stream in opened:
            await stream.aclose()


@pytest.mark.parametrize("path", ["/stream", "/socket"])
async def test_one_stream_too_many_is_answered_503_at_once(path, monkeypatch):
    monkeypatch.setattr("trio_process._daemon.health.connection.MAX_STREAMS", 2)
    with trio.fail_after(60):
        async with HealthServer("127.0.0.1:0") as server:
            add_stream(server, server.closing)
            opened = [await open_stream(server.addr, path) for _ in range(2)]
            upgrade = (
                ()
                if path == "/stream"
                else ("Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
            )
            lines = [
                f"GET {path} HTTP/1.1",
                "Host: x",
                "Connection: Upgrade" if upgrade else "Connection: close",
                *upgrade,
                "",
                "",
            ]
            answer = await exchange(server.addr, "\r\n".join(lines).encode())
            assert answer.startswith(b"HTTP/1.1 503")
            await opened.pop().aclose()
            opened.append(await open_stream_in_time(server.addr, path))
        for stream in opened:
            await stream.aclose()
    assert streams.MAX_STREAMS == 64


async def open_stream_in_time(addr, path):
    """A stream, as soon as the place of one that was left is free again."""
    while True:
        try:
            return await open_stream(addr, path)
        except AssertionError:
            await trio.lowlevel.checkpoint()


async def test_closing_lets_fifty_streams_end_without_waiting_for_the_farewell():
    with trio.fail_after(60):
        async with HealthServer("127.0.0.1:0") as server:
            ended = 0

            @server.app.get("/stream")
            async def stream():
                async def lines():
                    nonlocal ended
                    yield b"first\n"
                    await server.closing.wait()
                    yield b"goodbye\n"
                    ended += 1

                return lines(), 200

            opened = [await open_stream(server.addr) for _ in range(50)]
            assert not server.closing.is_set()
        assert server.closing.is_set()
        assert ended == 50
        for each in opened:
            await each.aclose()


class Boom(Exception):
    pass


async def test_what_a_client_sends_makes_no_line_of_its_own_in_the_log(server, caplog):
    @server.app.get("/broken/<name>")
    async def broken(name):
        async def lines():
            yield b"first\n"
            raise Boom(f"no {name}")

        return lines(), 200

    await exchange(server.addr, b"GET /broken/a%0aERROR%20forged%1b[2J%e2%80%ae HTTP/1.1\r\nHost: x\r\n\r\n")
    [record] = caplog.records
    assert record.getMessage().isprintable()
    assert "/broken/a ERROR forged" in record.getMessage()


@pytest.mark.parametrize("error", [Boom("boom"), ValueError("boom"), ExceptionGroup("many", [Boom("boom")])])
async def test_an_error_in_a_stream_is_one_log_record_and_ends_that_response_alone(server, caplog, error):
    @server.app.get("/broken")
    async def broken():
        async def lines():
            yield b"first\n"
            raise error

        return lines(), 200

    with caplog.at_level(logging.INFO):
        answer = await exchange(server.addr, b"GET /broken HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"first" in answer
    assert not answer.endswith(b"0\r\n\r\n")
    [record] = caplog.records
    assert record.name == "trio_process"
    assert "the response to GET /broken broke off: " in record.getMessage()
    assert "boom" in record.getMessage()
    assert record.exc_info is None
    assert (await ask(server.addr, "GET", "/health"))[0] == 200
