"""The reports: whatever a name, an error or an output holds, each format stays valid and says it."""

import itertools
import json
import re
import xml.etree.ElementTree as ET

import pytest
import trio
from fakes import FAILS, FOREVER, Does, FakeExecutor, spec
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_process._core import CommandResult, EndReason, Secret, Status, masker_for, shown_args
from trio_process._pipeline import RunAllResult, Runner, RunResult, RunSpec, SpecState, to_dot, to_mermaid

ODD = [
    "plain", "two words", 'say "hi"', "it's", "two\nlines", "tab\there", "return\r", "..", "../etc/passwd", "naïve → 日本",
    "<b>&amp;</b>", "]]>", "--> x", "%%{init}%%", "`code`", "#35;", "end", "back\\slash", "semi;colon", "esc\x1b[31mred",
    "bell\x07", "\x01\x1f\x7f\x85", "\u202eright to left", "\ufffe", "\udc80", "\U0001f600", "a" * 300, " ", "n1", "missing1",
]  # fmt: skip

texts = st.text(st.characters(blacklist_characters="\0"), min_size=1, max_size=8)


def passed(name, output=b"", **options):
    one = spec(name, **options)
    result = CommandResult(command="x", exit_code=0, output_bytes=output)
    return RunResult(
        spec=one,
        state=SpecState.PASSED,
        exit_code=0,
        wave=0,
        attempts=1,
        started=0.0,
        duration=1.0,
        command_result=result,
    )


def whole(*results):
    return RunAllResult(results=results, duration=1.0)


async def every_outcome():
    executor = FakeExecutor(
        {
            "bad": Does(1.0, 1, output=b"oops\n"),
            "long": FOREVER,
            "flaky": (FAILS, Does(1.0)),
            "allowed": FAILS,
            "said": Does(1.0, output=b"hello\n"),
        }
    )
    specs = [
        spec("said"), spec("bad"), spec("after bad", "bad"), spec("long", timeout=2), spec("flaky", retries=1),
        spec("allowed", allow_failure=True), spec("last", "flaky", "said"), spec("lost", "gone"),
    ]  # fmt: skip
    with trio.fail_after(60):
        return await Runner(executor).run_all(specs)


async def test_junit_counts_and_tells_every_outcome(autojump_clock):
    result = await every_outcome()
    root = ET.fromstring(result.to_junit())
    (suite,) = root
    numbers = {"tests": "8", "failures": "1", "errors": "2", "time": "3.000"}
    assert root.attrib == {"name": "trio-process", **numbers}  # no more: a strict reader refuses what it doesn't know
    assert suite.attrib == {"name": "pipeline", "skipped": "2", **numbers}
    cases = {case.get("name"): case for case in suite}
    assert {name: [part.tag for part in case] for name, case in cases.items()} == {
        "said": ["system-out"], "bad": ["failure", "system-out"], "after bad": ["skipped"], "long": ["error"], "flaky": [],
        "allowed": ["skipped"], "last": [], "lost": ["error"],
    }  # fmt: skip
    assert cases["said"][0].text == "hello\n"
    assert cases["bad"][0].get("message") == "`bad` exited with code 1 after 1 s"
    assert cases["bad"][0].text.endswith("last lines of output:\n  oops")
    assert "bad" in cases["after bad"][0].get("message")
    assert "timeout" in cases["long"][0].get("message")
    assert cases["allowed"][0].get("message").startswith("allowed to fail: `allowed` exited with code 1")
    assert "'gone'" in cases["lost"][0].get("message")
    assert cases["flaky"].get("time") == "2.000"
    assert {name: cases[name][0].get("type") for name in ("bad", "long", "after bad", "lost")} == {
        "bad": "CommandFailedError", "long": "CommandTimeoutError", "after bad": "ProcessError", "lost": "PipelineError",
    }  # fmt: skip


async def test_the_trace_shows_every_spec_on_a_track_and_every_wave(autojump_clock):
    result = await every_outcome()
    events = json.loads(result.to_chrome_trace())["traceEvents"]
    spans = {
        event["name"]: (event["ts"], event["dur"], event["args"]["wave"]) for event in events if event["ph"] == "X"
    }
    assert spans == {
        "said": (0, 1e6, 0), "bad": (0, 1e6, 0), "long": (0, 2e6, 0), "flaky": (0, 2e6, 0), "allowed": (0, 1e6, 0),
        "last": (2e6, 1e6, 1),
    }  # fmt: skip
    waves = [(event["name"], event["ph"], event["ts"]) for event in events if event.get("cat") == "wave"]
    assert waves == [("wave 0", "b", 0), ("wave 0", "e", 2e6), ("wave 1", "b", 2e6), ("wave 1", "e", 3e6)]
    assert [event["name"] for event in events if event["ph"] == "i"] == ["after bad (skipped)", "lost (failed)"]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 9)), max_size=30))
def test_no_two_spans_of_a_track_overlap_and_there_are_no_more_tracks_than_needed(spans):
    results = [
        RunResult(spec=spec(f"t{n}"), state=SpecState.PASSED, wave=n % 3, started=float(begin), duration=float(length))
        for n, (begin, length) in enumerate(spans)
    ]
    events = json.loads(RunAllResult(results=tuple(results), duration=30).to_chrome_trace())["traceEvents"]
    tracks = {}
    for event in events:
        if event["ph"] == "X":
            tracks.setdefault(event["tid"], []).append((event["ts"], event["ts"] + event["dur"]))
    for taken in tracks.values():
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(taken))
    busiest = max([sum(b <= at < b + max(n, 1e-9) for b, n in spans) for at, _ in spans], default=0)
    assert len(tracks) <= max(busiest, min(len(spans), 1))


