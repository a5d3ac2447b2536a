"""`json_ready` says the same as a dictionary written by hand."""

from datetime import UTC, datetime
from typing import NamedTuple

import attrs

from trio_process import EndReason
from trio_process._core import dumps, json_ready, loads


@attrs.frozen
class Inner:
    max_rss: int | None = None

    def to_dict(self):
        return json_ready(self)


@attrs.frozen
class Outer:
    cwd: str
    started_at: datetime
    reason: EndReason
    args: tuple[str, ...]
    error: Exception | None
    inner: Inner
    more: dict
    _hidden: int = 1


class Row(NamedTuple):
    process_id: str
    partial: bool


def test_fields_become_keys_in_camel_case_and_in_order():
    at = datetime(2026, 1, 2, tzinfo=UTC)
    made = Outer("/srv", at, EndReason.TIMED_OUT, ("a", "b"), ValueError("no"), Inner(3), {"a": (1, None)})
    assert list(json_ready(made, {"cwd": "dir"}).items()) == [
        ("dir", "/srv"),
        ("startedAt", "2026-01-02T00:00:00+00:00"),
        ("reason", "timed_out"),
        ("args", ["a", "b"]),
        ("error", "no"),
        ("inner", {"maxRss": 3}),
        ("more", {"a": [1, None]}),
    ]
    assert loads(dumps(json_ready(made))) == json_ready(made)


def test_a_named_tuple_is_its_fields():
    assert json_ready(Row("x", True)) == {"processId": "x", "partial": True}
