"""What passes before anything runs: exactly what would be found up to date one by one, with all that it comes after."""

import json
import os
import time

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trio_process import Runner, RunSpec, SpecState
from trio_process._pipeline import Memory
from trio_process._pipeline.memory import memory as module
from trio_process._pipeline.memory.journal import Journal
from trio_process._pipeline.memory.records import batches, since, size_of, without_outdated

FILES = ("a", "b", "sub/c", "sub/d")
OLD = time.time() - 3600


def write(path, text, age=0.0):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text)
    os.utime(path, (OLD - age, OLD - age))


@st.composite
def graphs(draw):
    """Return specs, each behind those that it comes after."""
    specs = []
    for n in range(draw(st.integers(1, 6))):
        inputs = draw(st.lists(st.sampled_from([*FILES, "sub", "sub/*", "*", "none"]), max_size=3, unique=True))
        after = draw(st.lists(st.sampled_from([spec["name"] for spec in specs] or ["-"]), max_size=2, unique=True))
        specs.append(
            {
                "name": f"t{n}",
                "inputs": inputs,
                "outputs": [f"out/{n}"] if draw(st.booleans()) else [],
                "after": [name for name in after if name != "-"],
                "when": draw(st.sampled_from(["success", "success", "always"])),
            }
        )
    return specs


changes = st.lists(
    st.tuples(st.sampled_from([*FILES, "new", "out/0", "out/1"]), st.sampled_from(["edit", "remove", "touch"])),
    max_size=3,
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    graphs(), st.sets(st.integers(0, 5)), changes, st.sets(st.integers(0, 5), max_size=1), st.sets(st.integers(0, 5))
)
def test_it_is_what_one_look_after_the_other_would_find(
    tmp_path_factory, monkeypatch, graph, passed, changed, edited, remade
):
    monkeypatch.setattr(module, "WORTH_AN_INDEX", 0)
    place = tmp_path_factory.mktemp("place")
    for name in FILES:
        write(place / name, name)
    specs = [RunSpec(command="make", cwd=place, **spec) for spec in graph]
    by_name = {spec.name: spec for spec in specs}
    memory = Memory(place / ".memory" / "m")
    for n, spec in enumerate(specs):
        if spec.outputs:
            write(place / spec.outputs[0], spec.name)
        if n in passed and spec.inputs:
            fingerprint = memory.check(spec, [by_name[name] for name in spec.after])
            if fingerprint is not None:
                memory.passed(spec, fingerprint)
    memory.close(specs)
    for n in remade - passed:  # what the index doesn't know
        if n < len(specs) and specs[n].inputs:
            fingerprint = memory.check(specs[n], [by_name[name] for name in specs[n].after])
            if fingerprint is not None:
                memory.passed(specs[n], fingerprint)
    for n, (name, how) in enumerate(changed):
        path = place / name
        if how == "edit":
            write(path, f"changed {n}", age=n)
        elif path.exists():
            path.unlink() if how == "remove" else os.utime(path, (OLD - 9, OLD - 9))
    specs = [
        RunSpec(command="make", args=["x"] if n in edited else [], cwd=place, **spec) for n, spec in enumerate(graph)
    ]
    by_name = {spec.name: spec for spec in specs}
    expected = set()
    for spec in specs:
        needed = [by_name[name] for name in spec.after]
        if spec.inputs and expected >= set(spec.after) and not Memory(place / ".memory" / "m").reasons(spec, needed):
            expected.add(spec.name)
    found = Memory(place / ".memory" / "m").find_unchanged(specs)
    assert found <= expected
    assert expected - found <= {spec.name for spec in specs if spec.outputs}  # what has more outputs is judged later


class NoPlace:
    """An executor that must not be asked."""

    slots = 0

    def has_place(self, options):
        raise AssertionError(options)

    async def run_process(self, options, *, check=True, task_status):
        raise AssertionError(options)


@pytest.mark.parametrize("schedule", ["waves", "eager"])
async def test_ten_thousand_pass_without_a_place_and_others_have_their_turn_meanwhile(tmp_path, schedule):
    specs = []
    memory = Memory(tmp_path / ".m")
    write(tmp_path / "input", "x")
    for n in range(3000):
        after = [f"t{n - 1}"] if n % 100 else []
        specs.append(RunSpec(name=f"t{n}", command="x", cwd=tmp_path, inputs=["input"], after=after))
        memory.passed(specs[-1], memory.check(specs[-1], specs[-2:-1] if after else []))
    turns = 0

    async def count():
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        result = await Runner(NoPlace(), memory=tmp_path / ".m").run_all(specs, schedule=schedule)
        nursery.cancel_scope.cancel()
    assert {one.state for one in result.results} == {SpecState.UP_TO_DATE}
    assert turns > 10
    again = Memory(tmp_path / ".m")
    assert all(again.reasons(spec, [specs[n - 1]] if spec.after else []) == [] for n, spec in enumerate(specs[:200]))


