"""The index of a memory: an unchanged pipeline is recognized by it alone, and nothing that is wrong or old is believed."""

import os
import time

import attrs
import pytest

from trio_process import Runner, RunSpec, Secret, SpecState
from trio_process._pipeline import Memory
from trio_process._pipeline.memory import journal
from trio_process._pipeline.memory import memory as module

OLD = time.time_ns() - 3600 * 10**9


def write(path, text, at=OLD):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text)
    os.utime(path, ns=(at, at))


@pytest.fixture(autouse=True)
def small_memories_have_an_index(monkeypatch):
    monkeypatch.setattr(module, "WORTH_AN_INDEX", 0)


@pytest.fixture
def specs(tmp_path):
    """A chain of two, and others with all kinds of patterns."""
    for name in ("a", "b", "src/c", "src/sub/d", "made/first", "made/second", "made/deep/third"):
        write(tmp_path / name, name)
    common = {"command": "make", "cwd": tmp_path}
    return [
        RunSpec(name="first", inputs=["a", "b"], outputs=["made/first"], **common),
        RunSpec(name="second", args=["x"], inputs=["b"], outputs=["made/second"], after=["first"], **common),
        RunSpec(name="wild", inputs=["src/**/*", "a"], outputs=["made/deep"], **common),
        RunSpec(name="optional", inputs=["a", "missing"], env={"A": "1"}, **common),
        RunSpec(name="always", **common),
    ]


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".memory" / "m"


WITH_INPUTS = {"first", "second", "wild", "optional"}


def pass_all(memory, specs):
    by_name = {spec.name: spec for spec in specs}
    for spec in specs:
        if spec.inputs:
            fingerprint = memory.check(spec, [by_name[name] for name in spec.after])
            if fingerprint is not None:
                memory.passed(spec, fingerprint)
    memory.close(specs)


def by_the_index(path, specs):
    """Return what is up to date, and whether the memory itself was not needed."""
    memory = Memory(path)
    return memory.find_unchanged(specs[:-1]), memory._records is None


def test_it_confirms_all_that_is_unchanged_without_the_memory(path, specs, monkeypatch):
    pass_all(Memory(path), specs)
    assert by_the_index(path, specs) == (WITH_INPUTS, True)
    assert (path.parent / "m.index").stat().st_mode & 0o777 == 0o600
    monkeypatch.chdir(specs[0].cwd)  # where paths are shorter
    assert by_the_index(path, specs) == (WITH_INPUTS, True)
    assert by_the_index(path, [specs[2], specs[-1]]) == ({"wild"}, True)


