"""The first signal stops, the second ends every grace, the third exits; nohup is respected."""

import signal
import sys

import pytest
from forked import run_program

from trio_process._core import Escalation, stop_signals

ALL = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


def test_the_first_stops_and_the_second_hurries():
    seen = []
    escalation = Escalation(
        stop=lambda number: seen.append(("stop", number)), hurry=lambda number: seen.append(("hurry", number))
    )
    assert escalation.first is None
    escalation.receive(signal.SIGTERM)
    assert seen == [("stop", signal.SIGTERM)]
    escalation.receive(signal.SIGINT)
    assert seen == [("stop", signal.SIGTERM), ("hurry", signal.SIGINT)]
    assert escalation.first == signal.SIGTERM


def test_a_handler_delivers_by_way_of_the_loop():
    delivered = []

    def stop(number): ...
    def hurry(number): ...

    escalation = Escalation(stop=stop, hurry=hurry, deliver=lambda *call: delivered.append(call))
    escalation.receive(2)
    escalation.receive(15)
    assert delivered == [(stop, 2), (hurry, 15)]


@pytest.mark.parametrize("last_words", ["os.write(1, b'bye')", "(os.write(1, b'bye'), 1 / 0)"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_third_exits_after_the_last_words_whatever_they_raise(last_words, number):
    code = f"""
import atexit, os
from trio_process._core import Escalation
atexit.register(lambda: os.write(1, b"never"))
escalation = Escalation(stop=print, hurry=print, deliver=lambda *call: None, last_words=lambda: {last_words})
for _ in range(3):
    escalation.receive({int(number)})
"""
    done = run_program([sys.executable, "-c", code], timeout=60)
    assert done.returncode == 128 + number
    assert done.stdout == "bye"


@pytest.mark.parametrize("ignored", [[], [signal.SIGHUP], [signal.SIGINT, signal.SIGHUP], sorted(ALL)])
def test_ignored_signals_stay_ignored(ignored):
    code = "from trio_process._core import stop_signals; print(*stop_signals())"
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    try:
        done = run_program([sys.executable, "-c", code], timeout=60)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert done.returncode == 0, done
    assert {int(number) for number in done.stdout.split()} == ALL - set(ignored)


def test_without_nohup_all_three_stop():
    assert set(stop_signals()) == ALL
