"""The errors as people see them: by their public names, and after they were pickled."""

import copy
import copyreg
import importlib
import pickle
import socket
import traceback
from functools import partial

import attrs
import pytest
import trio

import trio_process
import trio_process.cluster
import trio_process.testing
from trio_process import (
    ActionOptionError,
    CommandFailedError,
    Core,
    DaemonEntry,
    DaemonError,
    DaemonOptions,
    HealthServer,
    OptionError,
    PipelineError,
    Probe,
    ProcessError,
    ProgramNotFoundError,
    RestartPolicy,
    RunOptions,
    RunSpec,
    Service,
    ServiceOptions,
    Supervisor,
    UnitSpec,
    load_pipeline,
)
from trio_process._cli.instance import NotRunningError
from trio_process._cluster.wire import WireError
from trio_process._control import ControlError
from trio_process._core import without_traceback
from trio_process.exec import run_quiet
from trio_process.testing import FakeService


def all_below(cls):
    return {cls}.union(*map(all_below, cls.__subclasses__()))


def shown(cls):
    return f"{cls.__module__}.{cls.__qualname__}"


def test_every_error_is_shown_by_a_public_name():
    errors = {
        cls for cls in all_below(ProcessError) if cls.__module__.partition(".")[0] in ("trio_process", "builtins")
    }
    assert {NotRunningError, WireError, ControlError, trio_process.testing.ScriptError} <= errors
    for cls in errors:
        home = importlib.import_module(cls.__module__)
        public = getattr(home, cls.__name__)
        assert issubclass(cls, public), shown(cls)
        assert cls.__module__ == "builtins" or cls.__name__ in home.__all__, shown(cls)


def test_a_missing_pipeline_file_is_a_pipeline_error_by_name(tmp_path):
    with pytest.raises(PipelineError) as caught:
        load_pipeline(tmp_path / "missing.toml")
    (line,) = traceback.format_exception_only(caught.value)
    assert line.startswith("trio_process.PipelineError: ")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.faults) == (str(caught.value), caught.value.faults)


WRONG = (object(), -5, 3.5, "\0", [object()], {object(): 1})


@pytest.mark.parametrize(
    ("cls", "needed"),
    [
        (RunOptions, {"command": "x"}),
        (RunSpec, {"name": "a", "command": "x"}),
        (UnitSpec, {"name": "a", "command": "x"}),
        (RestartPolicy, {}),
        (ServiceOptions, {}),
        (DaemonOptions, {}),
        (DaemonEntry, {"code": "a", "daemon": "b"}),
    ],
)
def test_an_option_error_carries_the_option_that_it_is_about(cls, needed):
    options = {field.alias for field in attrs.fields(cls) if field.init} - {"main"}  # that is not for a command
    refused = set()
    for option in options:
        for wrong in WRONG:
            try:
                cls(**{**needed, option: wrong})
            except OptionError as error:
                refused.add((option, error.option))
    assert refused == {(option, option) for option in options}


@pytest.mark.parametrize(
    ("call", "option"),
    [
        (lambda: RunOptions(command="x", limits={"nofile": (2, 1)}), "limits"),
        (lambda: RunOptions(command="x", limits={"nofiles": 1}), "limits"),
        (lambda: RunOptions(command="x", env={"A": 1}), "env"),
        (lambda: RunOptions(command="x", detach=True, stdin="data"), "stdin"),
        (lambda: RunOptions(command="x", detach=True, stderr="inherit"), "stderr"),
        (lambda: RunOptions(command="x", detach=True, log_max_bytes=1), "log_max_bytes"),
        (lambda: RunOptions(command="x", timout=1), "timout"),
        (lambda: UnitSpec(name="a", command="x", after={"b": "redy"}), "after"),
        (lambda: UnitSpec(name="a", command="x", replicas=70, ready=Probe.tcp(":655{replica}")), "ready"),
        (lambda: UnitSpec(name="a", main=trio.sleep_forever, nice=1), "nice"),
        (lambda: Probe.tcp(":0"), "address"),
        (lambda: Probe.http("ftp://x"), "url"),
        (lambda: Probe.line(""), "pattern"),
        (lambda: HealthServer(":x"), "addr"),
        (lambda: RunOptions("x"), None),
    ],
)
def test_an_option_error_carries_its_option_also_for_part_of_a_value_and_when_pickled(call, option):
    with pytest.raises(OptionError) as caught:
        call()
    error = caught.value
    for same in (error, copy.copy(error), without_traceback(error), pickle.loads(pickle.dumps(error))):
        assert (same.option, str(same)) == (option, str(error))


