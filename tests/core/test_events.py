import json
from datetime import UTC, datetime

import attrs
import pytest

from trio_process import (
    ActionProcessExited,
    ActionProcessKilled,
    ActionProcessOutput,
    ActionProcessStarted,
    CommandFailedError,
    CommandResult,
    EndReason,
    Status,
    Stream,
)
from trio_process._core import batch_of

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FAILED = CommandFailedError(CommandResult(command="false", exit_code=1, duration=0.25))

EVENTS = [
    (
        ActionProcessStarted("p", "web", "ls", ("-l",), "/tmp", 12, AT),
        {"id": "p", "name": "web", "command": "ls", "args": ["-l"], "dir": "/tmp", "pid": 12, "at": AT.isoformat()},
    ),
    (
        ActionProcessOutput("p", None, "text", Stream.STDERR),
        {"id": "p", "name": None, "line": "text", "stream": "stderr", "partial": False},
    ),
    (ActionProcessKilled("p", None, "SIGKILL"), {"id": "p", "name": None, "signal": "SIGKILL"}),
    (
        ActionProcessExited("p", None, "false", (), 1, 0.25, FAILED, EndReason.EXITED),
        {
            "id": "p",
            "name": None,
            "command": "false",
            "args": [],
            "exitCode": 1,
            "duration": 0.25,
            "error": "`false` exited with code 1 after 250 ms",
            "reason": "exited",
        },
    ),
]


@pytest.mark.parametrize(("event", "expected"), EVENTS, ids=lambda value: type(value).__name__)
def test_an_event_is_ready_for_json(event, expected):
    assert event.to_dict() == expected
    assert json.loads(json.dumps(event.to_dict())) == expected


@pytest.mark.parametrize("event", [event for event, _ in EVENTS], ids=lambda value: type(value).__name__)
def test_events_are_values(event):
    with pytest.raises(AttributeError):
        event.id = "other"
    if attrs.has(type(event)):
        assert attrs.evolve(event) == event
        assert hash(attrs.evolve(event, id="other")) != hash(event)


def test_an_event_s_fields_are_those_of_the_contract():
    names = {
        cls: [field.name for field in attrs.fields(cls)]
        for cls in map(type, [EVENTS[0][0], EVENTS[2][0], EVENTS[3][0]])
    }
    assert names == {
        ActionProcessStarted: ["id", "name", "command", "args", "cwd", "pid", "at"],
        ActionProcessKilled: ["id", "name", "signal"],
        ActionProcessExited: ["id", "name", "command", "args", "exit_code", "duration", "error", "reason"],
    }
    assert ActionProcessOutput._fields == ("id", "name", "line", "stream", "partial")


def test_the_end_without_an_error_has_none():
    event = ActionProcessExited("p", None, "true", (), 0, 0.1, None, EndReason.EXITED)
    assert event.to_dict()["error"] is None


def test_a_batch_tells_what_may_be_dropped_and_what_is_final():
    batches = {type(event): batch_of(event) for event, _ in EVENTS}
    assert [kind for kind, batch in batches.items() if batch._droppable] == [ActionProcessOutput]
    assert [kind for kind, batch in batches.items() if batch._final] == [ActionProcessExited]
    assert all(batch._kind is kind and batch.id == "p" for kind, batch in batches.items())
    assert batch_of("any object")._droppable
    assert "1 lines of stderr" in repr(batches[ActionProcessOutput])
    assert "SIGKILL" in repr(batches[ActionProcessKilled])


def test_status_words_come_from_their_values():
    assert CommandResult(command="x", status="killed", reason="idle").status is Status.KILLED
