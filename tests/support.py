"""Small helpers of the tests: scripts for children, and a look at processes by their state.

A process is gone when it is a zombie or not there. Signal 0 does not tell: it reaches zombies, and where PID 1 does not
reap, orphans stay zombies for ever.
"""

import math
import os
import random
import socket
import sys
from contextlib import suppress
from typing import NamedTuple

import trio

from trio_process._core import read_stat


class Process(NamedTuple):
    """A process as `/proc/PID/stat` shows it (proc_pid_stat(5))."""

    command: str
    state: str
    parent: int
    group: int
    started: float


def process_of(pid):
    """Return what the kernel says of a process, None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            data = file.read().decode("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    command, _, rest = data.partition("(")[2].rpartition(")")
    fields = rest.split()
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # seconds since the machine was started
    return Process(command, fields[0], int(fields[1]), int(fields[2]), started)


def state_of(pid):
    """Return the state as one letter, `X` (dead) if there is no such process."""
    process = process_of(pid)
    return "X" if process is None else process.state


def is_gone(pid):
    """Return whether the process runs no more."""
    return state_of(pid) in "ZX"


async def wait_gone(*pids, timeout=60):
    """Wait until none of the processes runs."""
    with trio.fail_after(timeout):
        while not all(is_gone(pid) for pid in pids):
            await trio.sleep(0.01)


async def wait_until(true, timeout=60):
    """Wait until a function returns something true, and return that; only for what cannot be awaited."""
    with trio.fail_after(timeout):
        while not (found := true()):
            await trio.sleep(0.01)
    return found


def descendants():
    """Return the PIDs of the children of this process, and of theirs."""
    found, parents = [], {os.getpid()}
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):
        stat = read_stat(pid)
        if stat is not None and stat.parent in parents:
            parents.add(pid)
            found.append((pid, stat.command))
    return found


def in_child(action):
    """Return the exit code of a forked child that runs `action`: what it returns, 99 for an exception."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = int(action())
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def child_of(process):
    """Return the lifecycle behind a `ManagedProcess`."""
    return process._child


def runtime_of(service):
    """Return the private half of a service."""
    return service._runtime


def hold_launchers(monkeypatch):
    """Return an event before which no start by a launcher (`nice=`, `limits=`, `user=`) is through, however quick it was."""
    from trio_process._process.local.handle import LocalHandle

    through = trio.Event()
    launched = LocalHandle.launched

    async def held(handle, options, **keywords):
        with trio.CancelScope(shield=True):
            await through.wait()
        return await launched(handle, options, **keywords)

    monkeypatch.setattr(LocalHandle, "launched", held)
    return through


def python(script, *args):
    """Return the command line of a small Python script, its start-up kept short."""
    return (sys.executable, "-I", "-S", "-c", script, *args)


def sh(script, *args):
    """Return the command line of a small shell script."""
    return ("sh", "-c", script, "sh", *args)


CLEAN_UP = """
trap 'for i in 1 2 3 4 5 6 7 8 9 10; do echo clean $i; sleep 0.03; done; exit 0' TERM
echo ready
while :; do sleep 0.02; done
"""
"""A script that prints ten lines over 300 ms when it is asked to end, and exits by itself."""

CLEANED_UP = [f"clean {number}" for number in range(1, 11)]


def free_port():
    """Return a port of 127.0.0.1 that nobody has, and that the kernel gives to nobody who asks for any (ip(7))."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        first_given = int(file.read().split()[0])
    while True:
        port = random.randrange(max(1024, first_given - 10_000), max(2048, first_given))
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def open_descriptors():
    """Return how many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))


class Turns(trio.abc.Instrument):
    """Counts how often the task that made it gets its turn, inside the block."""

    def __init__(self):
        self.count = 0
        self._task = trio.lowlevel.current_task()

    def before_task_step(self, task):
        """Called by Trio."""
        self.count += task is self._task

    def __enter__(self):
        trio.lowlevel.add_instrument(self)
        return self

    def __exit__(self, *_):
        trio.lowlevel.remove_instrument(self)


async def most_lines_in_a_turn(lines, limit=math.inf):
    """Read lines, up to a limit; return how many came, and the most that came in one turn of the reader."""
    found = most = so_far = last = 0
    with Turns() as turns:
        async for _ in lines:
            so_far = so_far + 1 if turns.count == last else 1
            last = turns.count
            most = max(most, so_far)
            found += 1
            if found == limit:
                break
    return found, most
