"""What the keys of a pipeline file do: those of tasks, those at the top, included files, and Procfiles."""

import json
import signal
from pathlib import Path

import pytest

from trio_process import load_pipeline
from trio_process._core import PipelineError, Stdio
from trio_process._pipeline import read_pipeline
from trio_process._pipeline.file import keys


@pytest.fixture
def write(tmp_path):
    def write(text, name="trio-process.toml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
        return path

    return write


@pytest.fixture
def task(write):
    return lambda lines: load_pipeline(write(f"[tasks.t]\nrun = 'x'\n{lines}"))[-1]


@pytest.fixture
def faults(write):
    def faults(text, name="trio-process.toml"):
        path = write(text, name)
        with pytest.raises(PipelineError) as caught:
            load_pipeline(path)
        return [fault.removeprefix(f"{path}:") for fault in caught.value.faults]

    return faults


@pytest.mark.parametrize(
    ("lines", "field", "value"),
    [
        ("stop-signal = 'INT'", "stop_signal", signal.SIGINT),
        ("stop-signal = 'sigquit'", "stop_signal", signal.SIGQUIT),
        ("stop-signal = 10", "stop_signal", 10),
        ("interactive = true", "interactive", True),
        ("nice = -3", "nice", -3),
        ("user = 'root'", "user", "root"),
        ("user = 0", "user", 0),
        ("limits = { nofile = 99, core = [0, 'unlimited'] }", "limits", {"nofile": (99, 99), "core": (0, -1)}),
        ("resources = { cpus = 2, memory = '8G', gpus = 1 }", "resources", {"cpus": 2, "memory": 8 * 2**30, "gpus": 1}),
        ("resources = { memory = 1000 }", "resources", {"memory": 1000}),
        ("resources = { cpus = 3 }", "weight", 3),
        ("uses = ['db', 'cache']", "uses", ("db", "cache")),
        ("inputs = 'src/*'", "inputs", ("src/*",)),
        ("inputs = 'x'\noutputs = ['${file.dir}/out', 'b']", "outputs", ("DIR/out", "b")),
        ("log-file = 'logs/${TP_NONE:-a}.log'", "log_file", "DIR/logs/a.log"),
        ("[tasks.u]\nrun = 'x'\nafter = ['t']\nwhen = 'failure'", "when", "failure"),
        ("[tasks.u]\nrun = 'x'\nafter = ['t']\nwhen = 'always'", "when", "always"),
    ],
)
def test_a_key_reaches_its_field(task, tmp_path, lines, field, value):
    def placed(value):
        return value.replace("DIR", str(tmp_path)) if isinstance(value, str) else value

    expected = tuple(map(placed, value)) if isinstance(value, tuple) else placed(value)
    found = getattr(task(lines), field)
    assert (str(found) if isinstance(found, Path) else found) == expected


def test_an_interactive_task_has_the_streams_of_the_terminal(task):
    options = task("interactive = true").options
    assert (options.stdin, options.stdout, options.stderr) == (Stdio.INHERIT, Stdio.INHERIT, Stdio.INHERIT)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("stop-signal = 'NOPE'", "the name of a signal"),
        ("stop-signal = 0", "the name of a signal"),
        ("stop-signal = 999", "the name of a signal"),
        ("interactive = 1", "expected true or false"),
        ("interactive = true\nstdin = 'x'", "leave `stdin` out"),
        ("nice = 20", "from -20 to 19"),
        ("nice = 1.5", "from -20 to 19"),
        ("user = 'tp-nobody-here'", "there is no user"),
        ("user = ''", "the name or the number of a user"),
        ("limits = { nofiles = 3 }", "unknown limit; did you mean 'nofile'?"),
        ("limits = { nofile = 'many' }", '"unlimited"'),
        ("limits = { nofile = [9, 3] }", "above the hard one"),
        ("resources = { cpu = 3 }", "unknown resource; did you mean 'cpus'?"),
        ("resources = { memory = '8 potatoes' }", "a size in bytes"),
        ("resources = { cpus = 0 }", "a whole number"),
        ("uses = 'db'", "a list of the names of services"),
        ("inputs = []\noutputs = ['']", "an empty string"),
        ("outputs = 'x'", "`outputs` need `inputs`"),
        ("when = 'never'", '"success", "failure" or "always"'),
        ("when = 'failure'", "needs `after`"),
        ("when = 1", '"success", "failure" or "always"'),
        ("manual = 'yes'", "true or false"),
        ("arguments = 0", "true or false"),
        ("env-file = { file = 'x' }", "expected the path of a file"),
        ("env-file = { path = 'x', optionl = true }", "unknown key; an env file has `path` and `optional`"),
        ("env-file = [{ path = 'x', optional = 1 }]", "expected true or false"),
        ("log-file = 3", "the path of a file"),
    ],
)
def test_a_bad_value_is_a_fault_with_its_line(faults, line, said):
    found = faults(f"[tasks.t]\nrun = 'true'\n{line}")
    assert any(said in fault for fault in found), found
    assert all(int(fault.split(":")[0]) in (1, 2, 3, 4) for fault in found), found


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("user = 'tp-nobody-here'", "3: tasks.t.user: user: there is no user 'tp-nobody-here'"),
        ("run = ['', 'x']", "3: tasks.t.run: command must not be empty"),
    ],
)
def test_a_fault_found_when_the_task_is_whole_has_its_key(faults, line, said):
    (found,) = faults(f"[tasks.t]\ndescription = 'x'\n{line}" + ("" if "run" in line else "\nrun = 'x'"))
    assert found.startswith(said)


