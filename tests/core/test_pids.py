"""PIDs: parsed strictly, alive or not, and still the same process."""

import os
import select
import signal
import subprocess
import threading
import time
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_process._core import MAX_PID, is_alive, lives_since, parse_pid, read_stat, started_at
from trio_process._core.system import pids

# 3.12 warns of threads that other tests left idle; the children here do next to nothing
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@contextmanager
def zombie():
    """A child that has exited and is not reaped."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    try:
        yield pid
    finally:
        os.waitpid(pid, 0)


def dead_pid():
    with zombie() as pid:
        pass
    return pid


def answer_of_another_user(question):
    """What `question` returns in a process of the user nobody."""
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        os._exit(bool(question()))
    return bool(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


# parsing


@pytest.mark.parametrize("text", ["1", "4711", "4711\n", "  4711\r\n", "\t4711", "0004711", str(MAX_PID)])
def test_a_decimal_number_with_white_space_around_it_is_a_pid(text):
    assert parse_pid(text) == int(text)
    assert parse_pid(text.encode()) == int(text)


NO_PIDS = [
    "",
    " ",
    "\n",
    "0",
    "00",
    "-1",
    "+1",
    "1.0",
    "1e3",
    "0x10",
    "1_000",
    "12 34",
    "12\n34",
    "4711x",
    "x",
    "\0",
    "1\0",
]
OTHER_DIGITS = ["١٢٣", "²", "①", "\uff11\uff12", "1\u00a0", "\u20071"]
TOO_LARGE = [str(MAX_PID + 1), str(2**64), "9" * 100_000]


@pytest.mark.parametrize("text", NO_PIDS + OTHER_DIGITS + TOO_LARGE)
def test_anything_else_is_not_a_pid(text):
    assert parse_pid(text) == 0
    assert parse_pid(text.encode()) == 0


@given(st.integers(1, MAX_PID))
def test_every_pid_is_read_back(pid):
    assert parse_pid(f"{pid}\n") == parse_pid(b"%d" % pid) == pid


@given(st.text() | st.from_regex(r"\s*[+-]?[\d_]+\s*", fullmatch=True))
def test_no_text_makes_the_parser_fail_or_return_what_is_not_written_there(text):
    pid = parse_pid(text)
    assert parse_pid(text.encode(errors="surrogatepass")) == pid
    assert 0 <= pid <= MAX_PID
    assert not pid or text.strip().lstrip("0") == str(pid)


@given(st.binary())
def test_no_bytes_make_the_parser_fail(data):
    assert 0 <= parse_pid(data) <= MAX_PID


# liveness


def test_we_are_alive_and_numbers_that_are_no_pid_are_not():
    assert is_alive(os.getpid())
    assert [pid for pid in (0, -1, -os.getpid(), 2**22 + 1, 2**31 - 1, 2**31, 2**63, 2**64) if is_alive(pid)] == []


def test_a_zombie_is_not_alive_although_signal_0_reaches_it():
    with zombie() as pid:
        os.kill(pid, 0)
        assert not is_alive(pid)
        assert read_stat(pid).dead
    assert not is_alive(pid)
    assert read_stat(pid) is None


def test_a_thread_is_not_a_process_although_signal_0_reaches_it():
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        os.kill(thread.native_id, 0)
        assert not is_alive(thread.native_id)
    finally:
        end.set()
        thread.join()


def test_a_stopped_process_is_alive():
    with subprocess.Popen(["sleep", "60"]) as child:
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        assert is_alive(child.pid)
        assert read_stat(child.pid).state == "T"
        child.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_users_process_is_alive_although_signal_0_is_refused():
    def refused():
        try:
            os.kill(os.getppid(), 0)
        except PermissionError:
            return True
        return False

    assert answer_of_another_user(refused)
    assert answer_of_another_user(lambda: is_alive(os.getppid()))
    assert answer_of_another_user(lambda: lives_since(os.getppid(), time.time()))
    assert not answer_of_another_user(lambda: lives_since(os.getppid(), time.time() - 1e6))


def test_without_pidfds_signal_0_and_the_state_decide(monkeypatch):
    def refuse(pid, flags=0):
        raise OSError(38, "Function not implemented")

    dead = dead_pid()
    monkeypatch.setattr(os, "pidfd_open", refuse)
    with zombie() as pid:
        assert (is_alive(os.getpid()), is_alive(1), is_alive(pid), is_alive(dead)) == (True, True, False, False)


def test_off_linux_signal_0_decides_and_no_start_is_known(monkeypatch):
    dead = dead_pid()
    monkeypatch.setattr(pids.sys, "platform", "freebsd14")
    monkeypatch.setattr(pids, "read_stat", lambda pid: None)
    with zombie() as pid:
        assert (is_alive(os.getpid()), is_alive(1), is_alive(pid), is_alive(dead)) == (True, True, True, False)
    assert started_at(os.getpid()) is None
    assert lives_since(os.getpid(), 0.0)


def test_liveness_leaves_no_descriptor_open():
    before = len(os.listdir("/proc/self/fd"))
    with zombie() as pid:
        for _ in range(10):
            assert is_alive(os.getpid())
            assert not is_alive(pid)
            assert started_at(os.getpid())
    assert len(os.listdir("/proc/self/fd")) == before


# identity


def test_the_start_is_known_to_a_tick():
    before = time.time()
    with subprocess.Popen(["sleep", "60"]) as child:
        after = time.time()
        began = started_at(child.pid)
        assert before - 0.05 <= began <= after + 0.05
        child.kill()


@pytest.mark.parametrize("pid", [0, -1, 2**31, 2**40])
def test_no_process_has_no_start(pid):
    assert started_at(pid) is None
    assert not lives_since(pid, time.time())


def test_a_process_that_began_after_the_moment_is_another_one():
    began = started_at(os.getpid())
    assert lives_since(os.getpid(), began)
    assert lives_since(os.getpid(), began - 1.9)  # file times are as coarse as 2 s
    assert not lives_since(os.getpid(), began - 2.1)
    assert not lives_since(os.getpid(), began - 0.1, slack=0)


def test_a_start_that_nobody_tells_counts_as_the_same_process(monkeypatch):
    monkeypatch.setattr(pids, "started_at", lambda _pid: None)
    assert lives_since(os.getpid(), 0)
    assert not lives_since(dead_pid(), time.time())


def test_a_command_with_parentheses_and_newlines_does_not_confuse_the_fields():
    began, name = time.time(), ") S 1 1\n("
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        with open("/proc/self/comm", "w") as comm:
            comm.write(name)
        os.write(tell, b"x")
        signal.pause()
    try:
        assert select.select([ready], [], [], 30)[0]
        stat = read_stat(pid)
        assert (stat.parent, stat.group, stat.session) == (os.getpid(), os.getpgrp(), os.getsid(0))
        assert (stat.state in "SR", stat.threads, stat.dead) == (True, 1, False)
        assert started_at(pid) >= began - 0.05
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(tell)
