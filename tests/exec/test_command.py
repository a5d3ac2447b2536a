"""One command: told by verbs, run by an await, its outcome the truth."""

import contextlib
import errno
import io
import os
import sys
import time

import attrs
import pytest
import trio

from trio_process import (
    CommandFailedError,
    CommandResult,
    CommandTimeoutError,
    EndReason,
    OptionError,
    ProcessStartError,
    ProgramNotFoundError,
    Stdio,
)
from trio_process.exec import Command, run_quiet


def sh(script, *args):
    return Command("sh", "-c", script, "sh", *args)


async def test_nothing_runs_until_a_verb_is_awaited(tmp_path):
    command = Command("touch", tmp_path / "made")
    assert not (tmp_path / "made").exists()
    with trio.fail_after(10):
        await command.run()
    assert (tmp_path / "made").exists()


async def test_run_gives_the_result_with_both_streams_apart():
    with trio.fail_after(10):
        result = await sh("echo out; echo err >&2").run()
    assert type(result) is CommandResult
    assert (result.ok, result.exit_code, result.stdout, result.stderr) == (True, 0, "out\n", "err\n")


async def test_output_is_stdout_as_it_is():
    with trio.fail_after(10):
        assert await sh("printf ' two\\n\\n'; echo err >&2").output() == " two\n\n"


async def test_combined_output_keeps_the_order_of_both_streams():
    with trio.fail_after(10):
        text = await sh("for i in 1 2 3 4 5 6 7 8 9; do echo o$i; echo e$i >&2; done").combined_output()
    assert text.split() == [f"{stream}{number}" for number in range(1, 10) for stream in "oe"]


async def test_output_is_whole_beyond_what_run_keeps():
    size = 3 * 2**20
    command = Command("head", "-c", str(size), "/dev/zero")
    with trio.fail_after(30):
        assert len(await command.output()) == size
        assert len(await command.combined_output()) == size
        result = await command.run()
    assert len(result.stdout) == 2**20
    assert result.truncated


async def test_a_command_can_be_run_again_and_at_the_same_time():
    command = sh("echo $$")
    texts = []

    async def run():
        texts.append(await command.output())

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(run)
    assert len(set(texts)) == 5


def test_a_command_is_a_value():
    command = Command("git", "log")
    assert command == Command("git", "log")
    assert command.with_dir("/tmp") != command
    assert command == Command("git", "log")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        command._stages = ()
    assert str(Command("git", "commit", "-m", "a b")) == "git commit -m 'a b'"
    assert repr(command) == "<Command git log>"


def test_verbs_return_new_commands_and_leave_the_old_one(tmp_path):
    command = Command("true")
    told = [
        command.with_dir(tmp_path),
        command.with_env(A="1"),
        command.with_stdin("x"),
        command.with_stdout(tmp_path / "out"),
        command.with_stderr(tmp_path / "err"),
        command.with_timeout(3),
        command.with_options(nice=5),
    ]
    assert command not in told
    assert all(type(other) is Command for other in told)
    assert command == Command("true")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Command(""),
        lambda: Command(["git", "log"]),
        lambda: Command("sleep", 1),
        lambda: Command("a\0b"),
        lambda: Command("true").with_dir(3),
        lambda: Command("true").with_dir(""),
        lambda: Command("true").with_env({"A": 1}),
        lambda: Command("true").with_env(["A=1"]),
        lambda: Command("true").with_env({"A=B": "1"}),
        lambda: Command("true").with_timeout(-1),
        lambda: Command("true").with_timeout("3"),
        lambda: Command("true").with_stdin(3),
        lambda: Command("true").with_stdin(["a"]),
        lambda: Command("true").with_stdin(None),
        lambda: Command("true").with_stdin(Stdio.PIPE),
        lambda: Command("true").with_stdin(io.BytesIO(b"no descriptor")),
        lambda: Command("true").with_stdout("a-bare-str"),
        lambda: Command("true").with_stdout(None),
        lambda: Command("true").with_stdout(Stdio.STDOUT),
        lambda: Command("true").with_stdout(Stdio.NULL, append=True),
        lambda: Command("true").with_stdout(print, append=True),
        lambda: Command("true").with_stdout(io.BytesIO()),
        lambda: Command("true").with_options(no_such=1),
        lambda: Command("true").with_options(detach=True),
        lambda: Command("true").with_options(nice=77),
        lambda: Command("true").lines("both").__aenter__().send(None),
    ],
)
def test_bad_values_are_refused_when_given(make):
    with pytest.raises(OptionError):
        make()


