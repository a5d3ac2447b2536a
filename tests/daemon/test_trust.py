"""Whom the registry believes: other users can't name what root signals, whatever the umask, the home or the directory."""

import json
import os
import stat
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import forked
import pytest

from trio_process._core import RegistryError
from trio_process._daemon import Daemon, DaemonEntry, PIDFile, Registry, default_registry, open_daemon, wait_for_health
from trio_process._process import Service

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
]

NOBODY = 65534


@pytest.fixture
def shared():
    """A directory that every user can reach."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


@contextmanager
def victim():
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            yield child.pid
        finally:
            child.kill()


def write(directory, pid, code="myapp", daemon="server", owner=0, mode=0o644):
    """Write an entry as go-process does, as a certain user."""
    path = Path(directory, f"{code}-{daemon}.json")
    path.write_text(json.dumps({"code": code, "daemon": daemon, "pid": pid, "started": "2026-11-29T00:00:00Z"}))
    os.chown(path, owner, owner)
    path.chmod(mode)
    return path


def as_user(uid, action):
    """Return what `action` returns in a forked child of another user, as text."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            answer = str(action())
        except BaseException as error:
            answer = repr(error)
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as file:
        answer = file.read()
    os.waitpid(pid, 0)
    return answer


def as_nobody(action):
    return as_user(NOBODY, action)


# directories


@pytest.mark.parametrize(
    ("owner", "mode", "why"),
    [
        (NOBODY, 0o755, "belongs to nobody"),
        (NOBODY, 0o1777, "belongs to nobody"),
        (0, 0o777, "every user can write to it"),
        (0, 0o775, "its group can write to it"),
        (0, 0o722, "every user can write to it"),
    ],
)
def test_a_directory_that_others_can_write_to_is_refused(shared, owner, mode, why):
    directory = shared / "registry"
    directory.mkdir()
    with victim() as pid:
        write(directory, pid)
        os.chown(directory, owner, owner)
        directory.chmod(mode)
        daemons = Registry(directory)
        for ask in (
            daemons.list,
            lambda: daemons.get("myapp", "server"),
            lambda: daemons.register(DaemonEntry("a", "b")),
            lambda: daemons.unregister("myapp", "server"),
            lambda: open_daemon(daemons, "myapp", "server"),
        ):
            with pytest.raises(RegistryError) as caught:
                ask()
            for part in (str(directory), why, f"{mode:04o}", "UID"):
                assert part in str(caught.value)
    assert os.listdir(directory) == ["myapp-server.json"]


def test_a_link_of_another_user_leads_nowhere(shared):
    (shared / "real").mkdir()
    (shared / "link").symlink_to("real")
    assert Registry(shared / "link").list() == []
    os.lchown(shared / "link", NOBODY, NOBODY)
    with pytest.raises(RegistryError, match="belongs to nobody"):
        Registry(shared / "link").list()


def test_in_a_directory_with_the_sticky_bit_each_entry_is_judged_by_its_owner(shared, caplog):
    shared.chmod(0o1777)
    daemons = Registry(shared)
    with victim() as pid:
        write(shared, pid, "ours", "d")
        write(shared, pid, "theirs", "d", owner=NOBODY)
        assert [entry.code for entry in daemons.list()] == ["ours"]
        assert daemons.get("theirs", "d") is None
        # their file has the name, and only root could replace it
        answer = as_nobody(lambda: Registry(shared).register(DaemonEntry("ours", "d", pid=os.getpid())).pid)
        assert answer.isdecimal()
        assert [entry.pid for entry in daemons.list()] == [pid]
        daemons.register(DaemonEntry("theirs", "d", pid=pid))
        assert daemons.get("theirs", "d").pid == pid


def test_an_unreadable_file_of_another_user_holds_no_name(shared):
    shared.chmod(0o1777)
    write(shared, 1, "a", "b", mode=0o600)

    def register():
        Registry(shared).register(DaemonEntry("a", "b"))
        return Registry(shared).get("a", "b").pid == os.getpid()

    os.chown(shared / "a-b.json", 4711, 4711)
    assert as_nobody(register) == "True"


# entries


@pytest.mark.parametrize(("owner", "mode"), [(NOBODY, 0o644), (0, 0o666), (0, 0o664)])
def test_an_entry_that_others_could_have_written_is_skipped_and_named_once(shared, caplog, owner, mode):
    with victim() as pid:
        path = write(shared, pid, owner=owner, mode=mode)
        for _ in range(3):
            assert Registry(shared).list() == []
            assert Registry(shared).get("myapp", "server") is None
        assert caplog.text.count(str(path)) == 1
        assert "is skipped" in caplog.text
    assert path.exists()


def test_an_entry_of_root_is_believed_by_everybody(shared):
    with victim() as pid:
        write(shared, pid)
        assert as_nobody(lambda: [entry.pid for entry in Registry(shared).list()]) == f"[{pid}]"


# homes


def run(*words, **environment):
    env = {"PATH": os.environ["PATH"], "TMPDIR": tempfile.gettempdir()} | environment
    return forked.run(words, timeout=60, env=env)


def test_the_registry_of_the_temporary_directory_makes_root_kill_nobody(shared):
    """The input of the report: without HOME, the registry was below a directory that every user can write to."""
    (shared / ".core" / "daemons").mkdir(parents=True)
    with victim() as pid:
        for directory in (shared / ".core", shared / ".core" / "daemons"):
            os.chown(directory, NOBODY, NOBODY)
        write(shared / ".core" / "daemons", pid, owner=NOBODY)
        for environment in ({}, {"HOME": ""}, {"HOME": str(shared)}, {"HOME": "relative"}):
            ended = run("daemon", "stop", "myapp", "server", **{"TMPDIR": str(shared)} | environment)
            assert "stopped" not in ended.stdout, (environment, ended)
        assert ended.returncode == 0
        assert os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


