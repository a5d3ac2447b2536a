"""`openapi.json` and the server, held together by schemathesis; and whether every route and event has a test."""

import re
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, Phase, given, settings

from trio_process import ControlServer, Registry, Supervisor, UnitSpec
from trio_process._control.api import api_routes
from trio_process._control.api.openapi import document
from trio_process._control.api.routes import BASE
from trio_process._control.gate import guard as guard_module
from trio_process._control.live.hub import CHANNELS

STREAMS = ("/events", "/hold")
EXAMPLES = 2
LIMIT = 20  # seconds for one request


def ask_all(control, mode):
    import requests  # this takes long, and so here, where one worker does it

    with requests.Session() as session:  # one connection: each request of its own would be most of the time
        return ask_with(session, control, mode)


def ask_with(session, control, mode):
    import schemathesis
    from schemathesis.generation import GenerationMode

    mode = GenerationMode(mode)
    schema = schemathesis.openapi.from_dict(document(api_routes()))
    headers = {"Authorization": f"Bearer {control.token.reveal()}"}
    count = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path.endswith(STREAMS) or (
            mode is GenerationMode.NEGATIVE and not operation.path.startswith(BASE)
        ):
            continue  # probes may have any query

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=EXAMPLES,
            database=None,
            derandomize=True,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def ask(case):
            if isinstance(case.query, dict) and "wait" in case.query and mode is GenerationMode.POSITIVE:
                case.query["wait"] = 0.01  # up to 300 s are right, too
            case.call_and_validate(base_url=control.url, session=session, headers=headers, timeout=LIMIT)

        try:
            ask()
        except schemathesis.errors.InvalidSchema:
            raise
        except Exception as error:
            if "negative" in str(error).lower() and "Can't generate" in str(error):
                continue  # an operation of which everything is right
            raise
        count += 1
    return count


@pytest.mark.bound(400)
@pytest.mark.parametrize("mode", ["positive", "negative"])
async def test_schemathesis_finds_nothing(tmp_path, monkeypatch, mode):
    # schemathesis tries a wrong token at every route, more than ten a second where the machine is fast; 429 has its own test
    monkeypatch.setattr(guard_module, "_WRONG_PER_SECOND", 10**6)
    specs = [UnitSpec(name="web", command="sleep", args=["1000"]), UnitSpec(name="db", command="cat")]
    supervisor = Supervisor(specs)
    async with ControlServer("127.0.0.1:0", supervisor=supervisor, registry=Registry(tmp_path)) as control, supervisor:
        with trio.fail_after(300):
            assert await trio.to_thread.run_sync(ask_all, control, mode) > 10


def test_every_route_is_described():
    paths = document(api_routes())["paths"]
    assert len(paths) > 25
    for path, operations in paths.items():
        assert path.startswith((BASE + "/", "/"))
        for operation in operations.values():
            assert operation["summary"].endswith(".")
            assert "200" in operation["responses"]


def test_every_route_and_every_event_is_used_by_a_test():
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("*.py")).replace("{one}", "/processes/x")
    value = r"(?:\{[^}]*\}|[^/\s\"']+)"  # of a test: written out, or put in
    for route in api_routes():
        path = re.sub(r"\\\{\w+\\\}", lambda _: value, re.escape(route.path.removeprefix(BASE)))
        assert re.search(rf"{path}(?![\w/-])", tests), route.path
    assert not [channel for channel in CHANNELS if channel not in tests]
