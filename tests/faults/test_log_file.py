"""`log_file` under faults: a full disk, a deleted file, rotation; the child never waits, and what is lost is counted."""

import ctypes
import logging
import os
import re
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from harness import program
from support import sh, wait_until

from trio_process import ProcessStartError, Service, ServiceOptions, Stream
from trio_process._process import LogFile

_LIBC = ctypes.CDLL(None, use_errno=True)


@contextmanager
def small_disk(path, size):
    """Mount a file system of that many bytes; skip the test where that is not allowed."""
    path.mkdir()
    if _LIBC.mount(b"tmpfs", os.fsencode(path), b"tmpfs", 0, f"size={size}".encode()):
        pytest.skip("no file system may be mounted here")
    try:
        yield path
    finally:
        _LIBC.umount2(os.fsencode(path), 2)  # MNT_DETACH


def records(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "trio_process"]


async def test_whole_lines_are_written_as_they_come(tmp_path):
    log = tmp_path / "log"
    with trio.fail_after(20):
        async with Service() as service:
            process = await service.start(*sh("printf 'be'; read x; echo gun; printf end >&2; read x"), log_file=log)
            await wait_until(lambda: process.output() == "be")
            assert log.read_text() == ""
            await process.send_input("go\n")
            await process.wait_for_line("begun")
            assert log.read_text() == "begun\n"
            await process.send_input("go\n")
            await process.wait()
    assert log.read_text() == "begun\nend"


async def test_rotation_loses_no_line_and_tears_none(tmp_path):
    log = tmp_path / "log"
    with trio.fail_after(20):
        async with Service() as service:
            await service.run(
                *sh("i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo line $i; done"),
                log_file=log,
                log_max_bytes=5000,
                log_keep=9,
            )
    files = [tmp_path / f"log.{number}" for number in range(9, 0, -1)] + [log]
    lines = "".join(file.read_text() for file in files if file.exists()).splitlines()
    assert lines == [f"line {number}" for number in range(1, 2001)]
    assert all(file.stat().st_size <= 5000 for file in files if file.exists())


@pytest.mark.parametrize("keep", [10**9, 2**63 - 1])
async def test_all_files_are_kept_without_a_look_at_each_name_that_there_could_be(tmp_path, keep):
    log = tmp_path / "log"
    with trio.fail_after(30):
        async with Service() as service:
            await service.run(*sh("seq 1 9"), log_file=log, log_max_bytes=1, log_keep=keep)
    assert [log.with_name(f"log.{number}").read_text() for number in range(1, 9)] == [f"{n}\n" for n in range(8, 0, -1)]
    assert log.read_text() == "9\n"


def test_a_rotation_leaves_files_alone_that_are_not_in_its_way(tmp_path):
    for number in (1, 2, 4, 7):
        (tmp_path / f"log.{number}").write_text(str(number))
    log = LogFile(tmp_path / "log", max_bytes=2, keep=5)
    for line in (b"a\n", b"b\n"):
        log.write(Stream.STDOUT, line)
    log.finish()
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {"log": "b\n", "log.1": "a\n", "log.2": "1", "log.3": "2", "log.4": "4", "log.7": "7"}


