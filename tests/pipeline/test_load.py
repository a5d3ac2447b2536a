"""The pipeline file: what each key does, and what each mistake is answered with."""

import json
import os
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_process import load_pipeline
from trio_process._core import OptionError, PipelineError
from trio_process._pipeline import has_pipeline, parse_duration, read_pipeline
from trio_process._pipeline.file import keys
from trio_process._pipeline.file.load import LARGEST
from trio_process._pipeline.file.schema import json_schema
from trio_process._pipeline.file.toml_lines import key_lines

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "pipeline-file.md"


@pytest.fixture
def write(tmp_path):
    def write(text, name="trio-process.toml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture
def load(write):
    return lambda text, name="trio-process.toml": {spec.name: spec for spec in load_pipeline(write(text, name))}


@pytest.fixture
def faults(write):
    """Return the faults of a text, the path of the file cut off."""

    def faults(text, name="trio-process.toml"):
        path = write(text, name)
        with pytest.raises(PipelineError) as caught:
            load_pipeline(path)
        assert all(fault.startswith(str(path)) for fault in caught.value.faults), caught.value.faults
        return [fault.removeprefix(str(path)).removeprefix(":") for fault in caught.value.faults]

    return faults


def in_task(line):
    return f"[tasks.t]\nrun = 'true'\n{line}\n"


class TestWhatAFileSays:
    def test_a_command_is_a_list_or_a_string_split_as_a_shell_would(self, load):
        specs = load("[tasks]\na.run = ['x', 'y z']\nb.run = '''x 'y z' w\\ v \"\" '''\n")
        assert (specs["a"].command, specs["a"].args) == ("x", ("y z",))
        assert (specs["b"].command, specs["b"].args) == ("x", ("y z", "w v", ""))

    def test_shell_is_a_script_for_sh_that_keeps_its_own_variables(self, load):
        spec = load("[tasks.t]\nshell = 'for x in 1 2; do echo ${x} $HOME; done | cat'")["t"]
        assert (spec.command, spec.args) == ("sh", ("-e", "-c", "for x in 1 2; do echo ${x} $HOME; done | cat"))

    def test_every_key_reaches_its_field(self, load, tmp_path):
        spec = load(
            "[tasks.first]\nrun='true'\n[tasks.t]\nrun='true'\nafter=['first']\ndir='sub'\ntimeout=1.5\nidle-timeout='2m'\n"
            "grace-period='500ms'\nretries=3\nretry-delay='1m30s'\nallow-failure=true\nok-exit-codes=[0,5]\nweight=2\n"
            "stdin='hello'\ndescription='what it does'\nenv={TP_X='1'}\n"
        )["t"]
        assert spec.after == ("first",)
        assert spec.cwd == str(tmp_path / "sub")
        assert (spec.timeout, spec.idle_timeout, spec.grace_period) == (1.5, 120.0, 0.5)
        assert (spec.retries, spec.retry_delay, spec.allow_failure) == (3, 90.0, True)
        assert (spec.ok_exit_codes, spec.weight, spec.stdin, spec.env) == ((0, 5), 2, "hello", {"TP_X": "1"})

    def test_a_task_runs_in_the_directory_of_the_file_and_in_file_order(self, load, tmp_path, monkeypatch):
        monkeypatch.chdir("/")
        specs = load("[tasks.b]\nrun='true'\n[tasks.a]\nrun='true'")
        assert list(specs) == ["b", "a"]
        assert specs["a"].cwd == str(tmp_path)

    def test_a_relative_path_gives_an_absolute_directory(self, write, tmp_path, monkeypatch):
        write("[tasks.a]\nrun='true'")
        monkeypatch.chdir(tmp_path)
        assert load_pipeline("trio-process.toml")[0].cwd == str(tmp_path)
        assert load_pipeline(b"trio-process.toml")[0].cwd == str(tmp_path)

    def test_defaults_hold_where_a_task_does_not_say_otherwise(self, load, tmp_path):
        specs = load(
            "[defaults]\ntimeout=5\nretries=1\ndir='d'\nenv={TP_A='1',TP_B='1'}\n"
            "[tasks.a]\nrun='true'\n[tasks.b]\nrun='true'\ntimeout=9\nretries=0\ndir='e'\nenv={TP_B='2'}\n"
        )
        assert (specs["a"].timeout, specs["a"].retries, specs["a"].cwd) == (5.0, 1, str(tmp_path / "d"))
        assert (specs["b"].timeout, specs["b"].retries, specs["b"].cwd) == (9.0, 0, str(tmp_path / "e"))
        assert specs["b"].env == {"TP_A": "1", "TP_B": "2"}

    def test_a_variable_is_one_word_has_a_default_and_can_be_written_plain(self, load, monkeypatch):
        monkeypatch.setenv("TP_BLANKS", "a b")
        monkeypatch.setenv("TP_EMPTY", "")
        monkeypatch.delenv("TP_NONE", raising=False)
        spec = load(
            '[tasks.t]\nrun=\'x ${TP_BLANKS} ${TP_NONE:-d} ${TP_EMPTY:-e} $${TP_NONE} "$TP_NONE" "${TP_NONE:-a b}"\''
        )["t"]
        assert spec.args == ("a b", "d", "e", "${TP_NONE}", "$TP_NONE", "a b")

    def test_variables_come_from_the_task_then_defaults_then_the_environment_then_env_files(
        self, load, write, monkeypatch
    ):
        monkeypatch.setenv("TP_C", "environment")
        monkeypatch.delenv("TP_D", raising=False)
        write("TP_A=file\nTP_B=file\nTP_C=file\nTP_D=file\n", "x.env")
        spec = load(
            "[defaults]\nenv={TP_A='default',TP_B='default'}\n"
            "[tasks.t]\nrun='x ${TP_A} ${TP_B} ${TP_C} ${TP_D}'\nenv-file='x.env'\nenv={TP_A='task+${TP_B}'}"
        )["t"]
        assert spec.args == ("task+default", "default", "environment", "file")
        # the environment's value too: what a file names is part of what its tasks are made from
        assert spec.env == {"TP_A": "task+default", "TP_B": "default", "TP_C": "environment", "TP_D": "file"}

    def test_env_files_at_the_top_in_defaults_and_in_a_task_add_up(self, load, write):
        for name in "abc":
            write(f"TP_{name.upper()}={name}\nTP_LAST={name}", f"{name}.env")
        text = "env-file='a.env'\n[defaults]\nenv-file=['b.env']\n[tasks.t]\nrun='true'\nenv-file='c.env'\n"
        assert load(text)["t"].env == {"TP_A": "a", "TP_B": "b", "TP_C": "c", "TP_LAST": "c"}

    def test_an_env_file_is_read_as_elsewhere(self, load, write):
        write(
            '\ufeff# comment\r\n\nexport A=1\nB = two words # comment\nC=\'$X # y\'\nD="a\\nb \\"c\\" \\q" # z\nE=\nF=#no\nG=a#b\n',
            "e",
        )
        expected = {"A": "1", "B": "two words", "C": "$X # y", "D": 'a\nb "c" \\q', "E": "", "F": "", "G": "a#b"}
        env = load("env-file='e'\n[tasks.t]\nrun='true'")["t"].env
        assert {name: env[name] for name in expected if name not in os.environ} == {
            name: value for name, value in expected.items() if name not in os.environ
        }

    def test_a_matrix_is_a_task_per_combination_and_its_name_means_all_of_them(self, load):
        specs = load(
            "[tasks.build]\nrun='b ${matrix.os}'\nmatrix={os=['linux','mac']}\n"
            "[tasks.test]\nshell='t ${matrix.os} ${matrix.n} ${x}'\nafter=['build-${matrix.os}']\n"
            "matrix={os=['linux','mac'],n=[1,2]}\n[tasks.all]\nrun='true'\nafter=['test']\n"
        )
        assert list(specs) == [
            "build-linux",
            "build-mac",
            "test-linux-1",
            "test-linux-2",
            "test-mac-1",
            "test-mac-2",
            "all",
        ]
        assert specs["build-mac"].args == ("mac",)
        assert specs["test-mac-2"].args == ("-e", "-c", "t mac 2 ${x}")
        assert specs["test-mac-2"].after == ("build-mac",)
        assert specs["all"].after == ("test-linux-1", "test-linux-2", "test-mac-1", "test-mac-2")

    def test_pyproject_is_read_below_our_table_only(self, load, write):
        text = "[project]\nname='x'\n[tool.ruff]\nline-length=3\n[tool.trio-process.tasks.a]\nrun='true'\n"
        assert list(load(text, "pyproject.toml")) == ["a"]
        assert has_pipeline(write(text, "pyproject.toml"))

    @pytest.mark.parametrize("text", ["", "[tool.ruff]\n", "tool = 3", "not toml", b"\xff"])
    def test_a_pyproject_without_our_table_is_not_taken_for_a_pipeline(self, write, text):
        assert not has_pipeline(write(text, "pyproject.toml"))

    @pytest.mark.parametrize("name", ["Procfile", "Procfile.dev", "dev.procfile"])
    def test_a_procfile_has_a_task_per_line_run_by_a_shell(self, load, name, tmp_path):
        specs = load("# comment\r\nweb: python -m http.server $PORT\n\nworker_2:  rq worker && x: y\n", name)
        assert specs["web"].args == ("-c", "python -m http.server $PORT")
        assert specs["worker_2"].args == ("-c", "rq worker && x: y")
        assert (specs["web"].command, specs["web"].cwd, specs["web"].after) == ("sh", str(tmp_path), ())

    @pytest.mark.parametrize(
        "name", ["a b", 'it\'s "q"', "two\nlines", "..", "../x", "größe→", "\u202edrow", "[x]", "a.b"]
    )
    def test_any_name_is_a_name(self, load, name):
        specs = load(f"[tasks.{json.dumps(name)}]\nrun='true'\n[tasks.z]\nrun='true'\nafter=[{json.dumps(name)}]")
        assert specs["z"].after == (name,)
        assert specs[name].name == name

    def test_two_thousand_dependencies_on_one_task_are_read(self, load):
        text = "[tasks]\nlast.run='true'\n" + "".join(f"t{n}={{run='true',after=['last']}}\n" for n in range(2000))
        assert len(load(text)) == 2001

    def test_descriptions_are_kept_beside_the_specs(self, write):
        file = read_pipeline(write("[tasks.t]\nrun='true'\ndescription='what'\nmatrix={n=[1]}"))
        assert [(task.spec.name, task.table, task.description) for task in file.tasks] == [("t-1", "t", "what")]


class TestFaults:
    def test_all_of_them_are_told_at_once_in_the_order_of_the_lines(self, faults):
        text = (
            "[tasks.lint]\nrun = 'ruff'\n[tasks.test]\ntiemout = 3\nneeds = ['lint']\nretries = 'two'\n"
            "after = ['lnit', 3]\n\n[default]\n"
        )
        assert faults(text) == [
            (
                '3: tasks.test: has neither `run` nor `shell`; write what it runs, such as run = "pytest -q"; '
                'a task that only groups others has run = "true"'
            ),
            "4: tasks.test.tiemout: unknown key; did you mean 'timeout'?",
            "5: tasks.test.needs: unknown key; this is written `after` here",
            '6: tasks.test.retries: expected a whole number, 0 or more, got "two"',
            '7: tasks.test.after[1]: expected a string, got 3; write "3"',
            "7: tasks.test.after[0]: no task is named \"lnit\"; did you mean 'lint'?",
            "9: default: a table of defaults is written `[defaults]`; `default` is a list of tasks",
        ]

    @pytest.mark.parametrize(
        ("foreign", "ours"),
        [
            ("needs", "after"),
            ("deps", "after"),
            ("depends_on", "after"),
            ("cmd", "run"),
            ("command", "run"),
            ("working-directory", "dir"),
            ("cwd", "dir"),
            ("environment", "env"),
            ("env_file", "env-file"),
            ("dotenv", "env-file"),
            ("continue-on-error", "allow-failure"),
            ("allow_failure", "allow-failure"),
            ("ignore_error", "allow-failure"),
            ("timeout-minutes", "timeout"),
            ("retry", "retries"),
            ("desc", "description"),
            ("strategy", "matrix"),
        ],
    )
    def test_a_foreign_spelling_is_answered_with_ours(self, faults, foreign, ours):
        assert faults(in_task(f"{foreign} = 1")) == [
            f"3: tasks.t.{foreign}: unknown key; this is written `{ours}` here"
        ]

    def test_a_task_that_only_groups_others_is_told_what_to_run(self, faults):
        (fault,) = faults("[tasks.a]\nrun = 'x'\n[tasks.all]\nafter = ['a']")
        assert fault.endswith('such as run = "pytest -q"; a task that only groups others has run = "true"')

    def test_no_foreign_spelling_hides_a_key_of_ours(self):
        assert not set(keys._OURS_FOR) & set(keys.TASK_KEYS)
        assert set(keys._OURS_FOR.values()) <= set(keys.TASK_KEYS)
        assert not set(keys._OURS_FOR_TOP) & set(keys.TOP_KEYS)

    @pytest.mark.parametrize(
        ("line", "says"),
        [
            ("after = 'lint'", 'tasks.t.after: expected a list of task names such as ["lint"], got "lint"'),
            ("after = ['t']", "tasks.t.after[0]: a task can't wait for itself"),
            ("dir = 3", "tasks.t.dir: expected the path of a directory"),
            ("env = ['A=1']", "tasks.t.env: expected a table of strings"),
            ("env = {A = 1}", "tasks.t.env.A: expected a string, got 1; write it in quotes"),
            ("env = {'A=B' = '1'}", 'tasks.t.env."A=B": the name of a variable'),
            ("env-file = 'missing.env'", "tasks.t.env-file: can't read the env file"),
            ("env-file = ''", "tasks.t.env-file: expected the path of a file"),
            ("timeout = 'soon'", "tasks.t.timeout: expected a duration"),
            ("timeout = -1", "tasks.t.timeout: expected a duration"),
            ("timeout = nan", "tasks.t.timeout: expected a duration"),
            ("timeout = inf", "tasks.t.timeout: expected at most 1000000000 seconds, got Infinity"),
            ("timeout = true", "tasks.t.timeout: expected a duration"),
            ("timeout = '10'", "tasks.t.timeout: expected a duration"),
            ("timeout = 1979-05-27", "tasks.t.timeout: expected a duration"),
            ("idle-timeout = 0", "tasks.t.idle-timeout: expected a duration of more than 0"),
            ("retries = 1.5", "tasks.t.retries: expected a whole number"),
            ("retries = true", "tasks.t.retries: expected a whole number"),
            ("weight = 0", "tasks.t.weight: expected a whole number, 1 or more"),
            ("allow-failure = 'yes'", 'tasks.t.allow-failure: expected true or false, got "yes"'),
            ("ok-exit-codes = 0", "tasks.t.ok-exit-codes: expected a list of exit codes"),
            ("ok-exit-codes = [0, 256]", "tasks.t.ok-exit-codes[1]: expected an exit code from 0 to 255, got 256"),
            ("stdin = 1", "tasks.t.stdin: expected a string"),
            ('stdin = "\\u0000"', "tasks.t.stdin: must not contain a NUL"),
            ("description = []", "tasks.t.description: expected a string"),
            ("matrix = {}", "tasks.t.matrix: expected a table of lists"),
            ("matrix = {py = []}", "tasks.t.matrix.py: expected a list of values"),
            (
                "matrix = {py = [3.10]}",
                "tasks.t.matrix.py[0]: expected a string or a whole number, got 3.1; write it in",
            ),
            ("matrix = {py = ['a', 'a']}", 'tasks.t.matrix.py[1]: "a" stands in this list twice'),
            ("matrix = {'a b' = ['a']}", 'tasks.t.matrix."a b": the name of a matrix value'),
            ("shell = 'true'", "tasks.t: has both `run` and `shell`"),
        ],
    )
    def test_a_wrong_value_is_named_with_its_place(self, faults, line, says):
        found = faults(in_task(line))
        assert len(found) == 1
        assert says in found[0]
        assert found[0].startswith(("3: ", "1: tasks.t: has both"))

    @pytest.mark.parametrize(
        ("run", "says"),
        [
            ("''", "expected a command such as"),
            ("[]", "expected a command such as"),
            ("'  '", "got only blanks"),
            ("['']", "command must not be empty"),
            ("3", "expected a command such as"),
            ("[['a']]", "tasks.t.run[0]: expected a string"),
            ('"say \'x"', "can't be split into words: no closing quotation"),
            ("'a && b'", "no shell runs here, so that && would be an argument"),
            ("'a > b'", "no shell runs here"),
            ("'a >out'", "so that >out would be an argument"),
            ("'a 2>err'", "so that 2>err would be an argument"),
            ("'a|b'", "so that a|b would be an argument"),
            ("'a;b'", "so that a;b would be an argument"),
            ("'a; b'", "so that a; would be an argument"),
            ("'a \"$(date)\"'", '"$(date)" would stay as it is; write `shell = ...`'),
            ("'a $HOME'", "$HOME would stay as it is; write ${HOME}"),
            ("'a \"`b`\"'", '"`b`" would stay as it is'),
            ("'a $?'", "$? would stay as it is"),
            ("'x ${TP_NONE}'", "the environment has no TP_NONE; set it, or write ${TP_NONE:-default}"),
            ("'x ${TP_NONE:-a b}'", '"${" without a "}"'),
            ("'x ${1}'", "${1} is not a variable"),
            ("['x', '${{ matrix.py }}']", "tasks.t.run[1]: ${{ matrix.py }} is not known here"),
            ("'x ${matrix.py}'", "the matrix has no 'py'; this task has no `matrix`"),
        ],
    )
    def test_a_wrong_command_is_explained(self, faults, run, says, monkeypatch):
        monkeypatch.delenv("TP_NONE", raising=False)
        found = faults(f"[tasks.t]\nrun = {run}")
        assert len(found) == 1
        assert says in found[0]

    def test_quoted_operators_and_those_of_find_are_arguments(self, load):
        assert load("[tasks.t]\nrun = '''grep '|' \"&&\" \\; '>' '''")["t"].args == ("|", "&&", ";", ">")

    def test_a_matrix_value_without_its_prefix_is_answered_with_the_right_spelling(self, faults):
        text = "[tasks.t]\nrun='x ${TP_PY}'\nmatrix={TP_PY=['1']}"
        assert faults(text) == ["2: tasks.t.run: ${TP_PY}: a value of the matrix is written ${matrix.TP_PY}"]

    def test_a_huge_matrix_is_refused_before_it_is_made(self, faults):
        values = ",".join(map(str, range(100)))
        text = in_task("matrix={" + ",".join(f"a{n}=[{values}]" for n in range(9)) + "}")
        assert faults(text) == [
            "3: tasks.t.matrix: a file can't have more than 10000 combinations of matrices, those of its includes counted"
        ]

    def test_two_tasks_of_one_name_are_refused(self, faults):
        text = "[tasks.t]\nrun='true'\nmatrix={a=['1']}\n[tasks.t-1]\nrun='true'\n"
        assert faults(text) == ["1: tasks.t: makes a task 't-1', as tasks.t-1 does"]
        text = "[tasks.t]\nrun='true'\nmatrix={a=['1-2','1'],b=['3','2-3']}\n"
        assert faults(text) == ["1: tasks.t: makes a task 't-1-2-3', as tasks.t does"]

    def test_a_cycle_of_three_among_five_hundred_is_named_once(self, faults):
        text = "[tasks]\n" + "".join(f"t{n} = {{run='true', after=['t{n - 1}']}}\n" for n in range(1, 500))
        text += "t0 = {run='true', after=['c']}\na = {run='true', after=['b']}\nb = {run='true', after=['c']}\n"
        text += "c = {run='true', after=['a']}\n"
        [fault] = faults(text)
        assert re.fullmatch(
            r"50\d: tasks\.[abc]\.after: a cycle, in which each waits for the next: (.) → . → . → \1", fault
        )

    def test_two_cycles_are_two_faults_and_what_needs_them_is_none(self, faults):
        text = "[tasks]\n" + "".join(
            f"{a} = {{run='true', after=['{b}']}}\n" for a, b in ["ab", "ba", "cd", "dc", "ea", "fe"]
        )
        assert [fault.split("next: ")[1] for fault in faults(text)] == ["a → b → a", "c → d → c"]

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "no task and no service here; one is written `[tasks.NAME]`"),
            ("# only a comment", "no task and no service here"),
            ("[tasks]", "no task and no service here"),
            ("[defaults]\n", "no task and no service here"),
            ("tasks = 3", "1: tasks: expected tables such as `[tasks.lint]`, got 3"),
            ("[[tasks]]\nname='x'", "1: tasks: expected tables such as"),
            ("[tasks]\nlint = 'ruff'", '2: tasks.lint: expected a table, `[tasks.NAME]` with `run = "..."` below it'),
            ("[tasks.'']\nrun='true'", '1: tasks."": the name of a task must not be empty'),
            ("defaults = 3\n[tasks.t]\nrun='true'", "1: defaults: expected a table, `[defaults]`, got 3"),
            (
                "[defaults]\nrun='x'\n[tasks.t]\nrun='true'",
                "2: defaults.run: can't have a default; say it in each task",
            ),
            (
                "timeout=3\n[tasks.t]\nrun='true'",
                "1: timeout: unknown key here; say it in a task, `[tasks.NAME]`, or in",
            ),
            ("[taks.t]\nrun='true'", "1: taks: unknown key; did you mean 'tasks'?"),
            ("[jobs.t]\nrun='true'", "1: jobs: unknown key; this is written `tasks` here"),
            ("[tool.trio-process.tasks.t]\nrun='true'", "1: tool.trio-process: outside of pyproject.toml"),
            ("[tasks.t]\nrun='a'\nrun='b'", "3: not valid TOML: Cannot overwrite a value"),
            ("[tasks.t]\n[tasks.t]", "2: not valid TOML: Cannot declare"),
            ("[tasks.t]\nrun = maybe", "2: not valid TOML: Invalid value (column 7)"),
            ("[tasks.t\n", "1: not valid TOML:"),
            ("a = " + "[" * 5000, "not valid TOML: nested too deeply"),
            ("a = " + "1" * 5000, "1: a number with thousands of digits; the largest is "),
            (
                "[tasks.t]\nretries = 0x" + "f" * 5000,
                "2: tasks.t.retries: expected at most 9223372036854775807, got a very",
            ),
            ("[tasks.t.env]\nA." + "a." * 3000 + "a = 1", "2: a key is nested more than 100 deep"),
            ("[tasks.t.env]\nA." + "a." * 90 + "a = 1", "tasks.t.env.A: expected a string, got "),
            (b"[tasks.t]\n# \xff\nrun='true'", "2: not UTF-8: invalid start byte (byte 12 of the file)"),
            ("[tasks.t]\r\nrun='true'\0", "2: not valid TOML:"),
        ],
    )
    def test_a_broken_file_is_explained(self, faults, text, says):
        assert any(says in fault for fault in faults(text)), faults(text)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("[project]\nname='x'", "has no `[tool.trio-process.tasks.NAME]`"),
            (
                "[tool.trio_process.tasks.x]\nrun='true'",
                "1: tool.trio_process: unknown key; this is written `tool.trio-process`",
            ),
            ("tool = 3", "has no `[tool.trio-process.tasks.NAME]`"),
            ("tool.trio-process = 3", "1: tool.trio-process: expected a table, got 3"),
            (
                "[tool.trio-process.tasks.x]\ncmd='true'",
                "2: tool.trio-process.tasks.x.cmd: unknown key; this is written",
            ),
        ],
    )
    def test_a_broken_pyproject_is_explained(self, faults, text, says):
        assert any(says in fault for fault in faults(text, "pyproject.toml")), faults(text, "pyproject.toml")

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "the file is empty"),
            ("web\n", "1: expected `name: command`"),
            ("a: x\nwéb: y", "2: expected `name: command`"),
            ("web:\n", "1: web: expected a command after the colon"),
            ("web: a\nweb: b", "2: web: this name is taken by line 1"),
            ("web: a\0b", "1: expected `name: command`"),
        ],
    )
    def test_a_broken_procfile_is_explained(self, faults, text, says):
        assert any(says in fault for fault in faults(text, "Procfile")), faults(text, "Procfile")

    def test_a_broken_env_file_is_explained(self, faults, write):
        write('A=1\nnonsense\nB="open\n', "x.env")
        write(b"A=\xff", "y.env")
        found = faults("env-file=['x.env','y.env','.']\n[tasks.t]\nrun='true'")
        assert ["line 2" in found[0], "line 3" in found[1], "not UTF-8" in found[2], "Is a directory" in found[3]] == [
            True
        ] * 4

    def test_a_missing_file_and_a_directory_and_what_may_not_be_read_are_explained(self, tmp_path):
        for path, says in [
            (tmp_path / "x", "No such file"),
            (tmp_path, "Is a directory; give the file itself"),
            ("/dev/zero", "more than"),
        ]:
            with pytest.raises(PipelineError, match=says):
                load_pipeline(path)

    def test_what_is_no_path_is_an_option_error(self):
        for path in (0, None, "", "a\0b"):
            with pytest.raises(OptionError):
                load_pipeline(path)

    def test_a_file_too_large_is_refused(self, write):
        with pytest.raises(PipelineError, match="that is not a pipeline file"):
            load_pipeline(write(b"#" * (LARGEST + 1)))

    def test_a_name_with_a_newline_or_a_control_character_can_not_forge_a_fault(self, faults):
        [fault] = faults('[tasks."a\\nb\\u001b[2J"]\n')
        assert fault.startswith(r'1: tasks."a\nb\u001b[2J": has neither')

    def test_many_unknown_names_are_told_quickly(self, faults):
        text = "[tasks]\n" + "".join(f"t{n}={{run='true',after=['u{n}']}}\n" for n in range(3000))
        assert len(faults(text)) == 3000