@pytest.mark.parametrize("which", [".core", ".core/daemons"])
def test_a_home_of_another_user_is_refused_and_the_advice_fits(shared, monkeypatch, which):
    monkeypatch.setenv("HOME", str(shared))
    (shared / ".core" / "daemons").mkdir(parents=True)
    os.chown(shared / which, NOBODY, NOBODY)
    with pytest.raises(RegistryError, match=r"belongs to nobody \(UID 65534\), its mode is 0755; set HOME to"):
        default_registry().list()


@pytest.mark.parametrize("mode", [0o775, 0o777, 0o757])
def test_a_default_directory_that_a_umask_left_too_wide_is_narrowed(shared, monkeypatch, caplog, mode):
    monkeypatch.setenv("HOME", str(shared))
    (shared / ".core" / "daemons").mkdir(parents=True)
    (shared / ".core").chmod(mode)
    (shared / ".core" / "daemons").chmod(mode)
    default_registry().register(DaemonEntry("a", "b"))
    assert [stat.S_IMODE((shared / path).stat().st_mode) for path in (".core", ".core/daemons")] == [0o755] * 2
    assert caplog.text.count(f"was {mode:04o}, and is 0755 now") == 2


def test_without_any_home_a_directory_of_our_own_stands_for_it(shared):
    """For a user without a passwd entry, as in some containers."""
    shared.chmod(0o1777)

    def register():
        del os.environ["HOME"]
        tempfile.tempdir = str(shared)
        daemons = default_registry()
        assert daemons.directory == shared / "trio-process-47110" / ".core" / "daemons"
        daemons.register(DaemonEntry("a", "b"))
        return len(daemons.list())

    assert as_user(47110, register) == "1"
    home = shared / "trio-process-47110"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    home.chmod(0o755)
    assert "can't be used as a home directory" in as_user(47110, register)
    home.chmod(0o700)
    home.rename(shared / "moved")
    home.symlink_to(shared / "moved")
    assert "it is not a directory" in as_user(47110, register)
    home.unlink()
    home.mkdir(0o700)  # root's
    assert "must belong to UID 47110 alone" in as_user(47110, register)


# what we make


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o077])
def test_whatever_the_umask_nothing_is_made_that_others_can_write_to(shared, monkeypatch, mask):
    monkeypatch.setenv("HOME", str(shared / "home"))
    before = os.umask(mask)
    try:
        default_registry().register(DaemonEntry("a", "b"))
        Registry(shared / "own" / "registry").register(DaemonEntry("a", "b"))
        with PIDFile(shared / "run" / "app" / "app.pid"), default_registry().registered(DaemonEntry("a", "c")):
            made = [path for path in shared.rglob("*") if path.name != "home" or path.is_dir()]
            assert len(made) > 10
            for path in made:
                assert not path.stat().st_mode & 0o022, path
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o077])
async def test_a_unix_socket_gets_its_directory_and_is_not_for_everybody(shared, mask):
    path = shared / "run" / "app" / "health.sock"
    before = os.umask(mask)
    try:
        async with Daemon(health_addr=f"unix:{path}", signals=False):
            assert path.is_socket()
            assert not path.stat().st_mode & stat.S_IWOTH
            assert not (shared / "run").stat().st_mode & 0o022
            assert await wait_for_health(f"unix:{path}", timeout=10)
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o077])
async def test_a_log_is_not_for_others_to_write(shared, mask):
    before = os.umask(mask)
    try:
        async with Service() as service:
            await service.run("sh", "-c", "echo x", log_file=shared / "a.log")
            process = await service.start("true", log_file=shared / "b.log", detach=True)
            await process.wait()
    finally:
        os.umask(before)
    for name in ("a.log", "b.log"):
        assert not (shared / name).stat().st_mode & 0o022


# proof before a signal


@pytest.mark.parametrize("kind", ["another user's process", "a process that is younger than the file", "another start"])
def test_without_proof_there_is_no_signal_and_the_reason_is_said(shared, kind):
    home = shared / "home"
    directory = home / ".core" / "daemons"
    directory.mkdir(parents=True)
    with victim() as pid:
        path = write(directory, pid)
        match kind:
            case "another user's process":
                os.chown(directory, NOBODY, NOBODY)
                os.chown(directory.parent, NOBODY, NOBODY)
                path.unlink()
                write(directory, pid, owner=NOBODY)
                said = as_nobody(lambda: open_daemon(Registry(directory), "myapp", "server"))
                assert "belongs to another user" in said
            case "a process that is younger than the file":
                os.utime(path, (time.time() - 60,) * 2)
                ended = run("daemon", "stop", "myapp", "server", HOME=str(home))
                assert ended.returncode == 1
                assert ended.stderr.count("\n") == 1
                for part in (str(pid), "began after the file was written", "nothing was signalled"):
                    assert part in ended.stderr
            case "another start":
                daemons = Registry(directory)
                daemons.register(DaemonEntry("myapp", "server", pid=pid))
                fields = json.loads(path.read_text())
                assert int(fields["trio_process.start"]) > 0
                fields["trio_process.start"] = "1"
                path.write_text(json.dumps(fields))
                ended = run("daemon", "stop", "myapp", "server", HOME=str(home))
                assert "is not running" in ended.stdout  # another process with its PID: it is dead
        assert os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def test_the_path_of_a_registry_is_absolute_at_once(shared, monkeypatch):
    monkeypatch.chdir(shared)
    daemons = Registry("registry")
    with daemons.registered(DaemonEntry("a", "b")):
        monkeypatch.chdir("/")
        assert [entry.code for entry in daemons.list()] == ["a"]
    assert os.listdir(shared / "registry") == []
