"""Processes are told apart by boot, namespace and start: neither a stepped clock nor another container misleads a reader."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import forked
import pytest

from trio_process._core import AlreadyRunningError, Liveness, ProcessIdentity, Viewpoint
from trio_process._daemon import DaemonEntry, PIDFile, Registry, read_pid

ROOT = Path(__file__).parents[2]
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
CLOCKS = ["+5", "-3600", "+100000000"]

needs_faketime = pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed")


def can_unshare():
    return subprocess.run(["unshare", "-pf", "--mount-proc", "true"], capture_output=True, check=False).returncode == 0


needs_namespaces = pytest.mark.skipif(not can_unshare(), reason="PID namespaces are not allowed here (unshare(1))")


@contextmanager
def sleeper():
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            yield child.pid
        finally:
            child.kill()


@contextmanager
def holder(code):
    """A process that runs `code`, prints a line, and waits to be killed."""
    command = [sys.executable, "-c", f"{IMPORTS}{code}\nprint('up', flush=True); signal.pause()"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, **forked.program(command)) as child:
        try:
            assert child.stdout.readline() == b"up\n"
            yield child
        finally:
            child.kill()


IMPORTS = """
import os, signal, sys
from trio_process._core import AlreadyRunningError
from trio_process._daemon import DaemonEntry, PIDFile, Registry, read_pid
"""


def python(code, *args, prefix=(), **environment):
    ended = subprocess.run(
        [*prefix, sys.executable, "-c", IMPORTS + code, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env=os.environ | environment,
    )
    assert ended.returncode == 0, ended
    return ended.stdout.strip()


def shifted(clock):
    """Return the environment of a process whose wall clock is shifted; file times and the monotonic clock are real."""
    return {"LD_PRELOAD": str(FAKETIME), "FAKETIME": clock, "DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}


# clocks


@needs_faketime
@pytest.mark.parametrize("clock", CLOCKS)
def test_pid_files_hold_and_live_entries_stay_whatever_the_clock_says(tmp_path, clock):
    code = """
foreign, ours, directory = sys.argv[1:]
print(read_pid(foreign))
try: PIDFile(foreign).acquire()
except AlreadyRunningError as error: print(error.pid)
print(read_pid(ours))
print(sorted(e.code for e in Registry(directory).list()))
"""
    path, directory = tmp_path / "f.pid", tmp_path / "registry"
    daemons = Registry(directory)
    with sleeper() as pid, PIDFile(tmp_path / "ours.pid") as pid_file:
        path.write_text(f"{pid}\n")
        daemons.register(DaemonEntry("ours", "d", pid=pid))
        fields = {"code": "go", "daemon": "d", "pid": pid, "started": "2026-11-29T00:00:00Z"}
        (directory / "go-d.json").write_text(json.dumps(fields))
        with daemons.registered(DaemonEntry("locked", "d")):
            said = python(code, path, pid_file.path, directory, **shifted(clock)).splitlines()
        assert said == [f"({pid}, True)", str(pid), f"({os.getpid()}, True)", "['go', 'locked', 'ours']"]
        assert sorted(os.listdir(directory)) == ["go-d.json", "ours-d.json"]


@needs_faketime
@pytest.mark.parametrize("clock", CLOCKS)
def test_a_holder_whose_clock_is_shifted_is_believed(tmp_path, clock):
    code = "PIDFile(sys.argv[1]).acquire(); Registry(sys.argv[2]).register(DaemonEntry('a', 'b'))"
    script = f"{IMPORTS}{code}\nprint('up', flush=True); signal.pause()"
    path, directory = tmp_path / "f.pid", tmp_path / "registry"
    with subprocess.Popen(
        [sys.executable, "-c", script, path, directory],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | shifted(clock),
    ) as child:
        try:
            assert child.stdout.readline() == b"up\n"
            assert read_pid(path) == (child.pid, True)
            assert Registry(directory).get("a", "b").pid == child.pid
        finally:
            child.kill()
    assert read_pid(path) == (child.pid, False)
    assert Registry(directory).list() == []
    with PIDFile(path):
        pass


# PIDs that are given away again


def pid_again(pid):
    """Return whether the next process will have a certain PID (pid_namespaces(7))."""
    try:
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
    except OSError:
        return False
    return True


@pytest.mark.parametrize("attempt", range(3))
def test_our_file_is_stale_at_once_although_another_process_has_its_pid(tmp_path, attempt):
    if not pid_again(os.getpid()):
        pytest.skip("ns_last_pid can't be written here: not root, or a kernel without CONFIG_CHECKPOINT_RESTORE")
    path, daemons = tmp_path / "f.pid", Registry(tmp_path / "registry")
    with holder(
        f"PIDFile({str(path)!r}).acquire(); Registry({str(daemons.directory)!r}).register(DaemonEntry('a', 'b'))"
    ) as child:
        pass
    for _ in range(200):  # others start processes, too
        pid_again(child.pid)
        with sleeper() as pid:
            if pid != child.pid:
                continue
            assert read_pid(path) == (pid, False)
            assert daemons.list() == []
            with PIDFile(path):
                assert read_pid(path) == (os.getpid(), True)
            return
    pytest.skip("the PID was not given away again")


@needs_namespaces
def test_a_container_that_is_started_again_takes_its_own_file(tmp_path):
    """PIDs are as low as before, so the old file names a process of the new life, often ourselves."""
    code = """
