"""`trio-process run`, as one would run it: exit codes, files, signals, terminals."""

import errno
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import NamedTuple

import forked
import pytest
from click.testing import CliRunner
from forked import Forked, become
from support import wait_until

from trio_process._cli.find import find_file
from trio_process._cli.main import cli as whole_command_line
from trio_process._core import PipelineError
from trio_process._pipeline import read_pipeline

ROOT = Path(__file__).parents[2]
PIPELINE = """
[tasks.lint]
run = "echo all clean"
description = "Style"
[tasks.test]
shell = "echo testing; exit ${matrix.code}"
after = ["lint"]
matrix = { code = [0, 3] }
[tasks.ship]
run = "echo shipped"
after = ["test"]
[tasks.other]
run = "echo other"
"""


def environment(**more):
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("CI", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
    }
    return {**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **more}


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Run the command in a directory that holds the given pipeline: in this process, as starting another takes longer."""
    monkeypatch.chdir(tmp_path)

    def cli(*args, text=PIPELINE, name="trio-process.toml"):
        if text is not None:
            (tmp_path / name).write_text(text)
        done = CliRunner().invoke(whole_command_line, ["run", *args])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        return Done(done.exit_code, done.stdout, done.stderr)

    return cli


@pytest.fixture
def process(tmp_path):
    """Do the same in a process of its own."""

    def process(*args, text=PIPELINE, **more):
        (tmp_path / "trio-process.toml").write_text(text)
        return forked.run(["run", *args], cwd=tmp_path, env=environment(**more), timeout=60)

    return process


class TestPlainRuns:
    def test_lines_have_their_task_in_front_and_a_failure_gives_1(self, process):
        done = process()
        assert done.returncode == 1
        lines = done.stdout.splitlines()
        assert "lint   | all clean" in lines
        assert "test-3 | testing" in lines
        assert any(line.startswith("test-3 = exited with code 3 after ") for line in lines)
        assert "ship   = skipped: it needs 'test-3', which failed" in lines
        account = done.stdout[done.stdout.index("\n\n") :]
        assert re.search(
            r"FAILED test-3: exited with code 3 after .*\n  \$ echo testing; exit 3\n  \| testing\n  not run because of it: ship\n",
            account,
        )
        assert re.search(r"\n3 passed, 1 failed, 1 not run in .*\n$", account)
        assert done.stderr == ""

    def test_named_tasks_bring_what_they_need_and_success_gives_0(self, cli):
        done = cli("test-0", "other")
        assert done.returncode == 0
        assert sorted(re.findall(r"^(\S+) +\$", done.stdout, re.MULTILINE)) == ["lint", "other", "test-0"]
        assert "test-3" not in done.stdout

    def test_an_allowed_failure_is_acceptable(self, cli):
        done = cli(text="[tasks.may]\nrun='false'\nallow-failure=true\n[tasks.after]\nrun='true'\nafter=['may']")
        assert (done.returncode, "1 passed, 1 failed as allowed" in done.stdout) == (0, True)

    def test_output_of_many_tasks_is_never_torn_within_a_line(self, cli):
        text = "".join(f"[tasks.t{n}]\nshell = 'yes {str(n) * 60} | head -n 3000'\n" for n in range(6))
        done = cli("-j", "6", text=text)
        assert done.returncode == 0
        lines = [line for line in done.stdout.splitlines() if re.match(r"t\d \| ", line)]
        assert len(lines) == 18_000
        assert all(re.fullmatch(r"t(\d) \| \1{60}", line) for line in lines)

    def test_both_streams_go_to_stdout_and_the_last_line_needs_no_newline(self, cli):
        done = cli(text="[tasks.t]\nshell = 'echo err >&2; printf end'")
        assert {"t | err", "t | end"} <= set(done.stdout.splitlines())

    def test_a_start_failure_is_told_with_what_was_not_found(self, cli):
        done = cli(text="[tasks.t]\nrun = 'no-such-program x'")
        assert done.returncode == 1
        assert "no-such-program" in done.stdout
        assert "FAILED t: " in done.stdout

    def test_a_file_that_is_not_executable_is_told(self, cli, tmp_path):
        (tmp_path / "script").write_text("#!/bin/sh\n")
        done = cli(text="[tasks.t]\nrun = './script'")
        assert done.returncode == 1
        assert "FAILED t: " in done.stdout
        assert "script" in done.stdout

    @pytest.mark.parametrize(("mode", "later"), [("continue", "passed"), ("no-new", "skipped"), ("kill", "skipped")])
    def test_the_failure_mode_is_passed_on(self, cli, mode, later):
        # slow ends when bad has been reaped, so that its failure is known; where it is to be killed for that, not at all
        slow = "until [ -s bad ]; do sleep 0.02; done; while [ -e /proc/$(cat bad) ]; do sleep 0.02; done; sleep 0.1"
        text = (
            "[tasks.bad]\nshell='echo $$ > bad; exit 1'\n"
            f"[tasks.slow]\nshell='{'sleep 60' if mode == 'kill' else slow}'\n"
            "[tasks.later]\nrun='true'\nafter=['slow']\n"
        )
        done = cli("--on-failure", mode, text=text)
        assert done.returncode == 1
        assert re.search(rf"^later *= {later}", done.stdout, re.MULTILINE)
        assert ("stopped because of it: slow" in done.stdout) is (mode == "kill")

    def test_a_timeout_of_the_whole_stops_and_gives_1(self, cli):
        started = time.monotonic()
        done = cli("--timeout", "300ms", text="[tasks.t]\nrun='sleep 60'\n[tasks.u]\nrun='true'\nafter=['t']")
        assert time.monotonic() - started < 30
        assert done.returncode == 1
        assert "t = ran into its timeout" in done.stdout
        assert done.stdout.rstrip().endswith("the --timeout ran out")

    def test_waves_wait_and_eager_does_not(self, cli, tmp_path):
        text = (
            "[tasks.quick]\nrun='true'\n[tasks.slow]\nshell='while [ ! -e go ]; do sleep 0.02; done'\n"
            "[tasks.next]\nrun='touch go'\nafter=['quick']\n"
        )
        assert cli("--timeout", "20", text=text).returncode == 0
        (tmp_path / "go").unlink()
        assert cli("--schedule", "waves", "--timeout", "0.5", text=text).returncode == 1

    def test_jobs_bound_what_runs_at_the_same_time(self, cli, tmp_path):
        text = "".join(f"[tasks.t{n}]\nshell='mkdir only || exit 1; sleep 0.05; rmdir only'\n" for n in range(4))
        assert cli("--jobs", "1", text=text).returncode == 0

    def test_a_procfile_is_run_all_at_once(self, cli):
        text = "".join(
            f"p{n}: touch {n}; while [ $(ls [0-9]* | wc -l) -lt 9 ]; do sleep 0.02; done\n" for n in range(9)
        )
        assert cli("--timeout", "30", text=text, name="Procfile").returncode == 0

    def test_every_name_survives_every_report(self, cli, tmp_path):
        names = ["a b", 'it\'s "q"', "two\nlines", "../up", "größe→", "<&>", "\x1b[2J"]
        text = "".join(f"[tasks.{json.dumps(name)}]\nshell='echo x; exit 1'\n" for name in names)
        done = cli("--report", "junit=out/j.xml,json=out/j.json", "--report", "trace=out/t.json", text=text)
        assert done.returncode == 1
        assert "\x1b" not in done.stdout
        assert [one["name"] for one in json.loads((tmp_path / "out/j.json").read_bytes())["results"]] == names
        cases = [case.get("name") for case in ET.fromstring((tmp_path / "out/j.xml").read_bytes()).iter("testcase")]
        assert cases == [*names[:-1], "\\x1b[2J"]
        traced = {event["name"] for event in json.loads((tmp_path / "out/t.json").read_bytes())["traceEvents"]}
        assert set(names) <= traced

    def test_an_encoding_that_lacks_a_character_fails_nothing(self, process):
        done = process(text="[tasks.'ü']\nrun='echo →'", PYTHONIOENCODING="ascii")
        assert done.returncode == 0
        assert "\\xfc | \\u2192" in done.stdout


class TestOnlyFailed:
    def test_it_runs_what_did_not_pass_with_what_it_needs(self, cli, tmp_path):
        text = "[tasks.a]\nrun='true'\n[tasks.b]\nrun='test -e go'\nafter=['a']\n[tasks.c]\nrun='true'\nafter=['b']\n[tasks.d]\nrun='true'\n"
        assert cli(text=text).returncode == 1
        assert cli("d", text=None).returncode == 0  # what was not run keeps its state
        (tmp_path / "go").touch()
        done = cli("--only-failed", text=None)
        assert done.returncode == 0
        assert re.findall(r"^(\S+) +\$", done.stdout, re.MULTILINE) == ["a", "b", "c"]
        done = cli("--only-failed", text=None)
        assert (done.returncode, done.stdout) == (0, "no task failed last time\n")

    def test_without_names_a_task_outside_the_default_runs_again_too(self, cli):
        assert cli("deploy", text="[tasks.t]\nrun='true'\n[tasks.deploy]\nrun='false'\nmanual=true\n").returncode == 1
        assert cli("t", text=None).returncode == 0
        done = cli("--only-failed", text=None)
        assert (done.returncode, re.findall(r"^(\S+) +\$", done.stdout, re.MULTILINE)) == (1, ["deploy"])
        assert cli("t", "--only-failed", text=None).stdout == "none of these tasks failed last time\n"
        assert cli("--only-failed", text="[tasks.t]\nrun='true'").stdout == "no task failed last time\n"

    def test_without_a_last_run_it_says_so(self, cli):
        done = cli("--only-failed")
        assert done.returncode == 2
        assert "nothing was run yet" in done.stderr

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "[]",
            '{"version": 2}',
            '{"version": 1, "tasks": 3}',
            "\xff",
            pytest.param("[" * 200_000, id="200,000 ["),
        ],
    )
    def test_results_that_are_not_ours_are_told_and_replaced_by_the_next_run(self, cli, tmp_path, text):
        state = tmp_path / ".trio-process" / "trio-process.toml.json"
        state.parent.mkdir()
        state.write_bytes(text.encode("latin-1"))
        done = cli("--only-failed", text="[tasks.t]\nrun='true'")
        assert done.returncode == 2
        assert "can't read the last results" in done.stderr
        assert "Traceback" not in done.stderr
        assert cli(text=None).returncode == 0
        assert cli("--only-failed", text=None).stdout == "no task failed last time\n"

    def test_a_directory_that_can_not_be_written_to_costs_nothing_else(self, cli, tmp_path):
        (tmp_path / ".trio-process").write_text("in the way")
        done = cli("lint")
        assert (done.returncode, done.stderr) == (0, "")

    def test_what_is_kept_stays_out_of_version_control(self, cli, tmp_path):
        cli("lint")
        assert (tmp_path / ".trio-process" / ".gitignore").read_text() == "*\n"


class TestUsage:
    @pytest.mark.parametrize(
        ("args", "says"),
        [
            (["-f", "missing.toml"], "can't read 'missing.toml': No such file"),
            (["-f", "."], "Is a directory"),
            (["lnit"], "no task is named 'lnit'; did you mean 'lint'?"),
            (["--report", "junt=x"], "unknown kind of report 'junt'; did you mean 'junit'?"),
            (["--report", "junit"], "needs a file: junit=FILE"),
            (["--report", "junit=."], "is a directory"),
            (["--timeout", "soon"], "expected seconds, or a text such as 90s or 10m"),
            (["--jobs", "0"], "--jobs"),
            (["--schedule", "x"], "--schedule"),
            (["--nonsense"], "--nonsense"),
            (["-f", ""], "must not be empty"),
            (["-f", "loop/x.toml"], "can't read 'loop/x.toml': Too many levels of symbolic links"),
        ],
    )
    def test_a_mistake_gives_2_and_says_what_to_do(self, cli, tmp_path, args, says):
        (tmp_path / "loop").symlink_to("loop")
        done = cli(*args)
        assert done.returncode == 2
        assert says in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""

    @pytest.mark.parametrize(
        ("word", "hint"), [("lint", ""), ("rn", "; did you mean 'run'?"), ("demon", "; did you mean 'daemon'?")]
    )
    def test_an_unknown_command_says_how_a_task_is_run(self, word, hint):
        done = CliRunner().invoke(whole_command_line, [word])
        said = f"there is no command '{word}'; a task is run by `trio-process run TASK`{hint}\n"
        assert (done.exit_code, done.output.split("Error: ")[1]) == (2, said)

    def test_a_bad_file_gives_2_and_every_fault(self, cli):
        done = cli(text="[tasks.a]\ncmd='x'\n[tasks.b]\nrun='x'\nafter=['c']\n")
        assert done.returncode == 2
        assert done.stderr == (
            "trio-process: 3 faults:\n"
            '  trio-process.toml:1: tasks.a: has neither `run` nor `shell`; write what it runs, such as run = "pytest -q"\n'
            "  trio-process.toml:2: tasks.a.cmd: unknown key; this is written `run` here\n"
            '  trio-process.toml:5: tasks.b.after[0]: no task is named "c"\n'
        )

    @pytest.mark.parametrize("words", [[], ["--list"], ["-f", "x.toml"], ["-f", "../x.toml"]])
    def test_a_working_directory_that_was_removed_gives_2_and_a_word(self, cli, tmp_path, words):
        (tmp_path / "gone").mkdir()
        os.chdir(tmp_path / "gone")  # the fixture sees to the way back
        (tmp_path / "gone").rmdir()
        done = cli(*words, text=None)
        assert (done.returncode, done.stdout) == (2, "")
        assert "the working directory can't be determined: No such file or directory" in done.stderr

    @pytest.mark.parametrize("name", ["file/x.json", "x" * 300])
    def test_a_report_that_can_not_be_written_is_told_after_the_run(self, cli, tmp_path, name):
        (tmp_path / "file").touch()
        done = cli("lint", "--report", f"json={name}")
        assert done.returncode == 1
        assert f"can't write the json report '{name}'" in done.stderr

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
    def test_a_parent_that_may_not_be_searched_is_passed_over(self, tmp_path):
        inner = tmp_path / "closed" / "inner"
        inner.mkdir(parents=True)
        (tmp_path / "closed").chmod(0)
        child = os.fork()
        if child == 0:
            os.setuid(65534)
            try:
                find_file(inner)
            except PipelineError as error:
                os._exit(0 if "name a file with -f" in str(error) else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    def test_no_file_anywhere_is_told(self, cli, monkeypatch):
        monkeypatch.setattr("trio_process._cli.find.NAMES", ("no-such-name-1", "no-such-name-2"))
        done = cli(text=None)
        assert done.returncode == 2
        assert "name a file with -f" in done.stderr


class TestFind:
    def test_the_nearest_directory_wins_and_within_it_the_order_of_names(self, tmp_path):
        inner = tmp_path / "a" / "b"
        inner.mkdir(parents=True)
        (tmp_path / "Procfile").write_text("web: true")
        assert find_file(inner) == tmp_path / "Procfile"
        (tmp_path / "a" / "Procfile").write_text("web: true")
        (tmp_path / "a" / "pyproject.toml").write_text("[project]\nname='x'")
        assert find_file(inner) == tmp_path / "a" / "Procfile"
        (tmp_path / "a" / "pyproject.toml").write_text("[tool.trio-process.tasks.t]\nrun='true'")
        assert find_file(inner) == tmp_path / "a" / "pyproject.toml"
        (tmp_path / "a" / "trio-process.toml").write_text("")
        assert find_file(inner) == tmp_path / "a" / "trio-process.toml"
        assert find_file(tmp_path / "a") == Path("trio-process.toml")

    def test_a_directory_of_that_name_is_passed_over(self, tmp_path, monkeypatch):
        (tmp_path / "trio-process.toml").mkdir()
        monkeypatch.setattr("trio_process._cli.find.NAMES", ("trio-process.toml",))
        with pytest.raises(PipelineError):
            find_file(tmp_path)


class TestOverviews:
    def test_list_tells_descriptions_or_commands(self, cli):
        assert cli("--list").stdout == (
            "lint   Style\ntest   echo testing; exit 0  (test-0, test-3)\nship   echo shipped\nother  echo other\n"
        )

    @pytest.mark.parametrize("words", [[], ["--list"], ["--dry-run"], ["--graph"], ["--only-failed"], ["--watch"]])
    def test_a_file_of_services_has_no_tasks(self, cli, words):
        done = cli(*words, text="[services.web]\nrun = 'sleep 1000'\n")
        shown = "trio-process.toml has no tasks; trio-process up starts its services\n"
        assert (done.returncode, done.stdout, done.stderr) == (0, shown, "")
        assert json.loads(cli("--list", "--json", text=None).stdout)["tasks"] == []

    @pytest.mark.parametrize(("retries", "told"), [(1, "1 retry\n"), (2, "2 retries\n")])
    def test_dry_run_counts_retries(self, cli, retries, told):
        assert cli("--dry-run", text=f"[tasks.t]\nrun = 'x'\nretries = {retries}").stdout.endswith(told)

    def test_dry_run_tells_the_waves_and_runs_nothing(self, cli, tmp_path):
        assert cli("--dry-run", "test-3").stdout == (
            "wave 0\n  lint    echo all clean\nwave 1\n  test-3  echo testing; exit 3\n            after lint\n"
        )
        assert not (tmp_path / ".trio-process").exists()

    @pytest.mark.parametrize("args", [["--graph", "test-3"], ["test-3", "--graph"], ["--graph=mermaid", "test-3"]])
    def test_graph_is_mermaid_also_when_a_task_follows(self, cli, args):
        shown = cli(*args).stdout
        assert shown.startswith("flowchart")
        assert '"test-3"' in shown
        assert "ship" not in shown

    def test_graph_for_dot(self, cli):
        assert cli("--graph=dot").stdout.startswith("digraph")


class TestSignals:
    def start(self, tmp_path, text, *args, **more):
        (tmp_path / "trio-process.toml").write_text(text)
        return Forked(["run", *args], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True, **more)

    @pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
    def test_a_signal_stops_every_process_first_and_gives_its_status(self, tmp_path, number, status):
        text = (
            "[tasks.t]\nshell = 'trap \"echo cleaning; exit 0\" INT TERM HUP; echo $$ > pid; echo up; while :; do sleep 0.05; done'\nafter=['done']\n"
            "[tasks.done]\nrun='true'\n[tasks.never]\nrun='true'\nafter=['t']\n"
        )
        with self.start(tmp_path, text, "--report", "json=r.json") as process:
            wait_for(process, "t     | up")
            process.send_signal(number)
            rest = process.stdout.read()
        assert process.returncode == status
        assert "t     | cleaning" in rest
        assert "1 passed, 1 interrupted, 1 not run" in rest
        assert not alive(int((tmp_path / "pid").read_text()))
        results = {one["name"]: one["state"] for one in json.loads((tmp_path / "r.json").read_bytes())["results"]}
        assert results == {"t": "failed", "done": "passed", "never": "skipped"}

    @pytest.mark.parametrize("words", [[], ["--list"]])
    async def test_ctrl_c_while_the_file_is_read_gives_130_and_no_word(self, tmp_path, words):
        fifo = tmp_path / "x.toml"
        os.mkfifo(fifo)
        with Forked(
            ["run", *words, "-f", str(fifo)],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            try:
                writer = await wait_until(lambda: open_to_write(fifo))
                process.send_signal(signal.SIGINT)
                os.close(writer)  # should it come in the moment before the read, that would not be interrupted
                said, _ = process.communicate(timeout=60)
            finally:
                process.kill()
        assert (process.returncode, said) == (130, b"")

    def test_a_second_signal_ends_the_grace(self, tmp_path):
        text = "[tasks.t]\ngrace-period='60s'\nshell = 'trap \"echo no\" INT; echo $$ > pid; echo up; while :; do sleep 0.05; done'\n"
        with self.start(tmp_path, text) as process:
            wait_for(process, "t | up")
            process.send_signal(signal.SIGINT)
            wait_for(process, "t | no")
            started = time.monotonic()
            process.send_signal(signal.SIGINT)
            process.stdout.read()
        assert process.returncode == 130
        assert time.monotonic() - started < 20
        assert not alive(int((tmp_path / "pid").read_text()))

    def test_a_reader_that_leaves_ends_the_run_quietly(self, tmp_path):
        text = "[tasks.t]\nshell = 'echo $$ > pid; while :; do echo line; sleep 0.01; done'\n"
        with self.start(tmp_path, text, stderr=subprocess.PIPE) as process:
            wait_for(process, "t | line")
            process.stdout.close()
            assert process.stderr.read() == ""
        assert process.returncode == 141
        assert not alive(int((tmp_path / "pid").read_text()))

    @pytest.mark.parametrize("closed", [[0], [1], [2]])
    def test_a_closed_standard_stream_fails_nothing(self, tmp_path, closed):
        (tmp_path / "trio-process.toml").write_text("[tasks.t]\nshell = 'echo said; echo so >&2; cat'")
        words = ["run", "--report", "json=r"]
        done = forked.run(words, closed=closed, cwd=tmp_path, env=environment(), timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads((tmp_path / "r").read_text())["results"][0]["output"] == "said\nso\n"

    def test_nor_do_all_of_them(self, tmp_path):
        (tmp_path / "trio-process.toml").write_text("[tasks.t]\nshell = 'echo said; echo so >&2; cat'")
        done = subprocess.run(
            [
                "sh",
                "-c",
                'exec "$@" <&- >&- 2>&-',
                "sh",
                sys.executable,
                "-m",
                "trio_process",
                "run",
                "--report",
                "json=r",
            ],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads((tmp_path / "r").read_text())["results"][0]["output"] == "said\nso\n"

    @pytest.mark.parametrize("words", ["run --list", "run --graph", "run --dry-run", "daemons", "daemons --json"])
    def test_an_overview_that_can_not_be_written_is_told(self, tmp_path, monkeypatch, words):
        (tmp_path / "trio-process.toml").write_text("[tasks.t]\nrun='echo x'")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path))
        said = io.StringIO()
        full = open("/dev/full", "w")  # noqa: SIM115 - closed below, where what it holds can't be written either
        monkeypatch.setattr("sys.stdout", full)
        monkeypatch.setattr("sys.stderr", said)
        with pytest.raises(SystemExit) as ended:
            whole_command_line.main(words.split(), standalone_mode=False)
        full.close()
        assert ended.value.code == 1
        assert "No space left" in said.getvalue()

    def test_a_full_disk_ends_the_run_with_a_word(self, tmp_path):
        (tmp_path / "trio-process.toml").write_text("[tasks.t]\nrun='echo x'")
        with open("/dev/full", "w") as full:
            done = forked.run(["run"], cwd=tmp_path, env=environment(), stdout=full, timeout=60)
        assert done.returncode == 1
        assert "No space left" in done.stderr
        assert "Traceback" not in done.stderr


def wait_for(process, line):
    for found in process.stdout:
        if found.rstrip("\n") == line:
            return
    raise AssertionError(f"{line!r} never came")


def open_to_write(fifo):
    """Return a descriptor, None while nobody reads it (fifo(7))."""
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return None


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Terminal:
    """A child on a pseudo terminal."""

    def __init__(self, cwd, *args, columns=80, rows=24, **more):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(cwd)
                env = environment(COLUMNS=str(columns), LINES=str(rows), **more)
                become(["run", *args], env)
            finally:
                os._exit(99)
        self.seen = ""

    def read_until(self, text=None, seconds=40):
        """Read until `text` is seen, or the end."""
        deadline = time.monotonic() + seconds
        while text is None or text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, self.seen
            if not select.select([self.fd], [], [], left)[0]:
                continue
            try:
                data = os.read(self.fd, 65536)
            except OSError:  # the end, on Linux
                break
            if not data:
                break
            self.seen += data.decode()
        return self.seen

    def status(self):
        self.read_until()
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class TestTerminals:
    def test_the_live_view_ends_with_every_task_and_gives_the_cursor_back(self, tmp_path):
        (tmp_path / "trio-process.toml").write_text(PIPELINE)
        terminal = Terminal(tmp_path)
        assert terminal.status() == 1
        hidden, shown = terminal.seen.rfind("\x1b[?25l"), terminal.seen.rfind("\x1b[?25h")
        assert 0 <= hidden < shown
        last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.seen[hidden:]).replace("\r", "")
        assert re.search(r"✓ lint +\d.* all clean", last)
        assert re.search(r"✗ test-3 +\d.* exited with code 3", last)
        assert re.search(r"– ship +skipped: it needs 'test-3'", last)  # noqa: RUF001 - the mark of what was skipped
        assert "FAILED test-3: exited with code 3" in last
        assert "| testing" in last
        assert re.search(r"3 passed, 1 failed, 1 not run in .*\n$", last)

    def test_ctrl_c_stops_everything_and_gives_130_and_the_cursor_back(self, tmp_path):
        (tmp_path / "trio-process.toml").write_text("[tasks.t]\nshell = 'echo $$ > pid; echo it is up; sleep 60'\n")
        terminal = Terminal(tmp_path)
        terminal.read_until("it is up")
        os.write(terminal.fd, b"\x03")
        assert terminal.status() == 130
        assert terminal.seen.rfind("\x1b[?25l") < terminal.seen.rfind("\x1b[?25h")
        assert "1 interrupted" in terminal.seen
        assert not alive(int((tmp_path / "pid").read_text()))

    def test_a_terminal_that_goes_away_leaves_nothing_behind(self, tmp_path):
        (tmp_path / "trio-process.toml").write_text("[tasks.t]\nshell = 'echo $$ > pid; echo it is up; sleep 60'\n")
        terminal = Terminal(tmp_path)
        terminal.read_until("it is up")
        os.close(terminal.fd)
        status = os.waitstatus_to_exitcode(os.waitpid(terminal.pid, 0)[1])
        assert status in (129, 1)  # whichever is noticed first: SIGHUP, or that writing fails
        assert not alive(int((tmp_path / "pid").read_text()))

    async def test_the_third_signal_ends_it_though_nobody_reads_the_terminal(self, tmp_path):
        (tmp_path / "trio-process.toml").write_text("[tasks.t]\nrun = 'yes'\n")
        master, slave = pty.openpty()
        poll = select.poll()
        poll.register(slave, select.POLLOUT)
        with Forked(["run"], cwd=tmp_path, env=environment(CI="1"), stdout=slave) as process:
            try:
                await wait_until(lambda: not poll.poll(0))
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the same one thrice could come as one
                    process.send_signal(number)
                assert process.wait(60) in (129, 130, 143)  # which of them was the third is the kernel's to say
            finally:
                process.kill()
                os.close(master)
                os.close(slave)

    def test_no_color_keeps_the_live_view_without_colours(self, tmp_path):
        (tmp_path / "trio-process.toml").write_text("[tasks.t]\nshell = 'echo \"colour: $FORCE_COLOR.\"'")
        terminal = Terminal(tmp_path, NO_COLOR="1")
        assert terminal.status() == 0
        assert "\x1b[?25l" in terminal.seen
        assert not re.search(r"\x1b\[([0-9]+;)*(3[0-9]|4[0-9]|9[0-7]|38;5;[0-9]+)(;[0-9]+)*m", terminal.seen)
        assert "colour: ." in terminal.seen

    @pytest.mark.parametrize(("more", "asked"), [({}, "1"), ({"FORCE_COLOR": "3"}, "3"), ({"TERM": "dumb"}, "")])
    def test_tasks_are_asked_for_colours_where_these_can_be_shown(self, tmp_path, more, asked):
        (tmp_path / "trio-process.toml").write_text("[tasks.t]\nshell = 'echo \"colour: $FORCE_COLOR.\"'")
        terminal = Terminal(tmp_path, "--output", "prefix", **more)
        assert terminal.status() == 0
        assert f"t | colour: {asked}.\r\n" in terminal.seen

    @pytest.mark.parametrize("more", [{"CI": "true"}, {"TERM": "dumb"}])
    def test_in_ci_and_on_a_terminal_that_can_not_move_its_cursor_there_are_plain_lines(self, tmp_path, more):
        (tmp_path / "trio-process.toml").write_text(PIPELINE)
        terminal = Terminal(tmp_path, "lint", **more)
        assert terminal.status() == 0
        assert "\x1b" not in terminal.seen
        assert "lint | all clean\r\n" in terminal.seen

    def test_many_failures_in_a_small_terminal_are_counted(self, tmp_path):
        text = "".join(f"[tasks.t{n}]\nshell='echo {n}; exit 1'\n" for n in range(40))
        (tmp_path / "trio-process.toml").write_text(text)
        terminal = Terminal(tmp_path, columns=30, rows=6)
        assert terminal.status() == 1
        assert re.search(r"^40 failed in ", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.seen), re.MULTILINE)


def test_our_own_pipeline_has_no_fault_and_a_demo_of_eight_tasks_with_dependencies(monkeypatch):
    monkeypatch.delenv("PYTHON", raising=False)
    file = read_pipeline(ROOT / "trio-process.toml")
    tables = {task.table for task in file.tasks}
    assert {"lint", "types", "tests", "docs", "demo"} <= tables
    demo = [task for task in file.tasks if task.table.startswith("demo")]
    assert len({task.table for task in demo}) >= 8
    assert sum(bool(task.spec.after) for task in demo) >= 5


class TestWhichTasks:
    TEXT = (
        "[tasks.lint]\nrun = 'echo linted'\n[tasks.test]\nshell = 'echo tested \"$@\"'\n"
        "[tasks.push]\nrun = 'echo pushed'\nmanual = true\narguments = false\n[tasks.ship]\nrun = 'echo shipped'\nafter = ['push']\n"
    )

    def test_a_run_without_names_leaves_manual_tasks_out_unless_they_are_needed(self, cli):
        assert set(re.findall(r"\| (\w+ed)", cli(text=self.TEXT).stdout)) == {"linted", "tested", "shipped", "pushed"}
        text = self.TEXT.partition("[tasks.ship]")[0]
        assert set(re.findall(r"\| (\w+ed)", cli(text=text).stdout)) == {"linted", "tested"}
        assert "pushed" in cli("push", text=text).stdout

    def test_it_runs_the_default_if_there_is_one(self, cli):
        text = "default = ['lint']\n" + self.TEXT
        assert set(re.findall(r"\| (\w+ed)", cli(text=text).stdout)) == {"linted"}

    def test_arguments_after_two_dashes_go_to_the_named_tasks_only(self, cli):
        done = cli("test", "lint", "--", "-k", "a  b", text=self.TEXT)
        assert "test | tested -k a  b\n" in done.stdout
        assert "lint | linted -k a  b\n" in done.stdout
        assert "ship | shipped\n" in cli("ship", "test", "--", "x", text=self.TEXT).stdout.replace(
            "shipped x", "shipped"
        )

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            (["--", "x"], "name the tasks"),
            (["push", "--", "x"], "takes no arguments"),
            (["nope", "--", "x"], "no task"),
        ],
    )
    def test_arguments_for_no_task_or_one_that_refuses_them_are_a_usage_error(self, cli, args, said):
        done = cli(*args, text=self.TEXT)
        assert done.returncode == 2
        assert said in done.stderr
