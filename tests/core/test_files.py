"""Files that are there whole or not at all."""

import errno
import os
import resource
import signal
import stat
import subprocess
import threading

import pytest

from trio_process._core import Draft, is_at, open_regular, try_lock, unlock, write_atomically
from trio_process._core.system import files

# 3.12 warns of threads that other tests left idle; the children here do next to nothing
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@pytest.fixture(params=["anonymous", "named"])
def directory(request, tmp_path, monkeypatch):
    """A directory on a file system that can make files without a name, and on one that can't."""
    if request.param == "named":
        opened = os.open

        def refuse(path, flags, *args, **kwargs):
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, "Operation not supported")
            return opened(path, flags, *args, **kwargs)

        monkeypatch.setattr(files.os, "open", refuse)
    return tmp_path


def in_child(action):
    """Run `action` in a forked child, and return its exit code (0 if it returned)."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            action()
            code = 0
        except OSError as error:
            code = error.errno
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_file_is_written_whole_and_nothing_is_left_beside_it(directory):
    path = directory / "file"
    for content in (b"first", b"", b"third" * 100_000):
        write_atomically(path, content)
        assert path.read_bytes() == content
        assert os.listdir(directory) == ["file"]


def test_a_path_can_be_a_str_and_relative(directory, monkeypatch):
    monkeypatch.chdir(directory)
    write_atomically("file", b"content")
    assert (directory / "file").read_bytes() == b"content"


def test_the_permissions_obey_the_umask(directory):
    old = os.umask(0o027)
    try:
        write_atomically(directory / "one", b"")
        write_atomically(directory / "two", b"", mode=0o666)
    finally:
        os.umask(old)
    assert [stat.S_IMODE((directory / name).stat().st_mode) for name in ("one", "two")] == [0o640, 0o640]


def test_a_file_size_limit_leaves_the_old_content_and_nothing_beside_it(directory):
    write_atomically(directory / "file", b"old")

    def write_too_much():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        write_atomically(directory / "file", b"x" * 20_000)

    assert in_child(write_too_much) == errno.EFBIG
    assert (directory / "file").read_bytes() == b"old"
    assert os.listdir(directory) == ["file"]


def test_a_full_disk_leaves_the_old_content_and_nothing_beside_it(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path]
    if subprocess.run(mount, capture_output=True, timeout=30, check=False).returncode:
        pytest.skip("a small disk can't be mounted here; the test with a file size limit stands for it")
    try:
        write_atomically(tmp_path / "file", b"old")
        with pytest.raises(OSError, match="No space left") as caught:
            write_atomically(tmp_path / "file", b"x" * 100_000)
        assert caught.value.errno == errno.ENOSPC
        assert (tmp_path / "file").read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["file"]
    finally:
        subprocess.run(["umount", tmp_path], check=True, timeout=30)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.EIO, "Input/output error")])
def test_a_failure_on_the_way_leaves_the_old_content_and_nothing_beside_it(directory, monkeypatch, error):
    write_atomically(directory / "file", b"old")
    before = len(os.listdir("/proc/self/fd"))

    def fail(descriptor):
        raise error

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(type(error) if isinstance(error, OSError) else error):
        write_atomically(directory / "file", b"new")
    assert (directory / "file").read_bytes() == b"old"
    assert os.listdir(directory) == ["file"]
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_directory_at_the_path_is_an_error_and_nothing_is_left_beside_it(directory):
    (directory / "file").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(directory / "file", b"new")
    assert os.listdir(directory) == ["file"]


def test_a_missing_directory_is_an_error(directory):
    with pytest.raises(FileNotFoundError):
        write_atomically(directory / "missing" / "file", b"")


def test_a_symbolic_link_is_replaced_and_what_it_leads_to_is_untouched(directory):
    (directory / "precious").write_bytes(b"precious")
    (directory / "file").symlink_to("precious")
    write_atomically(directory / "file", b"new")
    assert (directory / "precious").read_bytes() == b"precious"
    assert (directory / "file").read_bytes() == b"new"
    assert not (directory / "file").is_symlink()


def test_a_reader_sees_the_old_content_or_the_new_one(directory):
    path, contents = directory / "file", [bytes([letter]) * 100_000 for letter in b"abc"]
    write_atomically(path, contents[0])
    torn, reads, end = [], [], threading.Event()

    def read():
        while not end.is_set() or not reads:
            content = path.read_bytes()
            reads.append(len(content))
            if content not in contents:
                torn.append(content)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for count in range(60):
            write_atomically(path, contents[count % 3])
    finally:
        end.set()
        reader.join()
    assert reads
    assert not torn


def test_sigkill_while_a_draft_is_written_leaves_nothing(tmp_path):
    def die():
        with Draft(tmp_path, b"content"):
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(die) == -signal.SIGKILL
    assert os.listdir(tmp_path) == []


# exclusive creation, and locks


def test_a_draft_can_take_a_name_only_if_nobody_has_it(directory):
    path = directory / "file"
    with Draft(directory, b"first") as draft:
        assert not path.exists()
        draft.create(path)
    for obstacle in ("file", "link", "folder"):
        if obstacle == "link":
            (directory / obstacle).symlink_to("nowhere")
        elif obstacle == "folder":
            (directory / obstacle).mkdir()
        with Draft(directory, b"second") as draft, pytest.raises(FileExistsError):
            draft.create(directory / obstacle)
    assert path.read_bytes() == b"first"
    assert path.stat().st_nlink == 1
    assert sorted(os.listdir(directory)) == ["file", "folder", "link"]


def test_a_kept_draft_is_locked_before_anybody_can_see_it_and_until_it_is_unlocked(directory):
    path = directory / "file"
    with Draft(directory, b"content", lock=True) as draft:
        draft.create(path)
        descriptor = draft.keep()
    other, _ = open_regular(path)
    assert not try_lock(other)
    assert not try_lock(other, shared=True)
    child = os.fork()
    if child == 0:
        signal.pause()  # a forked child has a copy of the descriptor: unlocking counts for it too
    try:
        unlock(descriptor)
        assert try_lock(other)
    finally:
        unlock(other)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_an_open_file_knows_whether_it_still_has_its_name(directory):
    path = directory / "file"
    path.write_bytes(b"")
    descriptor, status = open_regular(path)
    assert status.st_ino == path.stat().st_ino
    assert is_at(path, descriptor)
    write_atomically(path, b"another")
    assert not is_at(path, descriptor)
    path.unlink()
    assert not is_at(path, descriptor)
    os.close(descriptor)


@pytest.mark.parametrize("kind", ["directory", "fifo", "socket", "device"])
def test_what_is_not_a_regular_file_is_not_opened_and_nothing_waits(tmp_path, kind):
    path = tmp_path / kind
    match kind:
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "socket":
            os.mknod(path, stat.S_IFSOCK | 0o600)
        case "device":
            path = "/dev/null"
    assert open_regular(path) is None
    assert open_regular(path, follow=False, write=True) is None


def test_a_symbolic_link_is_followed_only_on_request(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("file")
    descriptor, _ = open_regular(tmp_path / "link")
    os.close(descriptor)
    assert open_regular(tmp_path / "link", follow=False) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_file_that_may_only_be_read_is_opened_for_reading(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"")
    path.chmod(0o444)
    os.chmod(tmp_path, 0o755)

    def read_only():
        os.chdir(tmp_path)  # the parents are root's alone
        os.setuid(65534)
        assert open_regular("file", write=True) is not None

    assert in_child(read_only) == 0