for _ in range(int(sys.argv[2])): os.waitpid(os.fork() or os._exit(0), 0)  # other PIDs in each life
pid_file = PIDFile(sys.argv[1]); pid_file.acquire(); print(os.getpid(), flush=True); os.kill(os.getpid(), 9)
"""
    path, seen = tmp_path / "f.pid", []
    for life in range(3):
        ended = subprocess.run(
            ["unshare", "-pf", "--mount-proc", "sh", "-c", f"{sys.executable} -c '{IMPORTS}{code}' {path} {life}; true"],
            capture_output=True, text=True, timeout=60, check=False, cwd=ROOT,
        )  # fmt: skip
        seen.append(ended.stdout.strip())
        assert ended.stdout.strip(), ended
    assert len(set(seen)) == 1


@pytest.mark.parametrize("how", ["in place", "in place, with our PID", "as a new file"])
def test_a_program_that_writes_into_our_file_makes_it_its_own(tmp_path, how):
    path = tmp_path / "f.pid"
    with sleeper() as pid:
        with holder(f"PIDFile({str(path)!r}).acquire()") as child:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            if how == "as a new file":
                path.unlink()
            if how == "in place, with our PID":
                path.write_text(f"{child.pid}\n")
                assert read_pid(path) == (child.pid, False)
            path.write_text(f"{pid}\n")
            os.utime(path)
        assert read_pid(path) == (pid, True)
        with pytest.raises(AlreadyRunningError) as caught:
            PIDFile(path).acquire()
        assert "another program wrote" in str(caught.value)


def test_where_the_identity_cannot_be_stored_the_rule_for_foreign_files_holds(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", refuse)
    path = tmp_path / "f.pid"
    with PIDFile(path):
        assert read_pid(path) == (os.getpid(), True)
    with holder("import trio_process._core.system.identity as identity\n"
                "os.setxattr = lambda *args: (_ for _ in ()).throw(OSError(95, 'x'))\n"
                f"PIDFile({str(path)!r}).acquire()") as child:  # fmt: skip
        assert read_pid(path) == (child.pid, True)
    assert read_pid(path) == (child.pid, False)
    with PIDFile(path):
        assert read_pid(path) == (os.getpid(), True)


# namespaces and boots


def entry_of(directory, code, pid, **fields):
    path = Path(directory, f"{code}-d.json")
    path.write_text(json.dumps({"code": code, "daemon": "d", "pid": pid, "started": "2026-11-29T00:00:00Z"} | fields))
    return path


@needs_namespaces
def test_a_look_from_a_container_hides_the_entries_of_the_host_and_deletes_none(tmp_path):
    daemons = Registry(tmp_path)
    inside = ("unshare", "-pf", "--mount-proc")
    with sleeper() as pid:
        entry_of(tmp_path, "go", pid)
        entry_of(tmp_path, "dead", 2**22 + 1)
        entry_of(tmp_path, "one", 1)  # alive in there, too
        daemons.register(DaemonEntry("ours", "d", pid=pid))
        daemons.register(DaemonEntry("first", "d", pid=1))
        with daemons.registered(DaemonEntry("locked", "d")):
            before = sorted(os.listdir(tmp_path))
            said = python("print(sorted(e.code for e in Registry(sys.argv[1]).list()))", tmp_path, prefix=inside)
            assert said == "['locked', 'one']"
            said = python("print(Registry(sys.argv[1]).get('first', 'd'))", tmp_path, prefix=inside)
            assert said == "None"
            assert sorted(os.listdir(tmp_path)) == before
        assert sorted(entry.code for entry in daemons.list()) == ["first", "go", "one", "ours"]
        assert not (tmp_path / "dead-d.json").exists()  # here that can be told


@needs_namespaces
def test_an_entry_from_a_container_is_hidden_on_the_host_and_stays(tmp_path):
    python(
        "Registry(sys.argv[1]).register(DaemonEntry('inside', 'd'))",
        tmp_path,
        prefix=("unshare", "-pf", "--mount-proc"),
    )
    daemons = Registry(tmp_path)
    assert daemons.list() == []
    assert daemons.get("inside", "d") is None
    assert os.listdir(tmp_path) == ["inside-d.json"]


ELSEWHERE = [
    {"trio_process.boot": "another", "trio_process.pid_namespace": "4026531836", "trio_process.start": "1"},
    {"trio_process.boot": "another", "trio_process.pid_namespace": "1"},
    {"trio_process.boot": "", "trio_process.pid_namespace": "", "trio_process.start": "x"},
]


@pytest.mark.parametrize("fields", ELSEWHERE)
def test_a_hidden_entry_gives_way_to_its_key_alone(tmp_path, fields):
    daemons = Registry(tmp_path)
    path = entry_of(tmp_path, "a-b", 1, **fields)
    os.utime(path, (0, 0))
    assert daemons.list() == []
    assert daemons.get("a-b", "d") is None
    daemons.register(DaemonEntry("a", "b-d"))  # shares the name
    assert json.loads(path.read_text())["code"] == "a-b"
    assert daemons.get("a", "b-d").pid == os.getpid()
    daemons.register(DaemonEntry("a-b", "d"))
    assert daemons.get("a-b", "d").pid == os.getpid()
    assert len(os.listdir(tmp_path)) == 2
    entry_of(tmp_path, "x", 1, **fields)
    daemons.unregister("x", "d")
    assert len(os.listdir(tmp_path)) == 2


def test_the_identity_is_hidden_from_readers(tmp_path):
    daemons = Registry(tmp_path)
    daemons.register(DaemonEntry("a", "b", extra={"x": "y"}))
    assert '"trio_process.start": "' in (tmp_path / "a-b.json").read_text()
    (entry,) = daemons.list()
    assert entry.extra == {"x": "y"}
    assert not [name for name in entry.to_dict() if "trio_process" in name]


# the rule itself


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, Liveness.ALIVE),
        ({"start": None}, Liveness.ALIVE),
        ({"start": 1}, Liveness.DEAD),
        ({"boot": "another"}, Liveness.UNKNOWN),
        ({"namespace": "1"}, Liveness.UNKNOWN),
    ],
)
def test_a_process_is_judged_by_boot_namespace_and_start(change, expected):
    identity = Viewpoint().identify(os.getpid())
    assert isinstance(identity, ProcessIdentity)
    changed = identity._replace(**change)
    assert Viewpoint().judge(os.getpid(), changed) is expected
    assert Viewpoint().proves(os.getpid(), changed) == (change == {})
    assert Viewpoint().judge(2**22 + 1, identity) is Liveness.DEAD


@pytest.mark.parametrize("pid", [0, -1, 2**31, 2**40])
def test_a_number_that_is_not_a_pid_is_dead_wherever_it_was_written(pid):
    assert Viewpoint().judge(pid, None) is Liveness.DEAD
    assert Viewpoint().judge(pid, ProcessIdentity("another", "1", None)) is Liveness.DEAD