CHANGES = {
    "an input": (lambda place: write(place / "b", "B", OLD - 5), {"wild", "optional"}),
    "an input that is gone": (lambda place: (place / "b").unlink(), {"wild", "optional"}),
    "an output": (lambda place: write(place / "made" / "first", "forged", OLD - 5), {"wild", "optional"}),
    "an output that is gone": (lambda place: (place / "made" / "second").unlink(), {"first", "wild", "optional"}),
    "a new match": (lambda place: write(place / "src" / "new", "x"), {"first", "second", "optional"}),
    "a file that comes to be": (lambda place: write(place / "missing", "x"), {"first", "second", "wild"}),
    "an input of them all": (lambda place: write(place / "a", "A", OLD - 5), set()),
    "one in an output directory": (lambda place: (place / "made" / "deep" / "third").unlink(), {"first", "second", "optional"}),
    "only times": (lambda place: write(place / "a", "a", OLD - 5), WITH_INPUTS),
    "nothing that matters": (lambda place: write(place / "other", "x"), WITH_INPUTS),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_it_does_not_confirm_what_has_changed(path, specs, what, tmp_path):
    change, expected = CHANGES[what]
    pass_all(Memory(path), specs)
    change(tmp_path)
    assert by_the_index(path, specs)[0] == expected


@pytest.mark.parametrize(
    "change",
    [
        {"args": ["y"]},
        {"command": "/bin/make"},
        {"env": {"A": "2"}},
        {"args": [Secret("x")]},
        {"stdin": "x"},
        {"inputs": ["b", "a"]},
        {"inputs": ["a"], "outputs": ["b", "made/first"]},
        {"outputs": []},
        {"after": ["second"]},
        {"when": "failure"},
    ],
)
def test_it_confirms_no_spec_that_was_declared_otherwise(path, specs, change):
    pass_all(Memory(path), specs)
    memory = Memory(path)
    changed = attrs.evolve(specs[0], **change)
    assert memory._index.find_unchanged([changed], memory._digests, ()) == set()


def test_secrets_and_values_of_the_environment_are_in_none_of_its_words(path, tmp_path):
    write(tmp_path / "a", "a")
    common = {"command": "make", "cwd": tmp_path, "inputs": ["a"]}
    specs = [
        RunSpec(name="env", env={"TOKEN": "hunter22"}, **common),
        RunSpec(name="secret", args=[Secret("hunter23")], **common),
        RunSpec(name="stdin", stdin="hunter24", **common),
        RunSpec(name="plain", **common),
    ]
    pass_all(Memory(path), specs)
    assert by_the_index(path, specs) == ({"env", "secret", "stdin"}, True)
    assert b"hunter" not in (path.parent / "m.index").read_bytes()
    for change in ({"env": {"TOKEN": "hunter25"}}, {"stdin": "hunter26"}, {"args": [Secret("hunter27")]}):
        others = [attrs.evolve(spec, **change) for spec in specs]
        assert by_the_index(path, others)[0] < {"env", "secret", "stdin", "plain"}


def spoil(path, how):
    index = path.parent / "m.index"
    data = index.read_bytes()
    match how:
        case "gone":
            index.unlink()
        case "empty":
            index.write_bytes(b"")
        case "cut":
            index.write_bytes(data[:-3])
        case "a bit":
            index.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
        case "another python":
            index.write_bytes(data.replace(b"cpython", b"another", 1))
        case "others can write":
            index.chmod(0o666)
        case "a link":
            index.rename(path.parent / "x")
            index.symlink_to(path.parent / "x")
        case "a pipe":
            index.unlink()
            os.mkfifo(index)
        case "another memory":
            records = path.read_bytes()
            path.write_bytes(records.replace(b'"made": "wild"', b'"made": "dliw"'))


@pytest.mark.parametrize(
    "how", ["gone", "empty", "cut", "a bit", "another python", "others can write", "a link", "a pipe"]
)
def test_one_that_is_spoilt_costs_nothing_but_itself(path, specs, how):
    pass_all(Memory(path), specs)
    spoil(path, how)
    assert by_the_index(path, specs) == (WITH_INPUTS, False)


@pytest.mark.parametrize("cut", [1, 200, 5000])
def test_one_of_records_that_a_power_cut_has_lost_is_not_believed(path, specs, cut):
    pass_all(Memory(path), specs)
    data = path.read_bytes()
    path.write_bytes(data[:-cut] if cut < len(data) else b"")
    found, is_by_index = by_the_index(path, specs)
    assert not is_by_index
    assert found == WITH_INPUTS - ({"optional"} if cut == 200 else WITH_INPUTS if cut == 5000 else set())


def test_later_records_count(path, specs):
    memory = Memory(path)
    pass_all(memory, specs)
    memory.force(["first"])
    assert by_the_index(path, specs)[0] == {"wild", "optional"}
    again = Memory(path)
    again.passed(specs[0], again.check(specs[0], []))
    found, is_by_index = by_the_index(path, specs)
    assert (found, is_by_index) == (WITH_INPUTS, False)  # what first was made from is only in the memory


def test_a_digest_that_was_replaced_is_not_believed_though_the_old_time_comes_back(path, specs, tmp_path):
    pass_all(Memory(path), specs)
    write(tmp_path / "b", "B", OLD - 5)
    memory = Memory(path)
    assert memory.reasons(specs[0], []) == ["the input b changed"]
    memory.flush()  # and the program is killed
    os.utime(tmp_path / "b", ns=(OLD, OLD))
    assert by_the_index(path, specs)[0] == {"wild", "optional"}


def test_what_another_program_has_made_meanwhile_is_not_kept_in_it_as_it_was(path, specs, tmp_path):
    pass_all(Memory(path), specs)
    memory = Memory(path)
    write(tmp_path / "b", "B", OLD - 5)
    pass_all(Memory(path), [specs[0]])
    memory.force(["optional"])
    memory.passed(specs[3], memory.check(specs[3], []))
    memory.close([specs[3]])
    write(tmp_path / "b", "b")  # as `cp -p` does: the same file with its old time
    assert by_the_index(path, specs)[0] == {"wild", "optional"}


def test_it_is_used_from_a_working_directory_that_was_removed(path, specs, tmp_path, monkeypatch):
    pass_all(Memory(path), specs)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert by_the_index(path, specs) == (WITH_INPUTS, True)


@pytest.mark.parametrize("year", [1, 9999])
def test_a_time_that_its_table_can_not_hold_is_left_to_the_memory(path, specs, monkeypatch, year):
    memory = Memory(path)
    pass_all(memory, specs)
    far = (year - 1970) * 365 * 86400 * 10**9
    size, _, inode, digest = memory._records.cached[f"{specs[0].cwd}/b"]
    memory._records.cached[f"{specs[0].cwd}/b"] = (size, far, inode, digest)  # not every file system has such times
    memory.force(["optional"])
    memory.close(specs)
    assert set(memory._index.names) >= WITH_INPUTS - {"optional"}
    assert set(memory._index._entries) == {"wild"}


def test_a_run_of_some_keeps_the_others_in_it(path, specs, tmp_path):
    pass_all(Memory(path), specs)
    memory = Memory(path)
    memory.force(["optional"])
    memory.passed(specs[3], memory.check(specs[3], []))
    memory.close([specs[3]])
    assert by_the_index(path, specs) == (WITH_INPUTS, True)
    memory = Memory(path)
    memory.force(["first"])
    memory.passed(specs[0], memory.check(specs[0], []))
    memory.close([specs[0]])
    assert by_the_index(path, [*specs[2:4], specs[-1]]) == ({"wild", "optional"}, True)
    assert by_the_index(path, specs) == (WITH_INPUTS, False)  # second comes after what was made anew
    memory = Memory(path)
    assert memory.find_unchanged(specs) == WITH_INPUTS
    memory.close(specs)
    assert by_the_index(path, specs) == (WITH_INPUTS, True)


def test_an_output_that_was_never_made_is_not_up_to_date(path, tmp_path):
    write(tmp_path / "a", "a")
    spec = RunSpec(name="a", command="true", cwd=tmp_path, inputs=["a"], outputs=["never"])
    memory = Memory(path)
    memory.passed(spec, memory.check(spec, []))
    memory.close([spec])
    again = Memory(path)
    assert again.reasons(spec, []) == ["the output never is gone"]
    assert Memory(path).find_unchanged([spec]) == set()


class NoPlace:
    """An executor that must not be asked."""

    slots = 1

    async def run_process(self, options, *, check=True, task_status):
        raise AssertionError(options)


async def test_a_run_with_nothing_to_do_reads_no_memory_writes_one_line_and_waits_for_no_disk(path, specs, monkeypatch):
    pass_all(Memory(path), specs)
    size, synced = path.stat().st_size, []
    monkeypatch.setattr(journal.Journal, "data", lambda self: pytest.fail("it was read"))
    monkeypatch.setattr(os, "fsync", synced.append)
    for _ in range(3):
        result = await Runner(NoPlace(), memory=path).run_all(specs[:-1])
        assert {one.state for one in result.results} == {SpecState.UP_TO_DATE}
    monkeypatch.undo()
    assert path.stat().st_size - size < 3 * 60
    assert synced == []
    last = Memory(path)
    assert all(last.has_passed(spec, [specs[0]] if spec.after else []) for spec in specs[:-1])


def test_successes_are_synced_at_the_end_and_at_intervals(path, specs, monkeypatch):
    synced, now = [], [100.0]
    sync = os.fsync
    memory = Memory(path)
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(now[0]), sync(descriptor)))
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    memory._synced = now[0]
    memory.passed(specs[0], memory.check(specs[0], []))
    assert synced == []
    now[0] += 2
    memory.passed(specs[2], memory.check(specs[2], []))
    assert synced == [102.0]
    memory.passed(specs[3], memory.check(specs[3], []))
    assert synced == [102.0]
    memory.close([])
    assert synced == [102.0] * 2
    memory.close([])
    assert synced == [102.0] * 2


def test_what_was_up_to_date_in_the_last_run_survives_a_rewriting(path, specs, monkeypatch):
    pass_all(Memory(path), specs)
    memory = Memory(path)
    memory.begin([], [])
    memory.note_unchanged(memory.find_unchanged(specs))
    memory.close(specs)
    expected = Memory(path).last_run().ends
    assert {name: end[0] for name, end in expected.items()} == dict.fromkeys(WITH_INPUTS, "up_to_date")
    assert all(end[2].startswith("up to date since 2") for end in expected.values())
    monkeypatch.setattr(module, "_MOST_OUTDATED", -100)
    memory = Memory(path)
    memory.force(["first"])
    assert {name: end[:2] for name, end in Memory(path).last_run().ends.items() if name != "first"} == {
        name: end[:2] for name, end in expected.items() if name != "first"
    }
    memory = Memory(path)
    memory.begin(["wild"], ["x"])
    memory.note_unchanged({"wild"})
    memory.flush()
    assert [*Memory(path).last_run().ends] == ["wild"]