def test_an_option_that_has_a_verb_names_it():
    with pytest.raises(OptionError, match="with_dir"):
        Command("true").with_options(cwd="/")
    with pytest.raises(OptionError, match=r"grace_periods.*did you mean 'grace_period'"):
        Command("true").with_options(grace_periods=1)


# where it runs


async def test_with_dir_sets_where_it_runs(tmp_path):
    with trio.fail_after(10):
        assert await Command("pwd").with_dir(tmp_path).output() == f"{tmp_path}\n"
        assert await Command("pwd").with_dir("/").with_dir(None).output() == f"{os.getcwd()}\n"


async def test_a_relative_program_means_the_callers_directory(tmp_path, monkeypatch):
    for where, says in (("here", "the caller's"), ("there", "the other one")):
        (tmp_path / where).mkdir()
        script = tmp_path / where / "tool"
        script.write_text(f'#!/bin/sh\necho "{says}, in $PWD"\n')
        script.chmod(0o755)
    monkeypatch.chdir(tmp_path / "here")
    with trio.fail_after(10):
        assert await Command("./tool").with_dir(tmp_path / "there").output() == f"the caller's, in {tmp_path}/there\n"
        assert await Command(b"./tool").with_dir("../there").output() == f"the caller's, in {tmp_path}/there\n"
        assert await Command("./tool").output() == f"the caller's, in {tmp_path}/here\n"


async def test_with_env_merges_and_none_removes(monkeypatch):
    monkeypatch.setenv("GIVEN", "by the parent")
    show = sh('echo "${GIVEN-none} ${A-none} ${B-none}"')
    with trio.fail_after(10):
        assert await show.output() == "by the parent none none\n"
        assert await show.with_env({"A": "1"}).with_env(B="2").output() == "by the parent 1 2\n"
        assert await show.with_env(A="1", B="2").with_env({"A": "3", "B": None}, GIVEN=None).output() == "none 3 none\n"


# stdin


async def test_stdin_is_empty_unless_given():
    with trio.fail_after(10):
        assert await Command("cat").output() == ""


@pytest.mark.parametrize(
    "data", ["ünïcode\n", b"\x00\xffbytes", bytearray(b"array"), "", pytest.param(b"x" * 300_000, id="300 kB")]
)
async def test_stdin_from_data(data):
    expected = data.encode() if isinstance(data, str) else bytes(data)
    with trio.fail_after(10):
        result = await Command("cat").with_stdin(data).run()
    assert result.stdout_bytes == expected


async def test_stdin_from_a_path_and_from_open_files(tmp_path):
    path = tmp_path / "in"
    path.write_text("one\ntwo\n")
    with trio.fail_after(10):
        assert await Command("cat").with_stdin(path).output() == "one\ntwo\n"
        assert await Command("cat").with_stdin(trio.Path(path)).output() == "one\ntwo\n"
        with path.open("rb", buffering=0) as file:
            file.seek(4)
            assert await Command("cat").with_stdin(file).output() == "two\n"
        async with await trio.open_file(path, "rb") as wrapped:
            assert await Command("cat").with_stdin(wrapped).output() == "one\ntwo\n"


async def test_stdin_from_an_async_iterable_arrives_while_it_is_made():
    answers = []
    answered = trio.Event()

    async def questions():
        yield b"first\n"
        await answered.wait()  # without the answer to the first there is no second
        yield b"second\n"

    def answer(line):
        answers.append(line)
        answered.set()

    with trio.fail_after(10):
        await Command("cat").with_stdin(questions()).with_stdout(answer).run()
    assert answers == ["first", "second"]


async def test_stdin_from_a_trio_stream():
    sender, receiver = trio.testing.memory_stream_one_way_pair()

    async def send():
        await sender.send_all(b"through a stream")
        await sender.aclose()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            assert await Command("cat").with_stdin(receiver).output() == "through a stream"


async def test_a_command_that_wants_no_more_input_ends_the_feed():
    closed = False

    async def endless():
        nonlocal closed
        try:
            while True:
                yield b"line\n" * 10_000
        finally:
            closed = True

    with trio.fail_after(20):
        assert await Command("head", "-n", "1").with_stdin(endless()).output() == "line\n"
    assert closed


