"""`run --watch`: what a change concerns is stopped and run again, and nothing else is."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import forked
import pytest
from forked import Forked

ROOT = Path(__file__).parents[2]
LIMIT = 60

TEXT = """
[tasks.copy]
shell = "echo copying >>log; cat src/*.txt >all; echo copied $(cat all)"
inputs = "src/*.txt"
outputs = "all"

[tasks.count]
shell = "echo counting >>log; echo counted $(wc -l <all)"
after = ["copy"]
inputs = ["all", "conf/**"]

[tasks.app]
shell = "echo app $(cat app.cfg); exec sleep 1000"
inputs = ["app.cfg"]

[tasks.other]
shell = "echo other >>log; echo other; exec sleep 1000"
"""


class Watching:
    """A run under way, and the lines that it has written."""

    def __init__(self, process):
        self.process = process
        self.lines = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()

    def wait(self, text, times=1):
        """Wait until so many lines have a text in them."""
        with self._changed:
            found = self._changed.wait_for(lambda: sum(text in line for line in self.lines) >= times, LIMIT)
        assert found, (text, self.lines)

    def count(self, text):
        return sum(text in line for line in self.lines)

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(LIMIT)
        self._reader.join(LIMIT)
        return status

    def close(self):
        self.process.kill()
        self.process.wait(LIMIT)
        self._reader.join(LIMIT)
        self.process.stdout.close()


def environment(**extra):
    return {**os.environ, "PYTHONPATH": str(ROOT), "CI": "1", **extra}


@contextmanager
def watching(place, *args):
    process = Forked(
        ["run", "--watch", *args],
        cwd=place, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    found = Watching(process)
    try:
        yield found
    finally:
        found.close()


def refused(place, *args, **extra):
    done = forked.run(["run", "--watch", *args], cwd=place, env=environment(**extra), timeout=LIMIT)
    return done.returncode, done.stderr


@pytest.fixture
def place(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.txt").write_text("a\n")
    (tmp_path / "app.cfg").write_text("one")
    (tmp_path / "trio-process.toml").write_text(TEXT)
    return tmp_path


def test_what_a_change_concerns_runs_again_with_what_depends_on_it_and_nothing_else(place):
    with watching(place) as run:
        run.wait("counted 1")
        run.wait("| other")
        (place / "src" / "b.txt").write_text("b\n")
        run.wait("copied a b")
        run.wait("counted 2")
        assert run.interrupt() == 128 + signal.SIGINT
        assert run.count("| other") == 1
        assert run.count("| app one") == 1
    assert (place / "log").read_text().split().count("other") == 1


def test_what_runs_is_stopped_before_it_runs_again(place):
    with watching(place, "app", "other") as run:
        for number, word in enumerate(["one", "two", "three"]):
            (place / "app.cfg").write_text(word)
            run.wait(f"| app {word}")
            run.wait("stopped, because its inputs or dependencies have changed", number)
        assert run.interrupt() == 128 + signal.SIGINT
        assert run.count("| other") == 1


def test_a_burst_of_changes_is_one_run(place):
    with watching(place, "copy") as run:
        run.wait("waiting for changes")
        for number in range(50):
            (place / "src" / f"n{number:02}.txt").write_text(f"{number}\n")
        run.wait("waiting for changes", 2)
        assert run.interrupt() == 128 + signal.SIGINT
    assert (place / "log").read_text() == "copying\n" * 2


def test_outputs_do_not_count_nor_does_a_file_that_was_written_with_the_same_contents(place):
    with watching(place, "count") as run:
        run.wait("waiting for changes")
        (place / "all").write_text("not ours\n")  # an input of count, but an output of copy
        (place / "src" / "a.txt").write_text("a\n")
        (place / "conf").mkdir()
        (place / "conf" / "x").write_text("x")
        run.wait("waiting for changes", 2)
        (place / "src" / "a.txt").write_text("A\n")
        run.wait("copied A")
        run.wait("waiting for changes", 3)
        assert run.interrupt() == 128 + signal.SIGINT
    assert (place / "log").read_text() == "copying\ncounting\ncounting\ncopying\ncounting\n"


def test_a_failure_waits_for_its_change_also_where_it_halted_the_run(place):
    (place / "trio-process.toml").write_text(
        'cleanup-timeout = 1\n'
        '[tasks.check]\nshell = "echo checking; grep -q good src/a.txt"\ninputs = "src"\n'
        '[tasks.after]\nrun = "echo deployed"\nafter = ["check"]\n'
        '[tasks.server]\nshell = "echo serving; exec sleep 1000"\n'
        '[tasks.sorry]\nrun = "echo sorry"\nafter = ["check"]\nwhen = "failure"\n'
    )  # fmt: skip
    for mode in ("continue", "kill", "no-new"):
        (place / "src" / "a.txt").write_text("bad")
        with watching(place, "--on-failure", mode, "--force") as run:
            run.wait("| sorry")
            (place / "src" / "a.txt").write_text("good")
            run.wait("| deployed")
            run.wait("| serving", 2 if mode == "kill" else 1)
            assert run.interrupt() == 128 + signal.SIGINT


def test_a_directory_that_is_removed_and_made_again_is_watched_again(place):
    with watching(place, "copy") as run:
        run.wait("waiting for changes")
        (place / "src" / "a.txt").unlink()
        (place / "src").rmdir()
        run.wait("copy = ", 2)
        (place / "src").mkdir()
        (place / "src" / "a.txt").write_text("back\n")
        run.wait("copied back")
        (place / "src" / "a.txt").write_text("again\n")
        run.wait("copied again")
        assert run.interrupt() == 128 + signal.SIGINT


def test_what_can_not_be_watched_is_refused_with_the_reason(place):
    status, text = refused(place, "other")
    assert (status, text) == (
        2,
        "trio-process: --watch runs tasks again when their inputs change, and no chosen task has `inputs`; name some\n",
    )
    status, text = refused(place, "--schedule", "waves")
    assert (status, "leave --schedule waves out" in text) == (2, True)
    (place / "lib").mkdir()
    (place / "lib" / "sitecustomize.py").write_text("import sys\nsys.modules['watchfiles'] = None\n")
    done = subprocess.run(  # another start of Python
        [sys.executable, "-m", "trio_process", "run", "--watch"], cwd=place,
        env=environment(PYTHONPATH=os.pathsep.join([str(place / "lib"), str(ROOT)])),
        capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        2, "trio-process: --watch needs watchfiles; install it with: pip install 'trio-process[watch]'\n",
    )  # fmt: skip


EDITED = """
[tasks.copy]
shell = "echo copying >>log; cat src/*.txt"
inputs = "src/*.txt"
[tasks.app]
shell = "echo app ONE; exec sleep 1000"
"""


def replace(path, text):
    """Write a file as editors do."""
    new = path.with_name("new")
    new.write_text(text)
    new.rename(path)


def test_the_run_begins_anew_with_a_file_that_was_edited_and_goes_on_with_the_old_one_while_that_has_faults(place):
    file = place / "trio-process.toml"
    file.write_text(EDITED)
    with watching(place) as run:
        run.wait("| app ONE")
        run.wait("copy = passed")
        replace(file, EDITED + "nonsense = 1\n")
        run.wait("tasks.app.nonsense: unknown key")
        run.wait("The run goes on with the file as it was.")
        (place / "src" / "a.txt").write_text("A\n")
        run.wait("copy = passed", 2)
        replace(file, EDITED.replace("ONE", "TWO"))
        run.wait("trio-process.toml has changed; starting over")
        run.wait("| app TWO")
        run.wait("copy = up to date")
        (place / "src" / "a.txt").write_text("B\n")
        run.wait("copy | B")
        assert run.interrupt() == 128 + signal.SIGINT
        assert (run.count("| app ONE"), run.count("| app TWO")) == (1, 1)
    assert (place / "log").read_text() == "copying\n" * 3


@pytest.mark.parametrize("edited", ["an included file", "an env file"])
def test_what_the_file_was_read_from_counts_as_a_part_of_it_and_a_comment_changes_nothing(place, edited):
    (place / "trio-process.toml").write_text('include = { more = "more.toml" }\nenv-file = "vars"\n')
    more = '[tasks.copy]\nshell = "echo copied $WORD"\ninputs = "src"\n'
    (place / "more.toml").write_text(more)
    (place / "vars").write_text("WORD=one")
    with watching(place) as run:
        run.wait("copied $WORD")
        run.wait("waiting for changes")
        (place / "more.toml").write_text("# a comment\n" + more)
        if edited == "an env file":
            (place / "more.toml").write_text('env-file = "vars"\n' + more)
            run.wait("| copied one")
            (place / "vars").write_text("WORD=two")
            run.wait("| copied two")
        else:
            (place / "more.toml").write_text(more.replace("$WORD", "three"))
            run.wait("| copied three")
        assert run.interrupt() == 128 + signal.SIGINT
        assert run.count("starting over") == (2 if edited == "an env file" else 1)


def test_services_that_tasks_use_keep_running_while_these_begin_anew(place):
    (place / "trio-process.toml").write_text(
        "[services.db]\nshell = 'echo $$ >>pids; echo up; exec sleep 600'\nready = { line = 'up' }\n"
        "[tasks.test]\nshell = 'kill -0 $(cat pids) && cat src/a.txt'\nuses = ['db']\ninputs = 'src'\n"
    )
    with watching(place) as run:
        run.wait("test | a")
        for word in ("b", "c"):
            (place / "src" / "a.txt").write_text(f"{word}\n")
            run.wait(f"test | {word}")
        assert run.interrupt() == 128 + signal.SIGINT
    [pid] = (place / "pids").read_text().split()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_what_runs_on_an_agent_is_stopped_there_and_begins_anew(place):
    (place / "trio-process.toml").write_text(
        "[tasks.app]\nshell = 'echo $$ >>pids; echo app $(cat app.cfg); exec sleep 1000'\ninputs = 'app.cfg'\n"
    )
    with watching(place, "--executor", "local:1") as run:
        run.wait("| app one")
        (place / "app.cfg").write_text("two")
        run.wait("| app two")
        assert run.interrupt() == 128 + signal.SIGINT
    first, second = map(int, (place / "pids").read_text().split())
    for pid in (first, second):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
