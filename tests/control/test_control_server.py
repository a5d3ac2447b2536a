"""The server's life: addresses, tokens, entering and leaving."""

import os
import stat
import subprocess
import sys
from datetime import datetime

import pytest
import trio
from asking import ask, get, serving

from trio_process import Access, ControlServer, Daemon, OptionError, ProcessError, Runner, RunSpec, Secret, Service


async def test_it_has_an_address_a_url_and_a_token_that_does_not_show():
    async with ControlServer("127.0.0.1:0") as control:
        assert control.url == f"http://{control.addr}/"
        assert not control.addr.endswith(":0")
        assert len(control.token.reveal()) == 43  # 256 bits
        assert control.token.reveal() not in f"{control!r} {control.token} {control.login_url}"
        assert control.login_url.reveal() == f"{control.url}#token={control.token.reveal()}"
    assert control.addr == "127.0.0.1:0"


async def test_each_server_makes_a_token_of_its_own():
    assert ControlServer("127.0.0.1:0").token != ControlServer("127.0.0.1:0").token


@pytest.mark.parametrize("addr", ["0.0.0.0:0", ":0", "192.0.2.1:80", "[::]:0", "8.8.8.8:80"])
def test_an_address_that_others_reach_needs_a_token(addr):
    with pytest.raises(OptionError, match=r"token=Secret.*TRIO_PROCESS_TOKEN"):
        ControlServer(addr)
    ControlServer(addr, token=Secret("x"))


@pytest.mark.parametrize("addr", ["127.0.0.1:0", "127.5.6.7:0", "[::1]:0", "localhost:0", "unix:/tmp/x"])
def test_loopback_and_a_unix_socket_need_none(addr):
    ControlServer(addr)


@pytest.mark.parametrize("token", ["", "with blank", "ümlaut", "a\nb", 5, b"bytes", Secret("")])
def test_a_token_that_no_header_can_carry_is_refused(token):
    with pytest.raises(OptionError, match="token"):
        ControlServer("127.0.0.1:0", token=token)


@pytest.mark.parametrize(
    "options",
    [
        {"access": "all"},
        {"hosts": "ops.example.org"},
        {"hosts": ["user@host"]},
        {"hosts": ["http://host"]},
        {"max_streams": 0},
        {"page": "yes"},
        {"service": object()},
        {"registry": "x"},
    ],
)
def test_values_that_are_not_valid_are_refused(options):
    with pytest.raises(OptionError, match=next(iter(options))):
        ControlServer("127.0.0.1:0", **options)


async def test_others_are_warned_of(caplog):
    async with ControlServer("0.0.0.0:0", token="given", access=Access.READ):
        pass
    assert "can be reached from other machines" in caplog.text
    assert "given" not in caplog.text


async def test_a_unix_socket_is_for_its_owner_alone(tmp_path):
    path = tmp_path / "control.sock"
    old = os.umask(0)
    try:
        async with serving(f"unix:{path}") as (control, _):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            got = await get(control, "/processes", token=False)
            assert got.data == []
            assert "http+unix://" in control.url
            assert control.login_url.reveal() == control.url  # which has no use for a token
    finally:
        os.umask(old)
    assert not path.exists()


async def test_a_taken_port_is_a_bare_error():
    async with ControlServer("127.0.0.1:0") as first:
        with pytest.raises(OSError, match="another program listens there") as caught:
            async with ControlServer(first.addr):
                pass
        assert not isinstance(caught.value, BaseExceptionGroup)


async def test_the_error_of_the_body_leaves_as_the_same_object():
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught:
        async with serving():
            raise error
    assert caught.value is error


async def test_it_is_entered_once_at_a_time_and_again_later():
    control = ControlServer("127.0.0.1:0")
    async with control:
        with pytest.raises(ProcessError, match="serves"):
            await control.__aenter__()
    async with control:
        assert (await ask(control, "GET", "/health", token=False)).body == b"ok\n"


async def test_it_stands_within_a_daemon():
    async with (
        Daemon(signals=False) as daemon,
        Service() as service,
        ControlServer("127.0.0.1:0", service=service) as control,
    ):
        await daemon.run(ask, control, "GET", "/health")


async def test_a_pipeline_is_shown_only_while_it_serves():
    control = ControlServer("127.0.0.1:0")
    with pytest.raises(ProcessError, match="entered"):
        control.pipeline("x", [])


async def test_a_pipeline_is_shown_with_its_tasks():
    async with serving() as (control, service):
        specs = [
            RunSpec(name="one", command="echo", args=["hello"]),
            RunSpec(name="two", command="false", after=["one"]),
            RunSpec(name="three", command="true", after=["two"]),
        ]
        await Runner(service).run_all(specs, updates=control.pipeline("build", specs))
        with trio.fail_after(10):
            while (row := (await get(control, "/pipelines")).data[0])["state"] == "running":
                await trio.sleep(0.01)
        assert (row["name"], row["state"]) == ("build", "failed")
        assert row["counts"] == {"passed": 1, "failed": 1, "skipped": 1}
        found = (await get(control, f"/pipelines/{row['id']}")).data
        steps = {step["name"]: step for step in found["specs"]}
        assert steps["one"]["result"]["output"] == "hello\n"
        assert steps["three"]["started"] is None
        assert steps["two"]["after"] == ["one"]


async def test_a_step_of_the_clock_moves_no_time_of_a_pipeline(monkeypatch):
    async with serving() as (control, service):
        specs = [RunSpec(name="one", command="true")]
        updates = control.pipeline("build", specs)
        with monkeypatch.context() as patch:
            patch.setattr("time.time", lambda: 1.0)
            await Runner(service).run_all(specs, updates=updates)
            row = (await ended_pipelines(control))[0]
        (step,) = (await get(control, f"/pipelines/{row['id']}")).data["specs"]
        began, ended = (datetime.fromisoformat(row[name]).timestamp() for name in ("began", "ended"))
        assert began <= step["started"] <= step["ended"] <= ended + 1e-5  # which has microseconds only
        assert row["duration"] == pytest.approx(ended - began, abs=0.002)


async def ended_pipelines(control):
    with trio.fail_after(10):
        while True:
            rows = (await get(control, "/pipelines")).data
            if all(row["state"] != "running" for row in rows):
                return rows
            await trio.sleep(0.01)


async def test_a_pipeline_that_was_refused_has_failed_with_its_faults():
    async with serving() as (control, service):
        for specs, options, fault in (
            ([RunSpec(name="twice", command="true")] * 2, {}, "the name 'twice' is used twice"),
            ([RunSpec(name="one", command="true")], {"schedule": "never"}, "before any of its tasks began"),
        ):
            with pytest.raises(ProcessError):
                await Runner(service).run_all(specs, updates=control.pipeline("build", specs), **options)
            row = (await ended_pipelines(control))[0]
            assert row["state"] == "failed"
            assert fault in row["error"]
        await Runner(service).run_all([], updates=control.pipeline("nothing to do", []))
        row = (await ended_pipelines(control))[0]
        assert (row["state"], row["error"]) == ("passed", None)


async def test_routes_of_the_user_are_behind_the_guard():
    async with serving() as (control, _):

        @control.app.route("/mine")
        async def mine():
            return {"mine": True}

        assert (await ask(control, "GET", "/mine")).json == {"mine": True}
        assert (await ask(control, "GET", "/mine", token=False)).status == 401
        assert (await ask(control, "GET", "/else")).status == 404


def test_the_http_stack_is_imported_when_a_server_is_entered():
    code = """
import sys, trio_process
assert not {"quart", "hypercorn", "json", "secrets"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)
