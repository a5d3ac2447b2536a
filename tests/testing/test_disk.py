"""`FaultyDisk`: a full disk for PID files and registry entries, and what must not be lost on one."""

import errno

import pytest

from trio_process import (
    DaemonEntry,
    DaemonError,
    OptionError,
    PIDFile,
    ProcessError,
    Registry,
    RegistryError,
    read_pid,
)
from trio_process._core import write_atomically
from trio_process.testing import FaultyDisk


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("room", [0, 1])
def test_a_pid_file_is_there_whole_or_not_at_all(tmp_path, room, error):
    path = tmp_path / "my.pid"
    with FaultyDisk(tmp_path, room=room, error=error) as disk:
        with pytest.raises((ProcessError, OSError)) as failure:
            PIDFile(path).acquire()
        assert disk.faults == 1
    cause = failure.value if isinstance(failure.value, OSError) else failure.value.__cause__
    assert cause.errno == error
    assert list(tmp_path.iterdir()) == []
    with PIDFile(path):
        assert read_pid(path)[1]


@pytest.mark.parametrize("room", [0, 20])
def test_an_entry_of_the_registry_stays_as_it_was(tmp_path, room):
    registry = Registry(tmp_path)
    registry.register(DaemonEntry(code="a", daemon="b", health="old"))
    before = sorted(path.name for path in tmp_path.iterdir())
    with FaultyDisk(tmp_path, room=room) as disk:
        with pytest.raises((RegistryError, OSError)):
            registry.register(DaemonEntry(code="a", daemon="b", health="new"))
        assert disk.faults == 1
    assert registry.get("a", "b").health == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_other_directories_and_other_times_have_room(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with FaultyDisk(tmp_path / "one") as disk:
        Registry(tmp_path / "two").register(DaemonEntry(code="a", daemon="b"))
        assert disk.faults == 0
    Registry(tmp_path / "one").register(DaemonEntry(code="a", daemon="b"))
    with FaultyDisk(tmp_path, room=10**6) as disk:
        Registry(tmp_path / "one").register(DaemonEntry(code="c", daemon="d"))
        assert disk.faults == 0


def test_what_can_t_be_is_refused(tmp_path):
    for options in ({"room": -1}, {"error": 0}):
        with pytest.raises(OptionError):
            FaultyDisk(tmp_path, **options)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (errno.ENOSPC, "make room on its file system"),
        (errno.EDQUOT, "make room: this user's quota"),
        (errno.EFBIG, "raise the limit on the size of files"),
        (errno.EACCES, "this user can write to"),
    ],
)
def test_the_advice_fits_the_error_and_the_file_is_named(tmp_path, error, advice):
    with FaultyDisk(tmp_path, error=error):
        with pytest.raises(DaemonError, match=f"{tmp_path}/my.pid .*; .*{advice}"):
            PIDFile(tmp_path / "my.pid").acquire()
        with pytest.raises(RegistryError, match=str(tmp_path)) as failure:
            Registry(tmp_path).register(DaemonEntry("a", "b"))
        assert (advice in str(failure.value)) == (error != errno.EACCES)
        with pytest.raises(OSError, match=f"{tmp_path}/x") as failure:
            write_atomically(tmp_path / "x", b"x")
        assert failure.value.errno == error