async def test_an_action_passes_on_the_option():
    async with Core(Service) as core:
        for call, option in (
            (partial(core.process.run, "true", timeout="soon"), "timeout"),
            (partial(core.action("process.kill").run, ids="x"), "ids"),
            (partial(core.action("process.get").run), "id"),
        ):
            with pytest.raises(ActionOptionError) as caught:
                await call()
            assert caught.value.option == option


async def test_a_taken_address_is_a_daemon_error_by_name():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(DaemonError) as caught:
        async with HealthServer(f"127.0.0.1:{taken.getsockname()[1]}"):
            pass
    (line,) = traceback.format_exception_only(caught.value)
    assert line.startswith("trio_process.DaemonError: cannot listen at 127.0.0.1:")
    assert isinstance(caught.value, OSError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (type(caught.value), str(caught.value))


async def test_what_is_not_ready_in_time_is_a_timeout_error_by_name(autojump_clock):
    async with FakeService() as fake:
        fake.on("x", exit_code=None)
        async with Supervisor([UnitSpec(name="x", command="x", settle=9)], service=fake) as supervisor:
            with pytest.raises(TimeoutError) as caught:
                await supervisor.wait_ready(timeout=1)
    assert traceback.format_exception_only(caught.value)[0].startswith("TimeoutError: not all units were ready")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (type(caught.value), str(caught.value))


async def test_a_failure_of_run_quiet_is_a_command_failed_error_by_name():
    with pytest.raises(CommandFailedError) as caught:
        await run_quiet("sh", "-c", "echo oops >&2; exit 3")
    assert traceback.format_exception_only(caught.value) == ["trio_process.CommandFailedError: oops\n"]
    assert str(pickle.loads(pickle.dumps(caught.value))) == "oops"


def test_an_error_of_another_program_keeps_its_name():
    class TheirError(ProcessError):
        pass

    assert TheirError.__module__ == __name__
    assert TheirError.__qualname__.endswith("TheirError")


def test_an_error_of_another_program_may_have_a_base_with_keywords_of_its_own():
    class Coded:
        def __init_subclass__(cls, *, code, **rest):
            super().__init_subclass__(**rest)
            cls.code = code

    class TheirError(ProcessError, Coded, code=7):
        pass

    assert TheirError.code == 7


def made_with(kept, make, args):
    twin = make(*args)
    for name, value in kept.items():
        setattr(twin, name, value)
    return twin


def with_all(error):
    """Reduce an error as tblib does, which Dask installs for all classes: its copies keep what copies usually lose."""
    kept = {name: getattr(error, name) for name in ("__traceback__", "__context__", "__cause__")}
    return made_with, (kept, *error.__reduce__()[:2])


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize(
    "cause", [None, FileNotFoundError(2, "No such file"), FileNotFoundError(2, "No such file", "greet")]
)
def test_a_stored_error_has_no_frames_whatever_copies_keep(monkeypatch, kept, cause):
    for cls in (ProgramNotFoundError, FileNotFoundError) if kept else ():
        monkeypatch.setitem(copyreg.dispatch_table, cls, with_all)
    with pytest.raises(ProgramNotFoundError) as caught:
        try:
            raise cause or LookupError("another one")
        except OSError as error:
            raise ProgramNotFoundError("not there") from error
        except LookupError:
            raise ProgramNotFoundError("not there")  # noqa: B904 - with a context, and without a cause
    twin = without_traceback(caught.value)
    assert caught.value.__context__
    assert (type(twin), str(twin), twin.__traceback__, twin.__context__) == (
        ProgramNotFoundError,
        "not there",
        None,
        None,
    )
    if cause is None:
        assert twin.__cause__ is None
    else:
        assert (str(twin.__cause__), twin.__cause__.__traceback__, twin.__cause__.__context__) == (
            str(cause),
            None,
            None,
        )
