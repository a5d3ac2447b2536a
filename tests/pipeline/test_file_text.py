"""The texts of a pipeline file: places with defaults, secrets, scripts, words that only a shell knows, and odd encodings."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import forked
import pytest
from invoke import invoke

from trio_process import load_pipeline
from trio_process._core import PipelineError, Secret, masker_for, shown_args
from trio_process._pipeline.file import load as loading
from trio_process._pipeline.file.allowance import Allowance
from trio_process._pipeline.file.interpolate import Names, interpolate
from trio_process._pipeline.file.toml_lines import DEEPEST, TooDeepError, key_lines

ROOT = Path(__file__).parents[2]


@pytest.fixture
def load(tmp_path):
    def load(text):
        path = tmp_path / "trio-process.toml"
        path.write_text(text)
        return {spec.name: spec for spec in load_pipeline(path)}

    return load


@pytest.fixture
def fault(tmp_path):
    """Return the one fault of a text, without the path of the file."""

    def fault(text):
        path = tmp_path / "trio-process.toml"
        path.write_text(text)
        with pytest.raises(PipelineError) as caught:
            load_pipeline(path)
        [text] = caught.value.faults
        return text.removeprefix(f"{path}:")

    return fault


def run(*args, cwd, env=None, stdin=""):
    """Run the command line, and return how it ended: here, unless it needs a process of its own."""
    if "LC_ALL" not in (env or {}):
        if not stdin:
            return invoke("run", *args, cwd=cwd, env={"CI": "1", **(env or {})})
        return forked.run(
            ["run", *args], cwd=cwd, env={**os.environ, "CI": "1", **(env or {})}, given=stdin, timeout=60
        )
    return subprocess.run(
        [sys.executable, "-m", "trio_process", "run", *args],
        cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT), "CI": "1", **(env or {})}, input=stdin,
        capture_output=True, text=True, encoding="utf-8", errors="backslashreplace", timeout=60, check=False,
    )  # fmt: skip


def filled(text, matrix=None, **variables):
    faults = []
    found = interpolate(text, Names(variables, matrix or {}, Allowance()), lambda fault, *_: faults.append(fault))
    return found, faults


class TestDefaults:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("${NOPE:-${PWD}}", "/here"),
            ("${HOME:-${PWD}}", "/home/me"),
            ("${NOPE:-a}b}", "ab}"),
            ("${NOPE:-a{b}c}", "a{bc}"),
            ("${A:-${B:-${C:-${PWD}/x}}}", "/here/x"),
            ("${NOPE:-<${matrix.py}>}", "<3.12>"),
            ("${NOPE:-$${PWD}}", "${PWD}"),
            ("${NOPE:-}", ""),
            ("{${HOME}}", "{/home/me}"),
            ("${NOPE:-${EMPTY:-x}y}z", "xyz"),
            ("a}b", "a}b"),
            ("$${a} ${HOME}", "${a} /home/me"),
        ],
    )
    def test_a_default_may_hold_places_and_ends_at_the_brace_that_closes_none(self, text, value):
        found, faults = filled(text, {"py": "3.12"}, PWD="/here", HOME="/home/me", EMPTY="")
        assert (found, faults) == (value, [])

    @pytest.mark.parametrize(
        "text", ["${HOME:-${NOPE}}", "${HOME:-${matrix.no}}", "${HOME:-${A:-${B}}}", "${HOME:-${1}}"]
    )
    def test_a_default_that_is_not_used_has_no_faults(self, text):
        assert filled(text, HOME="/home/me") == ("/home/me", [])

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("${NOPE:-${GONE}}", "the environment has no GONE"),
            ("${NOPE:-${matrix.py}}", "has no `matrix`"),
            ("${A:-${B:-${1}}}", "${1} is not a variable"),
            ("${NOPE:-${A", 'without a "}"'),
            ("${HOME:-${A}", 'without a "}"'),
            ("${", 'without a "}"'),
        ],
    )
    def test_one_that_is_used_has_its_own_and_one_without_its_end_always(self, text, said):
        _, faults = filled(text, HOME="/home/me")
        assert any(said in fault for fault in faults), faults

    def test_ten_thousand_in_each_other_are_no_recursion(self):
        deep = "${A:-" * 10_000 + "x" + "}" * 10_000
        assert filled(deep) == ("x", [])

    def test_every_key_that_may_hold_one_may_hold_a_nested_one(self, load, tmp_path):
        (tmp_path / "an.env").write_text("TP_FROM_FILE=1")
        spec = load(
            "[tasks.t]\nrun = ['${A:-${matrix.p}}']\ndir = '${A:-${file.dir}}'\nstdin = '${A:-${B:-in}}'\n"
            "env = { TP_E = '${A:-${TP_FROM_FILE}}' }\nenv-file = '${A:-${B:-an.env}}'\nmatrix = { p = ['prog'] }"
        )["t-prog"]
        assert (spec.command, spec.cwd, spec.stdin) == ("prog", str(tmp_path), "in")
        assert spec.env == {"TP_FROM_FILE": "1", "TP_E": "1"}


SECRETS = [
    pytest.param("[tasks.t]\nsecrets = ['TOKEN']\nenv = { TOKEN = 'hunter22' }\n", {}, id="of a task"),
    pytest.param("secrets = ['TOKEN']\n[tasks.t]\nenv-file = 'sec.env'\n", {}, id="at the top, of an env file"),
    pytest.param("[defaults]\nsecrets = ['TOKEN']\n[tasks.t]\n", {"TOKEN": "hunter22"}, id="of the environment"),
]


class TestSecrets:
    @pytest.mark.parametrize(("head", "env"), SECRETS)
    def test_a_secret_is_shown_nowhere(self, head, env, tmp_path):
        (tmp_path / "sec.env").write_text("TOKEN=hunter22\n")
        script = 'echo got $TOKEN; echo arg $1; echo plain hunter22 >&2; test -n "$2"'
        command = f"run = ['sh', '-c', '{script}', 'x', '--token=${{TOKEN}}', 'hunter22']\nlog-file = 'task.log'\n"
        (tmp_path / "trio-process.toml").write_text(head + command)
        done = run("--report", "json=r.json,trace=t.json,junit=j.xml", cwd=tmp_path, env=env)
        assert done.returncode == 0, done
        told = done.stdout + done.stderr + run("--dry-run", cwd=tmp_path, env=env).stdout
        told += "".join((tmp_path / name).read_text() for name in ("r.json", "t.json", "j.xml", "task.log"))
        told += "".join(path.read_text() for path in (tmp_path / ".trio-process").iterdir() if path.is_file())
        assert "hunter22" not in told
        assert "got ***" in done.stdout
        assert "arg --token=***" in done.stdout
        assert "--token=${TOKEN}" in (tmp_path / "r.json").read_text()

    def test_a_command_is_shown_as_written_though_nothing_is_secret(self, load):
        spec = load("[tasks.t]\nrun = 'x ${TP_A:-v} ${matrix.p}-${TP_A:-v}'\nmatrix = { p = [1] }")["t-1"]
        assert spec.args == ("v", "1-v")
        assert shown_args(spec.options) == ("${TP_A:-v}", "1-${TP_A:-v}")
        assert "${TP_A:-v}" in repr(spec)

    def test_each_line_of_a_secret_is_masked(self, load):
        spec = load("secrets = ['KEY']\n[tasks.t]\nrun = 'x'\nenv = { KEY = '''first\nsecond''' }")["t"]
        assert spec.env["KEY"] == Secret("first\nsecond")
        masker = masker_for(spec.options)
        assert masker("only second, and first\nsecond") == "only ***, and ***"
        assert spec.redact

    def test_a_secret_that_is_not_set_is_none(self, load):
        spec = load("secrets = ['TP_UNSET']\n[tasks.t]\nrun = 'x'")["t"]
        assert (spec.env, spec.redact) == ({}, False)

    @pytest.mark.parametrize("value", ["'TOKEN'", "['a=b']", "[1]", "{ A = 'x' }"])
    def test_what_is_not_a_list_of_names_is_a_fault(self, fault, value):
        assert "secrets" in fault(f"secrets = {value}\n[tasks.t]\nrun = 'x'")


class TestScripts:
    @pytest.mark.parametrize(
        ("script", "code", "printed"),
        [
            ("false\necho deployed", 1, False),
            ("false || true\necho deployed", 0, True),
            ("cd /nonexistent\necho deployed", 1, False),
            ("if false; then :; fi\necho deployed", 0, True),
            ("(exit 3)\necho deployed", 1, False),
        ],
    )
    def test_a_script_stops_at_the_first_line_that_fails(self, tmp_path, script, code, printed):
        (tmp_path / "trio-process.toml").write_text(f"[tasks.t]\nshell = '''{script}'''")
        done = run(cwd=tmp_path)
        assert done.returncode == code
        assert ("t | deployed" in done.stdout) is printed


class TestWordsForAShell:
    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("run = 'echo $HOME/x'", "write ${HOME}"),
            ("run = 'ls *.toml'", "write `shell = ...`"),
            ("run = 'ls ~/y'", "write ${HOME}"),
            ("run = 'ls ~'", "write ${HOME}"),
            ("run = 'echo $(date)'", "write `shell = ...`"),
            ("run = 'echo `date`'", "write `shell = ...`"),
            ("run = 'FOO=1 env'", "write env = { FOO = ... }"),
            ("run = 'cd x'", "write `dir`"),
            ("run = 'export A=b'", "write `env`"),
            ("run = ['ruff check', 'pytest -q']", "several commands as lines of `shell`"),
            ("run = 'true'\ndir = '~/x'", "write ${HOME}"),
            ("run = 'true'\ndir = '~'", "write ${HOME}"),
        ],
    )
    def test_one_that_would_stay_as_it_is_gets_a_hint(self, fault, line, said):
        assert said in fault(f"[tasks.t]\n{line}")

    @pytest.mark.parametrize(
        ("line", "args"),
        [
            ("run = '''grep '$HOME' \"*.py\" a\\*b'''", ("$HOME", "*.py", "a*b")),
            ("run = ['echo', '$HOME', '~', '*']", ("$HOME", "~", "*")),
            ("run = 'x a=b 50% a~b http://h/?q=1'", ("a=b", "50%", "a~b", "http://h/?q=1")),
            ("run = ['sh', 'a b']", ("a b",)),
            ("run = ['./my prog', 'a']", ("a",)),
        ],
    )
    def test_in_quotes_or_in_a_list_it_is_passed_on(self, load, line, args):
        assert load(f"[tasks.t]\n{line}")["t"].args == args

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("BUILD", "did you mean 'build'?"),
            ("cafe\u0301", "accents are encoded differently"),
            ("biuld", "did you mean 'build'?"),
        ],
    )
    def test_a_name_in_other_letters_is_found(self, fault, name, said):
        text = f"[tasks.build]\nrun = 'true'\n[tasks.'caf\u00e9']\nrun = 'true'\n[tasks.t]\nrun = 'true'\nafter = ['{name}']"
        assert said in fault(text)


class TestEncodings:
    def test_texts_reach_a_task_as_utf_8_whatever_the_locale(self, tmp_path):
        (tmp_path / "größe").mkdir()
        (tmp_path / "trio-process.toml").write_text(
            "[tasks.t]\nrun = ['sh', '-c', 'printf %s \"$1 $GRÖSSE\" >out', 'x', 'é→']\ndir = 'größe'\nenv = { 'GRÖSSE' = 'ü' }\n"
            "[tasks.s]\nshell = \"printf 'ñ' >s\"\n",
            encoding="utf-8",
        )
        done = run(cwd=tmp_path, env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
        assert done.returncode == 0, done
        assert (tmp_path / "größe" / "out").read_text(encoding="utf-8").startswith("é→")
        assert (tmp_path / "s").read_text(encoding="utf-8") == "ñ"

    @pytest.mark.parametrize("name", ["日本語", "café", "größe"])
    def test_names_are_found_whatever_the_locale(self, tmp_path, name):
        text = "".join(f"[tasks.'{one}']\nrun = 'echo ran'\n" for one in ("日本語", "café", "größe"))
        (tmp_path / "trio-process.toml").write_text(text, encoding="utf-8")
        done = run(name, cwd=tmp_path, env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
        assert done.returncode == 0, done
        assert done.stdout.count("| ran") == 1

    def test_a_duration_is_never_put_behind_the_text_of_an_error(self, tmp_path):
        (tmp_path / "trio-process.toml").write_text("[tasks.t]\nrun = 'tp-not-there'")
        [line] = [line for line in run(cwd=tmp_path).stdout.splitlines() if line.startswith("t = ")]
        assert line.endswith("PATH?")


class TestDeepKeys:
    @pytest.mark.parametrize("shape", ["{} = 1", "[{}]\nx = 1", "[[{}]]\nx = 1", "x = {{ {} = 1 }}"])
    def test_a_key_nested_too_deeply_is_a_fault_with_its_line_and_takes_no_time(self, fault, shape):
        began = time.thread_time()
        assert fault("\n\n" + shape.format(".".join(["a"] * 16_000))) == "3: a key is nested more than 100 deep"
        assert time.thread_time() - began < 2

    @pytest.mark.parametrize("shape", ["{} = 1", "[{}]\nx = 1", "x = {{ {} = 1 }}"])
    def test_one_that_is_just_as_deep_as_may_be_is_none(self, shape):
        key_lines(shape.format(".".join(["a"] * DEEPEST)))
        with pytest.raises(TooDeepError):
            key_lines(shape.format(".".join(["a"] * (DEEPEST + 1))))

    def test_dots_in_values_are_no_depth(self):
        assert key_lines("x = { a = '" + "a." * 500 + "', b = [1.5, 2.5], c.d = 1.5 }\ny = [" + "1.5, " * 500 + "]")

    def test_time_grows_with_the_size(self):
        def seconds(count):
            text = "".join(f"[a.b.c.t{n}]\nx.y.z = 1\n" for n in range(count))
            began = time.thread_time()
            key_lines(text)
            return time.thread_time() - began

        seconds(100)
        assert seconds(8000) < 12 * max(seconds(2000), 0.01)


class TestStreams:
    TEXT = "[tasks.t]\nrun = 'pwd'"

    def test_standard_input_is_a_file_whose_directory_is_ours_and_that_is_not_remembered(self, tmp_path):
        done = run("-f", "-", cwd=tmp_path, stdin=self.TEXT)
        assert f"t | {tmp_path}" in done.stdout
        assert not list(tmp_path.iterdir())

    def test_so_is_a_pipe_of_another_name(self, tmp_path):
        done = run("-f", "/dev/stdin", cwd=tmp_path, stdin=self.TEXT)
        assert f"t | {tmp_path}" in done.stdout
        assert not list(tmp_path.iterdir())

    def test_a_named_pipe_too(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "here").mkdir()
        with subprocess.Popen(["sh", "-c", "cat >pipe"], stdin=subprocess.PIPE, cwd=tmp_path, text=True) as writer:
            writer.stdin.write(self.TEXT)
            writer.stdin.close()
            done = run("-f", "../pipe", cwd=tmp_path / "here")
        assert f"t | {tmp_path}/here" in done.stdout
        assert not list((tmp_path / "here").iterdir())

    def test_what_did_not_pass_is_not_known_of_it(self, tmp_path):
        done = run("-f", "-", "--only-failed", cwd=tmp_path, stdin=self.TEXT)
        assert done.returncode == 2
        assert "no results are kept" in done.stderr

    def test_its_faults_have_its_name(self, tmp_path):
        assert "stdin:1: tasks.t.runn: unknown key" in run("-f", "-", cwd=tmp_path, stdin="tasks.t.runn = 1").stderr


def test_a_report_of_a_run_holds_commands_as_written(tmp_path):
    (tmp_path / "trio-process.toml").write_text("[tasks.t]\nrun = ['echo', '${TP_WHO:-you}']")
    assert run("--report", "json=r.json", cwd=tmp_path).stdout.startswith("t $ echo '${TP_WHO:-you}'\nt | you\n")
    [result] = json.loads((tmp_path / "r.json").read_text())["results"]
    assert (result["args"], result["commandResult"]["args"]) == (["${TP_WHO:-you}"], ["${TP_WHO:-you}"])


def test_largest_is_what_the_page_says():
    assert f"at most {loading.LARGEST // 2**20} MiB" in (ROOT / "docs" / "reference" / "pipeline-file.md").read_text()