async def test_a_feed_that_never_comes_does_not_outlive_the_command():
    async def silent():
        await trio.sleep_forever()
        yield b""

    with trio.fail_after(10):
        assert await Command("echo", "done").with_stdin(silent()).output() == "done\n"


async def test_a_feed_that_raises_stops_the_command_and_goes_on_as_it_is():
    error = ValueError("no more data")

    async def broken():
        yield b"some\n"
        raise error

    with trio.fail_after(10), pytest.raises(ValueError) as caught:
        await Command("cat").with_stdin(broken()).run()
    assert caught.value is error


# stdout and stderr


async def test_output_into_paths_replaces_or_appends(tmp_path):
    out, err = tmp_path / "out", tmp_path / "err"
    out.write_text("old ")
    err.write_text("old ")
    command = sh("printf out; printf err >&2")
    with trio.fail_after(10):
        result = await command.with_stdout(out).with_stderr(err, append=True).run()
        assert (out.read_text(), err.read_text()) == ("out", "old err")
        assert (result.stdout, result.stderr) == ("", "")
        await command.with_stdout(out, append=True).with_stderr(err).run()
    assert (out.read_text(), err.read_text()) == ("outout", "err")


async def test_appending_to_a_new_file_makes_it(tmp_path):
    with trio.fail_after(10):
        await Command("echo", "x").with_stdout(tmp_path / "new", append=True).run()
    assert (tmp_path / "new").read_text() == "x\n"


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_a_fifo_is_refused_as_opening_it_would_hold_up_the_loop(tmp_path, stream, append):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with open(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)):  # else a mistake would hold up this test for ever
        redirect = getattr(Command("true"), f"with_{stream}")
        with pytest.raises(ProcessStartError, match="it is a FIFO"):
            await redirect(fifo, append=append).run()


async def test_output_into_open_files_comes_behind_what_was_written_before(tmp_path):
    binary, text = tmp_path / "binary", tmp_path / "text"
    with trio.fail_after(10), binary.open("wb") as first, text.open("w") as second:
        first.write(b"before\n")
        second.write("before\n")
        await sh("echo out; echo err >&2").with_stdout(first).with_stderr(second).run()
    assert binary.read_text() == "before\nout\n"
    assert text.read_text() == "before\nerr\n"


async def test_both_streams_into_one_file(tmp_path):
    with trio.fail_after(10):
        await sh("echo 1; echo 2 >&2; echo 3").with_stdout(tmp_path / "both").with_stderr(Stdio.STDOUT).run()
    assert (tmp_path / "both").read_text() == "1\n2\n3\n"


async def test_a_callable_gets_each_line_while_the_command_runs():
    lines = []
    with trio.fail_after(10):
        text = await sh("printf 'a\\r\\n\\nlast'; echo e >&2").with_stdout(lines.append).output()
    assert lines == ["a", "", "last"]
    assert text == "a\r\n\nlast"


async def test_callables_for_both_streams_and_an_async_one():
    out, err = [], []

    async def keep(line):
        await trio.lowlevel.checkpoint()
        err.append(line)

    with trio.fail_after(10):
        await sh("echo o1; echo e1 >&2; echo o2; echo e2 >&2").with_stdout(out.append).with_stderr(keep).run()
    assert (out, err) == (["o1", "o2"], ["e1", "e2"])


async def test_output_that_went_elsewhere_is_not_returned_as_empty(tmp_path):
    with pytest.raises(OptionError, match="stdout elsewhere"):
        await Command("echo", "x").with_stdout(tmp_path / "x").output()
    with pytest.raises(OptionError, match="stderr elsewhere"):
        await Command("echo", "x").with_stderr(Stdio.NULL).combined_output()
    with trio.fail_after(10):
        assert await Command("echo", "x").with_stderr(Stdio.NULL).output() == "x\n"


# failures


async def test_a_failure_says_what_was_typed_how_it_ended_and_what_it_said():
    with trio.fail_after(10), pytest.raises(CommandFailedError) as caught:
        await sh("echo fine; echo 'not \033[31mfine' >&2; exit 3", "a b").output()
    assert caught.value.result.exit_code == 3
    text = str(caught.value)
    assert "sh 'a b'` exited with code 3 after " in text
    assert text.endswith("last lines of stderr:\n  not \\x1b[31mfine")


