import copy
import io
import math
import pickle
import signal
from enum import Enum, IntEnum
from functools import partial
from pathlib import Path

import attrs
import pytest

from trio_process import (
    Daemon,
    DaemonEntry,
    DaemonOptions,
    OptionError,
    Probe,
    ReloadPlan,
    RestartPolicy,
    RunOptions,
    RunSpec,
    Secret,
    ServiceOptions,
    Stdio,
    UnitSpec,
)
from trio_process._core import checks, make_options, shown_args
from trio_process._core import options as options_module
from trio_process.cluster import local_agents, slurm_agents, ssh_agents
from trio_process.exec import Command
from trio_process.testing import Behaviour, FakeService


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"command": ""}, "command must not be empty"),
        ({"command": "a\0b"}, "command must not contain a NUL"),
        ({"command": 1}, "command must be a str, bytes or path"),
        ({"command": Secret("x")}, "a Secret can only be an argument"),
        (
            {"command": ["ls", "-l"]},
            "command must be a str, bytes or path, got .*; the command and its arguments are given one",
        ),
        ({"args": "abc"}, "args must be a list or tuple"),
        ({"args": b"abc"}, "args must be a list or tuple"),
        ({"args": Secret("abc")}, "args must be a list or tuple"),
        ({"args": {"a": "b"}}, "args must be a list or tuple"),
        ({"args": 3}, "args must be a list or tuple"),
        ({"args": [1]}, r"numbers are not converted, write str\("),
        ({"args": [["-l"]]}, r"got \['-l'\]; the command and its arguments are given one by one"),
        ({"args": ["a\0"]}, "must not contain a NUL"),
        ({"args": [b"a\0"]}, "must not contain a NUL"),
        ({"args": [Secret("hunter2\0")]}, "a Secret"),
        ({"args": [None]}, "must be a str, bytes, path or Secret, got None"),
        ({"cwd": ""}, "cwd must not be empty"),
        ({"cwd": "a\0"}, "cwd must not contain a NUL"),
        ({"cwd": 1}, "cwd must be a str, bytes or path"),
        ({"env": ["A=1"]}, "env must map names to values"),
        ({"env": {"A=B": "1"}}, "a name must be a non-empty str without '='"),
        ({"env": {"": "1"}}, "a name must be a non-empty str"),
        ({"env": {"A\0": "1"}}, "a name must be"),
        ({"env": {b"A": "1"}}, "a name must be"),
        ({"env": {"A": 1}}, r"env\['A'\] must be a str"),
        ({"env": {"A": "1\0"}}, r"env\['A'\] must not contain a NUL"),
        ({"name": 1}, "name must be a str"),
        ({"stdin": 1}, "stdin must be a Stdio"),
        ({"stdin": Stdio.STDOUT}, "stdin can't be Stdio.STDOUT"),
        ({"stdin": io.BytesIO()}, "stdin must be"),
        ({"stdin": io.StringIO()}, "stdin must be"),
        ({"stdout": "out.txt"}, r"write Path\('out.txt'\)"),
        ({"stdout": Stdio.STDOUT}, "stdout can't be Stdio.STDOUT"),
        ({"stdout": None}, "stdout must be"),
        ({"stderr": "out.txt"}, "stderr must be"),
        ({"stderr": 2}, "stderr must be"),
        ({"buffer_size": -1}, "buffer_size must be 0 or more"),
        ({"max_output": -1}, "max_output must be 0 or more"),
        ({"max_output": 1.5}, "max_output must be a whole number"),
        ({"max_output": True}, "max_output must be a whole number"),
        ({"resources": ["cpus"]}, "resources must map names to numbers"),
        ({"resources": {"cpu": 2}}, "unknown resource 'cpu'; known: cpus, memory, gpus"),
        ({"resources": {"cpus": 0}}, r"resources\['cpus'\] must be 1 or more"),
        ({"resources": {"memory": "2G"}}, r"resources\['memory'\] must be a whole number"),
        ({"resources": {"gpus": -1}}, r"resources\['gpus'\] must be 0 or more"),
        ({"buffer_size": 1.5}, "buffer_size must be a whole number or math.inf"),
        ({"buffer_size": True}, "buffer_size must be a whole number"),
        ({"encoding": "utf-9"}, "encoding must name a text encoding"),
        ({"encoding": "base64"}, "encoding must name a text encoding"),
        ({"encoding": "idna"}, "encoding must name"),
        ({"encoding": "punycode"}, "encoding must name"),
        ({"encoding": "undefined"}, "encoding must name"),
        ({"encoding": 8}, "encoding must name"),
        ({"encoding": ""}, "encoding must name"),
        ({"encoding": "utf\0"}, "encoding must name"),
        ({"errors": "nope"}, "errors must name an error handler"),
        ({"errors": "xmlcharrefreplace"}, "an error handler such as .* that can decode"),
        ({"errors": None}, "errors must name"),
        ({"max_line": 3}, "max_line must be 4 or more"),
        ({"max_line": math.inf}, "max_line must be a whole number"),
        ({"timeout": -1}, "timeout must be 0 or more seconds"),
        ({"timeout": math.nan}, "timeout must be a number of seconds"),
        ({"timeout": "1"}, "timeout must be a number of seconds"),
        ({"timeout": True}, "timeout must be a number of seconds"),
        ({"idle_timeout": 0}, "idle_timeout must be more than 0"),
        ({"grace_period": -0.1}, "grace_period must be 0 or more"),
        ({"stop_signal": 0}, "stop_signal must be a signal"),
        ({"stop_signal": "SIGWHAT"}, "stop_signal must be a signal"),
        ({"kill_group": 1}, "kill_group must be True or False"),
        ({"detach": "yes"}, "detach must be True or False"),
        ({"ok_exit_codes": 0}, "ok_exit_codes must be a list"),
        ({"ok_exit_codes": "0"}, "ok_exit_codes must be a list"),
        ({"ok_exit_codes": [256]}, "ok_exit_codes must be 0 to 255"),
        ({"ok_exit_codes": [-1]}, "ok_exit_codes must be 0 to 255"),
        ({"ok_exit_codes": [True]}, "ok_exit_codes must be a whole number"),
        ({"log_file": ""}, "log_file must not be empty"),
        ({"log_max_bytes": -1}, "log_max_bytes must be 0 or more"),
        ({"log_keep": "3"}, "log_keep must be a whole number"),
        ({"umask": 0o1000}, "umask must be 0 to 0o777"),
        ({"umask": -1}, "umask must be 0 to 0o777"),
        ({"user": 1.5}, "user must be a name or a number"),
        ({"user": True}, "user must be a name or a number"),
        ({"nice": 20}, "nice must be -20 to 19"),
        ({"nice": -21}, "nice must be -20 to 19"),
        ({"limits": {"nofiles": 1}}, "unknown limit 'nofiles'; did you mean 'nofile'"),
        ({"limits": {"nofile": "1"}}, r"limits\['nofile'\] must be a whole number"),
        ({"limits": {"nofile": (2, 1)}}, "the soft limit is above the hard one"),
        ({"limits": {"nofile": (1, 2, 3)}}, "must be a number or"),
        (
            {"limits": {"nofile": 2**63}},
            r"limits\['nofile'\] must be at most 9223372036854775807, got .*; use math.inf",
        ),
        ({"limits": 5}, "limits must map names to numbers"),
        ({"detach": True, "stdin": "data"}, "a detached process has no stdin"),
        ({"detach": True, "stdout": Stdio.INHERIT}, "does not share our terminal"),
    ],
    ids=lambda value: repr(value)[:60].split(" at 0x")[0] if isinstance(value, dict) else "",
)
def test_a_bad_value_is_refused_when_it_is_made(given, text):
    with pytest.raises(OptionError, match=text):
        RunOptions(**{"command": "true", **given})


