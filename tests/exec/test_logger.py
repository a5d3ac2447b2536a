"""Loggers: what they are told, and that they change nothing."""

import logging

import pytest
import trio

from trio_process import CommandFailedError, CommandTimeoutError, OptionError, ProgramNotFoundError, Secret
from trio_process.exec import Command, Logger, NopLogger, StdlibLogger, run_quiet, set_default_logger


class Notes:
    """A logger that keeps what it is told."""

    def __init__(self):
        self.told = []

    def debug(self, message, **fields):
        self.told.append(("debug", message, fields))

    def error(self, message, **fields):
        self.told.append(("error", message, fields))


class Structlogs:
    """The signature of a structlog logger (structlog.typing.FilteringBoundLogger)."""

    def __init__(self):
        self.told = []

    def debug(self, event, *args, **kw):
        self.told.append(("debug", event, args, kw))

    def error(self, event, *args, **kw):
        self.told.append(("error", event, args, kw))


class Broken:
    """A logger that raises."""

    def debug(self, message, **fields):
        raise RuntimeError("broken logger")

    error = debug


def sh(script, *args):
    return Command("sh", "-c", script, *args)


async def test_a_command_that_ends_well_is_told_once_before_it_starts(tmp_path):
    notes = Notes()
    with trio.fail_after(10):
        await Command("test", "-d", ".").with_dir(tmp_path).with_logger(notes).run()
    fields = {"cmd": "test", "args": ("-d", "."), "dir": str(tmp_path)}
    assert notes.told == [("debug", "executing command", fields)]


@pytest.mark.parametrize("verb", ["run", "output", "combined_output"])
async def test_a_failure_is_told_with_its_text_and_duration(verb):
    notes = Notes()
    with trio.fail_after(10), pytest.raises(CommandFailedError) as caught:
        await getattr(sh("echo why >&2; exit 3").with_logger(notes), verb)()
    assert [(level, message) for level, message, _ in notes.told] == [
        ("debug", "executing command"),
        ("error", "command failed"),
    ]
    fields = notes.told[1][2]
    assert list(fields) == ["cmd", "args", "dir", "error", "duration"]
    assert (fields["cmd"], fields["args"], fields["dir"]) == ("sh", ("-c", "echo why >&2; exit 3"), None)
    assert fields["error"] == str(caught.value)
    assert fields["duration"] == caught.value.result.duration


async def test_every_kind_of_failure_is_told_once():
    with trio.fail_after(20):
        for command, expected in (
            (Command("no-such-program-anywhere"), ProgramNotFoundError),
            (Command("sleep", "100").with_timeout(0.05), CommandTimeoutError),
            (Command("false"), CommandFailedError),
        ):
            notes = Notes()
            with pytest.raises(expected) as caught:
                await command.with_logger(notes).run()
            assert [level for level, _, _ in notes.told] == ["debug", "error"]
            assert notes.told[1][2]["error"] == str(caught.value)


async def test_lines_tell_a_failure_at_their_end_and_nothing_when_left_early():
    notes = Notes()
    with trio.fail_after(20):
        async with Command("yes").with_logger(notes).lines() as lines:
            await anext(lines)
        assert [level for level, _, _ in notes.told] == ["debug"]
        async with Command("false").with_logger(notes).lines() as lines:
            for _ in range(2):
                with pytest.raises(CommandFailedError):
                    await anext(lines)
    assert [level for level, _, _ in notes.told] == ["debug", "debug", "error"]


async def test_each_stage_of_a_pipe_is_told_to_its_own_logger():
    first, second = Notes(), Notes()
    with trio.fail_after(10), pytest.raises(CommandFailedError):
        await (Command("yes").with_logger(first) | Command("false").with_logger(second)).run()
    assert [level for level, _, _ in first.told] == ["debug"]  # its death of SIGPIPE is no failure
    assert [(level, fields["cmd"]) for level, _, fields in second.told] == [("debug", "false"), ("error", "false")]


async def test_a_logger_for_a_pipe_is_told_of_all_stages():
    notes = Notes()
    with trio.fail_after(10):
        await (Command("echo") | Command("cat")).with_logger(notes).run()
    assert [fields["cmd"] for _, _, fields in notes.told] == ["echo", "cat"]


