"""The services on virtual time: what starts when, and what happens after a crash."""

from pathlib import Path

import attrs
import pytest
import trio

from trio_process import Supervisor, UnitFailedError, load_services
from trio_process.testing import Behaviour, FakeService

FILE = Path(__file__).parents[1] / "trio-process.toml"
# ruff: noqa: ARG001 - a test asks for the clock by naming it among its arguments
# the liveness probe would ask a real port
UNITS = [attrs.evolve(unit, live=None) for unit in load_services(FILE)]

STORE = ("python3", "-m", "depot.store")
WORKER = ("python3", "-m", "depot.worker")
WEB = ("python3", "-m", "depot.web")
WAITS = Behaviour(lines=["worker is waiting for files"], exit_code=None)
SERVES = Behaviour(lines=[(2.0, "serving at http://127.0.0.1:8080")], exit_code=None)


@pytest.fixture
async def fake():
    async with FakeService() as fake:
        fake.on(*STORE, exit_after=5)
        fake.on(*WORKER, then=[WAITS])
        fake.on(*WEB, then=[SERVES])
        yield fake


async def test_the_others_wait_for_the_migration(fake, autojump_clock):
    async with Supervisor(UNITS, service=fake) as supervisor:
        await supervisor.wait_ready()
        assert trio.current_time() == 7
        starts = {(call.at, call.args[1]) for call in fake.calls}
        assert starts == {(0, "depot.store"), (5, "depot.web"), (5, "depot.worker")}


async def test_a_migration_that_fails_ends_the_program(fake, autojump_clock):
    fake.on(*STORE, lines={"stderr": ["database is locked"]}, exit_code=1)
    with pytest.raises(UnitFailedError, match="web"):
        async with Supervisor(UNITS, service=fake):
            await trio.sleep_forever()
    assert len(fake.calls) == 1


async def test_a_worker_that_crashes_at_night_is_restarted(fake, autojump_clock):
    crashes = Behaviour(lines=["worker is waiting for files"], exit_after=8 * 3600, exit_code=-9)
    fake.on(
        lambda call: call.options.env.get("TRIO_PROCESS_REPLICA") == "1" and "depot.worker" in call.args,
        then=[crashes, WAITS],
    )
    async with Supervisor(UNITS, service=fake) as supervisor:
        await supervisor["worker"].wait("backoff")
        assert supervisor["worker.2"].ready
        assert supervisor["web"].ready
        await supervisor.wait_ready()
        assert supervisor["worker"].restarts == 1