def test_a_secret_never_shows_in_a_refusal():
    with pytest.raises(OptionError) as caught:
        RunOptions(command="true", args=[Secret("hunter2\0")])
    assert "hunter2" not in str(caught.value)


def test_a_closed_file_is_refused(tmp_path):
    with open(tmp_path / "f", "wb") as file:
        pass
    with pytest.raises(OptionError, match="must be an open file with a descriptor"):
        RunOptions(command="true", stdout=file)


def test_a_text_file_is_refused(tmp_path):
    with open(tmp_path / "f", "w") as file, pytest.raises(OptionError, match="open binary file"):
        RunOptions(command="true", stdout=file)


def test_values_as_json_carries_them_are_taken():
    options = RunOptions(
        command="true",
        args=["a"],
        stdin="null",
        stdout="null",
        stderr="stdout",
        stop_signal="SIGINT",
        ok_exit_codes=[0, 3],
        limits={"nofile": [10, 20], "core": 0},
        log_file="x.log",
        timeout=3,
    )
    assert options.args == ("a",)
    assert options.stdin == "null"
    assert not isinstance(options.stdin, Stdio)  # text for stdin is data, whatever it reads
    assert options.stdout is Stdio.NULL
    assert options.stderr is Stdio.STDOUT
    assert options.stop_signal == signal.SIGINT
    assert options.ok_exit_codes == (0, 3)
    assert options.limits == {"nofile": (10, 20), "core": (0, 0)}
    assert options.log_file == Path("x.log")