class TestLines:
    def test_texts_that_look_like_keys_are_none(self):
        text = (
            'a = """\n[tasks.x]\nb = 1\n""""\nc = [ # ]\n  "]", \'\'\'\n]\'\'\', {d = "}"},\n]\n[ "q.r" . s ] # [t]\n'
            "u.v = 1\n[[w]]\nx = 1\n[[w]]\nx = 2\n[w.y]\n"
        )
        tomllib.loads(text)
        assert key_lines(text) == {
            ("a",): 1,
            ("c",): 5,
            ("q.r",): 9,
            ("q.r", "s"): 9,
            ("q.r", "s", "u"): 10,
            ("q.r", "s", "u", "v"): 10,
            ("w",): 11,
            ("w", 0): 11,
            ("w", 0, "x"): 12,
            ("w", 1): 13,
            ("w", 1, "x"): 14,
            ("w", 1, "y"): 15,
        }

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["k{}", '"k{}"', "'k{}'", "k{}.x"]),
                st.sampled_from(
                    [
                        "1",
                        '"a\\"#["',
                        "'#]'",
                        '"""\n[x]\n\\"""" # c',
                        "'''\n'k1 = 2\n'''",
                        "[\n1, # ]\n2]",
                        "{a = '}', b = [\n]}",
                        "1979-05-27",
                    ]
                ),
            ),
            max_size=12,
        )
    )
    def test_every_key_is_found_on_its_own_line(self, pairs):
        text, expected = "", {}
        for number, (key, value) in enumerate(pairs):
            text += "\n" * (number % 3) + f"[t{number}] # [x]\n" * (number % 2)
            expected[f"k{number}"] = text.count("\n") + 1
            text += f"  {key.format(number)}\t= {value}\n"
        tomllib.loads(text)
        found = {
            path[-1] if str(path[-1]).startswith("k") else path[-2]: line
            for path, line in key_lines(text).items()
            if len(path) > 1 or path[0][0] == "k"
        }
        assert {name: line for name, line in found.items() if name in expected} == expected