async def test_a_failure_that_is_allowed_and_a_cancellation_are_not_told_as_failures():
    notes = Notes()
    with trio.fail_after(20):
        await Command("false").with_options(ok_exit_codes=(1,)).with_logger(notes).run()
        with trio.move_on_after(0.05):
            await Command("sleep", "100").with_logger(notes).run()
    assert [level for level, _, _ in notes.told] == ["debug", "debug"]


async def test_the_default_logger_is_for_commands_without_one():
    default, own = Notes(), Notes()
    command = Command("true")
    set_default_logger(default)
    with trio.fail_after(10):
        await command.run()
        await command.with_logger(own).run()
        await command.with_logger(own).with_logger(None).run()
        await run_quiet("true")
        set_default_logger(None)
        await command.run()
    assert (len(default.told), len(own.told)) == (3, 1)


async def test_a_logger_that_raises_changes_nothing(caplog):
    with trio.fail_after(10):
        assert await Command("echo", "x").with_logger(Broken()).output() == "x\n"
        with pytest.raises(CommandFailedError):
            await Command("false").with_logger(Broken()).run()
        with pytest.raises(ProgramNotFoundError):
            await Command("no-such-program-anywhere").with_logger(Broken()).run()
    records = [record for record in caplog.records if record.name == "trio_process"]
    assert len(records) == 5
    assert all("raised" in record.getMessage() for record in records)


async def test_a_structlog_logger_is_one_as_it_is():
    logger = Structlogs()
    with trio.fail_after(10), pytest.raises(CommandFailedError):
        await Command("false").with_logger(logger).run()
    assert [(level, event, args) for level, event, args, _ in logger.told] == [
        ("debug", "executing command", ()),
        ("error", "command failed", ()),
    ]


async def test_the_standard_librarys_loggers_get_messages_and_fields(caplog):
    logger = logging.getLogger("somebodys")
    with trio.fail_after(10), caplog.at_level(logging.DEBUG, "somebodys"), pytest.raises(CommandFailedError):
        await sh("exit 3", "a b").with_dir("/").with_logger(StdlibLogger(logger)).run()
    before, after = caplog.records
    assert (before.levelname, before.name) == ("DEBUG", "somebodys")
    assert before.getMessage() == "executing command cmd='sh' args=\"-c 'exit 3' 'a b'\" dir='/'"
    assert before.fields == {"cmd": "sh", "args": ("-c", "exit 3", "a b"), "dir": "/"}
    assert after.levelname == "ERROR"
    assert after.getMessage().startswith("command failed cmd='sh' ")
    assert set(after.fields) == {"cmd", "args", "dir", "error", "duration"}


def test_the_standard_loggers_level_is_heeded(caplog):
    logger = logging.getLogger("quiet")
    logger.setLevel(logging.WARNING)
    StdlibLogger(logger).debug("executing command", cmd="x")
    StdlibLogger(logger).error("command failed", cmd="x", args=(), dir=None)
    assert [record.getMessage() for record in caplog.records] == ["command failed cmd='x' args=''"]
    assert StdlibLogger() is not None


def test_what_is_no_logger_is_refused():
    for wrong in (print, object(), "logger", 3):
        with pytest.raises(OptionError):
            Command("true").with_logger(wrong)
        with pytest.raises(OptionError):
            set_default_logger(wrong)
    with pytest.raises(OptionError, match="StdlibLogger"):
        Command("true").with_logger(logging.getLogger("x"))


def test_loggers_fit_the_protocol():
    for logger in (NopLogger(), StdlibLogger(), Notes(), Structlogs()):
        assert isinstance(logger, Logger)


async def test_secrets_never_reach_a_logger(caplog):
    notes = Notes()
    command = sh("echo leaked: hunter2 $PASSWORD >&2; exit 1", Secret("hunter2")).with_env(PASSWORD=Secret("pass word"))
    with trio.fail_after(10), caplog.at_level(logging.DEBUG), pytest.raises(CommandFailedError):
        await command.with_logger(notes).run()
    with trio.fail_after(10), caplog.at_level(logging.DEBUG), pytest.raises(CommandFailedError):
        await command.with_logger(StdlibLogger()).run()
    text = str(notes.told) + caplog.text
    assert "***" in text
    assert "pass word" not in text
    # what the user wrote into the script in plain text is an argument, and shown as one
    assert text.replace("echo leaked: hunter2", "").count("hunter2") == 0
