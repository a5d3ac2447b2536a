"""Each benchmark runs, with tiny sizes; how fast anything is, is not tested here."""

import json
import math
import time
import xml.etree.ElementTree as ET

import pytest

from bench import plot, report
from bench.__main__ import BENCHMARKS, main
from bench.harness import Contender, Outcome, Time, measure, take_sample

SCALE = 0.002


@pytest.mark.parametrize("name", BENCHMARKS)
def test_our_part_of_a_benchmark_runs_and_yields_every_figure(name):
    benchmark = BENCHMARKS[name]
    ours = next(one for one in benchmark.contenders if one.name in ("trio_process", "trio_process, one agent"))
    if ours.missing():
        pytest.skip(f"not installed: {ours.missing()}")
    values = dict(ours.run(SCALE))
    assert values.keys() == {key for figure in benchmark.figures for key in figure.keys}
    # at such a size the memory of a child may even seem to be less than none
    assert all(math.isfinite(value) for value in values.values())


def test_results_become_a_table_json_and_a_picture():
    benchmark = BENCHMARKS["runs"]
    rounds = [
        {"trio_process": {"runs": 1400.0, "runs.cpu": 200.0}, "trio.run_process": {"runs": peer, "runs.cpu": 400.0}}
        for peer in (900.0, 1000.0, 1100.0)
    ]
    row = report.summarize(Outcome(benchmark, 1.0, rounds, {"sh": "not installed: sh"}, [0.5], [20.0]))
    assert row["goals"][:2] == [
        {"text": "at most 0.40 of the processor time of trio.run_process", "value": 0.5, "met": False},
        {"text": "at least 1.35 x trio.run_process", "value": 1.4, "met": True},
    ]
    table = report.table(row)
    assert "own CPU 400 µs a run, ours is 0.50 x" in table
    assert "| trio.run_process | 1,000 | 900 to 1,100 | 1.40 | 400 | 0.50 |" in report.markdown([row])
    assert "ours is 1.40 x this" in table
    assert "skipped: sh: not installed: sh" in table
    assert json.loads(json.dumps(row)) == row
    picture = ET.fromstring(plot.draw([row]))
    assert len(picture.findall(".//{http://www.w3.org/2000/svg}rect")) == 2


def test_every_goal_names_contenders_and_figures_that_there_are():
    for benchmark in BENCHMARKS.values():
        names = {contender.name for contender in benchmark.contenders}
        for goal in benchmark.goals:
            assert goal.ours in names
            assert goal.peer is None or goal.peer in names
            assert goal.figure in {key for figure in benchmark.figures for key in figure.keys}
            assert (goal.least is None) != (goal.most is None)


def test_a_ratio_is_taken_within_a_round():
    rounds = [
        {"trio_process": {"runs": 10.0}},  # in which the peer failed
        {"trio_process": {"runs": 20.0}, "sh": {"runs": 10.0}},
        {"trio_process": {"runs": 40.0}, "sh": {"runs": 20.0}},
    ]
    outcome = Outcome(BENCHMARKS["runs"], 1.0, rounds)
    assert outcome.ratio("sh", "runs") == 2
    assert outcome.ratio("subprocess.run", "runs") is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--minutes", "nan"], "--minutes must be a number above 0"),
        (["--minutes", "0"], "--minutes must be a number above 0"),
        (["--scale", "inf"], "--scale must be a number above 0"),
        (["--rounds", "0"], "--rounds must be at least 1"),
        (["--sample", "trio_process"], "--sample takes one benchmark"),
        (["runs", "lines", "--sample", "trio_process"], "--sample takes one benchmark"),
        (["health", "--sample", "sh"], "no such contender: sh"),
        (["nonsense"], "no such benchmark: nonsense"),
    ],
)
def test_a_wrong_call_is_explained(monkeypatch, capsys, words, said):
    monkeypatch.setattr("sys.argv", ["bench", *words])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert said in capsys.readouterr().err


def test_a_sample_of_a_peer_that_is_missing_says_so(monkeypatch, capsys):
    monkeypatch.setattr(Contender, "missing", lambda self: ["something"])
    monkeypatch.setattr("sys.argv", ["bench", "runs", "--sample", "trio.run_process"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "trio.run_process is not installed: something" in capsys.readouterr().err


def test_a_sample_that_takes_too_long_is_ended_with_its_children():
    begin = time.monotonic()
    with pytest.raises(RuntimeError, match="it took more than 0 seconds"):
        take_sample("runs", "trio_process", 1000, 0.3)
    assert time.monotonic() - begin < 10


def test_no_sample_is_begun_when_the_time_is_over():
    outcome = measure(BENCHMARKS["runs"], 1, SCALE, len, ["trio_process"], Time(end=time.monotonic()))
    assert outcome.skipped == {"trio_process": "the time was over"}