def test_durations_are_read_with_units():
    assert [parse_duration(text) for text in ("1", "0.5", "500ms", "90s", "10m", "1h30m", "1d", "1.5h")] == [
        1,
        0.5,
        0.5,
        90,
        600,
        5400,
        86400,
        5400,
    ]
    assert [parse_duration(text) for text in ("", "m", "10 m", "1x", "-1s", "٣s", "1e3")] == [None] * 7
    assert [parse_duration(text) for text in (".3", ".5s", "2.", "1.h", "1m.5s")] == [0.3, 0.5, 2, 3600, 60.5]
    assert [parse_duration(text) for text in (".", ".s", "1..5s", "1.5.5")] == [None] * 4


def test_the_json_schema_is_the_one_made_from_the_loader_s_table():
    path = ROOT / "trio_process" / "_pipeline" / "file" / "pipeline.schema.json"
    made = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    assert path.read_text() == made, "write json_schema() of trio_process/_pipeline/file/schema.py into the file"


def test_the_reference_page_names_every_key_and_its_example_is_a_pipeline(tmp_path):
    page = PAGE.read_text()
    for key in keys.TASK_KEYS.values():
        assert f"| `{key.name}`{' *' if key.default else ''} |" in page
    example = re.search(r"```toml\n(.*?)```", page, re.DOTALL)[1]
    (tmp_path / "trio-process.toml").write_text(example)
    assert [spec.name for spec in load_pipeline(tmp_path / "trio-process.toml")] == [
        "lint",
        "test-3.11",
        "test-3.12",
        "package",
    ]