class Word(str, Enum):  # noqa: UP042 - a StrEnum is formatted as its value
    """A text that is formatted as its name, "Word.A"."""

    A = "a"
    B = "b"


def test_members_of_an_enumeration_of_texts_become_plain_texts():
    made = RunOptions(command=Word.A, args=(Word.A, "x", Word.B), name=Word.A, cwd=Word.B, env={Word.A: Word.B})
    spec = RunSpec(name=Word.A, command=Word.B, args=(Word.A,), after=[Word.B], uses=(Word.A,))
    unit = UnitSpec(name=Word.A, command=Word.B, args=[Word.A], after={Word.B: "started"})
    for options in (made, spec.options, spec, unit):
        assert {type(text) for text in (options.name, options.command, *options.args)} == {str}
    assert [type(text) for text in (made.cwd, *made.env, *made.env.values())] == [str] * 3
    assert (made.args, made.env) == (("a", "x", "b"), {"a": "b"})
    assert [type(text) for text in (*spec.after, *spec.uses, *unit.after)] == [str] * 3
    assert f"{spec.name} {spec.after[0]} {unit.name}" == "a b a"


class Amount(int, Enum):
    """A number that is formatted as its name, "Amount.FIVE"."""

    FIVE = 5


def test_a_member_of_an_enumeration_of_numbers_is_a_umask():
    assert RunOptions(command="x", umask=IntEnum("Mask", {"OWNER": 0o77}).OWNER).umask == 0o77


def test_members_of_enumerations_stay_in_no_value():
    encoding = Enum("Encoding", {"UTF8": "utf-8"}, type=str).UTF8
    five, a = Amount.FIVE, Word.A
    made = [
        RunOptions(
            command="x", stdin=a, encoding=encoding, buffer_size=five, log_keep=five, nice=five, max_output=five
        ),
        RunOptions(command="x", timeout=five, ok_exit_codes=[five], limits={"core": five}, resources={"cpus": five}),
        RunSpec(
            name="x",
            command="x",
            retries=five,
            weight=five,
            retry_delay=five,
            when=Enum("W", {"A": "always"}, type=str).A,
        ),
        UnitSpec(name="x", command="x", replicas=five, ready=Probe.line(a, failures=five, successes=five)),
        RestartPolicy.always(max_restarts=five, within=five, backoff=five, backoff_max=five, jitter=five),
        ServiceOptions(buffer_size=five, retain=five, retain_bytes=five, grace_period=five),
        DaemonEntry(code=a, daemon=Word.B, pid=five, health=a, project=a, binary=a),
        *(local_agents(five, slots=five), ssh_agents(a, slots=five, options=[a]), slurm_agents(five)),
    ]
    for value in made:
        assert "Word" not in repr(value)
        assert "Amount" not in repr(value)


