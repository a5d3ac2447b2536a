"""Output: captured whole and in order, read by lines, waited for; and what a child can write that is hard."""

import gc
import math
import os
import re
import subprocess
import sys
import time

import pytest
import trio
import trio.testing
from support import Turns, most_lines_in_a_turn, python, runtime_of, sh, wait_until

from trio_process import (
    ActionProcessExited,
    ActionProcessOutput,
    ActionProcessStarted,
    CommandFailedError,
    OptionError,
    ProcessStartError,
    Secret,
    Service,
    ServiceOptions,
    Stdio,
    Stream,
)


async def run(*command, **options):
    with trio.fail_after(60):
        async with Service() as service:
            return await service.run(*command, **options)


async def events_of(*command, **options):
    """Run a command; return its output events and its result."""
    with trio.fail_after(60):
        async with Service() as service:
            with service.subscribe(ActionProcessOutput, buffer=math.inf) as events:
                result = await service.run(*command, **options)
                batches = []
                while events.statistics().buffered:
                    batches += await events.receive_batch()
                return batches, result


async def test_both_streams_are_captured_each_and_together():
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start(*sh("echo a; read x; echo b >&2; read x; echo c"))
            for line in ("a", "b"):  # the order of arrival: each is read before the next is written
                await process.wait_for_line(line)
                await process.send_input("\n")
            await process.wait()
            result = process.result()
    assert (result.stdout, result.stderr, result.output) == ("a\nc\n", "b\n", "a\nb\nc\n")
    assert (result.truncated, result.dropped, result.output_incomplete) == (False, 0, False)


async def test_one_stream_into_the_other_keeps_their_order():
    result = await run(*sh("echo a; echo b >&2; echo c"), stderr=Stdio.STDOUT)
    assert (result.stdout, result.stderr) == ("a\nb\nc\n", "")


WRITES = [
    (b"", []),
    (b"\n", [""]),
    (b"one\n\nthree", ["one", "", "three"]),
    (b"a\r\nb\r\n", ["a", "b"]),
    (b"nul\0byte\n", ["nul\0byte"]),
    (b"bad\xff\xc3\n", ["bad\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"]),
    ("€".encode(), ["€"]),
]


@pytest.mark.parametrize(("data", "lines"), WRITES, ids=repr)
async def test_what_is_written_comes_as_lines(data, lines):
    events, result = await events_of("cat", stdin=data)
    assert [event.line for event in events] == lines
    assert not any(event.partial for event in events)
    assert result.stdout_bytes == data
    async with Service() as service:
        process = await service.start("cat", stdin=data)
        assert [line.text async for line in process.lines()] == lines


SLOWLY = """
import os, sys, time
for byte in sys.argv[1].encode():
    os.write(1, bytes([byte]))
    time.sleep(0.01)
"""


async def test_a_character_written_byte_by_byte_is_whole():
    text = "€\N{GRINNING FACE}\r\nend"
    events, result = await events_of(*python(SLOWLY, text))
    assert [event.line for event in events] == ["€\N{GRINNING FACE}", "end"]
    assert result.output == text


async def test_a_long_line_is_one_line_up_to_max_line():
    write = python("import sys; sys.stdout.write('x' * 300_000)")
    events, _ = await events_of(*write)
    assert [(len(event.line), event.partial) for event in events] == [(300_000, False)]
    events, _ = await events_of(*write, max_line=131_072)
    assert [(len(event.line), event.partial) for event in events] == [(131_072, True), (131_072, True), (37_856, False)]


FLOOD = """
import os, sys
chunk = b"x" * 2**16
for _ in range(int(sys.argv[1]) * 16):
    os.write(1, chunk)
"""


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.bound(100)
async def test_a_flood_without_a_newline_keeps_memory_flat():
    gc.collect()
    with trio.fail_after(100):
        async with Service() as service:
            with service.subscribe(ActionProcessOutput, overflow="drop_oldest", buffer=math.inf) as events:
                before, peak, total = resident(), 0, 0
                process = await service.start(*python(FLOOD, "64"))
                while process.is_running or events.statistics().buffered:
                    with trio.move_on_after(0.05):
                        batch = await events.receive_batch()
                        if isinstance(batch[0], ActionProcessOutput):
                            total += sum(map(len, batch.lines))
                    peak = max(peak, resident())
                assert events.dropped == 0
            assert total == 64 * 2**20
            assert process.result().dropped == 63 * 2**20
            assert peak - before < 32 * 2**20


