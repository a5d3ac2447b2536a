"""`inputs` and `outputs`: what is up to date, for which reason something is not, and what a crash leaves of the memory."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import attrs
import forked
import pytest
import trio

from trio_process import PipelineError, Runner, RunSpec, Secret, Service, SpecState
from trio_process._pipeline import Memory
from trio_process._pipeline.memory import patterns
from trio_process._pipeline.memory.fingerprint import Digests
from trio_process._pipeline.memory.journal import Journal

ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.txt").write_text("a")
    (tmp_path / "src" / "b.txt").write_text("b")
    return tmp_path


@pytest.fixture
def build(place):
    """Run a pipeline of one that copies and one that counts, and return the states."""

    async def build(*, change=lambda spec: spec, **options):
        copy = change(RunSpec(name="copy", command="sh", args=["-c", "mkdir -p out; cat src/*.txt >out/all"], cwd=place, inputs=["src/*.txt"], outputs=["out"]))  # fmt: skip
        count = RunSpec(name="count", command="sh", args=["-c", "wc -c <out/all >n"], cwd=place, after=["copy"], inputs=["conf"], outputs=["n"])  # fmt: skip
        async with Service() as service:
            with trio.fail_after(60):
                result = await Runner(service, memory=place / "memory", **options).run_all([copy, count])
        return [one.state.value for one in result.results]

    return build


RAN, FRESH = "passed", "up_to_date"


async def test_what_has_not_changed_is_not_run_again_and_passes(build, place):
    assert await build() == [RAN, RAN]
    (place / "n").rename(place / "n2")
    (place / "n2").rename(place / "n")
    assert await build() == [FRESH, FRESH]


async def test_a_result_of_it_is_a_pass_without_an_attempt(place):
    spec = RunSpec(name="a", command="true", cwd=place, inputs=["src"])
    async with Service() as service:
        runner = Runner(service, memory=place / "memory")
        await runner.run_all([spec])
        updates, received = trio.open_memory_channel(10)
        result = await runner.run_all([spec, RunSpec(name="b", command="true", after=["a"])], updates=updates)
    [one, after] = result.results
    assert (one.state, one.exit_code, one.attempts, one.error, one.started) == (SpecState.UP_TO_DATE, 0, 0, None, None)
    assert (one.passed, after.passed, result.passed, result.success, result.acceptable) == (True, True, 2, True, True)
    assert [u.state.value async for u in received if u.name == "a"] == ["pending", "up_to_date"]
    assert one.to_dict()["state"] == "up_to_date"


CHANGES = {
    "an input": (lambda place: (place / "src" / "a.txt").write_text("A"), [RAN, RAN]),
    "an input of the same size and time": (lambda place: rewrite(place / "src" / "a.txt", "x"), [RAN, RAN]),
    "an input's time alone": (lambda place: os.utime(place / "src" / "a.txt"), [FRESH, FRESH]),
    "a new input": (lambda place: (place / "src" / "c.txt").write_text("c"), [RAN, RAN]),
    "a new input that is empty": (lambda place: (place / "src" / "c.txt").write_text(""), [RAN, FRESH]),
    "an input that is gone": (lambda place: (place / "src" / "b.txt").unlink(), [RAN, RAN]),
    "an input that comes to be": (lambda place: (place / "conf").write_text("x"), [FRESH, RAN]),
    "an output that is gone": (lambda place: (place / "out" / "all").unlink(), [RAN, FRESH]),
    "an output that was changed": (lambda place: (place / "out" / "all").write_text("forged"), [RAN, FRESH]),
    "the last output": (lambda place: (place / "n").unlink(), [FRESH, RAN]),
    "nothing that matters": (lambda place: (place / "other").write_text("x"), [FRESH, FRESH]),
}  # fmt: skip


def rewrite(path, text):
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("what", CHANGES)
async def test_contents_decide(build, place, what):
    change, expected = CHANGES[what]
    assert await build() == [RAN, RAN]
    change(place)
    assert await build() == expected
    assert await build() == [FRESH, FRESH]


@pytest.mark.parametrize(
    "change",
    [
        {"args": ["-c", "mkdir -p out; cat src/*.txt >out/all; :"]},
        {"env": {"A": "1"}},
        {"env": {"A": Secret("s")}},
        {"stdin": "x"},
        {"command": "/bin/sh"},
        {"inputs": ["src/a.txt"]},
    ],
)
async def test_another_command_environment_or_list_of_inputs_is_another_task(build, change):
    assert await build() == [RAN, RAN]
    assert (await build(change=lambda spec: attrs.evolve(spec, **change)))[0] == RAN
    assert (await build(change=lambda spec: attrs.evolve(spec, **change)))[0] == FRESH


async def test_a_failure_is_not_remembered_as_a_success(place):
    spec = RunSpec(name="a", command="sh", args=["-c", "exit $CODE"], cwd=place, inputs=["src"], allow_failure=True)
    os.environ["CODE"] = "3"
    try:
        async with Service() as service:
            runner = Runner(service, memory=place / "memory")
            states = []
            for code in ("3", "3", "0", "3"):
                os.environ["CODE"] = code
                states.append((await runner.run_all([spec])).results[0].state.value)
    finally:
        del os.environ["CODE"]
    assert states == ["failed", "failed", RAN, FRESH]


async def test_without_inputs_or_without_a_memory_everything_is_run(place):
    async with Service() as service:
        for options in ({}, {"memory": place / "memory"}):
            for spec in (
                RunSpec(name="a", command="true", cwd=place),
                RunSpec(name="b", command="true", cwd=place, inputs=["src"]),
            ):
                for _ in range(2):
                    if options and spec.inputs:
                        continue
                    result = await Runner(service, **options).run_all([spec])
                    assert result.results[0].state is SpecState.PASSED


async def test_an_input_that_changes_while_it_is_read_makes_it_run_again(place):
    spec = RunSpec(name="a", command="sh", args=["-c", "echo more >>src/a.txt"], cwd=place, inputs=["src"])
    async with Service() as service:
        runner = Runner(service, memory=place / "memory")
        assert [(await runner.run_all([spec])).results[0].state.value for _ in range(2)] == [RAN, RAN]


async def test_a_memory_that_can_not_be_written_makes_nothing_fail(place):
    spec = RunSpec(name="a", command="true", cwd=place, inputs=["src"])
    (place / "file").write_text("")
    async with Service() as service:
        for memory in (place / "file" / "memory", place / "src", "/proc/nope/memory"):
            result = await Runner(service, memory=memory).run_all([spec])
            assert result.results[0].state is SpecState.PASSED


async def test_a_memory_that_was_moved_is_not_believed(build, place, tmp_path):
    assert await build() == [RAN, RAN]
    (place / "memory").rename(place / "memory2")
    (place / "memory").write_bytes((place / "memory2").read_bytes())
    assert await build() == [FRESH, FRESH]
    other = Memory(place / "memory2")
    assert other.passed_at("copy") is None


def spec_of(place, **more):
    return RunSpec(
        **{"name": "a", "command": "make", "args": ["it"], "cwd": place, "inputs": ["src"], "outputs": ["o"], **more}
    )


def test_why_names_what_changed(place):
    memory = Memory(place / "memory")
    spec = spec_of(place, env={"V": "1"})
    assert memory.reasons(spec, []) == ["it has not passed yet"]
    (place / "o").write_text("made")
    memory.passed(spec, memory.check(spec, []))
    assert memory.reasons(spec, []) == []
    assert Memory(place / "memory").reasons(spec, []) == []
    (place / "src" / "a.txt").write_text("changed")
    (place / "src" / "b.txt").unlink()
    (place / "src" / "c.txt").write_text("c")
    (place / "o").unlink()
    assert memory.reasons(attrs.evolve(spec, args=["that"], env={"V": "2"}), []) == [
        "the command differs (make it → make that)", "the variable V changed", "the input src/a.txt changed",
        "the input src/b.txt is gone", "the input src/c.txt is new", "the output o is gone",
    ]  # fmt: skip
    memory.force(["a"])
    assert Memory(place / "memory").reasons(spec, []) == ["--force"]


def test_no_secret_is_kept(place):
    memory = Memory(place / "memory")
    spec = spec_of(place, args=[Secret("hunter22")], env={"TOKEN": Secret("hunter23")}, outputs=[])
    memory.passed(spec, memory.check(spec, []))
    data = (place / "memory").read_bytes()
    assert b"hunter" not in data
    other = Memory(place / "other")
    other.passed(spec, other.check(spec, []))
    digests = {
        record["from"]["command"]
        for path in ("memory", "other")
        for record in Journal(place / path).read()
        if "made" in record
    }
    assert len(digests) == 2  # salted: the digest of a short secret tells nothing


def test_a_digest_is_taken_from_the_cache_only_for_a_file_older_than_the_clock_s_grain(place):
    path, cached = str(place / "src" / "a.txt"), {}
    digests = Digests(b"salt", cached)
    first = digests.of_file(path)
    assert cached == {}
    rewrite(Path(path), "z")
    assert digests.of_file(path) != first
    old = time.time_ns() - 10 * 10**9
    os.utime(path, ns=(old, old))
    second = digests.of_file(path)
    assert cached[path][3] == second
    before = Path(path).stat()
    Path(path).write_text("y")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert digests.of_file(path) == second  # what no one can tell apart, but for the contents


@pytest.mark.parametrize("cut", [2, 5, 20, 60])
def test_a_memory_that_was_cut_short_loses_its_last_record_alone(place, cut):
    memory = Memory(place / "memory")
    for name in ("a", "b"):
        spec = spec_of(place, name=name, outputs=[])
        memory.passed(spec, memory.check(spec, []))
    data = (place / "memory").read_bytes()
    (place / "memory").write_bytes(data[:-cut])
    again = Memory(place / "memory")
    assert again.reasons(spec_of(place, name="a", outputs=[]), []) == []
    assert again.reasons(spec_of(place, name="b", outputs=[]), []) == ["it has not passed yet"]
    spec = spec_of(place, name="c", outputs=[])
    again.passed(spec, again.check(spec, []))
    assert Memory(place / "memory").reasons(spec, []) == []


def test_a_crash_at_any_byte_of_a_write_loses_nothing_that_was_written_before(place):
    memory = Memory(place / "memory")
    specs = [spec_of(place, name=name, outputs=[]) for name in "abc"]
    sizes = []
    for spec in specs:
        memory.passed(spec, memory.check(spec, []))
        sizes.append((place / "memory").stat().st_size)
    data = (place / "memory").read_bytes()
    for size in range(len(data) + 1):
        (place / "memory").write_bytes(data[:size] + b"\0" * (size % 3))  # a power cut may leave zeros behind
        again = Memory(place / "memory")
        kept = [again.passed_at(spec.name) is not None for spec in specs]
        assert kept[: sum(size >= end for end in sizes)] == [True] * sum(size >= end for end in sizes), size
        assert kept == sorted(kept, reverse=True)
        assert again.reasons(specs[0], []) == [] or not kept[0]


@pytest.mark.parametrize("garbage", [b"", b"\0" * 100, b"{}\n", b"00000000 {}\n", b"not ours at all\n" * 50])
def test_a_file_that_is_no_memory_is_begun_anew(place, garbage):
    (place / "memory").write_bytes(garbage)
    memory = Memory(place / "memory")
    spec = spec_of(place, outputs=[])
    assert memory.reasons(spec, []) == ["it has not passed yet"]
    memory.passed(spec, memory.check(spec, []))
    assert Memory(place / "memory").reasons(spec, []) == []


async def test_a_fifo_in_place_of_a_memory_blocks_nothing(place):
    os.mkfifo(place / "memory")
    with trio.fail_after(10):
        memory = await trio.to_thread.run_sync(Memory, place / "memory", abandon_on_cancel=True)
    spec = spec_of(place, outputs=[])
    assert memory.reasons(spec, []) == ["it has not passed yet"]
    memory.passed(spec, memory.check(spec, []))
    many = [str(number) for number in range(5000)]  # more than a pipe holds
    with trio.fail_after(10):
        await trio.to_thread.run_sync(memory.force, many, abandon_on_cancel=True)
    memory.close([spec])


def test_outdated_records_are_dropped(place, monkeypatch):
    monkeypatch.setattr("trio_process._pipeline.memory.memory._MOST_OUTDATED", 10)
    memory = Memory(place / "memory")
    spec = spec_of(place, outputs=[])
    fingerprint = memory.check(spec, [])
    for _ in range(100):
        memory.passed(spec, fingerprint)
    assert len(list(Journal(place / "memory").read())) < 40
    assert Memory(place / "memory").reasons(spec, []) == []


WRITER = """
import sys
from pathlib import Path
from trio_process import RunSpec
from trio_process._pipeline.memory import Memory, memory as module
module._MOST_OUTDATED = 20
place, name = Path(sys.argv[1]), sys.argv[2]
memory = Memory(place / "memory")
for n in range(int(sys.argv[3])):
    spec = RunSpec(name=f"{name}{n % 20}", command="x", cwd=place, inputs=["src"])
    memory.passed(spec, memory.check(spec, []) or module.take_fingerprint(spec, [], memory._digests))
    print(n, flush=True)