def test_the_limits_of_other_options_are_no_environment():
    other = RunOptions(command="x", env={"A": "b", "C": None}, limits={"core": 0}, resources={"cpus": 2})
    assert RunOptions(command="y", env=other.env).env is other.env
    for values in (other.limits, other.resources):
        with pytest.raises(OptionError, match=r"^env\["):
            RunOptions(command="y", env=values)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it)), attrs.evolve])
def test_a_copy_of_options_is_equal_and_its_mappings_can_not_be_changed(copied):
    options = RunOptions(command="x", env={"A": "b"}, limits={"core": 0}, resources={"cpus": 2})
    unit = UnitSpec(name="x", command="x", env={"A": "b"}, after={"y": "started"})
    for value, names in ((options, ("env", "limits", "resources")), (unit, ("env", "after"))):
        twin = copied(value)
        assert (twin, hash(twin)) == (value, hash(value))
        for name in names:
            with pytest.raises(TypeError, match="can't be changed"):
                getattr(twin, name)["B"] = "c"


def test_arguments_are_text_bytes_paths_and_secrets():
    options = RunOptions(command=Path("/bin/true"), args=["a", b"b\xff", Path("c"), Secret("d"), ""])
    assert options.command == "/bin/true"
    assert options.args == ("a", b"b\xff", "c", Secret("d"), "")
    assert shown_args(options) == ("a", "b\udcff", "c", "***", "")
    assert "'d'" not in repr(options)


def test_options_are_frozen_and_keyword_only():
    options = RunOptions(command="true")
    with pytest.raises(AttributeError):
        options.command = "false"
    with pytest.raises(OptionError, match=r"keywords only, got 'true'; write RunOptions\(command=...\)"):
        RunOptions("true")
    with pytest.raises(OptionError, match=r"write RunOptions\(command=...\)"):
        RunOptions(timeout=3)


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ({"dir": "/"}, "unknown option 'dir'; here it is called 'cwd'"),
        ({"input": "x"}, "here it is called 'stdin'"),
        ({"environ": {}}, "here it is called 'env'"),
        ({"shell": True}, "there is no shell; run 'sh' with the arguments '-c'"),
        ({"text": True}, "output is decoded already"),
        ({"capture_stdout": True}, "both streams are captured already"),
        ({"timout": 3}, "did you mean 'timeout'"),
        ({"xyzzy": 3}, "unknown option 'xyzzy'$"),
    ],
)
def test_a_wrong_name_of_an_option_gets_a_hint(given, hint):
    with pytest.raises(OptionError, match=hint):
        RunOptions(command="x", **given)
    with pytest.raises(OptionError, match=hint):
        make_options("x", (), given)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (partial(RunOptions), r"RunOptions needs command; write RunOptions\(command=...\)"),
        (partial(RunOptions, command="x", needs=["y"]), "`RunSpec` and `UnitSpec` have `after`"),
        (partial(ServiceOptions, 3), "ServiceOptions takes keywords only, got 3"),
        (partial(ServiceOptions, graceperiod=3), "unknown option 'graceperiod'; did you mean 'grace_period'"),
        (partial(DaemonOptions, pidfile="x"), "unknown option 'pidfile'; did you mean 'pid_file'"),
        (partial(Daemon, depends=["db"]), "unknown option 'depends'; a process waits for no other one"),
        (partial(DaemonEntry, "my"), r"DaemonEntry needs daemon; write DaemonEntry\(code, daemon\)"),
        (partial(DaemonEntry, "my", "web", 3), "takes keywords only after code and daemon, got 3"),
        (partial(DaemonEntry, "my", "web", code="my"), "code is given twice"),
        (partial(DaemonEntry, "my", "web", binry="x"), "did you mean 'binary'"),
        (partial(UnitSpec, "web", "x"), "UnitSpec takes keywords only, got 'web'"),
        (partial(UnitSpec, name="web", command="x", depends_on=["db"]), "here it is called 'after'"),
        (partial(UnitSpec, name="web", command="x", detach=True), "use Service.start"),
        (partial(Behaviour, exit=3), "unknown option 'exit'; did you mean 'exit_code'"),
    ],
    ids=lambda value: f"{value.func.__name__}-{value.args}-{value.keywords}" if isinstance(value, partial) else "",
)
def test_every_class_of_options_explains_a_wrong_call(call, said):
    with pytest.raises(OptionError, match=said) as caught:
        call()
    assert caught.value.__suppress_context__  # Python's own words say less
    assert isinstance(caught.value, TypeError)  # as any other call with these arguments
    twin = pickle.loads(pickle.dumps(caught.value))
    assert type(twin) is type(caught.value)
    assert str(twin) == str(caught.value)