@pytest.mark.parametrize(
    ("foreign", "said"),
    [
        *[(word, "`shell`") for word in ("cmds", "commands")],
        *[(word, "`after`") for word in ("deps", "depends_on", "needs")],
        *[(word, "`env-file`") for word in ("dotenv", "env_file")],
        *[(word, "`inputs`") for word in ("sources", "file_dep")],
        *[(word, "`outputs`") for word in ("generates", "targets")],
        *[(word, 'when = "always"') for word in ("defer", "finally")],
        *[(word, "`interactive`") for word in ("tty", "terminal")],
        ("vars", "write `env`"),
        ("on_failure", 'when = "failure"'),
        ("status", "`inputs`"),
        ("stop_signal", "`stop-signal`"),
        ("input", "`stdin`"),
    ],
)
def test_a_foreign_key_is_explained(faults, foreign, said):
    [fault] = faults(f"[tasks.t]\nrun = 'true'\n{foreign} = 1")
    assert said in fault


def test_no_explained_key_is_one_of_ours():
    assert not set(keys._EXPLAINED) & set(keys.TASK_KEYS)


class TestTheTop:
    TEXT = "[tasks.lint]\nrun='x'\n[tasks.test]\nrun='x'\nmatrix={n=[1,2]}\n[tasks.push]\nrun='x'\nmanual=true\n"

    def test_default_names_tasks_and_tables(self, write):
        assert read_pipeline(write("default = ['test', 'lint']\n" + self.TEXT)).default == ("test-1", "test-2", "lint")
        assert read_pipeline(write(self.TEXT)).default is None

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            ("['tset']", "did you mean 'test'?"),
            ("'test'", "expected a list"),
            ("{ a = 1 }", "[defaults]"),
            ("[1]", "a string"),
        ],
    )
    def test_a_bad_default_is_a_fault(self, faults, value, said):
        [fault] = faults(f"default = {value}\n" + self.TEXT)
        assert said in fault

    def test_manual_tasks_are_marked(self, write):
        assert [task.is_manual for task in read_pipeline(write(self.TEXT)).tasks] == [False, False, False, True]

    def test_the_time_for_cleaning_up(self, write, faults):
        assert read_pipeline(write("cleanup-timeout = '1m'\n" + self.TEXT)).cleanup_timeout == 60
        assert "expected a duration" in faults("cleanup-timeout = -1\n" + self.TEXT)[0]

    def test_arguments_go_behind_the_command_or_into_the_script(self, write):
        file = read_pipeline(
            write(
                "[tasks.r]\nrun='x a'\n[tasks.s]\nshell='y \"$@\"'\n[defaults]\narguments=false\n[tasks.o]\nrun='x'\narguments=true"
            )
        )
        tasks = {task.table: task for task in file.tasks}
        assert tasks["r"].with_arguments(["-k", "a b"]).spec.args == ("a", "-k", "a b")
        assert tasks["s"].with_arguments(["-k", "a b"]).spec.args == ("-e", "-c", 'y "$@"', "sh", "-k", "a b")
        assert {name: task.takes_arguments for name, task in tasks.items()} == {"r": False, "s": False, "o": True}