async def test_ok_exit_codes_are_no_failure():
    with trio.fail_after(10):
        assert await sh("exit 1").with_options(ok_exit_codes=(0, 1)).output() == ""


async def test_death_by_a_signal_is_a_failure_that_names_it():
    with trio.fail_after(10), pytest.raises(CommandFailedError, match="died of SIGKILL"):
        await sh("kill -9 $$").run()


async def test_a_timeout_stops_the_command_and_what_it_started():
    began = time.monotonic()
    with trio.fail_after(20), pytest.raises(CommandTimeoutError) as caught:
        await sh("sleep 100; echo never").with_timeout(0.1).run()
    assert time.monotonic() - began < 10
    assert caught.value.result.reason is EndReason.TIMED_OUT
    with trio.fail_after(10):
        await Command("true").with_timeout(0.0001).with_timeout(None).run()


async def test_a_program_that_is_not_there():
    with trio.fail_after(10), pytest.raises(ProgramNotFoundError, match="no-such-program"):
        await Command("no-such-program-anywhere").run()


@pytest.mark.parametrize("append", [False, True])
async def test_a_file_that_can_not_be_opened_is_a_failure_to_start_that_names_it(tmp_path, append):
    missing = tmp_path / "no" / "file"
    with trio.fail_after(10), pytest.raises(ProcessStartError, match=r"no/file.*No such file") as caught:
        await Command("echo", "x").with_stdout(missing, append=append).run()
    assert type(caught.value) is ProcessStartError
    assert isinstance(caught.value.__cause__, FileNotFoundError)


async def test_a_file_closed_since_is_refused(tmp_path):
    with (tmp_path / "f").open("w+b") as file:
        commands = [Command("cat").with_stdin(file), Command("cat").with_stdout(file), Command("cat").with_stderr(file)]
    for command in commands:
        with trio.fail_after(10), pytest.raises(OptionError, match="open file"):
            await command.run()


async def test_cancelling_stops_the_command_with_its_grace(tmp_path):
    ready, cleaned = tmp_path / "ready", tmp_path / "cleaned"
    command = sh('trap "touch $1; exit" TERM; echo ready; while :; do sleep 0.01; done', str(cleaned))
    with trio.fail_after(20):
        with trio.CancelScope() as scope:
            await command.with_stdout(lambda _: scope.cancel()).run()
    assert scope.cancelled_caught
    assert cleaned.exists()
    assert not ready.exists()


# run_quiet


async def test_run_quiet_returns_nothing_and_shows_nothing(capfd):
    with trio.fail_after(10):
        assert await run_quiet("sh", "-c", "echo out; echo err >&2") is None
    assert capfd.readouterr() == ("", "")


async def test_the_error_of_run_quiet_is_the_trimmed_stderr():
    with trio.fail_after(10), pytest.raises(CommandFailedError) as caught:
        await run_quiet("sh", "-c", "echo out; printf '\\n  it broke: \\033[1m  \\n\\n' >&2; exit 9")
    assert str(caught.value) == "it broke: \\x1b[1m"
    assert caught.value.result.exit_code == 9
    assert caught.value.result.stdout == ""


async def test_a_quiet_failure_that_said_nothing_has_the_usual_text():
    with trio.fail_after(10), pytest.raises(CommandFailedError, match="`false` exited with code 1"):
        await run_quiet("false")


async def test_inherited_output_goes_to_ours(capfd):
    with trio.fail_after(10):
        await sh("echo out; echo err >&2").with_stdout(Stdio.INHERIT).with_stderr(sys.stderr.buffer).run()
    assert capfd.readouterr() == ("out\n", "err\n")


@pytest.mark.parametrize("verb", ["with_stdout", "with_stderr"])
@pytest.mark.parametrize("mode", ["w", "a", "wb"])
async def test_a_file_whose_buffer_can_not_be_written_is_a_failed_start(verb, mode):
    with contextlib.suppress(OSError), open("/dev/full", mode) as file:
        file.write("buffered" if "b" not in mode else b"buffered")
        with (
            trio.fail_after(60),
            pytest.raises(ProcessStartError, match="the buffer of '/dev/full' can't be") as caught,
        ):
            await getattr(Command("echo", "x"), verb)(file).run()
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == errno.ENOSPC