@pytest.mark.bound(100)
async def test_a_flood_under_a_reader_that_never_reads_is_bounded():
    with trio.fail_after(100):
        async with Service() as service:
            with service.subscribe(ActionProcessOutput, overflow="drop_oldest", buffer=math.inf) as events:
                await service.run(*python(FLOOD, "64"), max_line=2**22)
                # a piece is 4 MiB: the bound of 16 MiB holds for the text itself, not for the last chunks of it
                held = sum([len(line) for _ in range(4) for line in (await events.receive_batch()).lines])
                assert events.statistics().buffered <= 1
                assert held <= 16 * 2**20
                assert events.dropped > 0


@pytest.mark.bound(100)
async def test_the_lines_of_a_build_are_those_that_subprocess_sees(tmp_path):
    library = os.path.dirname(os.__file__)
    command = [sys.executable, "-m", "compileall", "-f", os.path.join(library, "email"), os.path.join(library, "json")]
    environment = {"PYTHONPYCACHEPREFIX": str(tmp_path)}
    expected = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment})
    with trio.fail_after(100):
        async with Service() as service:
            with service.subscribe() as events:
                result = await service.run(*command, env=environment)
                runtime_of(service).bus.close()
                seen = [event async for event in events]
    assert [type(event) for event in (seen[0], seen[-1])] == [ActionProcessStarted, ActionProcessExited]
    lines = [event.line for event in seen[1:-1]]
    assert lines == expected.stdout.splitlines()
    assert len(lines) > 25
    assert result.stdout == expected.stdout


async def test_lines_are_read_late_and_live_and_none_twice():
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start(*sh("echo one; echo two; read x; echo three; printf four"))
            await process.wait_for_line("two")
            lines = process.lines()
            assert [(await anext(lines)).text for _ in range(2)] == ["one", "two"]
            await process.send_input("\n")
            assert [line async for line in lines] == [("three", Stream.STDOUT), ("four", Stream.STDOUT)]
            assert [line async for line in lines] == []
            assert [line.text async for line in process.lines()] == ["one", "two", "three", "four"]
            assert lines.missed == 0


FULL = "import os, signal; os.write(1, b'x\\n' * 2**18); os.kill(os.getpid(), signal.SIGSTOP)"
FULL_PIPE = f"import fcntl; fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 2**19); {FULL}"


@pytest.mark.parametrize("way", ["lines", "events", "lines of a log file"])
async def test_a_reader_has_its_turn_before_much_more_is_read(way, tmp_path):
    with trio.fail_after(30):
        async with Service() as service:
            if way == "lines of a log file":
                process = await service.start(*python(FULL), detach=True, log_file=tmp_path / "log")
            else:
                process = await service.start(*python(FULL_PIPE))
            with service.subscribe(ActionProcessOutput, buffer=math.inf) as events:
                if way != "events":
                    events.close()
                reader = events if way == "events" else process.lines()
                os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)  # nothing is read meanwhile
                await anext(reader)
                taken_in = len(process.output_bytes())
                await process.stop()
                assert taken_in <= 2 * 65536


MANY_LINES = "import os; os.write(1, b'\\n' * 2**18)"


@pytest.mark.parametrize("size", [2**18, math.inf])
@pytest.mark.parametrize("has_ended", [False, True])
@pytest.mark.parametrize("source", ["all", "stdout"])
async def test_a_late_reader_of_many_lines_gives_others_their_turn(size, has_ended, source):
    with trio.fail_after(60):
        async with Service() as service:
            script = MANY_LINES if has_ended else f"{MANY_LINES}; import time; time.sleep(600)"
            process = await service.start(*python(script), buffer_size=size)
            await wait_until(lambda: len(process.output_bytes()) == 2**18)
            if has_ended:
                await process.wait()
            lines = process.lines(source)
            found, most = await most_lines_in_a_turn(lines, limit=math.inf if has_ended else 2**18)
            assert (found, lines.missed) == (2**18, 0)
            assert most <= 2**16


async def test_a_search_of_many_lines_gives_others_their_turn_and_looks_at_all_in_no_time():
    with trio.fail_after(60):
        async with Service() as service:
            process = await service.start(*python(f"{MANY_LINES}; os.write(1, b'x'); import time; time.sleep(600)"))
            await wait_until(lambda: process.output_bytes().endswith(b"x"))
            with Turns() as turns:
                with pytest.raises(TimeoutError, match="wrote no line with 'never' within 0 s"):
                    await process.wait_for_line("never", timeout=0)
            assert turns.count >= 3
            process.kill()
            assert (await process.wait_for_line("x", timeout=30)).text == "x"


