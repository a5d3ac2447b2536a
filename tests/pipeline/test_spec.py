"""What a RunSpec takes, refuses, and passes on to the attempts."""

import pickle
from pathlib import Path

import attrs
import pytest

from trio_process._core import OptionError, RunOptions, Secret, Stdio
from trio_process._pipeline import RunSpec


def test_the_defaults_are_those_of_the_contract():
    spec = RunSpec(name="a", command="true")
    assert attrs.asdict(spec, filter=lambda field, _: field.name not in ("name", "command", "options")) == {
        "args": (),
        "cwd": None,
        "env": {},
        "after": (),
        "allow_failure": False,
        "timeout": None,
        "idle_timeout": None,
        "grace_period": None,
        "retries": 0,
        "retry_delay": 0.0,
        "stdin": None,
        "ok_exit_codes": (0,),
        "weight": 1,
        "when": "success",
        "uses": (),
        "resources": {},
        "inputs": (),
        "outputs": (),
        "interactive": False,
        "stop_signal": 15,
        "disable_capture": False,
        "buffer_size": None,
        "encoding": "utf-8",
        "errors": "replace",
        "max_line": 2**20,
        "max_output": None,
        "kill_group": True,
        "log_file": None,
        "log_max_bytes": 0,
        "log_keep": 3,
        "echo": False,
        "redact": False,
        "umask": None,
        "user": None,
        "nice": None,
        "limits": {},
    }


def test_it_takes_every_field_of_the_options_but_three_with_the_same_defaults():
    ours = {field.name: field for field in attrs.fields(RunSpec)}
    theirs = {field.name: field for field in attrs.fields(RunOptions)}
    assert set(theirs) - set(ours) == {"detach", "stdout", "stderr"}
    spec = RunSpec(name="a", command="x")
    for name in set(theirs) & set(ours) - {"name", "command"}:
        default = theirs[name].default
        default = default.factory() if isinstance(default, attrs.Factory) else default
        assert getattr(spec, name) == default, name
        declared = ours[name].default
        assert (declared.factory() if isinstance(declared, attrs.Factory) else declared) == default, name


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({"stop_signal": "INT"}, {"stop_signal": 2}),
        ({"nice": 3, "umask": 0o27}, {"nice": 3, "umask": 0o27}),
        ({"limits": {"nofile": 99}}, {"limits": {"nofile": (99, 99)}}),
        ({"log_file": "out.log", "log_keep": 1}, {"log_file": Path("out.log"), "log_keep": 1}),
        ({"resources": {"cpus": 3}}, {"resources": {"cpus": 3}}),
        ({"interactive": True}, {"stdin": Stdio.INHERIT, "stdout": Stdio.INHERIT, "stderr": Stdio.INHERIT}),
    ],
)
def test_what_concerns_the_process_goes_into_its_options(given, options):
    spec = RunSpec(name="a", command="x", **given)
    assert {name: getattr(spec.options, name) for name in options} == options
    assert {name: getattr(spec, name) for name in options if name not in ("stdin", "stdout", "stderr")} == {
        name: value for name, value in options.items() if name not in ("stdin", "stdout", "stderr")
    }


def test_the_weight_is_by_default_the_number_of_processors():
    assert RunSpec(name="a", command="x", resources={"cpus": 4}).weight == 4
    assert RunSpec(name="a", command="x", resources={"cpus": 4}, weight=2).weight == 2
    assert RunSpec(name="a", command="x", resources={"memory": 1}).weight == 1


def test_the_number_of_processors_is_by_default_the_weight():
    spec = RunSpec(name="a", command="x", weight=3, resources={"memory": 1})
    assert spec.options.resources == {"cpus": 3, "memory": 1}
    assert spec.resources == {"memory": 1}
    assert attrs.evolve(spec, weight=2).options.resources == {"cpus": 2, "memory": 1}
    assert RunSpec(name="a", command="x").options.resources == {}


def test_equal_specs_are_equal_and_print_what_they_were_made_with():
    make = {"name": "a", "command": "x", "args": ["1"], "timeout": 3, "nice": 2}
    assert RunSpec(**make) == RunSpec(**make) != RunSpec(**{**make, "nice": 3})
    assert "timeout=3.0" in repr(RunSpec(**make))
    assert "nice=2" in repr(RunSpec(**make))
    assert repr(RunSpec(**make)) == "RunSpec(name='a', command='x', args=('1',), timeout=3.0, nice=2)"
    assert pickle.loads(pickle.dumps(RunSpec(**make))) == RunSpec(**make)


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, ""),
        ({"weight": 1}, ""),
        ({"weight": 2}, ", weight=2"),
        ({"resources": {"cpus": 3}}, ", resources={'cpus': 3}"),
        ({"resources": {"cpus": 3}, "weight": 3}, ", resources={'cpus': 3}"),
        ({"resources": {"cpus": 3}, "weight": 1}, ", weight=1, resources={'cpus': 3}"),
        ({"resources": {"memory": 1}, "weight": 2}, ", weight=2, resources={'memory': 1}"),
        ({"stdin": "data", "interactive": True}, ", stdin='data', interactive=True"),
    ],
)
def test_a_spec_prints_a_weight_only_if_it_is_not_that_of_its_resources(options, shown):
    spec = RunSpec(name="a", command="x", **options)
    assert repr(spec) == f"RunSpec(name='a', command='x'{shown})"
    again = eval(repr(spec))
    assert (again, hash(again)) == (spec, hash(spec))