class TestEnvFiles:
    def test_one_may_be_optional(self, task, write, faults):
        write("TP_A=1", "a.env")
        spec = task("env-file = ['a.env', { path = 'gone.env', optional = true }]")
        assert spec.env == {"TP_A": "1"}
        assert "can't read the env file" in faults("[tasks.t]\nrun='x'\nenv-file = { path = 'gone.env' }")[0]

    def test_a_value_in_double_quotes_may_have_several_lines(self, task, write):
        write('A="one\ntwo\\n\\"three\\""  # a key\nB = "x"\n\nexport C="#\n"\nD=plain # not\nE=\'a#b\'\n', "a.env")
        assert task("env-file = 'a.env'").env == {
            "A": 'one\ntwo\n"three"', "B": "x", "C": "#\n", "D": "plain", "E": "a#b"
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("text", "line"), [('A="x\nB=1', 1), ("A=1\nB='x\ny'\n", 2), ('A="x\ny"\nB', 3), ('A="x" y\n', 1)]
    )
    def test_quotes_that_are_not_closed_are_a_fault_with_its_line(self, faults, write, text, line):
        write(text, "a.env")
        assert f"a.env', line {line}: expected NAME=value" in faults("[tasks.t]\nrun='x'\nenv-file='a.env'")[0]


