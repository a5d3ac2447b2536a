"""`run` and its memory: up to date, `--force`, `why`, `--resume`; and tasks that use services of the file."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio
from forked import Forked
from invoke import invoke

from trio_process._cli.run import command
from trio_process._pipeline.memory import memory

ROOT = Path(__file__).parents[2]
TEXT = """
[tasks.copy]
shell = "echo copying; cat src/*.txt >all"
inputs = "src/*.txt"
outputs = "all"
[tasks.count]
shell = "echo counting; wc -c <all >n"
after = ["copy"]
inputs = ["conf"]
outputs = "n"
[tasks.always]
run = "echo always"
"""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.txt").write_text("a")
    (tmp_path / "trio-process.toml").write_text(TEXT)
    return tmp_path


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "CI": "1"}


def trio_process(*args, cwd):
    return invoke(*args, cwd=cwd, env={"CI": "1"})


def ran(done):
    return {word for word in ("copying", "counting", "always") if f"| {word}" in done.stdout}


def test_what_is_up_to_date_is_not_run_unless_forced(place):
    assert ran(trio_process("run", cwd=place)) == {"copying", "counting", "always"}
    again = trio_process("run", cwd=place)
    assert (again.returncode, ran(again)) == (0, {"always"})
    assert ran(trio_process("run", "--force", cwd=place)) == {"copying", "counting", "always"}
    assert ran(trio_process("run", "count", cwd=place)) == set()
    (place / "src" / "b.txt").write_text("b")
    assert ran(trio_process("run", "count", cwd=place)) == {"copying", "counting"}
    assert trio_process("run", "--only-failed", cwd=place).stdout == "no task failed last time\n"


def test_why_names_patterns_that_match_nothing(place):
    (place / "trio-process.toml").write_text('[tasks.t]\nrun = "true"\ninputs = ["scr/*.txt", "src/*.txt"]')
    trio_process("run", cwd=place)
    assert trio_process("why", "t", cwd=place).stdout.splitlines()[2:] == ["  no file matches the input scr/*.txt"]


def test_why_writes_no_control_characters_of_names(place):
    (place / "src" / "a\nb\x1b[31m.txt").write_text("")
    (place / "trio-process.toml").write_text('[tasks."a\\nb"]\nrun = "true"\ninputs = "src/*.txt"')
    trio_process("run", cwd=place)
    (place / "src" / "a\nb\x1b[31m.txt").unlink()
    told = trio_process("why", "a\nb", cwd=place).stdout.splitlines()
    assert told[0] == r"a\nb: would run because the input src/a\nb\x1b[31m.txt is gone"


def test_paths_that_the_locale_can_not_write_are_those_of_the_file(place):
    (place / "dö").mkdir()
    (place / "dö" / "ä.toml").write_text(
        '[tasks."ü"]\nshell = "cat ä; echo > ö"\ninputs = "ä"\noutputs = "*ö"\ndir = "${file.dir}"'
    )
    (place / "dö" / "ä").write_text("read")
    (place / "é").write_text("TP_X=known\nTP_Y=other")
    (place / "trio-process.toml").write_text(
        'include = { d = "dö/ä.toml" }\nenv-file = { path = "é", optional = true }\n'
        '[tasks.t]\nrun = "echo ${TP_X} ${TP_Y}"\ninputs = "dö/*"'
    )
    env = {**environment(), "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TP_Y": "ÿ"}
    done = subprocess.run(
        [sys.executable, "-m", "trio_process", "run", "--logs", "l"], cwd=place, env=env, capture_output=True, timeout=60, check=False
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert {path.name: path.read_text() for path in (place / "l").iterdir()} == {
        "t.log": "known ÿ\n",
        "d:ü.log": "read",
    }


def test_why_answers_for_every_task(place):
    def why(*names):
        return trio_process("why", *names, cwd=place).stdout.splitlines()

    assert why("copy") == ["copy: would run because it has not passed yet"]
    trio_process("run", cwd=place)
    told = why("copy", "always")
    assert told[0].startswith("copy: up to date since 2")
    assert told[1:] == [
        "  last run: passed; it ran because it had not passed yet",
        "always: would run because it has no `inputs`",
        "  last run: passed",
    ]
    (place / "src" / "a.txt").write_text("A")
    (place / "all").unlink()
    reasons = "because the input src/a.txt changed, and because the output all is gone"
    assert why("copy")[0] == f"copy: would run {reasons}"
    trio_process("run", cwd=place)
    assert why("copy")[1] == f"  last run: passed; it ran {reasons}"
    trio_process("run", "--force", cwd=place)
    assert why("copy")[1] == "  last run: passed; it ran because of --force"
    trio_process("run", cwd=place)
    assert why("copy")[1].startswith("  last run: not run; up to date since 2")
    (place / "trio-process.toml").write_text(TEXT.replace("echo copying;", "echo copying; false;"))
    assert why("copy")[0].startswith("copy: would run because the command differs (sh -e -c ")
    trio_process("run", cwd=place)
    assert why("copy")[1].startswith("  last run: failed; it ran because the command differs (sh ")
    assert why("count")[1] == "  last run: skipped; it needs 'copy', which failed"


@pytest.mark.parametrize(
    ("args", "said"), [(["nope"], "no task is named 'nope'"), (["copy", "-f", "x.toml"], "can't read")]
)
def test_why_of_what_is_not_there_is_a_usage_error(place, args, said):
    done = trio_process("why", *args, cwd=place)
    assert (done.returncode, said in done.stderr) == (2, True)


RESUMED = """
[tasks.first]
shell = 'echo "first $*" >>log'
[tasks.second]
shell = 'echo "second $*" >>log; test -e go || exec sleep 60'
after = ["first"]
[tasks.third]
shell = "echo third >>log"
after = ["second"]
[tasks.other]
shell = "echo other >>log"
"""


def until(true):
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_was_cut_short_goes_on(place, number):
    (place / "trio-process.toml").write_text(RESUMED)
    log = place / "log"
    words = ["run", "third", "first", "--", "x"]
    with Forked(words, cwd=place, env=environment(), stdout=subprocess.DEVNULL) as one:
        until(lambda: log.exists() and "second" in log.read_text())
        one.send_signal(number)
        one.wait(timeout=60)
    (place / "go").touch()
    done = trio_process("run", "--resume", cwd=place)
    assert done.returncode == 0, done
    assert log.read_text() == "first x\nsecond \nsecond \nthird\n"
    assert trio_process("run", "--resume", cwd=place).returncode == 0
    assert log.read_text() == "first x\nsecond \nsecond \nthird\n"
    (place / "trio-process.toml").write_text(RESUMED.replace('echo "second $*"', 'echo "changed"'))
    assert trio_process("run", "--resume", cwd=place).returncode == 0
    assert log.read_text() == "first x\nsecond \nsecond \nthird\nchanged\nthird\n"


def test_what_has_inputs_is_resumed_by_them_and_stays_up_to_date(place):
    (place / "trio-process.toml").write_text(TEXT.replace("echo counting", "echo counting; test -e go"))
    assert trio_process("run", cwd=place).returncode == 1
    (place / "go").touch()
    assert ran(trio_process("run", "--resume", cwd=place)) == {"counting"}
    assert ran(trio_process("run", "count", cwd=place)) == set()
    (place / "src" / "a.txt").write_text("A")
    assert ran(trio_process("run", "--resume", cwd=place)) == {"copying", "counting"}


@pytest.mark.parametrize("args", [["copy"], ["--only-failed"], ["--", "x"]])
def test_a_resumed_run_takes_no_tasks_and_arguments_of_its_own(place, args):
    trio_process("run", cwd=place)
    done = trio_process("run", "--resume", *args, cwd=place)
    assert (done.returncode, "leave these out" in done.stderr) == (2, True)


def test_without_a_run_there_is_nothing_to_resume(place):
    done = trio_process("run", "--resume", cwd=place)
    assert (done.returncode, "there is no run to resume" in done.stderr) == (2, True)


def test_tasks_use_services_of_their_file_which_end_with_the_last(place):
    (place / "trio-process.toml").write_text(
        "[services.db]\nshell = 'echo $$ >pid; echo up; exec sleep 600'\nready = { line = 'up' }\n"
        "[services.unused]\nshell = 'touch unused; exec sleep 600'\n"
        "[tasks.test]\nshell = 'kill -0 $(cat pid) && echo it runs'\nuses = ['db']\n[tasks.after]\nshell = 'sleep 0'\nafter = ['test']"
    )
    done = trio_process("run", cwd=place)
    assert (done.returncode, "| it runs" in done.stdout) == (0, True), done
    with pytest.raises(ProcessLookupError):
        os.kill(int((place / "pid").read_text()), 0)
    assert not (place / "unused").exists()


def test_a_service_that_can_not_be_ready_fails_the_tasks_that_use_it(place):
    (place / "trio-process.toml").write_text(
        "[services.db]\nshell = 'exit 3'\nrestart = 'never'\n[tasks.test]\nrun = 'echo no'\nuses = ['db']\n[tasks.fine]\nrun = 'echo fine'"
    )
    done = trio_process("run", cwd=place)
    assert done.returncode == 1
    assert "fine | fine" in done.stdout
    assert "test | no" not in done.stdout


UNCHANGED = """
default = ["two", "one", "zero"]
[tasks.one]
run = "true"
after = ["two"]
inputs = ["src"]
[tasks.two]
run = "true"
inputs = ["src/a.txt", "conf"]
[tasks.zero]
run = "true"
inputs = ["src"]
[tasks.runs]
run = "echo it runs"
"""


@pytest.fixture
def indexed(place, monkeypatch):
    """A file of which everything by default is up to date, with an index of its memory."""
    monkeypatch.setattr(memory, "WORTH_AN_INDEX", 0)
    old = time.time() - 3600
    for path in (place / "src" / "a.txt", place / "conf"):
        path.write_text("x")
        os.utime(path, (old, old))
    (place / "trio-process.toml").write_text(UNCHANGED)
    assert trio_process("run", cwd=place).returncode == 0
    return place


def without_duration(text):
    return re.sub(r" in [0-9.]+ m?s\n", " in T\n", text)


@pytest.mark.parametrize("args", [[], ["--output", "group"], ["--output", "raw"], ["one"], ["-j", "1"]])
def test_a_run_with_nothing_to_do_shows_the_same_without_an_event_loop(indexed, monkeypatch, args):
    with monkeypatch.context() as patched:
        patched.setattr(command, "show_unchanged", lambda *_: False)
        expected = trio_process("run", *args, cwd=indexed)
    told = trio_process("why", "one", "two", "zero", cwd=indexed).stdout
    states = (indexed / ".trio-process" / "trio-process.toml.json").read_text()
    with monkeypatch.context() as patched:
        patched.setattr(trio, "run", lambda *_, **__: pytest.fail("there was something to wait for"))
        done = trio_process("run", *args, cwd=indexed)
    assert without_duration(done.stdout) == without_duration(expected.stdout)
    assert (done.returncode, done.stderr) == (expected.returncode, expected.stderr) == (0, "")
    assert trio_process("why", "one", "two", "zero", cwd=indexed).stdout == told
    assert (indexed / ".trio-process" / "trio-process.toml.json").read_text() == states
    assert f"{1 + len(args) if args == ['one'] else 3} up to date in " in done.stdout


@pytest.mark.parametrize(
    "args", [["--force"], ["--timeout", "60"], ["--report", "json=r.json"], ["--logs", "l"], ["runs"], ["one", "runs"]]
)
def test_with_anything_else_to_do_it_is_a_run_like_any_other(indexed, monkeypatch, args):
    ran = []
    run = trio.run
    monkeypatch.setattr(trio, "run", lambda *args, **options: (ran.append(args), run(*args, **options))[1])
    done = trio_process("run", *args, cwd=indexed)
    assert (done.returncode, len(ran)) == (0, 1)
    assert ("passed" in done.stdout) == (args[-1] in ("--force", "runs"))


def test_what_has_changed_since_is_run_and_the_rest_is_not(indexed):
    (indexed / "conf").write_text("y")
    done = trio_process("run", cwd=indexed)
    assert (done.returncode, "1 passed, 2 up to date" in done.stdout) == (0, True), done.stdout
    assert "3 up to date" in trio_process("run", cwd=indexed).stdout
