"""What a RunSpec takes, refuses, and passes on to the attempts."""

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
    }


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
    ],
)
def test_a_bad_value_is_refused_when_it_is_made_and_named(bad, named):
    with pytest.raises(OptionError, match=named):
        RunSpec(**{"name": "a", "command": "x", **bad})


def test_a_positional_or_unknown_option_is_refused():
    with pytest.raises(TypeError):
        RunSpec("a", "x")
    with pytest.raises(TypeError, match="needs"):
        RunSpec(name="a", command="x", needs=["b"])


def test_an_empty_name_waits_for_the_runner_so_that_every_fault_is_told_at_once():
    assert RunSpec(name="", command="x", after=["", "", ""]).after == ("", "", "")


def test_a_spec_is_frozen():
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        RunSpec(name="a", command="x").name = "b"
