"""What users do to it: much output, handlers that raise, cancellations at any moment, Ctrl-C; and nothing is left."""

import logging
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from subprocess import PIPE, Popen

import forked
import pytest
import trio
from support import wait_until

from trio_process import (
    CommandFailedError,
    CommandTimeoutError,
    OptionError,
    ProcessStartError,
    ProgramNotFoundError,
    Stdio,
)
from trio_process._core import is_alive
from trio_process.exec import Command

MUCH = 50_000_000


def sh(script, *args):
    return Command("sh", "-c", script, "sh", *args)


async def test_fifty_megabytes_are_whole_in_memory():
    with trio.fail_after(60):
        assert len(await Command("head", "-c", str(MUCH), "/dev/zero").output()) == MUCH
        assert len(await sh(f"head -c {MUCH} /dev/zero >&2").combined_output()) == MUCH


async def test_output_beyond_what_a_service_retains_is_whole_too():
    size = 70 * 2**20  # ServiceOptions.retain_bytes is 64 MiB
    with trio.fail_after(60):
        assert len(await Command("head", "-c", str(size), "/dev/zero").output()) == size


async def test_fifty_megabytes_through_stdin(tmp_path):
    with trio.fail_after(60):
        assert await Command("wc", "-c").with_stdin(b"x" * MUCH).output() == f"{MUCH}\n"


