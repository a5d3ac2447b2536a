"""Value types that only services have: conditions, probes and restart policies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ...._core import MOST_JITTER, nearest
from .. import value_types
from ..value_types import WRONG, Kind, Report, quoted

CONDITIONS_OF_UNITS: Final = ("started", "ready", "completed", "ended")
PROBES: Final = ("line", "http", "tcp", "unix", "file", "command")
PROBE_KEYWORDS: Final = {
    "initial-delay": value_types.DURATION,
    "period": value_types.POSITIVE_DURATION,
    "timeout": value_types.POSITIVE_DURATION,
    "failures": value_types.WEIGHT,
    "successes": value_types.WEIGHT,
    "status": value_types.Kind(
        expected="a status code such as 204, or a list of them",
        read=lambda value, _report: _statuses(value),
        schema={"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}, "minItems": 1}]},
    ),
}
MODES: Final = ("never", "on-failure", "always")
POLICY: Final = {
    "mode": Kind(
        expected='"never", "on-failure" or "always"',
        read=lambda value, _report: value if value in MODES else WRONG,
        schema={"enum": list(MODES)},
    ),
    "max-restarts": value_types.COUNT,
    "within": value_types.POSITIVE_DURATION,
    "backoff": value_types.DURATION,
    "backoff-max": value_types.DURATION,
    "jitter": Kind(
        expected=f"a share from 0 to {MOST_JITTER}",
        read=lambda value, _report: (
            float(value) if type(value) in (int, float) and 0 <= value <= MOST_JITTER else WRONG
        ),
        schema={"type": "number", "minimum": 0, "maximum": MOST_JITTER},
    ),
}


def _statuses(value: object) -> Any:
    listed = value if isinstance(value, list) and value else [value]
    return listed if all(type(code) is int and 100 <= code <= 599 for code in listed) else WRONG


def _conditions(value: object, report: Report) -> Any:
    """Check a list of names, whose services must be ready, or a table of names and conditions."""
    if isinstance(value, list):
        names = value_types.NAMES.read(value, report)
        return names if names is None or names is WRONG else dict.fromkeys(names, "ready")
    if not isinstance(value, dict):
        return WRONG
    good = True
    for name, condition in value.items():
        if condition not in CONDITIONS_OF_UNITS:
            hint = nearest(condition, CONDITIONS_OF_UNITS) if isinstance(condition, str) else ""
            report(f'expected "started", "ready", "completed" or "ended", got {quoted(condition)}{hint}', name)
            good = False
    return dict(value) if good else None


def _table(
    value: Mapping[str, Any], kinds: Mapping[str, Kind], also: tuple[str, ...], report: Report
) -> dict[str, Any] | None:
    """Check the values of an inline table; `also` are keys that the caller checks."""
    found: dict[str, Any] = {}
    good = True
    for name, item in value.items():
        if name in also:
            continue
        if name not in kinds:
            report(f"unknown key{nearest(name, (*kinds, *also))}", name)
            good = False
            continue
        checked = kinds[name].check(item, lambda text, *where, name=name: report(text, name, *where))
        good = good and checked is not None
        found[name] = checked
    return found if good else None


def _probe(value: object, report: Report) -> Any:
    if not isinstance(value, dict) or not value:
        return WRONG
    chosen = [name for name in PROBES if name in value]
    found = _table(value, PROBE_KEYWORDS, PROBES, report)
    if len(chosen) != 1:
        report(f"expected exactly one of {', '.join(PROBES)}, got {' and '.join(chosen) or 'none of them'}")
        return None
    [kind] = chosen
    of_its_own = {"command": value_types.COMMAND, "file": value_types.PATH, "unix": value_types.PATH}
    checker = of_its_own.get(kind, value_types.FILLED)
    target = checker.check(value[kind], lambda text, *where: report(text, kind, *where))
    if "status" in value and kind != "http":
        report("`status` is for `http`", "status")
        return None
    return None if target is None or found is None else {"kind": kind, "target": target, **found}


def _restart(value: object, report: Report) -> Any:
    if isinstance(value, str):
        return {"mode": value} if value in MODES else WRONG
    if not isinstance(value, dict):
        return WRONG
    found = _table(value, POLICY, (), report)
    return None if found is None else {"mode": "on-failure", **found}


def _inline(kinds: Mapping[str, Kind]) -> dict[str, Any]:
    return {name: kind.schema for name, kind in kinds.items()}


CONDITIONS: Final = Kind(
    expected='a list of services such as ["db"], or a table such as { db = "ready" }',
    read=_conditions,
    schema={
        "anyOf": [
            value_types.NAMES.schema,
            {"type": "object", "additionalProperties": {"enum": list(CONDITIONS_OF_UNITS)}},
        ]
    },
)
PROBE: Final = Kind(
    expected='a table such as { tcp = "127.0.0.1:5432", period = "5s" }',
    read=_probe,
    schema={
        "type": "object",
        "additionalProperties": False,
        "properties": {
            **{name: value_types.FILLED.schema for name in PROBES if name != "command"},
            "command": value_types.COMMAND.schema,
            **_inline(PROBE_KEYWORDS),
        },
        "oneOf": [{"required": [name]} for name in PROBES],
    },
)
RESTART: Final = Kind(
    expected='"never", "on-failure", "always", or a table such as { mode = "always", max-restarts = 10 }',
    read=_restart,
    schema={
        "anyOf": [
            {"enum": list(MODES)},
            {"type": "object", "additionalProperties": False, "properties": _inline(POLICY)},
        ]
    },
)
