"""The JSON keys that docs/reference/events.md promises are those that come, in that order, and JSON can say them."""

import json
import re
from pathlib import Path

import pytest
import trio

from trio_process import DaemonEntry, Runner, RunSpec, Service

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "events.md"
ROW = re.compile(r"^\| `(\w+)` \| (`.*) \|$", re.MULTILINE)
PROMISED = {name: re.findall(r"`(\w+)`", keys.partition(", and")[0]) for name, keys in ROW.findall(PAGE.read_text())}


async def made():
    """Return one of each kind, by its name."""
    async with Service() as service:
        with service.subscribe(name="brief") as events:
            result = await service.run("sh", "-c", "echo hello; kill -9 $$", name="brief", check=False)
            found = [await events.receive() for _ in range(4)]
        whole = await Runner(service).run_all([RunSpec(name="one", command="true")])
        found += [result, result.usage, service.list()[0].info(), whole, whole.results[0]]
    found.append(DaemonEntry("shop", "web", pid=4711, health="127.0.0.1:1", project="/srv", binary="/bin/true"))
    return {type(one).__name__: one for one in found}


@pytest.mark.parametrize("name", PROMISED)
async def test_the_keys_are_those_of_the_reference(name):
    with trio.fail_after(60):
        one = (await made())[name]
    assert list(json.loads(json.dumps(one.to_dict()))) == PROMISED[name]


def test_the_reference_names_all_of_them():
    assert len(PROMISED) == 10
