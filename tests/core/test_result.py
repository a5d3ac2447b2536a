import json
from datetime import UTC, datetime

import pytest

from trio_process import (
    AgentLostError,
    CommandFailedError,
    CommandResult,
    CommandTimeoutError,
    EndReason,
    ProcessError,
    ProcessInfo,
    ProcessStartError,
    ResourceUsage,
    Secret,
    Status,
    StopFailedError,
)
from trio_process._core import Masker, command_line, escape_controls, in_seconds, last_lines, nearest


def failed(**fields):
    given = {"command": "make", "args": ["all"], "exit_code": 2, "duration": 1.25, **fields}
    return CommandResult(**given)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "`make all` exited with code 2 after 1.25 s"),
        ({"cwd": "/src"}, "`make all` in /src exited with code 2 after 1.25 s"),
        ({"args": ["two words", "it's"]}, """`make 'two words' 'it'"'"'s'` exited with code 2 after 1.25 s"""),
        ({"args": ["a\nb\x1b[2J"]}, r"`make 'a\nb\x1b[2J'` exited with code 2 after 1.25 s"),
        (
            {"exit_code": -11, "signal_name": "SIGSEGV", "status": "killed", "reason": "signalled"},
            "`make all` died of SIGSEGV after 1.25 s",
        ),
        (
            {
                "exit_code": -11,
                "signal_name": "SIGSEGV",
                "status": "killed",
                "reason": "signalled",
                "usage": ResourceUsage(core_dumped=True),
            },
            "`make all` died of SIGSEGV (core dumped) after 1.25 s",
        ),
        ({"reason": "timed_out"}, "`make all` ran into its timeout (exited with code 2) after 1.25 s"),
        ({"reason": "idle"}, "`make all` wrote nothing for its idle_timeout (exited with code 2) after 1.25 s"),
        (
            {"exit_code": -9, "signal_name": "SIGKILL", "status": "killed", "reason": "killed"},
            "`make all` was killed (died of SIGKILL) after 1.25 s",
        ),
        ({"reason": "stopped"}, "`make all` was stopped (exited with code 2) after 1.25 s"),
        ({"reason": "cancelled"}, "`make all` was cancelled (exited with code 2) after 1.25 s"),
        (
            {"exit_code": None, "status": "running", "reason": None},
            "`make all` is still running after 1.25 s",
        ),
        (
            {"output_incomplete": True},
            "`make all` exited with code 2 after 1.25 s; something still held its output open when reading ended",
        ),
        (
            {"reason": "stopped", "requested_by": "main"},
            "`make all` was stopped (exited with code 2) after 1.25 s, as the task 'main' asked",
        ),
        (
            {"stderr_bytes": b"one\ntwo\x07\n\n", "output_bytes": b"never shown"},
            "`make all` exited with code 2 after 1.25 s\nlast lines of stderr:\n  one\n  two\\x07",
        ),
        (
            {"stderr_bytes": b" \n", "output_bytes": b"out\xff\n"},
            "`make all` exited with code 2 after 1.25 s\nlast lines of output:\n  out\\xff",
        ),
    ],
)
def test_the_error_tells_the_command_the_end_the_duration_and_the_last_lines(fields, text):
    result = failed(**fields)
    assert str(CommandFailedError(result)) == text
    assert str(CommandFailedError(result, "no line came")) == f"no line came: {text}"


def test_twenty_lines_are_quoted_and_long_ones_are_cut():
    result = failed(stderr_bytes=b"".join(b"line %d\n" % number for number in range(100)) + b"x" * 5000)
    quoted = str(CommandFailedError(result)).splitlines()[2:]
    assert len(quoted) == 20
    assert quoted[0] == "  line 81"
    assert quoted[-1] == "  " + "x" * 2000 + " […]"


def test_known_secrets_are_masked_in_what_is_quoted():
    result = failed(args=["***"], stderr_bytes=b"token hunter2 refused", masker=Masker([Secret("hunter2")]))
    text = str(CommandFailedError(result))
    assert "hunter2" not in text
    assert "token *** refused" in text
    assert "`make ***`" in text
    assert "hunter2" not in json.dumps(result.to_dict())
    assert "hunter2" in result.stderr  # only `redact` masks what is captured


@pytest.mark.parametrize(
    ("fields", "ok"),
    [
        ({"exit_code": 0}, True),
        ({"exit_code": 0, "reason": "stopped"}, True),
        ({"exit_code": 0, "reason": "timed_out"}, False),
        ({"exit_code": 0, "reason": "cancelled"}, False),
        ({"exit_code": 0, "reason": "idle"}, False),
        ({"exit_code": 1}, False),
        ({"exit_code": -15, "status": "killed", "reason": "stopped"}, False),  # only the service knows the stop_signal
        ({"exit_code": -15, "status": "killed", "reason": "stopped", "ok": True}, True),
        ({"exit_code": None, "status": "running", "reason": None}, False),
    ],
)
def test_ok_is_an_end_as_it_should_be(fields, ok):
    result = CommandResult(command="x", **fields)
    assert result.ok is ok
    if ok:
        assert result.check() is result
    else:
        with pytest.raises(CommandFailedError) as caught:
            result.check()
        assert caught.value.result is result


@pytest.mark.parametrize("reason", ["timed_out", "idle"])
def test_a_timeout_is_a_timeout_error_too(reason):
    with pytest.raises(TimeoutError) as caught:
        failed(reason=reason).check()
    assert isinstance(caught.value, CommandTimeoutError)
    assert isinstance(caught.value, CommandFailedError)
    assert caught.value.result.reason == reason
    assert str(caught.value).startswith("`make all`")