async def test_a_search_under_a_flood_ends_at_its_deadline():
    with trio.fail_after(60):
        async with Service() as service:
            process = await service.start("yes", "")
            for _ in range(3):
                with pytest.raises(TimeoutError, match="wrote no line with 'never'"):
                    await process.wait_for_line("never", timeout=0.1)


@pytest.mark.parametrize("source", ["all", "stdout", "stderr"])
async def test_a_reader_of_two_floods_misses_nothing(source):
    flood = "import os; [(os.write(1, b'\\n' * 2**16), os.write(2, b'\\n' * 2**16)) for _ in range(8)]"
    with trio.fail_after(60):
        async with Service() as service:
            process = await service.start(*python(flood), buffer_size=2**18)
            lines = process.lines(source)
            found, _ = await most_lines_in_a_turn(lines)
            assert (found, lines.missed) == (2**19 * (2 if source == "all" else 1), 0)


async def test_who_has_found_a_line_reads_no_more():
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start(*sh("echo up; exec sleep 60"))
            await process.wait_for_line("up")
            assert not process._child.output.has_readers
            lines = process.lines()
            await anext(lines)
            assert process._child.output.has_readers
            del lines
            assert not process._child.output.has_readers
            process.kill()
            async for _ in process.lines():
                pass
            assert not process._child.output.has_readers


async def test_lines_of_one_stream():
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start(*sh("echo out; echo err >&2; echo out2"))
            assert [line.text async for line in process.lines("stdout")] == ["out", "out2"]
            assert [line async for line in process.lines("stderr")] == [("err", "stderr")]
            assert {line.text async for line in process.lines()} == {"out", "err", "out2"}
            with pytest.raises(OptionError, match="source must be 'all', 'stdout' or 'stderr'"):
                process.lines("both")


async def test_a_slow_reader_of_lines_delays_nobody_and_counts_what_it_missed():
    count = 30_000
    with trio.fail_after(60):
        async with Service() as service:
            script = python(f"for i in range({count}): print('line', i)")
            process = await service.start(*script, buffer_size=5000)
            lines = process.lines()
            first = await anext(lines)
            await process.wait()
            rest = [line.text async for line in lines]
            numbers = [int(text.split()[1]) for text in (first.text, *rest)]
            assert numbers == sorted(set(numbers))
            assert numbers[-1] == count - 1
            assert len(numbers) + lines.missed == count
            assert lines.missed > 0


async def test_lines_come_although_nothing_is_captured():
    for options in ({"disable_capture": True}, {"buffer_size": 0}):
        with trio.fail_after(30):
            async with Service() as service:
                process = await service.start(
                    *sh("printf half; read x; echo ' whole'; echo ready; read x; echo end"), **options
                )
                with service.subscribe(ActionProcessOutput) as events:
                    lines = process.lines()
                    await process.send_input("\n")
                    assert (await process.wait_for_line("ready")).text == "ready"
                    await process.send_input("\n")
                    assert [line.text async for line in lines][-2:] == ["ready", "end"]
                    await process.wait()
                    assert [(await events.receive()).line for _ in range(3)] == ["half whole", "ready", "end"]
                assert (process.output(), process.result().output, process.output_bytes()) == ("", "", b"")


async def test_waiting_for_a_line_finds_the_first_captured_one():
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start(*sh("echo first; echo port 8080 >&2; read x"))
            await process.wait_for_line("8080")
            assert await process.wait_for_line("first") == ("first", Stream.STDOUT)
            line = await process.wait_for_line(re.compile(r"port (\d+)$"), timeout=10)
            assert line == ("port 8080", Stream.STDERR)
            assert await process.wait_for_line("8080", timeout=0) == line
            with pytest.raises(
                TimeoutError, match=r"wrote no line with 'never' within 0\.05 s; its last lines:"
            ) as caught:
                await process.wait_for_line("never", timeout=0.05)
            assert "first" in str(caught.value)
            for pattern in (b"first", re.compile(b"first"), None, "first\n", "fi\nrst"):
                with pytest.raises(OptionError, match="pattern must "):
                    await process.wait_for_line(pattern)
            with pytest.raises(OptionError, match="timeout must be"):
                await process.wait_for_line("first", timeout=-1)


