"""Write a run in the formats of other tools: JUnit XML, a Chrome trace, Mermaid and dot."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from typing import Any, Final, TypeVar

from .._core import CommandFailedError, command_line, dumps, escape_controls, masker_for, shown_args, shown_command
from .result import RunResult
from .spec import RunSpec

# Characters that XML 1.0 doesn't allow even escaped (production Char); surrogates stand for bytes that were not text.
# Not compiled here: that takes milliseconds, and most programs never need it.
_NOT_XML: Final = "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"


def _xml(text: str) -> str:
    """Return text that is valid in XML: invalid characters become escape sequences."""
    return re.sub(_NOT_XML, lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def _text(text: str) -> str:
    from xml.sax.saxutils import escape  # noqa: PLC0415 - it imports urllib and email: kept out of the import time

    return escape(_xml(text).replace("\r", "\\r"))  # a parser would read a carriage return as a newline


def _attributes(**values: object) -> str:
    return " ".join([f"{name}={_quoted(str(value))}" for name, value in values.items()])


def _quoted(value: str) -> str:
    from xml.sax.saxutils import quoteattr  # noqa: PLC0415 - as above

    # as references: a parser turns bare newlines and tabs in an attribute into spaces (XML 1.0, 3.3.3)
    return quoteattr(_xml(value), {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})


def to_junit(results: Iterable[RunResult], duration: float) -> str:
    """Return the JUnit XML of a run, one test case per spec.

    Allowed failures become `skipped` cases, because a CI system would otherwise count them against the run. A start
    failure, a timeout, a stop and a spec that could not run become an `error`, a plain non-zero exit a `failure`.

    Args:
        results: The results of the specs.
        duration: Seconds that the whole run took.

    Returns:
        The text, to be written as UTF-8.
    """
    cases = [_case(one) for one in results]
    kinds = [kind for kind, _ in cases]
    numbers = _attributes(
        tests=len(cases),
        failures=kinds.count("failure"),
        errors=kinds.count("error"),
        time=f"{duration:.3f}",
    )
    # per suite only: the schema by which Jenkins' xUnit plugin validates files (junit-10.xsd) has none for all suites
    skipped = _attributes(skipped=kinds.count("skipped"))
    body = "\n".join(case for _, case in cases)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<testsuites name="trio-process" {numbers}>\n<testsuite name="pipeline" {numbers} {skipped}>\n'
        f"{body}\n</testsuite>\n</testsuites>\n"
    )


def _case(one: RunResult) -> tuple[str, str]:
    kind, message, details = _outcome(one)
    parts = [f"<testcase {_attributes(name=one.name, classname='pipeline', time=f'{one.duration:.3f}')}>"]
    if kind:
        # for a plain non-zero exit, which has no error: the exception that `check` would raise
        kind_of_error = CommandFailedError if one.error is None else type(one.error)
        attributes = _attributes(type=kind_of_error.__name__, message=message)
        parts.append(f"<{kind} {attributes}>{_text(details)}</{kind}>")
    output = masker_for(one.spec.options)(one.output)
    if output:
        parts.append(f"<system-out>{_text(output)}</system-out>")
    return kind, "".join(parts) + "</testcase>"


def _outcome(one: RunResult) -> tuple[str, str, str]:
    """Return the name of the element that reports a result, its one-line message, and the details."""
    if one.passed:
        return "", "", ""
    # a plain non-zero exit has no error, but is reported in the same way
    details = one.command_result.describe() if one.command_result and not one.error else str(one.error)
    host = _host(one)
    message = details.partition("\n")[0] + ("" if host is None else f" (on {host})")
    if one.skipped:
        return "skipped", message, ""
    if one.allowed:
        return "skipped", f"allowed to fail: {message}", details
    return ("error" if one.error else "failure"), message, details


def to_chrome_trace(results: Sequence[RunResult], duration: float) -> str:
    """Return the run in the Trace Event Format, for Perfetto or chrome://tracing.

    The upper tracks show the waves, each from its first start to its last end; the lower ones show the specs, on as few
    tracks as possible without overlaps.

    Args:
        results: The results of the specs.
        duration: Seconds that the whole run took.

    Returns:
        JSON text.
    """
    ran = [(one.started, one.started + one.duration, one) for one in results if one.started is not None]
    events = [_track_name("process_name", 0, "pipeline")]
    for track, begin, end, wave in _laid_out(_waves(ran)):
        # async events ("b", "e") get tracks of their own above the threads; the id is the track
        shared = {"name": f"wave {wave}", "cat": "wave", "id": track, "pid": 1, "tid": 0}
        events += [{**shared, "ph": "b", "ts": begin * 1e6}, {**shared, "ph": "e", "ts": end * 1e6}]
    for track, begin, end, one in _laid_out(ran):
        events.append(_span(one.name, track, begin, end, _details(one)))
    events += [_never_ran(one, duration) for one in results if one.started is None]
    return dumps({"traceEvents": events, "displayTimeUnit": "ms"})


_Shown = TypeVar("_Shown")
_Spans = list[tuple[float, float, _Shown]]


def _waves(ran: _Spans[RunResult]) -> _Spans[int]:
    """Return when each wave started and ended; without barriers between them, waves overlap."""
    spans: dict[int, tuple[float, float]] = {}
    for begin, end, one in ran:
        if one.wave is not None:
            first, last = spans.get(one.wave, (begin, end))
            spans[one.wave] = min(first, begin), max(last, end)
    return [(begin, end, wave) for wave, (begin, end) in spans.items()]


def _laid_out(spans: _Spans[_Shown]) -> Iterator[tuple[int, float, float, _Shown]]:
    """Assign spans to as few tracks as possible without overlaps, always to the lowest free track."""
    busy: list[tuple[float, int]] = []  # two heaps: when each occupied track becomes free, and the free tracks
    free: list[int] = []
    for begin, end, what in sorted(spans, key=lambda span: span[:2]):
        while busy and busy[0][0] <= begin:
            heappush(free, heappop(busy)[1])
        track = heappop(free) if free else len(busy) + 1
        heappush(busy, (end, track))
        yield track, begin, end, what


def _span(name: str, track: int, begin: float, end: float, details: dict[str, Any]) -> dict[str, Any]:
    times = {"ts": begin * 1e6, "dur": (end - begin) * 1e6}
    return {"name": name, "cat": "spec", "ph": "X", "pid": 1, "tid": track, **times, "args": details}


def _never_ran(one: RunResult, end: float) -> dict[str, Any]:
    """Return an instant at the end of the run, for a spec without a time of its own."""
    shared = {"name": f"{one.name} ({one.state.value})", "cat": "spec", "ph": "i", "s": "t", "pid": 1, "tid": 0}
    return {**shared, "ts": end * 1e6, "args": _details(one)}


def _track_name(kind: str, track: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": 1, "tid": track, "args": {"name": name}}


def _host(one: RunResult) -> str | None:
    return None if one.command_result is None else one.command_result.host


def _details(one: RunResult) -> dict[str, Any]:
    options = one.spec.options
    host = _host(one)
    return {
        **({} if host is None else {"host": host}),
        "state": one.state.value,
        "wave": one.wave,
        "after": list(one.spec.after),
        "attempts": one.attempts,
        "exitCode": one.exit_code,
        "command": command_line(shown_command(options), shown_args(options)),
        "error": None if one.error is None else str(one.error),
    }


# In a quoted Mermaid label all other characters are written as entities: #, quotes, backticks, <, > and more are special
# there (https://mermaid.js.org/syntax/flowchart.html, "Entity codes to escape characters").
_MERMAID_SPECIAL: Final = r"[^\w \-.,:/+=]"

_COLOURS: Final = {"passed": "#c8e6c9", "failed": "#ffcdd2", "allowed": "#ffe0b2", "skipped": "#e0e0e0"}


def to_mermaid(specs: Sequence[RunSpec], results: Iterable[RunResult] = ()) -> str:
    """Return the graph as a Mermaid flowchart.

    Args:
        specs: The specs.
        results: Their results, for the colours; none before the run.

    Returns:
        The text of the diagram, without a Markdown fence around it.
    """
    lines = ["flowchart LR"]
    kinds = _kinds(results)
    for node, name in _nodes(specs):
        label = re.sub(_MERMAID_SPECIAL, lambda match: f"#{ord(match[0])};", _label(name))
        kind = kinds.get(name)
        lines.append(f'    {node}["{label}"]' + (f":::{kind}" if kind else ""))
    lines += [f"    {first} --> {then}" for first, then in _edges(specs)]
    if kinds:
        lines += [f"    classDef {kind} fill:{colour},color:#000" for kind, colour in _COLOURS.items()]
    return "\n".join(lines) + "\n"


def to_dot(specs: Sequence[RunSpec], results: Iterable[RunResult] = ()) -> str:
    """Return the graph in the DOT language of Graphviz.

    Args:
        specs: The specs.
        results: Their results, for the colours; none before the run.

    Returns:
        The text; ``dot -Tsvg`` draws it.
    """
    lines = ["digraph pipeline {", "    rankdir=LR;", "    node [shape=box, style=filled, fillcolor=white];"]
    kinds = _kinds(results)
    for node, name in _nodes(specs):
        label = _label(name).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
        colour = f', fillcolor="{_COLOURS[kinds[name]]}"' if name in kinds else ""
        lines.append(f'    {node} [label="{label}"{colour}];')
    lines += [f"    {first} -> {then};" for first, then in _edges(specs)]
    return "\n".join([*lines, "}"]) + "\n"


def _label(name: str) -> str:
    """Return a name on one line, without characters that could move a cursor or break a file's encoding."""
    return escape_controls(name).replace("\n", "\\n").replace("\t", "\\t").encode("utf-8", "backslashreplace").decode()


def _kinds(results: Iterable[RunResult]) -> dict[str, str]:
    return {one.name: "allowed" if one.allowed else one.state.value for one in results}


def _ids(specs: Sequence[RunSpec]) -> dict[str, str]:
    """Return a node id for each name, as names may contain any character; missing dependencies get a node too."""
    ids = {spec.name: f"n{place}" for place, spec in enumerate(specs)}
    for spec in specs:
        for name in spec.after:
            ids.setdefault(name, f"missing{len(ids)}")
    return ids


def _nodes(specs: Sequence[RunSpec]) -> Iterator[tuple[str, str]]:
    for name, node in _ids(specs).items():
        yield node, f"{name} (missing)" if node.startswith("missing") else name


def _edges(specs: Sequence[RunSpec]) -> Iterator[tuple[str, str]]:
    ids = _ids(specs)
    for spec in specs:
        for name in spec.after:
            yield ids[name], ids[spec.name]
