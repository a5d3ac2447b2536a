"""`lines()`: what a command writes while it runs."""

import pytest
import trio

from trio_process import CommandFailedError, CommandTimeoutError, ProgramNotFoundError, Stdio, Stream
from trio_process._core import is_alive
from trio_process.exec import Command, Line


def sh(script, *args):
    return Command("sh", "-c", script, "sh", *args)


async def test_lines_come_while_the_command_runs(tmp_path):
    fifo = tmp_path / "go"
    script = 'echo first; : > "$1.ready"; while [ ! -e "$1" ]; do sleep 0.01; done; echo second'
    with trio.fail_after(20):
        async with sh(script, str(fifo)).lines() as lines:
            assert await anext(lines) == "first"
            fifo.touch()  # without the first line seen there is no second
            assert await anext(lines) == "second"
            assert [line async for line in lines] == []


async def test_a_line_is_a_str_that_knows_its_stream():
    with trio.fail_after(10):
        async with sh("printf 'a\\r\\nb'; echo c >&2").lines("all") as lines:
            got = [line async for line in lines]
    assert all(isinstance(line, Line) for line in got)
    assert sorted(got) == ["a", "b", "c"]
    assert {line.text: line.stream for line in got} == {"a": Stream.STDOUT, "b": Stream.STDOUT, "c": Stream.STDERR}
    assert all(type(line.text) is str for line in got)


@pytest.mark.parametrize(("source", "expected"), [("stdout", ["o"]), ("stderr", ["e"])])
async def test_only_the_lines_of_the_source_that_was_asked_for(source, expected):
    with trio.fail_after(10):
        async with sh("echo o; echo e >&2").lines(source) as lines:
            assert [line async for line in lines] == expected


async def test_leaving_the_block_stops_the_command_and_what_it_started():
    with trio.fail_after(20):
        async with sh("sleep 100 & echo $!; echo $$; wait").lines() as lines:
            pids = [int(await anext(lines)), int(await anext(lines))]
            assert all(is_alive(pid) for pid in pids)
    assert not any(is_alive(pid) for pid in pids)


async def test_leaving_an_endless_command_early_is_no_failure():
    with trio.fail_after(20):
        async with Command("yes").lines() as lines:
            async for line in lines:
                assert line == "y"
                break
        async with (Command("yes") | Command("cat")).lines() as lines:
            assert await anext(lines) == "y"


async def test_a_slow_reader_loses_nothing_and_holds_little():
    count = 300_000  # far more than the capture of a MiB and the pipe hold
    with trio.fail_after(60):
        async with Command("seq", str(count)).lines() as lines:
            assert await anext(lines) == "1"
            await trio.sleep(0.2)  # slow on purpose: the command fills its pipe meanwhile
            expected = 2
            async for line in lines:
                assert line == str(expected)
                expected += 1
    assert expected == count + 1


async def test_the_loop_over_a_command_that_failed_raises_at_its_end():
    got = []
    with trio.fail_after(10), pytest.raises(CommandFailedError, match=r"  why\Z") as caught:
        async with sh("echo one; echo why >&2; exit 3").lines() as lines:
            async for line in lines:
                got.append(line)
            got.append("not reached")
    assert got == ["one"]
    assert caught.value.result.exit_code == 3


async def test_asking_again_after_the_end_gives_the_same_answer():
    with trio.fail_after(10):
        async with Command("true").lines() as lines:
            for _ in range(3):
                with pytest.raises(StopAsyncIteration):
                    await anext(lines)
        async with Command("false").lines() as lines:
            for _ in range(3):
                with pytest.raises(CommandFailedError):
                    await anext(lines)


async def test_lines_of_a_pipe_and_its_failure():
    with trio.fail_after(10):
        async with (Command("seq", "3") | Command("tac")).lines() as lines:
            assert [line async for line in lines] == ["3", "2", "1"]
        with pytest.raises(CommandFailedError, match="stage 1 of 2"):
            async with (sh("seq 3; exit 3") | Command("tac")).lines() as lines:
                assert [await anext(lines) for _ in range(3)] == ["3", "2", "1"]
                await anext(lines)


async def test_a_timeout_ends_the_loop():
    with trio.fail_after(20), pytest.raises(CommandTimeoutError):
        async with sh("echo x; exec sleep 100").with_timeout(0.2).lines() as lines:
            assert [line async for line in lines] == ["x"]


async def test_a_program_that_is_not_there_is_told_on_entering():
    with trio.fail_after(10), pytest.raises(ProgramNotFoundError):
        async with Command("no-such-program-anywhere").lines():
            raise AssertionError


async def test_an_error_of_the_body_goes_on_as_it_is():
    error = ValueError("mine")
    with trio.fail_after(20), pytest.raises(ValueError) as caught:
        async with Command("sleep", "100").lines():
            raise error
    assert caught.value is error


async def test_callables_get_the_lines_too():
    kept = []
    with trio.fail_after(10):
        async with sh("echo o; echo e >&2").with_stderr(kept.append).lines() as lines:
            assert [line async for line in lines] == ["o"]
    assert kept == ["e"]


async def test_lines_of_a_command_whose_output_is_elsewhere():
    with trio.fail_after(10):
        async with sh("echo o; echo e >&2").with_stdout(Stdio.NULL).lines("all") as lines:
            assert [line async for line in lines] == ["e"]


async def test_cancelling_a_reader_stops_the_command():
    with trio.fail_after(20), trio.move_on_after(0.1) as scope:
        async with Command("sleep", "100").lines() as lines:
            async for _ in lines:
                raise AssertionError
    assert scope.cancelled_caught


@pytest.mark.parametrize("script", ["seq 4", "seq 4; exit 3"])
async def test_several_tasks_share_the_lines_and_all_come_to_the_end(script):
    got, ends = [], []

    async def read(lines):
        try:
            async for line in lines:
                got.append(line)
        except CommandFailedError as error:
            ends.append(error.result.exit_code)
        else:
            ends.append(0)

    with trio.fail_after(20):
        async with sh(script).lines() as lines, trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(read, lines)
    assert (sorted(got), ends) == (["1", "2", "3", "4"], [3 if "exit" in script else 0] * 3)


async def test_a_reader_that_is_cancelled_in_a_handler_loses_no_line():
    handled = []

    async def handle(line):
        handled.append(line)
        if line == "b":
            scope.cancel()
            await trio.sleep_forever()

    with trio.fail_after(20):
        async with sh("printf 'a\\nb\\nc\\n'").with_stdout(handle).lines() as lines:
            with trio.CancelScope() as scope:
                await anext(lines)
            assert scope.cancelled_caught
            assert [line async for line in lines] == ["a", "b", "c"]
    assert handled == ["a", "b", "c"]


async def test_a_handler_cannot_end_the_loop_without_a_word():
    def handle(line):
        raise StopAsyncIteration

    with trio.fail_after(20):
        async with sh("echo a; echo b").with_stdout(handle).lines() as lines:
            with pytest.raises(RuntimeError, match="StopAsyncIteration"):
                async for _ in lines:
                    pass