@pytest.mark.parametrize("name", ODD)
def test_an_odd_name_survives_in_every_format(name):
    result = whole(passed(name, name.encode("utf-8", "surrogateescape")), passed("other"))
    check_formats(result, name)


@settings(deadline=None)
@given(texts, texts)
def test_any_name_and_output_survive_in_every_format(name, output):
    check_formats(whole(passed(name, output.encode("utf-8", "surrogatepass"))), name)


def check_formats(result, name):
    junit = result.to_junit()
    case = ET.fromstring(junit.encode()).find("testsuite/testcase")
    if re.fullmatch("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*", name):
        assert case.get("name") == name
    trace = json.loads(result.to_chrome_trace().encode())
    assert next(event["name"] for event in trace["traceEvents"] if event["ph"] == "X") == name
    assert json.loads(json.dumps(result.to_dict()).encode())["results"][0]["name"] == name
    specs = [one.spec for one in result.results]
    mermaid, dot = result.to_mermaid(), to_dot(specs, result.results)
    nodes = re.findall(r'^    n0\["([\w \-.,:/+=#;]*)"\]:::passed$', mermaid, re.MULTILINE)
    assert len(nodes) == 1
    text = re.sub(r"#(\d+);", lambda match: chr(int(match[1])), nodes[0])
    labels = re.findall(r'^    n0 \[label="((?:[^"\\]|\\["\\])*)", fillcolor="#c8e6c9"\];$', dot, re.MULTILINE)
    assert len(labels) == 1
    assert re.sub(r"\\(.)", r"\1", labels[0]).replace("&amp;", "&") == text
    for graph in (mermaid, dot):
        assert len(graph.encode().splitlines()) == len(graph.split("\n")) - 1
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", graph)


def test_a_graph_shows_needs_and_what_is_missing():
    specs = [spec("a"), spec("b", "a", "gone"), spec("c", "a", "b")]
    assert to_mermaid(specs) == (
        "flowchart LR\n"
        '    n0["a"]\n    n1["b"]\n    n2["c"]\n    missing3["gone #40;missing#41;"]\n'
        "    n0 --> n1\n    missing3 --> n1\n    n0 --> n2\n    n1 --> n2\n"
    )
    assert to_dot(specs) == (
        "digraph pipeline {\n    rankdir=LR;\n    node [shape=box, style=filled, fillcolor=white];\n"
        '    n0 [label="a"];\n    n1 [label="b"];\n    n2 [label="c"];\n    missing3 [label="gone (missing)"];\n'
        "    n0 -> n1;\n    missing3 -> n1;\n    n0 -> n2;\n    n1 -> n2;\n}\n"
    )


def test_a_graph_of_nothing_is_a_graph():
    assert to_mermaid([]) == "flowchart LR\n"
    assert ET.fromstring(whole().to_junit()).get("tests") == "0"


@pytest.mark.parametrize("host", ["node1", None])
def test_every_report_names_another_machine(host):
    ended = CommandResult(command="false", exit_code=1, status=Status.EXITED, reason=EndReason.EXITED, host=host)
    spec = RunSpec(name="bad", command="false")
    one = RunResult(
        spec=spec, state=SpecState.FAILED, exit_code=1, wave=0, attempts=1, started=0.0, command_result=ended
    )
    result = RunAllResult(results=(one,), duration=1.0)
    [failure] = ET.fromstring(result.to_junit()).iter("failure")
    assert ("(on node1)" in failure.get("message")) == (host is not None)
    [span] = [
        event for event in json.loads(result.to_chrome_trace())["traceEvents"] if event["ph"] == "X" and event["tid"]
    ]
    assert span["args"].get("host") == host
    assert result.to_dict()["results"][0]["commandResult"].get("host") == host


def test_a_secret_shows_in_no_report():
    secret = Secret("hunter2")
    one = RunSpec(name="a", command="x", args=["-p", secret], env={"P": secret})
    ended = CommandResult(
        command="x", args=shown_args(one.options), exit_code=9, status=Status.KILLED, reason=EndReason.KILLED,
        output_bytes=b"the password is hunter2", masker=masker_for(one.options),
    )  # fmt: skip
    for error in (ended.failure(), None):
        result = whole(
            RunResult(spec=one, state=SpecState.FAILED, exit_code=9, error=error, wave=0, attempts=1, started=0.0,
                      command_result=ended)
        )  # fmt: skip
        texts = [
            json.dumps(result.to_dict()), result.to_junit(), result.to_chrome_trace(), result.to_mermaid(), repr(result),
            to_dot([one], result.results),
        ]  # fmt: skip
        assert not [text for text in texts if "hunter2" in text]
        assert "the password is ***" in texts[0]
        assert "the password is ***" in texts[1]
        assert "-p ***" in texts[2]


async def test_a_dict_has_everything_ready_for_json(autojump_clock):
    result = await every_outcome()
    data = json.loads(json.dumps(result.to_dict()))
    assert {key: value for key, value in data.items() if key != "results"} == {
        "success": False, "acceptable": False, "timedOut": False, "duration": 3.0, "passed": 3, "failed": 4, "skipped": 1,
    }  # fmt: skip
    said, _, skipped = data["results"][:3]
    assert said.pop("commandResult")["exitCode"] == 0
    assert said == {
        "name": "said", "state": "passed", "command": "said", "args": [], "dir": None, "after": [], "allowFailure": False,
        "exitCode": 0, "passed": True, "skipped": False, "error": None, "wave": 0, "attempts": 1, "started": 0.0,
        "duration": 1.0, "output": "hello\n",
    }  # fmt: skip
    assert (skipped["commandResult"], skipped["output"], skipped["skipped"]) == (None, "", True)
    assert "'bad'" in skipped["error"]
