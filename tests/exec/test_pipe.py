"""Pipes of commands: kernel pipes, pipefail, and nothing that outlives them."""

import os
import time

import pytest
import trio

from trio_process import (
    CommandFailedError,
    CommandResult,
    CommandTimeoutError,
    EndReason,
    OptionError,
    ProgramNotFoundError,
    Secret,
    Stdio,
)
from trio_process._core import is_alive
from trio_process.exec import Command, Pipe, PipeResult


def sh(script, *args):
    return Command("sh", "-c", script, "sh", *args)


async def test_each_stage_reads_what_the_one_before_writes():
    pipe = Command("printf", r"b\na\nc\na\n") | Command("sort") | Command("uniq", "-c")
    with trio.fail_after(10):
        result = await pipe.run()
        assert [line.split() for line in result.stdout.splitlines()] == [["2", "a"], ["1", "b"], ["1", "c"]]
        assert (await pipe.output()) == result.stdout
    assert type(result) is PipeResult
    assert result.ok
    assert [stage.command for stage in result.stages] == ["printf", "sort", "uniq"]
    assert all(type(stage) is CommandResult and stage.ok for stage in result.stages)
    assert [stage.stdout for stage in result.stages] == ["", "", result.stdout]


async def test_pipes_join_from_either_side():
    a, b, c = Command("echo", "x"), Command("cat"), Command("cat", "-")
    assert (a | b) | c == a | (b | c) == Pipe(a, b, c) == Pipe(a | b, c)
    assert str(a | b) == "echo x | cat"
    assert repr(a | b) == "<Pipe echo x | cat>"
    with trio.fail_after(10):
        assert await (a | (b | c)).output() == "x\n"


def test_what_is_no_command_can_not_be_joined():
    with pytest.raises(TypeError):
        Command("a") | "b"
    with pytest.raises(TypeError):
        Command("a") | Command("b") | 3
    with pytest.raises(OptionError):
        Pipe(Command("a"))


def test_a_stage_whose_end_is_elsewhere_can_not_be_joined(tmp_path):
    for writer in (
        Command("a").with_stdout(tmp_path / "x"),
        Command("a").with_stdout(print),
        Command("a").with_stdout(Stdio.NULL),
    ):
        with pytest.raises(OptionError, match="`a` has its stdout elsewhere"):
            writer | Command("b")
    for source in ("data", Stdio.NULL, tmp_path):
        with pytest.raises(OptionError, match="`b` has another stdin"):
            Command("a") | Command("b").with_stdin(source)


async def test_the_bytes_do_not_come_through_us(tmp_path):
    # each end of the pipe between the two is held by one stage alone, and by nobody here
    show = "ends=$(readlink /proc/$$/fd/0 /proc/$$/fd/1); echo $ends >&2; cat"
    ours = sorted(os.listdir("/proc/self/fd"))
    with trio.fail_after(10):
        result = await (sh(show) | sh(show)).run()
    first, second = [stage.stderr.split() for stage in result.stages]
    assert first[1] == second[0]
    assert first[1].startswith("pipe:")
    assert sorted(os.listdir("/proc/self/fd")) == ours


async def test_a_pipe_moves_much_without_loss():
    with trio.fail_after(60):
        result = await (Command("head", "-c", "50000000", "/dev/zero") | Command("cat") | Command("wc", "-c")).run()
    assert result.stdout.split() == ["50000000"]


# pipefail


@pytest.mark.parametrize(
    ("codes", "expected"),
    [([0, 0, 0], 0), ([3, 0, 0], 3), ([0, 4, 0], 4), ([0, 0, 5], 5), ([3, 4, 0], 4), ([3, 4, 5], 5)],
)
async def test_a_pipe_is_as_good_as_all_its_stages(codes, expected):
    first, second, third = [sh(f"cat; echo said {code} >&2; exit {code}") for code in codes]
    pipe = first | second | third
    with trio.fail_after(10):
        if not expected:
            assert (await pipe.run()).exit_code == 0
            return
        with pytest.raises(CommandFailedError) as caught:
            await pipe.output()
    result = caught.value.result
    assert isinstance(result, PipeResult)
    assert (result.ok, result.exit_code) == (False, expected)
    assert [stage.exit_code for stage in result.stages] == codes
    text = str(caught.value)
    for place, code in enumerate(codes):
        assert (f"exited with code {code} after" in text) == bool(code)
        assert (f"  said {code}" in text) == bool(code), place