def test_an_attempt_is_told_everything_that_concerns_it():
    spec = RunSpec(
        name="a", command=Path("bin/x"), args=["1", Secret("s")], cwd=Path("/"), env={"A": None}, timeout=3,
        idle_timeout=2, grace_period=1, stdin=b"data", ok_exit_codes=[0, 3],
    )  # fmt: skip
    assert spec.options == RunOptions(
        command="bin/x", args=("1", Secret("s")), cwd="/", env={"A": None}, timeout=3.0, idle_timeout=2.0,
        grace_period=1.0, stdin=b"data", ok_exit_codes=(0, 3), name="a",
    )  # fmt: skip
    assert spec.command == "bin/x"
    assert spec.ok_exit_codes == (0, 3)


def test_stdin_is_null_unless_given():
    assert RunSpec(name="a", command="x").options.stdin is Stdio.NULL
    assert RunSpec(name="a", command="x", stdin=Stdio.INHERIT).options.stdin is Stdio.INHERIT


def test_a_secret_never_shows():
    spec = RunSpec(name="a", command="x", args=[Secret("hunter2")], env={"P": Secret("hunter2")})
    assert "hunter2" not in repr(spec)


def test_a_changed_copy_has_options_of_its_own():
    copy = attrs.evolve(RunSpec(name="a", command="x"), name="b", timeout=2)
    assert (copy.options.name, copy.options.timeout) == ("b", 2.0)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"name": 3}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"command": ""}, "command"),
        ({"command": Secret("x")}, "command"),
        ({"args": "abc"}, "args"),
        ({"args": [1]}, "args"),
        ({"after": "abc"}, "after"),
        ({"after": b"abc"}, "after"),
        ({"after": {"a": 1}}, "after"),
        ({"after": 3}, "after"),
        ({"after": [3]}, "after"),
        ({"cwd": 3}, "cwd"),
        ({"env": ["A=1"]}, "env"),
        ({"allow_failure": "no"}, "allow_failure"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": "10m"}, "timeout"),
        ({"idle_timeout": 0}, "idle_timeout"),
        ({"grace_period": float("nan")}, "grace_period"),
        ({"retries": -1}, "retries"),
        ({"retries": 1.5}, "retries"),
        ({"retries": True}, "retries"),
        ({"retry_delay": -0.1}, "retry_delay"),
        ({"stdin": 3}, "stdin"),
        ({"ok_exit_codes": "0"}, "ok_exit_codes"),
        ({"ok_exit_codes": [256]}, "ok_exit_codes"),
        ({"weight": 0}, "weight"),
        ({"weight": 1.5}, "weight"),
        ({"when": "never"}, "when"),
        ({"when": None}, "when"),
        ({"interactive": 1}, "interactive"),
        ({"uses": "db"}, "uses"),
        ({"inputs": "src/*"}, "inputs"),
        ({"outputs": [3]}, "outputs"),
        ({"stop_signal": "SIGNOPE"}, "stop_signal"),
        ({"resources": {"cpu": 1}}, "resources"),
    ],
)
def test_a_bad_value_is_refused_when_it_is_made_and_named(bad, named):
    with pytest.raises(OptionError, match=named):
        RunSpec(**{"name": "a", "command": "x", **bad})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dir": "/"}, "cwd"),
        ({"needs": ["b"]}, "after"),
        ({"depends": ["b"]}, "after"),
        ({"shell": "x"}, "'sh'"),
        ({"input": b""}, "stdin"),
        ({"text": True}, "output is decoded already"),
        ({"capture_stdout": True}, "captured already"),
        ({"stdout": None}, "log_file"),
        ({"detach": True}, "Service.start"),
        ({"timeuot": 3}, "did you mean 'timeout'"),
    ],
)
def test_an_unknown_option_is_refused_with_the_word_that_is_used_here(options, said):
    for given in ({"name": "a", "command": "x"}, {"name": "a"}, {}):
        with pytest.raises(OptionError, match=said):
            RunSpec(**given, **options)


def test_a_positional_argument_and_one_that_is_left_out_are_refused_with_words():
    with pytest.raises(OptionError, match="keywords only"):
        RunSpec("build", "make")
    with pytest.raises(OptionError, match="command="):
        RunSpec(name="build")
    with pytest.raises(OptionError, match="name="):
        RunSpec(command="make")


def test_an_empty_name_waits_for_the_runner_so_that_every_fault_is_told_at_once():
    assert RunSpec(name="", command="x", after=["", "", ""]).after == ("", "", "")


def test_a_spec_is_frozen():
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        RunSpec(name="a", command="x").name = "b"


def test_the_stdin_of_a_spec_is_a_copy_of_bytes_that_may_change():
    given = bytearray(b"ab")
    spec = RunSpec(name="a", command="x", stdin=given)
    given[:] = b"cd"
    assert (spec.stdin, spec) == (b"ab", RunSpec(name="a", command="x", stdin=b"ab"))
    assert hash(spec) == hash(RunSpec(name="a", command="x", stdin=b"ab"))