async def test_waiting_for_a_line_of_one_that_ends_fails_with_its_last_lines():
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start(*sh("echo begun; echo why >&2; exit 3"))
            with pytest.raises(CommandFailedError) as caught:
                await process.wait_for_line("ready", timeout=10)
            assert "no line with 'ready' came before the end: " in str(caught.value)
            assert "exited with code 3" in str(caught.value)
            assert "why" in str(caught.value)
            assert caught.value.result.exit_code == 3
            with pytest.raises(CommandFailedError, match="no line with 'ready'"):  # also one that ended well
                await (await service.start("true")).wait_for_line("ready")
            with pytest.raises(ProcessStartError):
                await service.start("no-such-program")
            with pytest.raises(ProcessStartError):
                await service.list()[-1].wait_for_line("x")


async def test_a_last_line_without_newline_is_waited_for_too():
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start(*sh("printf 'no newline'"))
            assert (await process.wait_for_line("newline")).text == "no newline"


async def test_the_capture_keeps_the_last_bytes_and_says_so():
    result = await run(*python("print('x' * 99); print('y' * 99)"), buffer_size=100)
    assert result.output == "y" * 99 + "\n"
    assert (result.truncated, result.dropped) == (True, 100)


async def test_everything_is_kept_where_that_is_wanted():
    result = await run(*python(FLOOD, "50"), buffer_size=math.inf)
    assert len(result.stdout_bytes) == 50 * 2**20
    assert not result.truncated


async def test_the_buffer_is_the_service_s_unless_told_otherwise():
    with trio.fail_after(30):
        async with Service(options=ServiceOptions(buffer_size=4)) as service:
            assert (await service.run("echo", "abcdef")).output == "def\n"
            assert (await service.run("echo", "abcdef", buffer_size=6)).output == "bcdef\n"
            assert (await service.run("echo", "abc", disable_capture=True)).output == ""


async def test_text_is_decoded_as_told():
    result = await run("cat", stdin=b"\xe9\n", encoding="latin-1")
    assert result.output == "é\n"
    events, _ = await events_of("cat", stdin="zwei\r\nZeilen €".encode("utf-16"), encoding="utf-16")
    assert [event.line for event in events] == ["zwei", "Zeilen €"]
    result = await run("cat", stdin=b"\xff", errors="strict")
    with pytest.raises(UnicodeDecodeError):
        _ = result.output
    events, _ = await events_of("cat", stdin=b"\xffno mark\n", encoding="utf-16", errors="surrogateescape")
    assert len(events) == 1


async def test_what_raises_in_a_decoder_never_holds_up_the_end():
    for encoding in ("utf-16", "utf-32", "utf-8"):
        for errors in ("strict", "surrogatepass", "surrogateescape", "ignore"):
            events, result = await events_of("cat", stdin=b"\xff\n\xd8\0a", encoding=encoding, errors=errors)
            assert result.exit_code == 0
            assert events


async def test_secrets_are_masked_where_that_is_asked_for():
    script = sh('printf "tok"; sleep 0.05; printf "en %s!\n" "$TOKEN"')
    events, result = await events_of(*script, env={"TOKEN": Secret("hunter2")}, redact=True)
    assert [event.line for event in events] == ["token ***!"]
    assert result.output == "token ***!\n"
    events, result = await events_of(*script, env={"TOKEN": Secret("hunter2")})
    assert result.output == "token hunter2!\n"


async def test_output_so_far_can_be_looked_at():
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start(*sh("echo a; read x; echo b"))
            await process.wait_for_line("a")
            assert (process.output(), process.output_bytes(), process.result().stdout) == ("a\n", b"a\n", "a\n")
            assert service.output(process.id) == "a\n"
            await process.send_input("\n")
            await process.wait()
            assert process.output() == "a\nb\n"


async def test_what_was_written_before_the_exit_is_never_lost():
    script = python("import os; os.write(1, b'x' * 60_000 + b'\\n'); os.write(2, b'y' * 60_000 + b'\\n'); os._exit(3)")
    with trio.fail_after(60):
        async with Service() as service:
            for _ in range(30):
                with service.subscribe(ActionProcessOutput) as events:
                    process = await service.start(*script)
                    time.sleep(0.02)  # the child has ended before we look for the first time
                    await process.wait(check=False)
                    assert events.statistics().buffered == 2
                    assert len(process.output()) == 120_002


async def test_readers_do_not_disturb_each_other():
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start(*python("for i in range(1000): print(i, flush=True)"))
            found = []

            async def read():
                found.append([line.text async for line in process.lines()])

            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(read)
                with trio.CancelScope() as scope:
                    async for line in process.lines():
                        if line.text == "500":
                            scope.cancel()
            assert found == [[str(number) for number in range(1000)]] * 3
