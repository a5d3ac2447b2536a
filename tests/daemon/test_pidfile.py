"""The PID file: one holder at a time, whoever races, dies or interferes."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import in_child

from trio_process._core import AlreadyRunningError, DaemonError, OptionError, started_at
from trio_process._daemon import PIDFile, pidfile, read_pid

# 3.12 warns of threads that other tests left idle; the children here do next to nothing
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

STARTERS = Path(__file__).with_name("starters.py")
ROOT = Path(__file__).parents[2]

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "myapp.pid"


@pytest.fixture
def shared_path():
    """A path that other users can reach; the directory is ours to write."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory, "myapp.pid")


@contextmanager
def starters(*args):
    """Run the helper program; it is killed at the end, and after a minute."""
    program = subprocess.Popen(
        [sys.executable, STARTERS, *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    watchdog = threading.Timer(60, program.kill)
    watchdog.start()
    try:
        with program:
            try:
                yield program
            finally:
                program.stdin.close()
                if args[0] == "hold":
                    program.kill()
    finally:
        watchdog.cancel()
        watchdog.join()


@contextmanager
def stranger():
    """A live process that knows nothing of us."""
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            yield child.pid
        finally:
            child.kill()


def dead_pid():
    with stranger() as pid:
        pass
    return pid


def taken(path):
    """Whether a starter of another process is refused."""

    def start():
        try:
            PIDFile(path).acquire()
        except AlreadyRunningError:
            return True
        return False

    return bool(in_child(start))


# the plain way


def test_the_file_holds_our_pid_and_a_newline_and_is_gone_after_the_block(path):
    pid_file = PIDFile(str(path))
    assert (pid_file.path, pid_file.held) == (path, False)
    with pid_file as entered:
        assert entered is pid_file
        assert pid_file.held
        assert path.read_text() == f"{os.getpid()}\n"
        assert read_pid(path) == (os.getpid(), True)
        assert os.listdir(path.parent) == ["myapp.pid"]
    assert not pid_file.held
    assert os.listdir(path.parent) == []


def test_it_can_be_taken_again_after_a_release_and_released_twice(path):
    pid_file = PIDFile(path)
    pid_file.release()
    for _ in range(3):
        pid_file.acquire()
        assert taken(path)
        pid_file.release()
        pid_file.release()
        assert not path.exists()


def test_missing_directories_are_made(tmp_path):
    with PIDFile(tmp_path / "run" / "myapp" / "myapp.pid") as pid_file:
        assert pid_file.path.exists()


def test_everybody_may_read_it_and_nobody_else_write(path):
    with PIDFile(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_second_one_in_this_process_is_refused_and_told_our_pid(path):
    with PIDFile(path) as first:
        for second in (PIDFile(path), first):
            with pytest.raises(AlreadyRunningError) as caught:
                second.acquire()
            assert (caught.value.pid, caught.value.path) == (os.getpid(), path)
        assert first.held
        assert taken(path)


def test_a_change_of_directory_in_between_does_not_matter(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pid_file = PIDFile("myapp.pid")
    pid_file.acquire()
    monkeypatch.chdir("/")
    pid_file.release()
    assert os.listdir(tmp_path) == []


def fail_to_unlink(path, missing_ok=False):
    raise PermissionError(errno.EACCES, "Permission denied")


def fail_to_truncate(descriptor, size):
    raise OSError(errno.EROFS, "Read-only file system")


def test_a_file_that_cannot_be_removed_is_emptied_so_that_the_next_one_can_start(path, monkeypatch, caplog):
    pid_file = PIDFile(path)
    pid_file.acquire()
    monkeypatch.setattr(Path, "unlink", fail_to_unlink)
    pid_file.release()
    monkeypatch.undo()
    assert "could not be removed, and was emptied: Permission denied" in caplog.text
    assert (path.read_bytes(), read_pid(path)) == (b"", (0, False))
    assert not taken(path)


def test_a_file_that_can_neither_be_removed_nor_emptied_is_an_error(path, monkeypatch):
    pid_file = PIDFile(path)
    pid_file.acquire()
    monkeypatch.setattr(Path, "unlink", fail_to_unlink)
    monkeypatch.setattr(pidfile.os, "truncate", fail_to_truncate)
    with pytest.raises(DaemonError, match=r"myapp\.pid could not be removed: Read-only file system"):
        pid_file.release()
    monkeypatch.undo()
    assert not pid_file.held
    with PIDFile(path):  # the lock was dropped all the same
        pass


def test_the_bodys_error_goes_on_even_if_the_release_fails(path, monkeypatch):
    class Failure(Exception):
        pass

    failure = Failure()
    with pytest.raises(Failure) as caught, PIDFile(path):
        monkeypatch.setattr(Path, "unlink", fail_to_unlink)
        monkeypatch.setattr(pidfile.os, "truncate", fail_to_truncate)
        raise failure
    monkeypatch.undo()
    assert caught.value is failure
    assert "could not be removed" in failure.__notes__[0]


@pytest.mark.parametrize("bad", ["", "a\0b", 3, None])
def test_what_is_no_path_is_refused(bad):
    for make in (PIDFile, read_pid):
        with pytest.raises(OptionError, match="path"):
            make(bad)


# races and death


def test_of_24_starters_exactly_one_wins_and_the_others_get_its_pid(path):
    with starters("race", 24) as program:
        for content in [None, "stale", b"", b"\x00\xffgarbage", b"0\n"] * 2:
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(b"%d\n" % dead_pid() if content == "stale" else content)
            program.stdin.write(f"{path}\n")
            program.stdin.flush()
            answers = list(iter(program.stdout.readline, "over\n"))
            winners = [answer.split()[1] for answer in answers if answer.startswith("won")]
            assert len(winners) == 1, (content, answers)
            assert sorted(answers) == sorted([f"won {winners[0]}\n"] + [f"lost {winners[0]}\n"] * 23), content
            assert os.listdir(path.parent) == ["myapp.pid"]
    assert program.returncode == 0


def test_there_are_never_two_holders_however_often_it_changes_hands_and_holders_are_killed(path):
    with starters("churn", path, 6, 1) as program:
        counts = [[int(number) for number in line.split()] for line in program.stdout]
    assert sum(acquisitions for acquisitions, _ in counts) > 20
    assert sum(violations for _, violations in counts) == 0


def test_sigkill_of_the_holder_lets_the_next_starter_win_at_once(path):
    with starters("hold", path) as program:
        holder = int(program.stdout.readline())
        assert read_pid(path) == (holder, True)
        with pytest.raises(AlreadyRunningError) as caught:
            PIDFile(path).acquire()
        assert caught.value.pid == holder
        program.kill()
        program.wait()
        assert read_pid(path) == (holder, False)
        began = time.monotonic()
        with PIDFile(path):
            assert time.monotonic() - began < 1
            assert read_pid(path) == (os.getpid(), True)


def test_a_killed_holder_that_nobody_reaps_is_no_obstacle(path):
    pid = os.fork()
    if pid == 0:
        PIDFile(path).acquire()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert read_pid(path) == (pid, False)
    with PIDFile(path):
        pass
    os.waitpid(pid, 0)


def test_a_started_program_does_not_keep_the_lock(path):
    ready, tell = os.pipe()
    holder = os.fork()
    if holder == 0:
        PIDFile(path).acquire()
        started = subprocess.Popen(["sleep", "60"], close_fds=False)
        os.write(tell, b"%d" % started.pid)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(holder, 0)
    started = int(os.read(ready, 16))
    try:
        with PIDFile(path) as pid_file:
            assert pid_file.held
    finally:
        os.kill(started, signal.SIGKILL)
        os.close(ready)
        os.close(tell)


def test_a_forked_child_does_not_hold_it_and_cannot_release_it(path):
    with PIDFile(path) as pid_file:

        def try_to_release():
            held = pid_file.held
            pid_file.release()
            return held

        assert in_child(try_to_release) == 0
        assert read_pid(path) == (os.getpid(), True)
        assert taken(path)


def test_a_forked_child_does_not_keep_the_lock_after_a_release(path):
    pid_file = PIDFile(path)
    pid_file.acquire()
    child = os.fork()
    if child == 0:
        signal.pause()
    try:
        pid_file.release()
        assert not taken(path)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


# files of others


def test_a_live_program_that_only_wrote_its_pid_is_running(path):
    with stranger() as pid:
        path.write_text(str(pid))
        assert read_pid(path) == (pid, True)
        with pytest.raises(AlreadyRunningError) as caught:
            PIDFile(path).acquire()
        assert caught.value.pid == pid
        assert path.read_text() == str(pid)


@pytest.mark.parametrize("age", [-3600, 3, 10**8])
def test_the_time_of_a_foreign_file_says_nothing(path, age):
    """Neither a file from the future nor one that is older than its process: either clock may have been stepped."""
    with stranger() as pid:
        path.write_text(f"{pid}\n")
        os.utime(path, (started_at(pid) - age,) * 2)
        assert read_pid(path) == (pid, True)
        with pytest.raises(
            AlreadyRunningError, match=r"another program wrote.*remove the file if that PID is something"
        ):
            PIDFile(path).acquire()
        assert path.read_text() == f"{pid}\n"


def test_our_own_pid_from_an_earlier_life_is_stale(path):
    path.write_text(f"{os.getpid()}\n")
    with PIDFile(path) as pid_file:
        assert pid_file.held
        assert taken(path)


def test_a_dead_pid_and_a_zombies_are_stale(path):
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    for reap in (lambda: None, lambda: os.waitpid(child, 0)):
        reap()
        path.write_text(f"{child}\n")
        assert read_pid(path) == (child, False)
        with PIDFile(path):
            assert path.read_text() == f"{os.getpid()}\n"


@root_only
def test_another_users_process_is_running(shared_path):
    shared_path.write_text(f"{os.getpid()}\n")
    shared_path.parent.chmod(0o777)

    def as_nobody():
        os.setuid(65534)
        try:
            PIDFile(shared_path).acquire()
        except AlreadyRunningError as error:
            return (error.pid, True) == (os.getppid(), True) == read_pid(shared_path)
        return False

    assert in_child(as_nobody) == 1


@root_only
def test_a_daemon_that_became_another_user_lets_the_next_one_start(shared_path):
    def as_nobody():
        with PIDFile(shared_path):
            os.setuid(65534)
        return True

    assert in_child(as_nobody) == 1
    with PIDFile(shared_path):
        assert taken(shared_path)


@root_only
def test_a_stale_file_of_another_user_is_replaced(shared_path):
    shared_path.write_text(f"{dead_pid()}\n")
    shared_path.parent.chmod(0o777)

    def as_nobody():
        os.setuid(65534)
        with PIDFile(shared_path):
            return read_pid(shared_path) == (os.getpid(), True)

    assert in_child(as_nobody) == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"\x00" * 4096, b"\x00\xffgarbage", b"0", b"-1", b"4711x", "١٢٣".encode(), b"1" * 64, b"%d" % 2**31],
)
def test_a_short_text_that_is_not_a_pid_is_replaced(path, content):
    path.write_bytes(content)
    assert read_pid(path) == (0, False)
    with PIDFile(path):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


@pytest.mark.parametrize("kind", ["link", "dangling link", "directory", "fifo", "socket"])
def test_what_is_no_regular_file_is_refused_and_untouched(tmp_path, path, kind):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    match kind:
        case "link":
            path.symlink_to(precious)
        case "dangling link":
            path.symlink_to("nowhere")
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "socket":
            os.mknod(path, stat.S_IFSOCK | 0o600)
    before = path.lstat()
    with pytest.raises(DaemonError, match=r"myapp\.pid is not a regular file"):
        PIDFile(path).acquire()
    assert read_pid(path) == (0, False)
    assert path.lstat().st_ino == before.st_ino
    assert precious.read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()
    assert len(os.listdir(tmp_path)) == 2


def test_a_symbolic_link_among_the_parents_is_fine(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "var").symlink_to("run")
    with PIDFile(tmp_path / "var" / "myapp.pid"):
        assert os.listdir(tmp_path / "run") == ["myapp.pid"]


@root_only
def test_an_unwritable_directory_is_an_error_that_says_what_to_do(shared_path):
    def as_nobody():
        os.setuid(65534)
        try:
            PIDFile(shared_path).acquire()
        except DaemonError as error:
            return "Permission denied" in str(error) and isinstance(error.__cause__, PermissionError)
        return False

    assert in_child(as_nobody) == 1
    assert os.listdir(shared_path.parent) == []


def test_a_file_as_the_directory_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DaemonError, match="could not be made"):
        PIDFile(tmp_path / "file" / "myapp.pid").acquire()


@pytest.mark.parametrize("stale", [False, True])
def test_a_full_disk_is_an_error_and_leaves_nothing(path, stale):
    if stale:
        path.write_text(f"{dead_pid()}\n")

    def start():
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        try:
            PIDFile(path).acquire()
        except DaemonError as error:
            return error.__cause__.errno == errno.EFBIG
        return False

    assert in_child(start) == 1
    assert os.listdir(path.parent) == []
    with PIDFile(path):
        pass


# interference


def test_a_release_leaves_a_file_that_somebody_put_in_its_place(path):
    pid_file = PIDFile(path)
    pid_file.acquire()
    path.unlink()
    path.write_text("4711\n")
    pid_file.release()
    assert path.read_text() == "4711\n"


def test_a_release_is_fine_if_somebody_removed_the_file_or_its_directory(tmp_path):
    pid_file = PIDFile(tmp_path / "run" / "myapp.pid")
    for remove_directory in (False, True):
        pid_file.acquire()
        pid_file.path.unlink()
        if remove_directory:
            pid_file.path.parent.rmdir()
        pid_file.release()
        assert not pid_file.held


def test_a_program_that_locks_first_and_writes_later_is_told_of_by_its_pid(path, monkeypatch):
    monkeypatch.setattr(pidfile, "REREAD_FOR", 30.0)
    path.write_text("")
    with stranger() as pid, open(path, "r+") as locked:
        assert pidfile.try_lock(locked.fileno())
        writer = threading.Timer(0.05, lambda: (locked.write(f"{pid}\n"), locked.flush()))
        writer.start()
        with pytest.raises(AlreadyRunningError) as caught:
            PIDFile(path).acquire()
        writer.join()
        assert caught.value.pid == pid


def test_a_lock_on_a_file_without_a_pid_is_an_unknown_holder(path):
    path.write_text("")
    with open(path) as locked:
        assert pidfile.try_lock(locked.fileno())
        began = time.monotonic()
        with pytest.raises(AlreadyRunningError, match="an unknown process holds the PID file") as caught:
            PIDFile(path).acquire()
        assert caught.value.pid == 0
        assert 0.1 <= time.monotonic() - began < 5


def test_a_starter_that_waited_for_a_lock_on_a_removed_file_does_not_believe_it(path, monkeypatch):
    """The inode check: what was locked may not have the name any more."""
    path.write_text("")
    really, thieves = pidfile.try_lock, []

    def lock_late(descriptor):
        if not thieves:  # between open and lock, another starter takes over
            path.unlink()
            thieves.append(PIDFile(path))
            thieves[0].acquire()
        return really(descriptor)

    monkeypatch.setattr(pidfile, "try_lock", lock_late)
    with pytest.raises(AlreadyRunningError):
        PIDFile(path).acquire()
    monkeypatch.undo()
    assert thieves[0].held
    assert taken(path)
    thieves[0].release()


def test_a_starter_that_lost_the_name_while_it_wrote_its_file_gives_way(path, monkeypatch):
    really, quicker = pidfile.Draft.create, PIDFile(path)

    def create_late(draft, name):
        if not quicker.held:
            monkeypatch.undo()
            quicker.acquire()
        really(draft, name)

    monkeypatch.setattr(pidfile.Draft, "create", create_late)
    with pytest.raises(AlreadyRunningError):
        PIDFile(path).acquire()
    assert quicker.held
    quicker.release()
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("stale", [True, False])
def test_a_file_is_removed_while_it_is_locked(path, monkeypatch, stale):
    """Else what is removed can be the next one's: between unlock and unlink it may have taken the name."""
    really, locked = Path.unlink, []

    def unlink(name, missing_ok=False):
        other = os.open(name, os.O_RDONLY)
        locked.append(not pidfile.try_lock(other))
        os.close(other)
        really(name, missing_ok=missing_ok)

    if stale:
        path.write_text(f"{dead_pid()}\n")
    monkeypatch.setattr(Path, "unlink", unlink)
    with PIDFile(path):
        assert locked == [True] * stale
    assert locked == [True] * (stale + 1)


def test_nothing_stays_open(path):
    def use():
        with PIDFile(path), pytest.raises(AlreadyRunningError):
            PIDFile(path).acquire()
        path.write_text("garbage")
        with PIDFile(path):
            read_pid(path)
        path.mkdir()
        with pytest.raises(DaemonError):
            PIDFile(path).acquire()
        read_pid(path)
        path.rmdir()

    use()
    before = len(os.listdir("/proc/self/fd"))
    use()
    assert len(os.listdir("/proc/self/fd")) == before


# read_pid


def test_there_is_no_pid_in_a_missing_or_unreadable_file(path):
    assert read_pid(path) == (0, False)
    assert read_pid(path.parent) == (0, False)
    assert read_pid("/dev/zero") == (0, False)
    assert read_pid(path / "below") == (0, False)


def test_a_file_is_read_through_a_symbolic_link(path):
    with PIDFile(path.with_name("real.pid")):
        path.symlink_to("real.pid")
        assert read_pid(path) == (os.getpid(), True)


def test_reading_takes_no_lock(path):
    with PIDFile(path):
        assert read_pid(path)[1]
    path.write_text(f"{dead_pid()}\n")
    end = threading.Event()

    def read():
        while not end.is_set():
            read_pid(path)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(50):
            with PIDFile(path):
                pass
    finally:
        end.set()
        reader.join()
