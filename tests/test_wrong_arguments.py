"""What functions and methods say about an argument of a wrong type: an `OptionError` that names it, before anything happens."""

import re

import pytest

from trio_process import Core, Daemon, HealthServer, OptionError, Registry, Supervisor
from trio_process.exec import StdlibLogger
from trio_process.testing import FakeService


async def _run(**_options):
    """Do nothing, as the handler of an action."""


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: HealthServer(":0", checks=5), "checks must be a list of functions, got 5"),
        (lambda: HealthServer(":0", checks=None), "checks must be a list of functions, got None"),
        (lambda: HealthServer(":0").set_ready("no"), "ready must be True or False, got 'no'"),
        (lambda: HealthServer(":0").remove_check(None), "name must be a str, got None"),
        (lambda: Daemon().set_ready(0), "ready must be True or False, got 0"),
        (lambda: Daemon().remove_check(5), "name must be a str, got 5"),
        (lambda: Supervisor(5), "units must be a list of UnitSpec, got 5"),
        (lambda: Supervisor(None), "units must be a list of UnitSpec, got None"),
        (lambda: Supervisor(b"units.toml"), "units must be a list of UnitSpec, got b'units.toml'"),
        (lambda: Core().action(None), "name must be a str, got None"),
        (lambda: Core().action(""), "name must not be empty"),
        (lambda: Core().action(5, _run), "name must be a str, got 5"),
        (lambda: Core().service("Service"), "service takes a class of services, got 'Service'"),
        (lambda: StdlibLogger("deploy"), "logger must be a logging.Logger or None, got 'deploy'"),
        (lambda: FakeService().on(5), "command must be a str, bytes, path or Secret, got 5"),
        (lambda: FakeService().record(5), "path must be a str, bytes or path, got 5"),
        (lambda: FakeService().replay("a\0"), "path must not contain a NUL character"),
    ],
)
def test_a_wrong_argument_is_named(call, said):
    with pytest.raises(OptionError, match=re.escape(said)):
        call()


def test_only_an_entry_is_registered(tmp_path):
    registry = Registry(tmp_path / "daemons")
    for wrong in (None, {"code": "my", "daemon": "web"}):
        with pytest.raises(OptionError, match="entry must be a DaemonEntry"):
            registry.register(wrong)
        with pytest.raises(OptionError, match="entry must be a DaemonEntry"), registry.registered(wrong):
            raise AssertionError("not reached")
    assert not (tmp_path / "daemons").exists()


def test_an_action_that_was_refused_leaves_nothing():
    core = Core()
    with pytest.raises(OptionError):
        core.action("fetch", "no function")
    core.action("build", _run)
    core.action("fetch", _run)
    assert core.actions == ["build", "fetch"]
