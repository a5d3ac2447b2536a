"""What of hypercorn, Quart and quart-trio the health server uses that they do not promise to keep."""

import inspect
import pkgutil
import socket
import sys
import tomllib
from pathlib import Path

import pytest
import trio

from trio_process._core import DaemonError
from trio_process._daemon import HealthServer
from trio_process._daemon.health import server as health


def parameters(function):
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("trio.tcp_server.TCPServer", ["app", "config", "context", "state", "stream"]),
        (
            "protocol.h11.H11Protocol",
            ["app", "config", "context", "task_group", "connection_state", "ssl", "client", "server", "send"],
        ),
        ("trio.task_group._handle", ["app", "config", "scope", "receive", "send", "sync_spawn", "call_soon"]),
        ("trio.task_group.TaskGroup.spawn_app", ["self", "app", "config", "scope", "send"]),
        ("trio.tcp_server.TCPServer._read_data", ["self"]),
        ("trio.tcp_server.TCPServer.protocol_send", ["self", "event"]),
        ("protocol.h11.H11Protocol._send_h11_event", ["self", "event"]),
        ("protocol.h11.H11Protocol._check_protocol", ["self", "event"]),
    ],
)
def test_what_is_called_takes_what_it_is_given(function, expected):
    assert parameters(pkgutil.resolve_name(f"hypercorn.{function}")) == expected


def test_what_is_overridden_is_there_to_be_overridden():
    """A method that was renamed in the base would be ours alone, and never be called."""
    from trio_process._daemon.health import app, connection

    new = {
        "_ping",
        "stop_pings",
        "_refuse",
        "_end_websocket",
        "answering",
        "is_ours",
        "has_hooks",
        "__init__",
        "__module__",
        "__doc__",
        "__firstlineno__",
        "__static_attributes__",
        "__final__",
    }
    for kind in (connection._Protocol, connection._Tasks, connection.Connection, app._HTTPConnection, app.HealthApp):
        methods = {name for name, member in vars(kind).items() if callable(member)} - new
        assert methods
        for name in methods:
            assert any(hasattr(base, name) for base in kind.__bases__), (kind, name)


def test_the_text_of_the_error_names_what_the_package_requires():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert set(health._HTTP_STACK) <= set(project["dependencies"])


@pytest.fixture
def unimported(monkeypatch):
    """Let the HTTP side be imported again."""
    import trio_process._daemon.health as wing

    for name in ("accept", "connection"):
        monkeypatch.delitem(sys.modules, f"trio_process._daemon.health.{name}", raising=False)
        monkeypatch.delattr(wing, name, raising=False)


@pytest.mark.parametrize("change", ["version", "internal"])
@pytest.mark.usefixtures("unimported")
async def test_another_hypercorn_is_refused_by_name_and_the_port_is_free_again(monkeypatch, change):
    if change == "version":
        monkeypatch.setattr("importlib.metadata.version", lambda _: "0.19.1")
    else:
        monkeypatch.delattr("hypercorn.trio.task_group._handle")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with trio.fail_after(30):
        with pytest.raises(DaemonError, match=r"hypercorn.*pip install 'hypercorn>=0\.18,<0\.19'"):
            async with HealthServer(f"127.0.0.1:{port}"):
                pass
        (listener,) = await trio.open_tcp_listeners(port, host="127.0.0.1")
        await listener.aclose()
