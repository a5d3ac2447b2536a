"""The PID file against other programs: those that write in place, and files that were never meant to be PID files."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from trio_process._core import AlreadyRunningError, DaemonError
from trio_process._daemon import PIDFile, pidfile, read_pid


@pytest.fixture
def path(tmp_path):
    return tmp_path / "myapp.pid"


@contextmanager
def stranger():
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            yield child.pid
        finally:
            child.kill()


class WriterInPlace:
    """The clock of the PID file, and another program: opens the file as Go's os.WriteFile does, and fills it a moment later."""

    def __init__(self, path, content, after):
        self.content = content
        self.after = after
        self.now = 0.0
        self.file = open(path, "wb", buffering=0)  # noqa: SIM115 - closed when it has written

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        if self.now >= self.after and not self.file.closed:
            self.file.write(self.content)
            self.file.close()


@pytest.mark.parametrize("after", [0.0, 0.02, 0.04])
@pytest.mark.parametrize("before", [None, b"", b"4194305\n"])
def test_a_program_that_writes_its_pid_into_an_empty_file_wins(path, monkeypatch, before, after):
    if before is not None:
        path.write_bytes(before)
    with stranger() as pid:
        monkeypatch.setattr(pidfile, "time", WriterInPlace(path, b"%d" % pid, after))
        with pytest.raises(AlreadyRunningError) as caught:
            PIDFile(path).acquire()
        assert caught.value.pid == pid
        assert path.read_bytes() == b"%d" % pid


@pytest.mark.parametrize("content", [b"", b"\0" * 12, b"\n"])
def test_a_file_that_stays_empty_is_taken(path, content):
    path.write_bytes(content)
    began = time.monotonic()
    with PIDFile(path):
        assert read_pid(path) == (os.getpid(), True)
    assert pidfile.EMPTY_FOR <= time.monotonic() - began < 5


@pytest.mark.parametrize("content", ["{}", "{}\n", "  {}  ", "0{}\n"])
def test_a_release_leaves_what_another_program_wrote_into_the_file(path, content):
    with stranger() as pid:
        pid_file = PIDFile(path)
        pid_file.acquire()
        with open(path, "w") as file:  # in place: the same inode, and so the same lock
            file.write(content.format(pid))
        assert read_pid(path) == (pid, True)
        pid_file.release()
        assert not pid_file.held
        assert path.read_text() == content.format(pid)
        assert read_pid(path) == (pid, True)
        with pytest.raises(AlreadyRunningError):
            PIDFile(path).acquire()


def make_script(path):
    path.write_text("#!/usr/bin/env python3\nimport sys\n\nprint('a program that took an afternoon', sys.argv)\n")


def make_configuration(path):
    path.write_text("[server]\nlisten = '127.0.0.1:9090'\nworkers = 4\nlog = '/var/log/server.log'\n")


def make_executable(path):
    shutil.copy("/bin/true", path)


def make_database(path):
    connection = sqlite3.connect(path)
    connection.execute("create table precious (data text)")
    connection.commit()
    connection.close()


def make_short_binary(path):
    path.write_bytes(b"\x7fELF\x02\x01\x01\x00")


def make_disk_image(path):
    with open(path, "wb") as file:
        file.truncate(10 * 2**20)


def make_long_number(path):
    path.write_bytes(b"1" * 65)


FILES = [
    make_script,
    make_configuration,
    make_executable,
    make_database,
    make_short_binary,
    make_disk_image,
    make_long_number,
]


@pytest.mark.parametrize("make", FILES)
def test_what_is_not_a_pid_file_is_refused_and_not_a_byte_of_it_changes(path, make):
    make(path)
    before, status = path.read_bytes(), path.stat()
    with pytest.raises(DaemonError, match="is not a PID file") as caught:
        PIDFile(path).acquire()
    assert str(path) in str(caught.value)
    assert not isinstance(caught.value, AlreadyRunningError)
    assert path.read_bytes() == before
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (status.st_ino, status.st_mtime_ns)
    assert read_pid(path) == (0, False)


def test_a_program_that_is_running_is_refused_too(path):
    make_executable(path)
    shutil.copy("/bin/sleep", path)
    with subprocess.Popen([path, "60"]) as child:
        try:
            with pytest.raises(DaemonError, match="is not a PID file"):  # ETXTBSY: it can't be opened for writing
                PIDFile(path).acquire()
        finally:
            child.kill()


def test_a_race_with_a_program_that_writes_in_place_leaves_the_file_of_a_winner(path):
    """It checks and then writes, as go-process does; who wins may be both, but the file names a live one of them."""
    code = (
        "import os, sys\n"
        "for line in sys.stdin:\n"
        "    try: there = os.path.exists('/proc/' + (open(sys.argv[1]).read().strip() or 'x'))\n"
        "    except FileNotFoundError: there = False\n"
        "    if not there:\n"
        "        with open(sys.argv[1], 'w') as file: file.write(str(os.getpid()))\n"
        "    print(not there, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        for _ in range(40):
            path.unlink(missing_ok=True)
            other.stdin.write("go\n")
            other.stdin.flush()
            pid_file = PIDFile(path)
            try:
                pid_file.acquire()
                won = {os.getpid()}
            except AlreadyRunningError:
                won = set()
            won |= {other.pid} if other.stdout.readline() == "True\n" else set()
            assert read_pid(path)[0] in won
            pid_file.release()
        other.stdin.close()