class TestIncludes:
    DOCS = (
        "default = ['build']\n[defaults]\ndir = 'src'\nenv = { TP_IN = 'docs' }\n"
        "[tasks.build]\nrun = 'make'\n[tasks.check]\nrun = 'check ${matrix.n}'\nafter = ['build']\nmatrix = { n = [1, 2] }\n"
    )

    def test_tasks_have_the_name_of_the_include_in_front_and_live_in_their_own_directory(self, write, tmp_path):
        write(self.DOCS, "docs/tasks.toml")
        path = write(
            "include = { docs = 'docs/tasks.toml' }\n[defaults]\nenv = { TP_OUT = '1' }\n"
            "[tasks.all]\nrun = 'x'\nafter = ['docs:check', 'docs:build']\n"
        )
        specs = {spec.name: spec for spec in load_pipeline(path)}
        assert list(specs) == ["docs:build", "docs:check-1", "docs:check-2", "all"]
        assert specs["all"].after == ("docs:check-1", "docs:check-2", "docs:build")
        assert specs["docs:check-1"].after == ("docs:build",)
        assert specs["docs:build"].cwd == str(tmp_path / "docs" / "src")
        assert specs["docs:build"].env == {"TP_IN": "docs"}
        assert specs["all"].env == {"TP_OUT": "1"}

    def test_included_files_may_include_and_a_file_of_includes_needs_no_task(self, write):
        write("[tasks.x]\nrun = 'x'\n", "a/b/c.toml")
        write("include = { inner = 'b/c.toml' }\n", "a/mid.toml")
        path = write("default = ['outer:inner:x']\ninclude = { outer = 'a/mid.toml' }\n")
        assert [spec.name for spec in load_pipeline(path)] == ["outer:inner:x"]
        assert read_pipeline(path).default == ("outer:inner:x",)

    @pytest.mark.parametrize("hops", [1, 2, 3])
    def test_files_that_include_each_other_are_a_fault(self, write, hops):
        names = ["trio-process.toml", *[f"f{n}.toml" for n in range(1, hops)]]
        for name, other in zip(names, [*names[1:], names[0]], strict=True):
            path = write(f"include = {{ next = '{other}' }}\n[tasks.t]\nrun = 'x'\n", name)
        with pytest.raises(PipelineError, match=r"a cycle of files: .* → .*") as caught:
            load_pipeline(path.parent / names[0])
        assert len(caught.value.faults) == 1

    @pytest.mark.parametrize(
        ("docs", "line", "said"),
        [
            (None, "", "can't read"),
            ("[tasks.t]\nrunn = 1", "", "tasks.toml:2: tasks.t.runn: unknown key"),
            (
                "[tasks.a]\nrun='x'\nafter=['a2']\n[tasks.a2]\nrun='x'\nafter=['a']",
                "",
                "tasks.toml:3: tasks.a.after: a cycle",
            ),
            ("[tasks.t]\nrun = 'x'", "[tasks.'docs:t']\nrun = 'x'", "is taken by a task of an included file"),
            ("[tasks.t]\nrun = 'x'", "[tasks.u]\nrun = 'x'\nafter = ['docs:tt']", "did you mean 'docs:t'?"),
        ],
    )
    def test_the_faults_of_both_files_are_reported(self, faults, write, docs, line, said):
        if docs is not None:
            write(docs, "docs/tasks.toml")
        found = faults(f"include = {{ docs = 'docs/tasks.toml' }}\nnope = 1\n{line}")
        assert any(said in fault for fault in found), found
        assert any("nope: unknown key" in fault for fault in found), found

    @pytest.mark.parametrize(("path", "said"), [("gone.toml", "No such file"), ("docs", "give the file itself")])
    def test_an_include_that_can_not_be_read_is_a_fault_of_its_key(self, faults, tmp_path, path, said):
        (tmp_path / "docs").mkdir()
        [fault] = faults(f"# first\n[include]\nx = '{path}'\n")
        assert fault.startswith(f"3: include.x: can't read '{tmp_path / path}'")
        assert said in fault

    @pytest.mark.parametrize("value", ["'x.toml'", "{ 'a b' = 'x' }", "{ a = 3 }", "{ a = '' }"])
    def test_a_bad_include_is_a_fault(self, faults, value):
        assert "include" in faults(f"include = {value}\n[tasks.t]\nrun = 'x'")[0]


class TestProcfiles:
    def test_each_process_has_a_port_and_the_variables_of_dot_env(self, write, monkeypatch):
        monkeypatch.setenv("TP_SET", "ours")
        write("TP_SET=theirs\nTP_NEW='a b'\n", ".env")
        web, worker = load_pipeline(write("web: serve\nworker: work\n", "Procfile"))
        assert web.env == {"TP_NEW": "a b", "PORT": "5000"}
        assert worker.env["PORT"] == "5100"
        assert web.args == ("-c", "serve")

    def test_the_first_port_is_that_of_dot_env(self, write):
        write("PORT=8000\n", ".env")
        assert [spec.env["PORT"] for spec in load_pipeline(write("a: x\nb: x\nc: x", "Procfile"))] == [
            "8000",
            "8100",
            "8200",
        ]

    @pytest.mark.parametrize("text", ["PORT=http\n", "PORT='", "not a variable\n"])
    def test_a_bad_dot_env_is_a_fault(self, faults, write, text):
        write(text, ".env")
        assert ".env" in faults("web: serve", "Procfile")[0]


def test_the_schema_knows_what_is_at_the_top():
    schema = json.loads(Path(keys.__file__).with_name("pipeline.schema.json").read_text())
    assert set(schema["properties"]) == set(keys.TOP_KEYS)


