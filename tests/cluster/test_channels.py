"""What a launcher writes to stderr, with a stand-in for its process on virtual time, and how its process is ended."""

from types import SimpleNamespace

import trio

from trio_process._cluster import CommandChannel, Hello, channels, open_command
from trio_process._cluster.channels import LAST_LINES
from trio_process._cluster.wire import VERSION


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
    channel = CommandChannel(process, lambda status, words: False)
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


async def test_a_starter_that_does_not_end_with_its_stdin_is_terminated_before_it_is_killed(monkeypatch, tmp_path):
    monkeypatch.setattr(channels, "_END", 0.2)
    script = f"trap 'echo cancelled > {tmp_path}/said; exit' TERM; echo up; while :; do sleep 0.02; done"
    async with open_command(["sh", "-c", script], spare=True) as channel:
        await channel.stream.receive_some()
        with trio.move_on_after(0):
            await channel.died(Hello(VERSION, "node", "", 1, 1, None, []))  # its agent has come up
    assert (tmp_path / "said").read_text() == "cancelled\n"
    assert channel.last_words() == "; sh exited with code 0"


async def test_the_end_of_a_command_that_we_have_killed_says_nothing():
    async with open_command(["sh", "-c", "echo reason >&2; exec sleep 600"]) as channel:
        while not channel.last_words():
            await trio.sleep(0.01)
        channel.give_up()
        await channel.died(None)
        assert channel.last_words() == "\n  reason"