"""


def writer(place, name, count):
    command = [sys.executable, "-c", WRITER, str(place), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, **forked.program(command))


def test_programs_that_write_at_the_same_time_lose_nothing(place):
    writers = [writer(place, name, 60) for name in "abc"]
    for one in writers:
        one.communicate(timeout=60)
        assert one.returncode == 0
    memory = Memory(place / "memory")
    for name in "abc":
        for n in range(20):
            assert memory.passed_at(f"{name}{n}"), (name, n)


def test_a_program_killed_at_any_moment_leaves_a_memory_that_holds_what_was_done(place):
    for after in (1, 13, 34):
        with writer(place, f"k{after}-", 100_000) as one:
            for _ in range(after):
                one.stdout.readline()
            one.send_signal(signal.SIGKILL)
            one.wait(timeout=60)
        memory = Memory(place / "memory")
        assert all(memory.passed_at(f"k{after}-{n}") for n in range(min(after, 20)))


async def test_a_bad_memory_is_refused():
    async with Service() as service:
        with pytest.raises(Exception, match="memory"):
            Runner(service, memory=3)
        with pytest.raises(PipelineError):
            await Runner(service, memory="x").run_all([RunSpec(name="", command="x")])


@pytest.mark.parametrize("pattern", ["large", "**/x", "directory"])
@pytest.mark.parametrize("how", ["stopping", "timeout", "failure", "cancelled"])
async def test_what_ends_a_run_ends_the_look_at_large_files_and_many_directories(place, monkeypatch, how, pattern):
    looking, stopping = trio.Event(), trio.Event()

    def read_for_ever(self, path):
        trio.from_thread.run_sync(looking.set)
        while True:
            patterns.give_way()
            time.sleep(0.005)

    def walk_for_ever(top):
        trio.from_thread.run_sync(looking.set)
        for number in itertools.count():
            time.sleep(0.005)
            yield f"{top}/{number}", [], []

    monkeypatch.setattr(Digests, "_hash", read_for_ever)
    monkeypatch.setattr(os, "walk", walk_for_ever)
    (place / "directory").mkdir()
    (place / "large").write_bytes(b"x" * 2**17)
    os.mkfifo(place / "go")
    specs = [
        RunSpec(name="large", command="true", cwd=place, inputs=[pattern]),
        RunSpec(name="fails", command="sh", args=["-c", "read x <go; exit 1"], cwd=place),
    ]
    options = {"on_failure": "kill" if how == "failure" else "continue"}
    if how == "timeout":
        options["timeout"] = 0.5
    results = []
    with trio.fail_after(60):
        async with Service() as service, trio.open_nursery() as nursery:

            async def run():
                runner = Runner(service, memory=place / "memory")
                results.append(await runner.run_all(specs, stopping=stopping, **options))

            nursery.start_soon(run)
            await looking.wait()
            if how == "stopping":
                stopping.set()
            elif how == "failure":
                await trio.to_thread.run_sync((place / "go").write_text, "\n")
            elif how == "cancelled":
                nursery.cancel_scope.cancel()
    if how != "cancelled":
        assert results[0].results[0].state is SpecState.SKIPPED