async def test_the_error_names_the_pipe_and_the_stages_that_failed():
    with trio.fail_after(10), pytest.raises(CommandFailedError) as caught:
        await (Command("echo", "x") | Command("false") | Command("cat")).run()
    assert str(caught.value).startswith(
        "`echo x | false | cat` failed in stage 2 of 3:\n`false` exited with code 1 after"
    )


async def test_a_stage_that_dies_of_sigpipe_is_no_failure():
    with trio.fail_after(20):
        result = await (Command("yes") | Command("head", "-n", "1")).run()
        assert (result.ok, result.exit_code, result.stdout) == (True, 0, "y\n")
        assert result.stages[0].signal_name == "SIGPIPE"
        assert (
            await (Command("yes") | Command("cat") | Command("cat") | Command("head", "-n", "2")).output() == "y\ny\n"
        )
        assert await (sh("yes; exit $?") | Command("head", "-n", "1")).output() == "y\n"


async def test_sigpipe_of_the_last_stage_is_one():
    with trio.fail_after(10), pytest.raises(CommandFailedError, match="SIGPIPE"):
        await (Command("true") | sh("kill -PIPE $$")).run()


async def test_sigpipe_excuses_nobody_else():
    with trio.fail_after(10), pytest.raises(CommandFailedError, match="stage 2 of 2") as caught:
        await (Command("yes") | sh("exit 7")).run()
    assert caught.value.result.exit_code == 7


async def test_ok_exit_codes_count_for_their_stage():
    grep = Command("grep", "nothing").with_options(ok_exit_codes=(0, 1))
    with trio.fail_after(10):
        result = await (Command("echo", "x") | grep).run()
    assert result.ok
    assert result.stages[1].exit_code == 1


# verbs of a pipe


async def test_verbs_reach_the_stages_that_they_are_for(tmp_path):
    pipe = (Command("cat") | sh('cat; echo "$A $PWD"; echo e >&2')).with_dir("/").with_env(A="1")
    err = []
    with trio.fail_after(10):
        await pipe.with_stdin("in\n").with_stdout(tmp_path / "out").with_stderr(err.append).run()
    assert (tmp_path / "out").read_text() == "in\n1 /\n"
    assert err == ["e"]


async def test_the_stderr_of_every_stage_is_kept():
    pipe = sh("echo one >&2; echo 1") | sh("cat; echo two >&2")
    with trio.fail_after(10):
        result = await pipe.run()
        assert (result.stdout, result.stderr) == ("1\n", "one\ntwo\n")
        assert await pipe.combined_output() == "one\n1\ntwo\n"
        async with pipe.lines("all") as lines:
            assert sorted([line async for line in lines]) == ["1", "one", "two"]


async def test_stderr_of_an_early_stage_can_go_into_the_pipe():
    with trio.fail_after(10):
        assert await (sh("echo err >&2").with_stderr(Stdio.STDOUT) | Command("cat")).output() == "err\n"


async def test_stdin_of_a_pipe_from_an_async_iterable():
    async def numbers():
        for number in range(1000):
            yield b"%d\n" % number

    with trio.fail_after(10):
        assert await (Command("cat").with_stdin(numbers()) | Command("tail", "-n", "1")).output() == "999\n"


async def test_output_is_whole():
    with trio.fail_after(30):
        assert len(await (Command("head", "-c", "5000000", "/dev/zero") | Command("cat")).output()) == 5_000_000


def test_to_dict_has_the_pipe_and_its_stages():
    result = trio.run((Command("echo", "x") | Command("cat")).run)
    shown = result.to_dict()
    assert (shown["command"], shown["stdout"], shown["ok"]) == ("echo x | cat", "x\n", True)
    assert [stage["command"] for stage in shown["stages"]] == ["echo", "cat"]


