"""What holds for every test: whatever it started is gone when it ends."""

import contextlib
import functools
import gc
import inspect
import os
import signal
import threading
import time

import pytest
import trio
from hypothesis import HealthCheck, settings
from support import process_of, state_of
from trio.lowlevel import current_clock
from trio.testing import MockClock

from trio_process._core import is_cancellation

_MARK = "TRIO_PROCESS_TESTS"  # in the environment of all that a test starts, however deep
_ENGINES = frozenset({"ssh", "slurm", "dask"})
_MANY = 1000  # PIDs to look at one by one, instead of listing /proc
_FIRST_AGAIN = 300  # the PID after the highest one (RESERVED_PIDS in the kernel's pid.c)
_TICK = 0.01  # seconds, to which the kernel rounds the start of a process down
_PATIENCE = 20.0  # seconds for what was told to end, and for the kernel

_BOUND = 60.0  # seconds on the real clock for an async test, on a busy machine too
_BOUND_ON_A_VIRTUAL_CLOCK = 1000 * 3600.0

# a busy machine is no reason to fail; each Python tries other examples
settings.register_profile("trio_process", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("trio_process")

# a shell starts what runs in the background with SIGINT and SIGQUIT ignored, and nohup(1) with SIGHUP: whatever the tests
# start would inherit that, and wait for ever to be interrupted
for _number, _default in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _default)

gc.disable()  # until all tests have been collected, as they stay: it took a third of the time

os.environ[_MARK] = f"{os.getpid()}.{time.monotonic_ns()}"
_VALUE = f"{_MARK}={os.environ[_MARK]}".encode()


def _last_pid():
    """Return the PID that was handed out last (proc_loadavg(5))."""
    with open("/proc/loadavg") as file:
        return int(file.read().split()[-1])


def _pids_since(last_pid):
    """Return the PIDs handed out since then, threads too; where those are many, the ones of processes that are there.

    Exact as long as the count has not come round to where it was (32,768 and more within one test).
    """
    now = _last_pid()
    if 0 <= now - last_pid <= _MANY:
        return range(last_pid + 1, now + 1)
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    if now > last_pid:
        return [pid for pid in pids if last_pid < pid <= now]
    return [pid for pid in pids if pid > last_pid or _FIRST_AGAIN <= pid <= now]  # the numbers have wrapped


def _left_behind(last_pid, moment):
    """Return `pid: description` of each child of ours, zombies too, and of each descendant that lives on."""
    found = {}
    for pid in _pids_since(last_pid):
        process = process_of(pid)
        if process is None or pid == os.getpid() or process.started < moment:
            continue  # the count of PIDs came round to that of an older one
        ours = process.parent == os.getpid()
        if not ours and process.state not in "ZX":
            with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
                ours = _VALUE in file.read().split(b"\0") and not os.path.exists(f"/proc/self/task/{pid}")
        if ours:
            found[pid] = f"process {pid}, state {process.state}: {process.command}"
    return found


def _descriptors():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def _threads():
    # Trio keeps its worker threads for ten seconds, for all runs of this process
    return {thread for thread in threading.enumerate() if not thread.name.startswith("Trio thread")}


def _leaks(last_pid, moment, descriptors, threads):
    now = _descriptors()
    return [
        *_left_behind(last_pid, moment).values(),
        *(f"descriptor {number}: {target}" for number, target in now.items() - descriptors.items()),
        *(f"thread {thread.name}" for thread in _threads() - threads if thread.is_alive()),
    ]


def _bounded(test, bound):
    """Return a test that fails where it takes too long, or ends with nothing but Cancelled.

    pytest-trio would say of the latter that it has passed. On a virtual clock the bound takes no time, so that it is large.
    """

    @functools.wraps(test)
    async def bounded(*args, **keywords):
        seconds = _BOUND_ON_A_VIRTUAL_CLOCK if isinstance(current_clock(), MockClock) else bound
        with trio.move_on_after(seconds) as scope:
            try:
                return await test(*args, **keywords)
            except BaseException as error:
                if is_cancellation(error) and not scope.cancel_called:
                    raise AssertionError("this test was cancelled, and not by itself, before its end") from error
                raise
        raise AssertionError(f"this test was stopped after {seconds:g} s; @pytest.mark.bound(seconds) gives it more")

    return bounded


def pytest_configure(config):
    config.addinivalue_line("markers", "xdist_group(name): run by one worker; of pytest-xdist")
    config.addinivalue_line(
        "markers", f"bound(seconds): on the real clock, more than the {_BOUND:g} s of an async test"
    )


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items):
    for item in items:
        test = getattr(item, "obj", None)
        mark = item.get_closest_marker("bound")
        engines = _ENGINES.intersection(_texts(item))
        if "browse" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("browser"))  # one worker has a browser
        bound = mark.args[0] if mark is not None else 2 * _BOUND if engines else _BOUND
        if hasattr(test, "hypothesis"):
            if inspect.iscoroutinefunction(test.hypothesis.inner_test):
                test.hypothesis.inner_test = _bounded(test.hypothesis.inner_test, bound)
        elif inspect.iscoroutinefunction(test):
            item.obj = _bounded(test, bound)
        for engine in engines:
            # one worker runs all tests of an engine: each would start a Slurm, a Dask, an sshd of its own
            item.add_marker(pytest.mark.xdist_group(engine))
            if os.environ.get("TRIO_PROCESS_TEST_ENGINES") == "none":
                item.add_marker(pytest.mark.skip(reason="engines are tried on one Python alone (noxfile.py)"))


def pytest_collection_finish():
    """Let the garbage collector look no more at the tests and modules, which stay: that took it 0.15 to 0.4 s each time."""
    gc.collect()
    gc.freeze()
    gc.enable()


def _texts(item):
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    fixtures = {"sshd": "ssh", "slurm_conf": "slurm", "dask_address": "dask", "dask_tls": "dask"}
    by_fixture = [engine for fixture, engine in fixtures.items() if fixture in getattr(item, "fixturenames", ())]
    return [value for value in parameters if isinstance(value, str)] + by_fixture


@pytest.fixture(autouse=True)
def _nothing_is_left_behind():
    """Fail a test that leaves a child process, a descriptor or a thread behind."""
    moment = time.clock_gettime(time.CLOCK_BOOTTIME) - _TICK
    before = (_last_pid(), moment, _descriptors(), _threads())
    yield
    leaks = _leaks(*before)
    if leaks:
        gc.collect()  # what is only waiting for the collector is not the test's fault
        end = time.monotonic() + _PATIENCE
        while (leaks := _leaks(*before)) and time.monotonic() < end:
            time.sleep(0.01)
    if leaks:
        for pid in _left_behind(*before[:2]):
            if state_of(pid) not in "ZX":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        pytest.fail("this test left something behind:\n  " + "\n  ".join(leaks), pytrace=False)