async def test_no_more_than_log_keep_files_are_kept(tmp_path):
    log = tmp_path / "log"
    with trio.fail_after(20):
        async with Service() as service:
            for _ in range(8):
                await service.run(*sh("echo 0123456789"), log_file=log, log_max_bytes=11, log_keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1", "log.2"]


async def test_a_deleted_file_is_made_again(tmp_path):
    log = tmp_path / "log"
    with trio.fail_after(20):
        async with Service() as service:
            process = await service.start("cat", log_file=log)
            await process.send_input("one\n")
            await process.wait_for_line("one")
            log.unlink()
            await process.send_input("two\n")
            await process.wait_for_line("two")
            assert log.read_text() == "two\n"
            await process.close_stdin()
            await process.wait()


async def test_a_deleted_directory_is_no_reason_to_stop_and_its_return_is_noticed(tmp_path, caplog):
    directory = tmp_path / "logs"
    directory.mkdir()
    log = directory / "log"
    with trio.fail_after(20):
        async with Service() as service:
            process = await service.start("cat", log_file=log)
            log.unlink()
            directory.rmdir()
            await process.send_input("one\n")
            await process.wait_for_line("one")
            assert "can't be written" in records(caplog)[0]
            directory.mkdir()
            await process.send_input("two\n")
            await process.wait_for_line("two")
            assert log.read_text() == "one\ntwo\n"
            await process.close_stdin()
            await process.wait()


async def test_a_full_disk_never_blocks_the_child_and_the_loss_is_counted(tmp_path, caplog):
    with small_disk(tmp_path / "disk", 64 * 1024) as disk, trio.fail_after(30):
        async with Service(options=ServiceOptions(buffer_size=1000)) as service:
            lines = 300_000  # 2 MB: more than the disk takes and memory holds
            result = await service.run(*sh(f"seq 1 {lines}"), log_file=disk / "log")
            assert result.stdout.endswith(f"{lines}\n")
            (trouble, missing) = records(caplog)
            assert "can't be written" in trouble
            assert "No space left" in trouble
            lost = int(re.search(r"lacks (\d+) bytes", missing).group(1))
            written = (disk / "log").stat().st_size
            assert lost + written == len("\n".join(map(str, range(1, lines + 1)))) + 1
            assert (disk / "log").read_text().startswith("1\n2\n3\n")


async def test_a_disk_that_has_room_again_gets_what_waited(tmp_path, caplog):
    with small_disk(tmp_path / "disk", 64 * 1024) as disk, trio.fail_after(30):
        (disk / "ballast").write_bytes(b"x" * 60 * 1024)
        async with Service() as service:
            process = await service.start(*sh("seq 1 5000; echo filled; read x"), log_file=disk / "log")
            await process.wait_for_line("filled")
            (disk / "ballast").unlink()
            await process.send_input("go\n")  # it writes nothing more: what waits is written at the end
            await process.wait()
        assert (disk / "log").read_text() == "".join(f"{number}\n" for number in range(1, 5001)) + "filled\n"
        assert "can't be written" in records(caplog)[0]
        assert not [text for text in records(caplog) if "lacks" in text]


async def test_a_file_size_limit_is_like_a_full_disk(tmp_path):
    log = tmp_path / "log"
    body = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
async with Service() as service:
    result = await service.run("seq", "1", "10000", log_file=sys.argv[1])
    assert result.ok and result.output.endswith("10000\\n")
"""
    with trio.fail_after(30):
        async with Service() as service:
            result = await service.run(*program(body, str(log)))
            assert "File too large" in result.stderr
            assert log.stat().st_size == 1000


async def test_a_rotation_that_fails_is_no_reason_to_write_nothing(tmp_path, caplog):
    log = tmp_path / "log"
    (tmp_path / "log.1").mkdir()
    (tmp_path / "log.1" / "in the way").touch()
    with trio.fail_after(20):
        async with Service() as service:
            result = await service.run(*sh("seq 1 100"), log_file=log, log_max_bytes=50, log_keep=1)
            assert result.ok
    assert log.read_text().split() == [str(number) for number in range(1, 101)]
    assert "rotated" in records(caplog)[0]


async def test_a_log_that_cannot_be_opened_is_a_failed_start(tmp_path):
    with trio.fail_after(20):
        async with Service() as service:
            with pytest.raises(ProcessStartError, match="log_file"):
                await service.start("true", log_file=tmp_path / "no" / "log")
            with pytest.raises(ProcessStartError, match="log_file"):
                await service.start("true", log_file=tmp_path)
            with pytest.raises(ProcessStartError):
                await service.start("true", log_file=tmp_path / "no" / "log", detach=True)


async def test_a_log_without_a_newline_is_written_all_the_same(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    log = tmp_path / "log"
    with trio.fail_after(20):
        async with Service(options=ServiceOptions(buffer_size=10)) as service:
            await service.run(*sh("head -c 3000000 /dev/zero"), log_file=log)
    assert log.stat().st_size == 3_000_000
    assert records(caplog) == []


@contextmanager
def records_in(log):
    """Write log records into a log file, as the background instance of `up` does; yield their texts."""
    texts = []

    class Handler(logging.Handler):
        def emit(self, record):
            texts.append(record.getMessage())
            log.write(Stream.STDERR, f"{texts[-1]}\n".encode())

    handler, logger = Handler(), logging.getLogger("trio_process")
    logger.addHandler(handler)
    try:
        yield texts
    finally:
        logger.removeHandler(handler)


def test_a_record_about_a_full_disk_may_go_to_the_same_file():
    log = LogFile(Path("/dev/full"))
    with records_in(log) as texts:
        for _ in range(3):
            log.write(Stream.STDOUT, b"one\n")
        assert ["can't be written" in text for text in texts] == [True]
        log.finish()
    assert f"lacks {12 + len(texts[0]) + 1} bytes" in texts[1]


def test_records_about_a_lost_directory_are_in_the_file_once_it_is_back(tmp_path):
    directory = tmp_path / "logs"
    directory.mkdir()
    log = LogFile(directory / "log")
    with records_in(log) as texts:
        (directory / "log").unlink()
        directory.rmdir()
        log.write(Stream.STDOUT, b"one\n")
        directory.mkdir()
        log.write(Stream.STDOUT, b"two\n")
        log.finish()
        gone, back = texts
    assert (directory / "log").read_text().splitlines() == ["one", gone, "two", back]


def test_a_record_about_a_failed_rotation_may_go_to_the_same_file(tmp_path):
    (tmp_path / "log.1" / "in the way").mkdir(parents=True)
    log = LogFile(tmp_path / "log", max_bytes=1000, keep=1)
    with records_in(log) as texts:
        for _ in range(3):
            log.write(Stream.STDOUT, b"x" * 400 + b"\n")
        log.finish()
        (text,) = texts
    assert "can't be rotated" in text
    assert (tmp_path / "log").read_text().splitlines() == [*["x" * 400] * 3, text]
