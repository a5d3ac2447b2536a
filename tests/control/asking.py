"""Clients of the control plane as an attacker or a browser would write them: raw HTTP, Server-Sent Events, WebSockets."""

import json
from contextlib import asynccontextmanager
from typing import NamedTuple

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Ping, RejectConnection, RejectData, Request, TextMessage

from trio_process import ControlServer, Service

LIMIT = 20  # seconds


class Got(NamedTuple):
    """An answer."""

    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def data(self):
        envelope = self.json
        assert envelope["success"] is True, envelope
        return envelope["data"]

    @property
    def code(self):
        envelope = self.json
        assert envelope["success"] is False, envelope
        assert envelope["error"]["message"]
        return envelope["error"]["code"]


async def connect(control):
    if control.addr.startswith("unix:"):
        return await trio.open_unix_socket(control.addr.removeprefix("unix:"))
    host, _, port = control.addr.rpartition(":")
    return await trio.open_tcp_stream(host.strip("[]"), int(port))


async def raw(control, data, *, body=False):
    """Send bytes, and return the answer; with a body also to a HEAD, if it was refused before it was understood."""
    with trio.fail_after(LIMIT):
        stream = await connect(control)
        async with stream:
            await stream.send_all(data)
            return await answer(stream, head=data.startswith(b"HEAD") and not body)


async def answer(stream, data=b"", *, head=False):
    while b"\r\n\r\n" not in data:
        chunk = await stream.receive_some(65536)
        assert chunk, f"closed after {data!r}"
        data += chunk
    top, _, body = data.partition(b"\r\n\r\n")
    lines = top.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    length = 0 if head else int(headers.get("content-length", 0))
    while len(body) < length:
        chunk = await stream.receive_some(65536)
        assert chunk, "closed within the body"
        body += chunk
    return Got(int(lines[0].split()[1]), headers, body)


async def ask(control, method, path, body=None, *, token=True, **headers):
    """Send a request with the token, and return the answer."""
    given = {"Host": control.addr if not control.addr.startswith("unix:") else "localhost"}
    if token:
        given["Authorization"] = f"Bearer {control.token.reveal()}"
    data = b""
    if body is not None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given["Content-Type"] = "application/json"
        given["Content-Length"] = str(len(data))
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items() if value is not None)]
    return await raw(control, "\r\n".join([*lines, "", ""]).encode("latin-1") + data)


async def get(control, path, **headers):
    return await ask(control, "GET", "/api/process" + path, **headers)


async def post(control, path, body=None, **headers):
    return await ask(control, "POST", "/api/process" + path, body, **headers)


class Events:
    """Messages of a stream, one after the other."""

    def __init__(self, receive):
        self._receive = receive
        self.seen = []

    async def next(self):
        with trio.fail_after(LIMIT):
            message = await self._receive()
        self.seen.append(message)
        return message

    async def until(self, wanted):
        """Return the first message for which a function is true."""
        while not wanted(message := await self.next()):
            pass
        return message

    async def event(self, channel):
        return await self.until(lambda message: message.get("channel") == channel)


@asynccontextmanager
async def events(control, query=""):
    """Follow the Server-Sent Events."""
    stream = await connect(control)
    async with stream:
        head = f"GET /api/process/events{query} HTTP/1.1\r\nHost: {control.addr}\r\n"
        await stream.send_all(f"{head}Authorization: Bearer {control.token.reveal()}\r\n\r\n".encode())
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.receive_some(65536)
        head, _, rest = data.partition(b"\r\n\r\n")
        assert b" 200 " in head.split(b"\r\n")[0], head
        assert b"text/event-stream" in head
        reader = Chunks(stream, rest)
        yield Events(reader.message)


class Chunks:
    def __init__(self, stream, rest):
        self._stream = stream
        self._raw = rest
        self._text = b""

    async def message(self):
        while b"\n\n" not in self._text:
            self._text += await self._chunk()
        event, _, self._text = self._text.partition(b"\n\n")
        if event.startswith(b":"):
            return {"type": "beat"}
        assert event.startswith(b"data: ")
        return json.loads(event[6:])

    async def _chunk(self):
        while True:
            size, found, rest = self._raw.partition(b"\r\n")
            if found and len(rest) >= int(size, 16) + 2:
                length = int(size, 16)
                if not length:
                    raise trio.EndOfChannel
                self._raw = rest[length + 2 :]
                return rest[:length]
            more = await self._stream.receive_some(65536)
            if not more:
                raise trio.EndOfChannel
            self._raw += more


class Refused(Exception):
    def __init__(self, status, body):
        super().__init__(status, body)
        self.status = status
        self.body = body


@asynccontextmanager
async def websocket(control, query="", headers=None, host=None):
    """Follow the events over a WebSocket."""
    stream = await connect(control)
    client = WSConnection(ConnectionType.CLIENT)
    if headers is None:
        headers = [(b"authorization", f"Bearer {control.token.reveal()}".encode())]
    target = f"/api/process/events{query}"
    async with stream:
        await stream.send_all(client.send(Request(host=host or control.addr, target=target, extra_headers=headers)))
        waiting = []
        status, body = 0, b""

        async def receive():
            nonlocal status, body
            while True:
                while waiting:
                    event = waiting.pop(0)
                    if isinstance(event, AcceptConnection):
                        return {"type": "accepted"}
                    if isinstance(event, RejectConnection):
                        status = event.status_code
                    elif isinstance(event, RejectData):
                        body += event.data
                        if event.body_finished:
                            raise Refused(status, body)
                    elif isinstance(event, TextMessage):
                        text.append(event.data)
                        if event.message_finished:
                            whole = "".join(text)
                            text.clear()
                            return json.loads(whole)
                    elif isinstance(event, Ping):
                        await stream.send_all(client.send(event.response()))
                    elif isinstance(event, CloseConnection):
                        return {"type": "closed", "code": event.code}
                data = await stream.receive_some(65536)
                client.receive_data(data or None)
                waiting.extend(client.events())

        text = []
        found = Events(receive)
        assert (await found.next())["type"] == "accepted"
        yield found


@asynccontextmanager
async def serving(addr="127.0.0.1:0", **options):
    """Serve a service of its own."""
    async with Service() as service, ControlServer(addr, service=service, **options) as control:
        yield control, service