async def test_an_unknown_option_of_a_method_is_a_type_error_too():
    async with FakeService() as service:
        with pytest.raises(OptionError, match="did you mean 'timeout'") as caught:
            await service.start("true", timout=3)
    assert isinstance(caught.value, TypeError)
    with pytest.raises(OptionError) as caught:
        RunOptions(command="true", timeout="3")
    assert not isinstance(caught.value, TypeError)


def test_a_type_error_of_a_value_is_not_taken_for_a_wrong_call():
    class Bad:
        def __fspath__(self):
            raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        RunOptions(command="x", cwd=Bad())


def test_the_comparison_with_the_defaults_lets_nothing_unchecked_through():
    """Values that are equal to a default without being it: a bool for a number, a word for a member."""
    for given in (
        {"log_max_bytes": False},
        {"ok_exit_codes": (False,)},
        {"kill_group": 1},
        {"echo": 0},
        {"log_keep": 3.0},
    ):
        with pytest.raises(OptionError):
            RunOptions(command="x", **given)
    options = RunOptions(command="x", stdout="pipe", stop_signal=15, env={}, limits={}, ok_exit_codes=[0])
    assert options == RunOptions(command="x")
    assert options.stdout is Stdio.PIPE
    assert type(options.ok_exit_codes) is tuple


def test_the_containers_of_one_instance_can_not_be_changed_for_another():
    one = RunOptions(command="x")
    given = {"env": {"A": "1"}, "limits": {"nofile": (5, 5)}, "resources": {"cpus": 2}}
    made = [(one, {option: {} for option in given}), (RunOptions(command="x", **given), given)]
    for options, option in [(options, option) for options in made for option in given]:
        one, values = options[0], options[1][option]
        shared = getattr(one, option)
        assert (shared, repr(shared), {**shared}, shared | {"a": 1}) == (
            values,
            repr(values),
            values,
            {**values, "a": 1},
        )
        for change in (
            lambda values: values.update(a=1),
            lambda values: values.setdefault("a", 1),
            lambda values: values.__setitem__("a", 1),
            lambda values: values.__ior__({"a": 1}),
        ):
            with pytest.raises(TypeError, match="can't be changed"):
                change(shared)
        assert getattr(RunOptions(command="y"), option) == {}
        copied = {**shared.copy(), "a": 1}
        assert pickle.loads(pickle.dumps(shared)) == values != copied


def test_an_empty_environment_value_is_kept_and_none_removes():
    assert RunOptions(command="x", env={"A": "", "B": None}).env == {"A": "", "B": None}


