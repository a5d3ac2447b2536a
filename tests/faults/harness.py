"""What the tests of faults share: programs that use the package and can be killed, and the search for what they left."""

import os
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from itertools import count

import forked
import pytest
import trio
from support import is_gone, wait_until

from trio_process import ProcessError
from trio_process._process.containment import Cgroups

_TAGS = count(1)


def new_tag():
    """Return seconds to sleep that no other process on this machine sleeps, to know ours by."""
    return f"{3600 + next(_TAGS)}.{os.getpid()}"


def with_tag(tag):
    """Return the PIDs of the running processes `sleep TAG`."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    arguments = file.read().split(b"\0")
            except OSError:
                continue
            if arguments[:2] == [b"sleep", tag.encode()] and not is_gone(int(name)):
                found.append(int(name))
    return found


async def none_with_tag(tag, timeout=60):
    """Wait until no `sleep TAG` runs."""
    await wait_until(lambda: not with_tag(tag), timeout)


async def some_with_tag(tag, number=1, timeout=60):
    """Wait until so many processes `sleep TAG` run; return their PIDs."""
    return await wait_until(lambda: (found := with_tag(tag)) and len(found) >= number and found, timeout)


_PROGRAM = """{more}
import os, signal, sys
import trio
from trio_process import *

async def main():
{body}

trio.run(main)
"""


def program(body, *args):
    """Return the command line of a Python program with the package at hand, whose async main has this body."""
    indented = "".join(f"    {line}\n" for line in body.strip("\n").splitlines())
    more = "import pytest" if "pytest." in body else ""  # it takes as long to import as all the rest
    return Program((sys.executable, "-c", _PROGRAM.format(more=more, body=indented), *args))


class Program(tuple):
    """The command line of a Python program, which `running` forks."""

    __slots__ = ()


@asynccontextmanager
async def running(command, **options):
    """Run a command by Trio itself, as a stranger would; SIGKILL in the end. A `program` is forked."""
    check = options.pop("check", False)
    if options.pop("fork", isinstance(command, Program)):
        options |= forked.program_of_trio(command, options.get("env"))
    process = await trio.lowlevel.open_process(command, **{"stdout": subprocess.PIPE, **options})
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_reap, process)
            try:
                yield process
            finally:
                process.kill()
    finally:
        with trio.CancelScope(shield=True):
            for stream in (process.stdin, process.stdout):  # not at its end: there may be something left to read
                if stream is not None:
                    await stream.aclose()
    assert not check or process.returncode == 0


async def _reap(process):
    with trio.CancelScope(shield=True):
        await process.wait()


async def read_line(process):
    """Return the next line that the process writes."""
    line = b""
    while not line.endswith(b"\n"):
        byte = await process.stdout.receive_some(1)
        assert byte, f"it ended after {line!r}"
        line += byte
    return line.decode().strip()


@contextmanager
def a_stranger(*command, **options):
    """Run something beside that is not ours, and make sure that nobody has touched it."""
    stranger = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **options)
    try:
        yield stranger
        assert stranger.poll() is None, f"the stranger was ended: {stranger.returncode}"
    finally:
        stranger.kill()
        stranger.wait()


def cgroups_can_be_made():
    try:
        Cgroups(f"test-{os.getpid()}").close()
    except ProcessError:
        return False
    return True


needs_cgroups = pytest.mark.skipif(not cgroups_can_be_made(), reason="no cgroup can be made here")