def test_the_faults_of_the_reference_page_are_those_of_such_a_file(tmp_path, monkeypatch):
    text = (
        "\n" * 7 + "[tasks.lint]\nrun = 'true'\n[tasks.test]\nrun = 'true'\n"
        "tiemout = 3\nneeds = ['lint']\nretries = 'two'\nafter = ['lnit']\n"
    )
    monkeypatch.chdir(tmp_path)
    Path("trio-process.toml").write_text(text)
    with pytest.raises(PipelineError) as caught:
        load_pipeline("trio-process.toml")
    assert "\n".join(caught.value.faults) == re.search(r"```text\n(.*?)\n```", PAGE.read_text(), re.DOTALL)[1]


_WORDS = st.sampled_from(
    ["tasks", "defaults", "env-file", "tool", "[", "]", "[[", "]]", "{", "}", "=", ".", ",", "\n", '"', "'", '"""', "'''", "a", "t", "1", "0x1", "${", "${A}", "${matrix.a}", "$${", " ", "#", "true", "[tasks.t]\nrun='true'\n", "\\", "é", "\0", "-inf", *keys.TASK_KEYS]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(st.lists(_WORDS, max_size=40).map("".join), st.text()),
    st.sampled_from(["a.toml", "pyproject.toml", "Procfile"]),
)
def test_no_text_makes_anything_but_a_pipeline_error(tmp_path_factory, text, name):
    directory = tmp_path_factory.getbasetemp() / "texts"  # a pyproject.toml above a test is one that pytest reads
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        assert load_pipeline(path)
    except PipelineError as error:
        faults = error.faults
        assert faults
        assert not [fault for fault in faults if "\n" in fault]


_VALUES = st.recursive(
    st.one_of(
        st.text(max_size=5),
        st.integers(),
        st.booleans(),
        st.floats(),
        st.sampled_from(["t", "${X:-y}", "${matrix.a}", "10m"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "run", "b c", ""]), inner, max_size=3)
    ),
    max_leaves=6,
)


def _toml(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    return repr(value)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(list(keys.TASK_KEYS)), _VALUES, max_size=5), st.booleans())
def test_no_value_of_a_key_makes_anything_but_a_pipeline_error(tmp_path_factory, table, as_defaults):
    path = tmp_path_factory.getbasetemp() / "values.toml"
    text = "".join(f"{key} = {_toml(value)}\n" for key, value in table.items())
    path.write_text(
        f"[{'defaults' if as_defaults else 'tasks.t'}]\n{text}[tasks.u]\nrun = 'true'\n",
        encoding="utf-8",
        errors="replace",
    )
    try:
        assert load_pipeline(path)
    except PipelineError as error:
        assert error.faults  # noqa: PT017 - either end is right
