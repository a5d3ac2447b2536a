"""`echo=True`: whole lines on our own stdout and stderr, however many write, and whatever those are."""

import io
import os
import socket
import sys
from collections import Counter
from contextlib import contextmanager
from functools import partial

import pytest
import trio
import trio.testing

from trio_process import Service


@contextmanager
def piped_stdout():
    """Make our stdout a pipe for the length of the block; the descriptor of its other end."""
    # in the test itself: pytest puts its own stdout in place after the fixtures
    before = sys.stdout
    reading, writing = os.pipe()
    try:
        with os.fdopen(writing, "w") as sys.stdout:
            yield reading
    finally:
        sys.stdout = before
        os.close(reading)


async def read_lines(descriptor, count):
    """Read so many lines."""
    data = b""
    stream = trio.lowlevel.FdStream(os.dup(descriptor))
    try:
        while data.count(b"\n") < count:
            data += await stream.receive_some()
    finally:
        await stream.aclose()
    return data.decode().splitlines()


async def read_until_closed(descriptor):
    """Read all lines."""
    data = b""
    async with trio.lowlevel.FdStream(os.dup(descriptor)) as stream:
        async for chunk in stream:
            data += chunk
    return data.decode().split()


async def test_several_processes_echo_whole_lines_to_one_reader():
    with trio.fail_after(60), piped_stdout() as reading:
        async with Service() as service, trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(partial(service.run, "seq", "100000", echo=True))
            found = Counter(await read_lines(reading, 300_000))
    assert found == Counter({str(number): 3 for number in range(1, 100_001)})


async def test_two_services_echo_to_one_reader():
    with trio.fail_after(60), piped_stdout() as reading:
        async with Service() as one, Service() as other, trio.open_nursery() as nursery:
            for service in (one, other):
                nursery.start_soon(partial(service.run, "seq", "100000", echo=True))
            found = Counter(await read_lines(reading, 200_000))
    assert found == Counter({str(number): 2 for number in range(1, 100_001)})


async def test_a_task_of_ours_that_waits_for_the_same_stdout_is_left_in_peace():
    async def wait_too(*, task_status):
        os.set_blocking(sys.stdout.fileno(), False)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(sys.stdout.fileno(), b"x" * 99 + b"\n")
        os.set_blocking(sys.stdout.fileno(), True)
        task_status.started()
        await trio.lowlevel.wait_writable(sys.stdout.fileno())

    with trio.fail_after(60), piped_stdout() as reading:
        async with Service() as service, trio.open_nursery() as nursery:
            await nursery.start(wait_too)
            nursery.start_soon(partial(service.run, "echo", "hello", echo=True))
            await trio.testing.wait_all_tasks_blocked(0.05)
            while (await read_lines(reading, 1))[-1] != "hello":
                pass


async def test_what_takes_the_number_of_a_stdout_that_was_closed_gets_nothing_of_it():
    with trio.fail_after(60), piped_stdout() as reading:
        async with Service() as service, trio.open_nursery() as nursery:
            nursery.start_soon(partial(service.run, "seq", "100000", echo=True))
            await trio.testing.wait_all_tasks_blocked(0.05)  # the pipe is full
            number = sys.stdout.fileno()
            before, sys.stdout = sys.stdout, None
            ours, theirs = socket.socketpair()
            with ours, theirs:
                before.close()
                os.dup2(theirs.fileno(), number)
                found = await read_until_closed(reading)
                os.close(number)
                ours.setblocking(False)
                with pytest.raises(BlockingIOError):
                    ours.recv(1)
    assert found == sorted(found, key=int)
    assert found[0] == "1"


async def test_a_stdout_that_raises_whatever_it_likes_is_named_and_harms_nobody(monkeypatch, caplog):
    class Odd(io.StringIO):
        def write(self, text):
            raise RuntimeError("out of ink")

    monkeypatch.setattr(sys, "stdout", Odd())
    with trio.fail_after(60):
        async with Service() as service:
            assert (await service.run("echo", "hello", echo=True)).output == "hello\n"
    assert "stdout of this program accepts no more output of processes: out of ink" in caplog.text


STUCK_TERMINAL = """
import os, pty, sys, trio
from trio_process import Service

async def main():
    async with Service() as service:
        with trio.move_on_after(0.5):
            await service.run("sh", "-c", "while :; do echo what nobody reads; done", echo=True)
    print("left", file=sys.stderr)

master, terminal = pty.openpty()
os.dup2(terminal, 1)
trio.run(main)
"""


async def test_a_terminal_that_nobody_reads_does_not_hold_the_loop_up():
    with trio.fail_after(60):
        async with Service() as service:
            result = await service.run(sys.executable, "-c", STUCK_TERMINAL, timeout=30)
    assert result.stderr == "left\n"