def test_the_caller_s_containers_are_copied():
    args, env, limits = ["a"], {"A": "1"}, {"nofile": 5}
    options = RunOptions(command="x", args=args, env=env, limits=limits)
    args.append("b")
    env["B"] = "2"
    limits["core"] = 0
    assert (options.args, options.env, options.limits) == (("a",), {"A": "1"}, {"nofile": (5, 5)})


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(OptionError, match="unknown option 'time_out'; did you mean 'timeout'"):
        make_options("true", (), {"time_out": 3})


def test_arguments_are_not_given_by_keyword():
    with pytest.raises(OptionError, match="not as args="):
        make_options("true", (), {"args": ["x"]})


@pytest.mark.parametrize("value", [0, 0.0, 1, 2.5, math.inf])
def test_a_duration_is_any_number_from_zero_on(value):
    assert checks.seconds("timeout", value) == value


@pytest.mark.parametrize("option", ["timeout", "idle_timeout", "grace_period"])
def test_a_number_that_no_float_can_hold_is_refused_by_name(option):
    with pytest.raises(OptionError, match=f"{option} must be a number of seconds that a float can hold"):
        RunOptions(command="true", **{option: 10**400})


def test_an_error_handler_with_a_nul_is_refused_by_name():
    with pytest.raises(OptionError, match="errors must name an error handler"):
        RunOptions(command="true", errors="replace\0")


def test_what_the_caller_puts_into_its_own_mapping_later_on_changes_nothing():
    env, limits = {}, {}
    options = RunOptions(command="true", env=env, limits=limits)
    env["A"], limits["nofile"] = 1, "many"
    assert (options.env, options.limits) == ({}, {})


def test_resources_are_a_copy_that_the_caller_can_not_change():
    given = {"cpus": 2, "memory": 2**30, "gpus": 0}
    options = RunOptions(command="x", resources=given, max_output=10)
    given["cpus"] = 0
    assert options.resources == {"cpus": 2, "memory": 2**30, "gpus": 0}
    assert options.max_output == 10
    assert RunOptions(command="x").resources == {}


def test_values_that_are_equal_have_the_same_hash_although_they_hold_mappings():
    """So they can be keys of dicts and members of sets, as other frozen values can."""
    makers = (
        partial(
            RunOptions, command="x", env={"B": Secret("b"), "A": None}, limits={"nofile": 3}, resources={"cpus": 1}
        ),
        partial(RunSpec, name="x", command="x", env={"A": "a"}, limits={"nofile": (1, 2)}),
        partial(UnitSpec, name="x", command="x", env={"A": "a"}, after={"db": "ready"}),
        lambda **changes: Command("x").with_env({"A": "a", **changes.get("env", {})}),
        lambda **changes: Command("x") | Command("y").with_env({"A": "a", **changes.get("env", {})}),
        partial(ReloadPlan, changed={"web": ("env",)}),
    )
    for make in makers:
        assert {make(): 1}[make()] == 1
        change = {"changed": {}} if isinstance(make(), ReloadPlan) else {"env": {"A": "other"}}
        assert len({make(), make(**change)}) == 2


def test_options_that_differ_in_a_mapping_differ_in_their_hash():
    """Else a thousand combinations of a matrix would be compared with each other."""
    assert len({hash(RunOptions(command="x", env={"N": str(number)})) for number in range(100)}) > 90


def test_options_print_only_what_is_not_the_default():
    assert repr(RunOptions(command="x")) == "RunOptions(command='x')"
    options = RunOptions(command="x", args=[Secret("hunter2")], env={"A": "b"}, stop_signal="INT", buffer_size=math.inf)
    assert (
        repr(options)
        == "RunOptions(command='x', args=(Secret('***'),), env={'A': 'b'}, buffer_size=inf, stop_signal=2)"
    )
    assert repr(UnitSpec(name="a", command="x", replicas=2)) == "UnitSpec(name='a', command='x', replicas=2)"


def test_every_option_has_a_check():
    assert {*options_module._CHECKS, "command", "args"} == {field.name for field in attrs.fields(RunOptions)}