def test_one_that_never_ran_raises_its_start_error():
    error = ProcessStartError("no")
    result = failed(exit_code=None, status="failed", reason="failed_to_start", start_error=error)
    with pytest.raises(ProcessStartError) as caught:
        result.check()
    assert (type(caught.value), str(caught.value)) == (ProcessStartError, "no")
    assert error.__traceback__ is None  # it is raised as often as the result is checked
    assert "did not start" in result.describe()


def test_text_is_decoded_as_the_run_was_told():
    result = failed(output_bytes=b"a\xe9", stdout_bytes=b"\xe9", stderr_bytes=b"\xff", encoding="latin-1")
    assert (result.output, result.stdout, result.stderr) == ("aé", "é", "ÿ")
    assert failed(stdout_bytes=b"\xe9").stdout == "\N{REPLACEMENT CHARACTER}"
    strict = failed(stdout_bytes=b"\xe9", errors="strict")
    with pytest.raises(UnicodeDecodeError):
        _ = strict.stdout
    assert strict.to_dict()["stdout"] == "\\xe9"  # a report never fails


def test_truncated_says_that_something_is_missing():
    assert not failed().truncated
    assert failed(dropped=1).truncated


def test_a_result_is_ready_for_json_and_frozen():
    at = datetime(2026, 1, 2, tzinfo=UTC)
    result = failed(started_at=at, usage=ResourceUsage(user=0.5), id="proc-1", name="build")
    found = json.loads(json.dumps(result.to_dict()))
    assert set(found) == {
        "id", "name", "command", "args", "dir", "exitCode", "signalName", "status", "reason", "requestedBy", "output",
        "stdout", "stderr", "dropped", "truncated", "outputIncomplete", "startedAt", "duration", "usage", "ok",
    }  # fmt: skip
    assert found["startedAt"] == at.isoformat()
    assert found["usage"]["user"] == 0.5
    with pytest.raises(AttributeError):
        result.exit_code = 0
    assert isinstance(result.args, tuple)
    assert "output_bytes" not in repr(result)


def test_info_has_the_keys_of_go_process():
    info = ProcessInfo(
        id="p", name=None, command="ls", args=("-l",), cwd=None, started_at=None, running=True,
        status=Status.RUNNING, exit_code=None, duration=0.0, pid=3,
    )  # fmt: skip
    assert list(info.to_dict()) == [
        "id", "name", "command", "args", "dir", "startedAt", "running", "status", "exitCode", "duration", "pid",
    ]  # fmt: skip
    assert json.loads(json.dumps(info.to_dict()))["args"] == ["-l"]


def test_what_would_not_die_is_named():
    error = StopFailedError([(12, "D", "cp"), (13, "S", "x")])
    assert error.processes == ((12, "D", "cp"), (13, "S", "x"))
    assert "2 process(es) did not die of SIGKILL: PID 12, state D: cp; PID 13, state S: x" in str(error)
    assert isinstance(error, ProcessError)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0034, "3 ms"), (1, "1 s"), (1.25, "1.25 s"), (59.999, "60 s"), (125, "2 min 5 s"), (7260, "2 h 1 min")],
)
def test_durations_are_written_as_people_say_them(seconds, text):
    assert in_seconds(seconds) == text


@pytest.mark.parametrize(
    ("directory", "shown"), [("/a\x1b[2Jb", r"/a\x1b[2Jb"), ("/a\nb", r"/a\nb"), ("/\udcff\ud800", r"/\xff\ud800")]
)
def test_a_directory_and_arguments_are_one_line_that_any_terminal_takes(directory, shown):
    text = str(CommandResult(command="x", args=(directory,), cwd=directory, exit_code=1).describe())
    assert text.startswith(f"`x {shown!r}` in {shown} ".replace("\\\\", "\\"))
    text.encode()


def test_controls_are_shown_and_newline_and_tab_are_kept():
    assert escape_controls("a\tb\nc\x1b[31m\x9b\u202e\r") == "a\tb\nc\\x1b[31m\\x9b\\u202e\\r"
    for char in "\xad\u061c\u200b\u200e\u2028\u2029\u2060\u2066\ufeff\ufff9":  # of direction, or of no width
        assert escape_controls(f"a{char}b") == f"a{ascii(char)[1:-1]}b"
    for text in ("\N{MAN}\u200d\N{WOMAN}", "\u05e9\u05dc\u05d5\u05dd", "e\u0301", "\N{BLACK HEART SUIT}\ufe0f"):
        assert escape_controls(text) == text


def test_commands_are_written_as_one_would_type_them():
    assert command_line("a b", ["", "c", "***", "$x"]) == "'a b' '' c *** '$x'"


def test_the_last_lines_are_those_with_something_in_them():
    assert list(last_lines("a\nb\nc\n\n \n", 2)) == ["b", "c"]


def test_the_nearest_name_is_offered():
    assert nearest("timout", ["timeout", "name"]) == "; did you mean 'timeout'?"
    assert nearest("qqq", ["timeout"]) == ""


def test_reasons_are_words():
    assert {reason.value for reason in EndReason} == {
        "exited", "signalled", "killed", "stopped", "timed_out", "idle", "cancelled", "failed_to_start",
        "output_limit", "lost",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "kind", "text"),
    [
        ("output_limit", CommandFailedError, "wrote more than its max_output"),
        ("lost", AgentLostError, "was lost with the machine"),
        ("idle", CommandTimeoutError, "wrote nothing for its idle_timeout"),
    ],
)
def test_the_error_of_a_result_fits_its_reason(reason, kind, text):
    result = CommandResult(command="work", exit_code=-15, status="killed", signal_name="SIGTERM", reason=reason)
    assert not result.ok
    with pytest.raises(CommandFailedError, match=text) as caught:
        result.check()
    assert type(caught.value) is kind