async def test_fifty_megabytes_from_an_async_iterable_without_holding_them():
    async def blocks():
        for _ in range(MUCH // 100_000):
            yield b"x" * 100_000

    with trio.fail_after(60):
        assert await (Command("cat").with_stdin(blocks()) | Command("wc", "-c")).output() == f"{MUCH}\n"


async def test_many_lines_to_a_callable():
    count = 0

    def handle(line):
        nonlocal count
        count += 1
        assert line == str(count)

    with trio.fail_after(60):
        await Command("seq", "500000").with_stdout(handle).run()
    assert count == 500_000


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_a_callable_that_raises_stops_the_command_and_its_error_is_the_same_object(stream):
    error = RuntimeError("mine")

    def handle(line):
        raise error

    command = sh("echo x; echo y >&2; exec sleep 100")
    command = command.with_stdout(handle) if stream == "stdout" else command.with_stderr(handle)
    began = time.monotonic()
    with trio.fail_after(30):
        for runnable in (command, sh("sleep 100").with_stdout(Stdio.PIPE) | command):
            with pytest.raises(RuntimeError) as caught:
                await runnable.run()
            assert caught.value is error
    assert time.monotonic() - began < 20


async def test_callables_of_two_stages_that_raise_make_no_group():
    def handle(line):
        raise RuntimeError(line)

    loud = sh("echo x >&2; exec sleep 100").with_stderr(handle)
    with trio.fail_after(30), pytest.raises(RuntimeError, match="x"):
        await (loud | loud).run()


async def test_a_callable_that_raises_base_exceptions_is_not_held_back():
    for kind in (KeyboardInterrupt, SystemExit):

        def handle(line, kind=kind):
            raise kind

        with trio.fail_after(30), pytest.raises(kind):
            await sh("echo x; exec sleep 100").with_stdout(handle).run()


async def test_an_async_callable_can_be_cancelled():
    async def handle(line):
        await trio.sleep_forever()

    with trio.fail_after(30), trio.move_on_after(0.2) as scope:
        await Command("yes").with_stdout(handle).run()
    assert scope.cancelled_caught


async def test_a_timeout_comes_through_a_callable_that_is_slow():
    async def handle(line):
        await trio.sleep(0.02)

    with trio.fail_after(30), pytest.raises(CommandTimeoutError):
        await sh("echo x; exec sleep 100").with_stdout(handle).with_timeout(0.1).run()


async def test_cancelling_at_any_moment_leaves_nothing(tmp_path):
    pids = tmp_path / "pids"
    stage = sh('echo $$ >> "$1"; exec cat', str(pids))
    for delay in (0, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.05):
        with trio.fail_after(30), trio.move_on_after(delay):
            await (Command("yes") | stage | stage | Command("wc")).run()
        with trio.fail_after(30), trio.move_on_after(delay):
            async with (Command("yes") | stage | stage).lines() as lines:
                async for _ in lines:
                    pass
    with trio.fail_after(60):  # on a busy machine none of them may have come as far as this
        async with trio.open_nursery() as nursery:
            nursery.start_soon((Command("yes") | stage | stage | Command("wc")).run)
            await wait_until(lambda: pids.exists() and pids.read_text())
            nursery.cancel_scope.cancel()
    assert not any(is_alive(int(pid)) for pid in pids.read_text().split())


async def test_a_cancelled_scope_runs_nothing(tmp_path):
    with trio.fail_after(10):
        with trio.CancelScope() as scope:
            scope.cancel()
            await (Command("touch", tmp_path / "made") | Command("cat")).run()
    assert scope.cancelled_caught
    assert not (tmp_path / "made").exists()


async def test_stages_that_ignore_the_stop_signal_are_killed_side_by_side():
    deaf = sh("trap '' TERM; echo deaf >&2; while :; do sleep 0.05; done").with_options(grace_period=0.3)
    heard = []
    with trio.fail_after(30):
        with trio.CancelScope() as scope:

            def note(line):
                heard.append(line)
                if len(heard) == 3:
                    scope.cancel()
                    note.began = time.monotonic()

            await (deaf | deaf | deaf).with_stderr(note).run()
    assert time.monotonic() - note.began < 3


async def test_each_place_of_a_program_that_is_not_there():
    missing = Command("no-such-program-anywhere")
    with trio.fail_after(30):
        for pipe in (missing | Command("cat"), Command("yes") | missing | Command("cat"), Command("yes") | missing):
            with pytest.raises(ProgramNotFoundError):
                await pipe.run()


async def test_a_file_that_was_closed_stops_the_stages_before_it(tmp_path):
    with (tmp_path / "f").open("wb") as file:
        pipe = Command("yes") | Command("cat").with_stderr(file)
    with trio.fail_after(10), pytest.raises(OptionError, match="open file"):
        await pipe.run()


async def test_a_directory_that_vanished_is_a_failure_to_start(tmp_path):
    (tmp_path / "d").mkdir()
    command = Command("pwd").with_dir(tmp_path / "d")
    (tmp_path / "d").rmdir()
    with trio.fail_after(10), pytest.raises(Exception, match="does not exist"):
        await command.run()


async def test_feed_and_callable_that_raise_at_once_leave_a_bare_error():
    async def broken():
        yield b"x\n"
        raise RuntimeError("feed")

    def handle(line):
        raise RuntimeError("handler")

    with trio.fail_after(30), pytest.raises(RuntimeError):
        await Command("cat").with_stdin(broken()).with_stdout(handle).run()


@pytest.mark.parametrize("chunk", ["text\n", b"bytes\n", bytearray(b"array\n"), memoryview(b"view\n"), b""])
async def test_chunks_of_a_feed(chunk):
    async def feed():
        yield chunk

    expected = chunk if isinstance(chunk, str) else bytes(chunk).decode()
    with trio.fail_after(10):
        assert await Command("cat").with_stdin(feed()).output() == expected


async def test_a_chunk_that_is_no_data_is_refused():
    async def feed():
        yield 3

    with trio.fail_after(30), pytest.raises(OptionError, match="str or bytes"):
        await Command("cat").with_stdin(feed()).run()


async def test_a_broken_pipe_does_not_make_a_failing_command_look_well():
    async def feed():
        while True:
            yield b"x" * 100_000

    with trio.fail_after(30), pytest.raises(CommandFailedError) as caught:
        await sh("exit 4").with_stdin(feed()).run()
    assert caught.value.result.exit_code == 4


async def test_a_generator_that_was_read_before_is_refused_instead_of_read_as_empty():
    async def once():
        yield b"data"

    command = Command("cat").with_stdin(once())
    with trio.fail_after(10):
        assert await command.output() == "data"
        with pytest.raises(OptionError, match="has been read before"):
            await command.output()


async def test_a_handler_that_holds_a_command_up_is_named_by_the_users_own_line(caplog, monkeypatch):
    monkeypatch.setattr("trio_process._process.output.backpressure.SLOW_READER", 0.05)
    named = trio.Event()

    class Watch(logging.Handler):
        def emit(self, record):
            named.set()

    async def slow(line):
        await named.wait()
        scope.cancel()

    watch = Watch(logging.WARNING)
    logging.getLogger("trio_process").addHandler(watch)
    try:
        with trio.fail_after(20), trio.CancelScope() as scope:
            await Command("yes").with_stdout(slow).run()
    finally:
        logging.getLogger("trio_process").removeHandler(watch)
    assert scope.cancelled_caught
    assert f"made at {__file__}:" in caplog.text


@pytest.mark.parametrize("spare", range(8, 19))
async def test_running_out_of_descriptors_is_a_failure_to_start_and_leaves_nothing(spare):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, limits[1]))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for _ in range(spare):
            os.close(taken.pop())
        pipe = Command("yes") | Command("cat") | Command("cat") | Command("cat") | Command("true")
        with trio.fail_after(20), pytest.raises(ProcessStartError, match=r"ulimit -n"):
            await pipe.run()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in taken:
            os.close(descriptor)