# the end of it


async def test_a_timeout_stops_every_stage():
    began = time.monotonic()
    with trio.fail_after(20), pytest.raises(CommandTimeoutError) as caught:
        await (sh("sleep 100; echo") | Command("cat") | Command("cat")).with_timeout(0.1).run()
    assert time.monotonic() - began < 10
    assert caught.value.result.reason is EndReason.TIMED_OUT


async def test_a_timeout_of_one_stage_is_the_reason_of_the_pipe():
    with trio.fail_after(20), pytest.raises(CommandTimeoutError) as caught:
        await (Command("sleep", "100").with_timeout(0.1) | Command("grep", "x")).with_timeout(60).run()
    assert [stage.reason for stage in caught.value.result.stages] == [EndReason.TIMED_OUT, EndReason.EXITED]


async def test_a_pipe_with_a_timeout_for_none_is_as_patient_as_before():
    pipe = Command("sleep", "100").with_timeout(0.1) | Command("cat")
    with trio.fail_after(20), pytest.raises(CommandTimeoutError):
        await pipe.with_timeout(60).run()
    with trio.fail_after(20):
        await (Command("echo").with_timeout(0.00001) | Command("cat")).with_timeout(None).run()


async def test_cancelling_stops_every_stage():
    pids = []

    def note(line):
        pids.append(int(line))
        if len(pids) == 3:
            scope.cancel()

    stage = sh("echo $$ >&2; exec cat")
    with trio.fail_after(20):
        with trio.CancelScope() as scope:
            await (sh("echo $$ >&2; exec sleep 100") | stage | stage).with_stderr(note).run()
    assert scope.cancelled_caught
    assert not any(is_alive(pid) for pid in pids)


async def test_nothing_is_started_behind_a_first_stage_that_is_not_there(tmp_path):
    with trio.fail_after(10), pytest.raises(ProgramNotFoundError, match="no-such-program"):
        await (Command("no-such-program-anywhere") | Command("touch", tmp_path / "made")).run()
    assert not (tmp_path / "made").exists()


async def test_a_last_stage_that_is_not_there_leaves_no_other_running():
    pids = []
    first = sh("echo $$ >&2; exec sleep 100").with_stderr(lambda line: pids.append(int(line)))
    with trio.fail_after(10), pytest.raises(ProgramNotFoundError):
        await (first | Command("cat") | Command("no-such-program-anywhere")).run()
    assert not any(is_alive(pid) for pid in pids)


async def test_a_background_process_of_a_stage_does_not_hold_the_pipe_up():
    began = time.monotonic()
    with trio.fail_after(30):
        assert await (sh("sleep 100 & echo x") | Command("cat")).output() == "x\n"
    assert time.monotonic() - began < 20


async def test_secrets_of_one_stage_are_masked_in_what_another_says():
    secret = Secret("hunter2")
    pipe = Command("echo", secret) | sh("cat >&2; exit 1")
    with trio.fail_after(10):
        with pytest.raises(CommandFailedError) as caught:
            await pipe.run()
        assert "hunter2" in caught.value.result.stderr  # captured as it came: redact was not asked for
        shown = [str(caught.value), repr(caught.value), str(caught.value.result.to_dict()), str(pipe), repr(pipe)]
        shown += [
            str(caught.value.result),
            str(caught.value.result.stages),
            str(caught.value.result.stages[1].describe()),
        ]
        assert [text for text in shown if "hunter2" in text] == []
        assert "***" in str(caught.value)


async def test_redact_masks_secrets_of_all_stages_in_captured_output_and_lines():
    pipe = (Command("echo", Secret("hunter2")) | sh("cat; echo hunter2 >&2")).with_options(redact=True)
    lines = []
    with trio.fail_after(10):
        result = await pipe.with_stdout(lines.append).run()
        assert (result.stdout, result.stderr, lines) == ("***\n", "***\n", ["***"])
        assert "hunter2" not in str([result.output, result.stages[1].output])
        async with pipe.lines("all") as got:
            assert [line async for line in got] == ["***", "***"]
