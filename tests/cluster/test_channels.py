"""What a launcher writes to stderr, with a stand-in for its process on virtual time."""

from types import SimpleNamespace

import trio

from trio_process._cluster import CommandChannel
from trio_process._cluster.channels import LAST_LINES


class Flood(trio.abc.ReceiveStream):
    """Always has more to read."""

    def __init__(self, size):
        self.size = size
        self.reads = 0

    async def receive_some(self, max_bytes=None):
        await trio.lowlevel.checkpoint()
        self.reads += 1
        assert self.reads < 1000  # it is read all the time, which on virtual time would never end
        return bytearray(b"line %d\n" % self.reads * self.size)

    async def aclose(self):
        await trio.lowlevel.checkpoint()


async def read_for(seconds, stderr):
    process = SimpleNamespace(stdin=object(), stdout=object(), stderr=stderr, returncode=None, args=["launcher"])
    channel = CommandChannel(process, lambda status: False)
    with trio.fail_after(5), trio.move_on_after(seconds):  # virtual
        await channel.read_words()
    return channel.last_words()


async def test_a_launcher_that_floods_its_stderr_is_read_seldom(autojump_clock):
    for size in (1, 8000):
        flood = Flood(size)
        words = await read_for(2, flood)
        assert 10 <= flood.reads <= 50
        assert words.endswith(f"\n  line {flood.reads}")
        assert len(words.splitlines()) == LAST_LINES + 1