async def test_what_comes_after_something_that_runs_waits_for_it(tmp_path):
    write(tmp_path / "input", "x")
    first = RunSpec(name="first", command="true")
    second = RunSpec(name="second", command="x", cwd=tmp_path, inputs=["input"], after=["first"])
    memory = Memory(tmp_path / ".m")
    memory.passed(second, memory.check(second, [first]))
    assert memory.find_unchanged([first, second]) == set()
    assert memory.find_unchanged([second]) == set()


def test_a_forced_one_is_left_to_the_run(tmp_path):
    write(tmp_path / "input", "x")
    memory = Memory(tmp_path / ".m")
    spec = RunSpec(name="plain", command="x", cwd=tmp_path, inputs=["input"])
    memory.passed(spec, memory.check(spec, []))
    assert memory.find_unchanged([spec]) == {"plain"}
    memory.force(["plain"])
    assert memory.find_unchanged([spec]) == set()


def test_records_of_many_entries_lose_none_and_what_later_ones_replace_is_dropped():
    files = {f"f{n}": [n, n, n, "d"] for n in range(1234)}
    ends = {f"t{n}": ["passed", "", ""] for n in range(700)}
    records = [{"memory": 1}, *batches("files", files), {"made": "a", "n": 1}, {"run": []}, *batches("ends", ends)]
    records += [{"made": "a", "n": 2}, *batches("files", {"f3": [0, 0, 0, "new"]}), {"other": 1}]
    assert sum(map(size_of, records)) == 1 + 1234 + 1 + 1 + 700 + 1 + 1 + 1
    kept = list(without_outdated(records))
    assert {path: mark for record in kept for path, mark in record.get("files", {}).items()} == {
        **files,
        "f3": [0, 0, 0, "new"],
    }
    assert {name for record in kept for name in record.get("ends", {})} == set(ends)
    assert [record["n"] for record in kept if "made" in record] == [2]
    assert list(without_outdated([*kept, {"run": ["x"]}]))[-1].keys() != {"ends"}


@pytest.mark.parametrize(
    "record",
    [
        {"made": "a", "from": {}, "outputs": {}, "at": 1},
        {"made": "a", "from": 3, "outputs": {}, "at": 1},
        {
            "made": "a",
            "from": {"command": "", "shown": "", "env": {}, "inputs": {}, "results": {}},
            "outputs": 3,
            "at": 1,
        },
        {
            "made": "a",
            "from": {"command": "", "shown": "", "env": 3, "inputs": {}, "results": {}},
            "outputs": {},
            "at": 1,
        },
        {
            "made": "a",
            "from": {"command": "", "shown": "", "env": {}, "inputs": [], "results": {}},
            "outputs": {},
            "at": 1,
        },
        {
            "made": "a",
            "from": {"command": "", "shown": "", "env": {}, "inputs": {}, "results": {}},
            "outputs": {},
            "at": "now",
        },
        {"made": "a"},
        {"made": ["a"], "forced": True},
        {"files": {"a": [1, 2]}},
        {"files": 3},
        {"ends": {"a": 1}},
        {"run": 3, "arguments": []},
        {"run": ["a"]},
    ],
)
def test_a_record_of_another_version_costs_nothing_but_itself(tmp_path, record):
    write(tmp_path / "input", "x")
    spec = RunSpec(name="good", command="x", cwd=tmp_path, inputs=["input"])
    memory = Memory(tmp_path / ".m")
    memory.passed(spec, memory.check(spec, []))
    Journal(tmp_path / ".m").append([record])
    bad = RunSpec(name="a", command="x", cwd=tmp_path, inputs=["input"])
    again = Memory(tmp_path / ".m")
    assert again.reasons(spec, []) == []
    assert again.reasons(bad, []) != [] or again.passed_at("a") is not None
    assert again.find_unchanged([spec, bad]) == {"good"}
    assert json.dumps(record)


@pytest.mark.parametrize("at", [1e300, -1e300])
def test_a_time_that_is_no_date_is_left_out(at):
    assert since(at) == "up to date"