async def test_output_that_is_no_text():
    with trio.fail_after(10):
        assert await Command("printf", r"\377a\000b").output() == "\N{REPLACEMENT CHARACTER}a\0b"
        assert (await Command("printf", r"\377a").with_options(encoding="latin-1").output()) == "ÿa"
        result = await Command("printf", r"\377a\000b").run()
    assert result.stdout_bytes == b"\xffa\0b"


async def test_a_line_of_megabytes_comes_in_pieces():
    with trio.fail_after(30):
        async with Command("head", "-c", "3000000", "/dev/zero").lines() as lines:
            sizes = [len(line) async for line in lines]
    assert sum(sizes) == 3_000_000
    assert max(sizes) <= 2**20


async def test_twenty_stages_at_once():
    pipe = Command("seq", "1000")
    for _ in range(19):
        pipe = pipe | Command("cat")
    with trio.fail_after(60):
        assert len((await pipe.output()).split()) == 1000


async def test_many_pipes_side_by_side():
    texts = []

    async def run(number):
        texts.append(await (Command("echo", str(number)) | Command("cat")).output())

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(run, number)
    assert sorted(map(int, texts)) == list(range(30))


PROGRAM = """
import sys, trio
from trio_process.exec import Command
sh = lambda script: Command("sh", "-c", script)
async def main():
    loud = sh("echo $$ >&2; exec cat").with_stderr(lambda line: print(line, flush=True))
    with trio.fail_after(30):
        await (sh("echo $$ >&2; exec sleep 100").with_stderr(lambda line: print(line, flush=True)) | loud | loud).run()
try:
    trio.run(main)
except KeyboardInterrupt as error:
    print(type(error).__name__, flush=True)
"""


def test_ctrl_c_stops_every_stage_and_is_a_bare_keyboard_interrupt():
    command = [sys.executable, "-c", PROGRAM]
    with Popen(command, stdout=PIPE, text=True, **forked.program(command)) as program:
        try:
            pids = [int(program.stdout.readline()) for _ in range(3)]
            assert all(is_alive(pid) for pid in pids)
            os.kill(program.pid, signal.SIGINT)
            assert program.stdout.read() == "KeyboardInterrupt\n"
            assert program.wait(timeout=20) == 0
        finally:
            program.kill()
    assert not any(is_alive(pid) for pid in pids)
