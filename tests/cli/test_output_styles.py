"""The ways in which `trio-process run` shows what tasks write, and the logs that it keeps."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from invoke import invoke
from rich.cells import cell_len
from typist import PROGRAM, at_a_terminal

from trio_process._cli.colour import Colour
from trio_process._cli.run.logs import log_name
from trio_process._cli.services.view import Lines
from trio_process._cli.text import cell_ljust, logged
from trio_process._cli.views import Group, Prefix, Raw, commands_of
from trio_process._core import last_lines

RUN = [*PROGRAM, "run"]
ROOT = Path(__file__).parents[2]
CI = ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "TF_BUILD", "TEAMCITY_VERSION", "NO_COLOR")


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in CI:
        monkeypatch.delenv(name, raising=False)


def run(text: str, *args: str, status: int = 0, **environment: str) -> str:
    Path("trio-process.toml").write_text(text)
    done = invoke("run", *args, env=environment)
    assert done.returncode == status, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def whole(pieces) -> str:
    return "".join([piece if isinstance(piece, str) else piece.read() for piece in pieces])


class TestColours:
    @pytest.mark.parametrize(
        ("lines", "shown"),
        [
            (["\x1b[31mred", "on", "\x1b[0moff", "plain"], ["\x1b[31mred\x1b[0m", "\x1b[31mon\x1b[0m", "\x1b[31m\x1b[0moff\x1b[0m", "plain"]),
            (["\x1b[1;31ma", "b"], ["\x1b[1;31ma\x1b[0m", "\x1b[1;31mb\x1b[0m"]),
            (["\x1b[38;5;196ma\x1b[48;2;1;2;3m", "b"], ["\x1b[38;5;196ma\x1b[48;2;1;2;3m\x1b[0m", "\x1b[38;5;196;48;2;1;2;3mb\x1b[0m"]),
            (["\x1b[31ma\x1b[39m", "b"], ["\x1b[31ma\x1b[39m\x1b[0m", "b"]),
            (["\x1b[31ma\x1b[m", "b"], ["\x1b[31ma\x1b[m\x1b[0m", "b"]),
            (["\x1b[4:3;31ma", "b"], ["\x1b[4:3;31ma\x1b[0m", "\x1b[4:3;31mb\x1b[0m"]),
            (["\x1b[32mok\x1b[0m"], ["\x1b[32mok\x1b[0m"]),
        ],
    )  # fmt: skip
    def test_a_colour_ends_with_its_line_and_is_repeated_on_the_next(self, lines, shown):
        colour = Colour()
        assert [colour.feed(line) for line in lines] == shown

    @given(st.lists(st.text(st.sampled_from("a\x1b[m;:0123456789"), max_size=20), max_size=20))
    def test_no_line_leaves_a_colour_behind(self, lines):
        colour = Colour()
        for line in lines:
            shown = colour.feed(line)
            assert not re.search(r"\x1b\[[0-9;:]*m", shown) or shown.endswith("\x1b[0m")

    def test_a_task_that_sets_colours_for_ever_takes_no_more_room(self):
        colour = Colour()
        for code in range(10_000):
            colour.feed(f"\x1b[38;5;{code % 256};{code % 10}m")
        assert len(colour.feed("x")) < 200

    def test_the_colour_of_one_task_does_not_run_on_into_another(self):
        shown = run(
            "[tasks.a]\nshell = '''printf '\\033[31mred\\n'; sleep .2; echo still'''\n[tasks.b]\nshell = 'sleep .1; echo b'"
        )
        assert "a | \x1b[31mred\x1b[0m\n" in shown
        assert "b | b\n" in shown
        assert "a | \x1b[31mstill\x1b[0m\n" in shown


class TestStyles:
    @pytest.mark.parametrize(
        ("environment", "line"),
        [
            ({"GITHUB_ACTIONS": "true"}, "::error file=a.py,line=3::unused import"),
            ({"GITHUB_ACTIONS": "true"}, "::add-mask::x"),
            ({"TF_BUILD": "True"}, "##vso[task.setvariable variable=a]b"),
            ({"TEAMCITY_VERSION": "2024.1"}, "##teamcity[testStarted name='a']"),
        ],
    )
    @pytest.mark.parametrize("output", ["prefix", "group", "raw"])
    def test_commands_of_the_ci_system_are_passed_without_a_prefix(self, environment, line, output):
        text = f"[tasks.lint]\nrun = {json.dumps(['echo', line])}\n"
        assert line in run(text, "--output", output, CI="true", **environment).splitlines()
        if output == "prefix":
            assert f"lint | {line}" in run(text, "--output", output, CI="true").splitlines()

    def test_a_command_keeps_its_place_in_a_coloured_task(self):
        style = Prefix(["t"], commands_of({"GITHUB_ACTIONS": "true"}))
        assert whole(style.lines("t", ["\x1b[31mred", "::error::x"])) == "t | \x1b[31mred\x1b[0m\n::error::x\n"

    def test_a_group_is_one_piece_when_its_task_has_ended(self):
        text = "".join(f"[tasks.t{n}]\nshell = 'for i in 1 2 3 4 5; do echo {n}; sleep .05; done'\n" for n in range(3))
        shown = run(text, "--output", "group")
        for n in range(3):
            command = f"for i in 1 2 3 4 5; do echo {n}; sleep .05; done"
            assert re.search(rf"^t{n} \$ {re.escape(command)}\n({n}\n){{5}}t{n} = passed in ", shown, re.MULTILINE)

    def test_a_group_folds_on_github(self):
        shown = run("[tasks.t]\nshell = 'echo out; exit 3'", "--output", "group", status=1, GITHUB_ACTIONS="true")
        assert shown.startswith("::group::t\nt $ echo out; exit 3\nout\n::endgroup::\nt = exited with code 3 after ")

    def test_a_group_folds_on_gitlab(self):
        shown = run("[tasks.'a b']\nrun = 'echo out'", "--output", "group", GITLAB_CI="true")
        start = r"\x1b\[0Ksection_start:\d+:task_0\[collapsed=true\]\n?\x1b\[0Ka b\n"
        assert re.match(
            rf"{start}a b \$ echo out\nout\n\x1b\[0Ksection_end:\d+:task_0\n?\x1b\[0K\na b = passed in ",
            shown.replace("\r", ""),
        )

    def test_retries_are_in_one_group(self):
        shown = run(
            "[tasks.t]\nshell = 'echo try; mkdir d && exit 1 || exit 0'\nretries = 1",
            "--output",
            "group",
            GITHUB_ACTIONS="true",
        )
        assert shown.count("::group::") == 1
        assert shown.index("attempt 2 of 2 follows") < shown.index("::endgroup::")

    def test_a_large_group_is_kept_in_a_file(self):
        style = Group(["t"], {})
        list(style.command("t", "yes"))
        for _ in range(300):
            list(style.lines("t", ["y" * 100] * 100))
        [kept] = [piece for piece in style.end() if not isinstance(piece, str)]
        with kept:
            assert kept._rolled
            assert len(kept.read()) == len("t $ yes\n") + 300 * 100 * 101

    def test_raw_lines_are_as_they_came(self):
        assert whole(Raw().lines("t", ["\x1b[31ma\x1b[2J", "b\r"])) == "\x1b[31ma\x1b[2J\nb\r\n"
        shown = run("[tasks.t]\nrun = 'echo a'", "--output", "raw")
        assert shown.startswith("a\n\n1 passed in ")

    @pytest.mark.parametrize(
        ("line", "shown"),
        [
            ("\r10%\r20%\r", "20%"),
            ("a\rb", "b"),
            ("a\r\r \r", "a"),
            ("\x1b[31m1\r\x1b[32m2", "\x1b[32m2"),
            ("x\r", "x"),
        ],
    )
    def test_progress_is_logged_in_its_last_state(self, line, shown):
        assert logged(line) == shown

    def test_live_without_a_terminal_is_a_mistake(self):
        assert "--output live needs a terminal" in run("[tasks.t]\nrun = 'true'", "--output", "live", status=2)

    def test_the_live_view_shows_an_unfinished_line(self):
        Path("trio-process.toml").write_text(
            "[tasks.t]\nshell = '''for i in 1 2 3; do printf \"\\r${i}0%% of all\"; sleep .4; done; read x <go; echo'''\n"
        )
        os.mkfifo("go")
        with at_a_terminal(*RUN, environment={**os.environ, "TERM": "xterm"}) as typist:
            for progress in ("10% of all", "20% of all", "30% of all"):
                typist.wait_for(progress)
            Path("go").write_text("\n")
            assert typist.end() == 0

    @pytest.mark.parametrize("separator", ["\f", "\x85", "\u2028", "\x0b", "\x1c", "\r"])
    def test_lines_end_at_newlines_alone(self, separator):
        text = "the error\n" + f"p{separator}" * 22
        assert last_lines(text, 20)[0] == "the error"


class TestColumns:
    @given(st.text(max_size=10), st.integers(0, 30))
    def test_columns_count_cells(self, text, width):
        assert cell_len(cell_ljust(text, width)) == max(width, cell_len(text))

    @pytest.mark.parametrize("args", [["--list"], ["--dry-run"], []])
    def test_wide_names_do_not_misalign(self, args):
        names = ["日本語", "ab", "größe", "\U0001f44d"]
        text = "".join(f"[tasks.{json.dumps(name, ensure_ascii=False)}]\nrun = 'echo MARK'\n" for name in names)
        lines = [line for line in run(text, *args).splitlines() if line.endswith("echo MARK")]
        assert len(lines) == len(names)
        assert len({cell_len(line) for line in lines}) == 1


class TestLogs:
    def test_each_task_has_a_file(self):
        text = (
            "[tasks.a]\nshell = 'echo out; echo err >&2'\n[tasks.'x/../y']\nrun = 'echo y'\n[tasks.c]\nrun = 'false'\n"
        )
        run(text, "--logs", "logs/deep", status=1)
        assert {path.name: path.read_text() for path in Path("logs/deep").iterdir()} == {
            "a.log": "out\nerr\n",
            "x%2F..%2Fy.log": "y\n",
            "c.log": "",
        }
        run(text, "--logs", "logs/deep", "a")  # an earlier run's are replaced
        assert Path("logs/deep/a.log").read_text() == "out\nerr\n"

    def test_retries_go_on_in_the_same_file(self):
        run("[tasks.t]\nshell = 'echo try; mkdir d 2>/dev/null && exit 1 || exit 0'\nretries = 1", "--logs", "logs")
        assert Path("logs/t.log").read_text() == "try\ntry\n"

    def test_a_log_file_of_its_own_stays(self):
        run("[tasks.t]\nrun = 'echo y'\nlog-file = 'own.log'", "--logs", "logs")
        assert Path("own.log").read_text() == "y\n"
        assert Path("logs/t.log").read_text() == "y\n"

    @pytest.mark.parametrize("own", ["logs/t.log", "logs/../logs/t.log", "link/t.log", "t.link"])
    def test_a_log_file_of_its_own_in_that_directory_is_both(self, own):
        Path("logs").mkdir()
        Path("link").symlink_to("logs")
        Path("t.link").symlink_to("logs/t.log")
        for _ in range(2):
            run(f"[tasks.t]\nrun = 'echo y'\nlog-file = '{own}'", "--logs", "logs")
        assert Path("logs/t.log").read_text() == "y\ny\n"  # its own is appended to

    def test_a_directory_that_can_not_be_made_is_a_mistake(self):
        Path("file").touch()
        assert "--logs 'file/x': Not a directory" in run("[tasks.t]\nrun = 'true'", "--logs", "file/x", status=2)

    @given(st.text(min_size=1, max_size=300))
    def test_every_name_is_a_file_name_and_no_two_are_the_same(self, name):
        shown = log_name(name)
        assert "/" not in shown
        assert "\0" not in shown
        assert not shown.startswith(".")
        assert len(shown.encode()) <= 255
        assert log_name(name + "x") != shown


class TestTheRest:
    @pytest.mark.parametrize("value", ["junit=same,json=same", "json=same,json=./same", "json=d/../same,trace=same"])
    def test_two_reports_in_one_file_are_a_mistake(self, value):
        Path("d").mkdir()
        assert "have the same file" in run("[tasks.t]\nrun = 'true'", "--report", value, status=2)
        assert not Path("same").exists()

    def test_a_usage_error_is_2_whatever_stderr_takes(self):
        Path("trio-process.toml").write_text("[tasks.t]\nrun = 'true'")
        words = ["run --nope", "--nope", "nope", "exec", "run --jobs x", "run --report x=y"]
        with open("/dev/full", "w") as full:
            statuses = statuses_of(words, stdout=full, stderr=full)
        assert statuses == dict.fromkeys(words, 2)

    def test_the_help_needs_no_docstrings(self):
        commands = ["", "run", "why", "exec", "daemon", "daemon start", "daemons", "health", "up", "logs"]
        script = (
            "import json, sys; from invoke import invoke\n"
            "print(json.dumps({words: invoke(*words.split(), '--help').stdout for words in json.loads(sys.argv[1])}))"
        )
        printed = subprocess.run(
            [sys.executable, "-OO", "-c", script, json.dumps(commands)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))},
            capture_output=True, text=True, timeout=60, check=True,
        ).stdout  # fmt: skip
        found = json.loads(printed)
        assert all("Usage: trio-process" in help_text for help_text in found.values())
        for words, stripped in found.items():
            assert stripped == invoke(*words.split(), "--help").stdout

    def test_without_rich_there_is_one_line(self):
        words = ["run", "run --help", "--help", "daemons --help"]
        with open("out", "w+") as out, open("err", "w+") as err:
            statuses = statuses_of(words, "sys.modules['rich'] = None", stdout=out, stderr=err)
        assert statuses == dict.fromkeys(words, 1)
        line = "trio-process: the command line needs rich; install it with: pip install 'trio-process[cli]'\n"
        assert (Path("out").read_text(), Path("err").read_text()) == ("", line * len(words))

    def test_what_needs_no_rich_goes_on_working(self):
        assert without_rich("exec -- echo fine").stdout == "fine\n"
        assert without_rich("health 127.0.0.1:1 --timeout 0.1").returncode == 1

    def test_a_run_of_many_tasks_needs_no_higher_limit_and_children_get_the_old_one(self):
        text = "".join(f"[tasks.t{n}]\nshell = 'ulimit -Sn; ulimit -Hn; sleep .5'\n" for n in range(120))
        Path("trio-process.toml").write_text(text)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        command = f"ulimit -Sn 128; exec {' '.join(RUN)} -j 120"
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120, check=False)
        assert "120 passed" in done.stdout
        shown = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
        assert set(re.findall(r"\| (\S+)$", done.stdout, re.MULTILINE)) == {"128", shown}

    def test_tasks_are_listed_as_json(self):
        text = "[tasks.a]\nrun = 'echo x'\ndescription = 'Style'\n[tasks.b]\nrun = 'y'\nafter = ['a']\nmatrix = { n = [1, 2] }\n"
        listed = json.loads(run(text, "--list", "--json"))
        assert [(one["name"], one["table"], one["after"]) for one in listed["tasks"]] == [
            ("a", "a", []),
            ("b-1", "b", ["a"]),
            ("b-2", "b", ["a"]),
        ]
        assert listed["tasks"][0]["command"] == "echo x"
        assert listed["tasks"][0]["description"] == "Style"
        assert "--json is for --list" in run(text, "--json", status=2)

    @pytest.mark.parametrize(
        ("typed", "found"),
        [("", ["lint", "test", "test-1", "test-2"]), ("te", ["test", "test-1", "test-2"]), ("x", [])],
    )
    @pytest.mark.parametrize("command", ["run", "why"])
    def test_a_shell_completes_the_names_of_tasks(self, command, typed, found):
        text = "[tasks.lint]\nrun = 'x'\n[tasks.test]\nrun = 'y'\nmatrix = { n = [1, 2] }\n"
        Path("trio-process.toml").write_text(text)
        environment = {
            "_TRIO_PROCESS_COMPLETE": "bash_complete",
            "COMP_WORDS": f"trio-process {command} {typed}",
            "COMP_CWORD": "2",
        }
        done = invoke(env=environment)
        assert [line.partition(",")[2] for line in done.stdout.split()] == found

    @pytest.mark.parametrize(
        ("typed", "found"),
        [
            ("run d", ["docs:html"]),
            ("run docs:", ["html"]),
            ("run docs:h", ["html"]),
            ("run 'docs:h", ["docs:html"]),
            ("run unit", [r"unit\ \(slow\)"]),
            (r"run unit\ ", [r"unit\ \(slow\)"]),
            ('run "unit ', ["unit (slow)"]),
            ("run --output=gr", ["group"]),
            ("run --on-f", ["--on-failure"]),
            ("run a", []),
        ],
    )
    def test_bash_completes_a_word_that_it_takes_for_several(self, typed, found):
        names = ["docs:html", "html", "unit (slow)", r"a\nb"]
        Path("trio-process.toml").write_text("".join(f'[tasks."{name}"]\nrun = "x"\n' for name in names))
        environment = {
            "_TRIO_PROCESS_COMPLETE": "bash_complete",
            "COMP_LINE": f"trio-process {typed}",
            "COMP_WORDBREAKS": " \t\n\"'><=;|&(:",
        }
        done = invoke(env=environment)
        assert [line.partition(",")[2] for line in done.stdout.splitlines() if line] == found

    def test_the_script_for_bash_hands_each_completion_over_whole(self):
        script = invoke(env={"_TRIO_PROCESS_COMPLETE": "bash_source"}).stdout
        stub = "trio-process() { printf 'plain,%s\\n' 'a\\ b' '*' \"<$COMP_LINE>\"; }\n"
        call = 'COMP_LINE="trio-process run abc" COMP_POINT=19\n_trio_process_completion trio-process\n'
        words = f"{stub}{script}{call}printf '%s\\n' \"${{COMPREPLY[@]}}\""
        done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, timeout=60, check=False)
        assert (done.stdout.splitlines(), done.stderr) == ([r"a\ b", "*", "<trio-process run ab>"], "")


def statuses_of(words: list[str], first: str = "", **streams: IO[str]) -> dict[str, int]:
    """Return the exit statuses of commands, each run in a process of its own."""
    script = (
        f"import json, os, sys; {first}\n"
        "from trio_process.__main__ import main\n"
        "found = {}\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        sys.argv = ['trio-process', *words.split()]\n"
        "        main()\n"
        "        sys.exit()\n"
        "    found[words] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])\n"
        "open('statuses', 'w').write(json.dumps(found))\n"
    )
    subprocess.run([sys.executable, "-c", script, json.dumps(words)], **streams, timeout=60, check=True)
    return json.loads(Path("statuses").read_text())


def without_rich(words: str) -> subprocess.CompletedProcess[str]:
    script = "import sys; sys.modules['rich'] = None; from trio_process.__main__ import main; main()"
    return subprocess.run(
        [sys.executable, "-c", script, *words.split()], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_colour_that_a_service_does_not_reset_stays_with_its_lines():
    """In `up`, `logs` and `attach`, as in the log of a run."""
    lines = Lines(["a", "b"], colour=False)
    assert lines.output("a", "\x1b[31mred") == "a | \x1b[31mred\x1b[0m\n"
    assert lines.output("b", "plain") == "b | plain\n"
    assert lines.output("a", "still") == "a | \x1b[31mstill\x1b[0m\n"
    assert lines.change("a", "starting", "conditions hold") == "a = starting\n"  # the state says as much
    assert lines.change("b", "backoff", "liveness lost") == "b = backoff: liveness lost\n"
    assert lines.output("a", "another process") == "a | another process\n"


@given(st.lists(st.text(st.sampled_from("a \t\x1b[31m0é\r\x00"), max_size=8)))
def test_lines_of_a_service_that_come_at_once_look_as_if_they_came_one_by_one(texts):
    at_once, alone = Lines([], colour=False), Lines([], colour=False)
    assert at_once.output("web", *texts) == "".join([alone.output("web", text) for text in texts])