@pytest.mark.parametrize("written", ["~", "~/x", "$HOME", "$HOME/x", "a/$USER/b"])
@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ("dir = '{}'", "tasks.t.dir"),
        ("env-file = '{}'", "tasks.t.env-file"),
        ("env-file = [{{ path = '{}', optional = true }}]", "tasks.t.env-file"),
        ("log-file = '{}'", "tasks.t.log-file"),
        ("inputs = ['{}']", "tasks.t.inputs[0]"),
        ("inputs = 'x'\noutputs = '{}'", "tasks.t.outputs"),
        ("env = {{ PYTHONPATH = '{}' }}", "tasks.t.env.PYTHONPATH"),
        ("[defaults]\ndir = '{}'", "defaults.dir"),
        ("[include]\nx = '{}'", "include.x"),
        ("[services.s]\nrun = 'x'\ndir = '{}'", "services.s.dir"),
        ("[services.s]\nrun = 'x'\nready = {{ file = '{}' }}", "services.s.ready.file"),
        ("[services.s]\nrun = 'x'\nlive = {{ unix = '{}' }}", "services.s.live.unix"),
    ],
)
def test_a_path_that_only_a_shell_would_expand_is_refused_with_the_way_to_write_it(faults, lines, key, written):
    [fault] = faults(f"[tasks.t]\nrun = 'true'\n{lines.format(written)}")
    what = "a `~`" if written.startswith("~") else "$USER" if "USER" in written else "$HOME"
    advice = "${USER}" if "USER" in written else "${HOME}"
    assert fault.split(": ", 1)[1] == f"{key}: {what} is not expanded here; write {advice}"


def test_a_dollar_or_a_tilde_in_a_name_or_a_text_is_left_alone(task):
    found = task(
        "dir = 'a$b~/$x.d'\nlog-file = 'x~'\ninputs = ['Foo$Bar.class', '${TP_NONE:-$literal}']\nstdin = '$HOME'\n"
        "env = { PATH = '/a$b:~x', PASSWORD = '$HOME/~', REQUEST_PATH = '/users/$id' }\noutputs = 'routes/$postId/*.js'"
    )
    assert Path(found.cwd).name == "$x.d"
    assert (found.inputs, found.outputs) == (("Foo$Bar.class", "$literal"), ("routes/$postId/*.js",))
    assert found.stdin == "$HOME"
    assert found.env == {"PATH": "/a$b:~x", "PASSWORD": "$HOME/~", "REQUEST_PATH": "/users/$id"}


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ("['A=1', 'make']", "A=1 would be the program; write env = { A = ... }"),
        ("['cd', 'x']", "'cd' is a command of the shell itself; write `dir`"),
        ("['export', 'A=1']", "write `env`"),
        ("['cd x && make']", "'cd x && make' would be its program; write each argument as an item of its own"),
        ("['make -j2']", "'make -j2' would be its program"),
        ("['make lint', 'make test']", "'make lint' would be its program"),
        ("'A=1 make'", "A=1 would be the program; write env = { A = ... }"),
        ("'cd x'", "write `dir`"),
    ],
)
def test_a_command_that_only_a_shell_understands_gets_a_hint(faults, run, said):
    [fault] = faults(f"[tasks.t]\nrun = {run}")
    assert said in fault
    [fault] = faults(f"[services.s]\nrun = {run}")
    assert said in fault


def test_a_list_may_name_any_program_there_is(task, tmp_path, monkeypatch):
    for name in ("my tool", "A=1"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    run = "[tasks.u]\nrun = ['{}', 'x']"
    assert task(run.format("my tool")).command == "my tool"
    assert task(run.format("A=1")).command == "A=1"
    assert task(run.format("./no such file")).command == "./no such file"
    assert task(run.format("${TP_NONE:-a b}")).command == "a b"


@pytest.mark.parametrize("command", ["A=1 pg_isready", "cd x && y", "cd x", "echo $(x)"])
def test_the_hint_for_the_command_of_a_probe_names_no_key_that_a_probe_lacks(faults, command):
    [fault] = faults(f"[services.s]\nrun = 'x'\nready = {{ command = '{command}' }}")
    assert fault.endswith('; write ["sh", "-c", "..."]')
