"""The pytest plugin: the fixtures `fake_processes` and `no_leaks`, and the marker `no_real_processes`.

pytest loads it in every environment that has trio-process installed. So it is a separate package that imports only
pytest: loading a module inside `trio_process` would also load all of that package and Trio, and double the start-up
time of pytest.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from trio_process.testing import FakeService
    from trio_process.testing.leaks import LeakCheck

_MARKER = "no_real_processes"
_LEAKS: pytest.StashKey[LeakCheck] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    """Describe the marker, for --strict-markers and --markers."""
    config.addinivalue_line("markers", f"{_MARKER}: fail the test if anything starts a real process")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Name the missing plugin or setting, where pytest would only say that no plugin handled an async fixture."""
    if "fake_processes" not in getattr(item, "fixturenames", ()):
        return
    if any(item.get_closest_marker(name) for name in ("trio", "anyio")):
        return
    setting = "set trio_mode = true in the configuration of pytest (or mark the test with @pytest.mark.trio)"
    if not item.config.pluginmanager.hasplugin("trio"):
        pytest.fail(
            f"the fixture fake_processes needs pytest-trio: pip install pytest-trio, and {setting}", pytrace=False
        )
    if iscoroutinefunction(getattr(item, "obj", None)):
        pytest.fail(f"the fixture fake_processes needs a test that pytest-trio runs: {setting}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Wrap the whole run of a test, including its async fixtures."""
    leaks = pyfuncitem.stash.get(_LEAKS, None)
    if leaks is not None:
        leaks.reset()
    if pyfuncitem.get_closest_marker(_MARKER) is None:
        result = yield
    else:
        from trio_process.testing import no_real_processes  # noqa: PLC0415 - only for tests that ask for it

        with no_real_processes() as refused:
            result = yield
        if refused:
            pytest.fail("a test marked no_real_processes tried to start:\n  " + "\n  ".join(refused), pytrace=False)
    left = leaks.find() if leaks is not None else []
    if left:
        pytest.fail("the test left something behind:\n  " + "\n  ".join(left), pytrace=False)
    return result


@pytest.fixture
def no_leaks(request: pytest.FixtureRequest) -> None:
    """Fail the test if it leaves child processes, descriptors, threads or system tasks behind."""
    from trio_process.testing.leaks import LeakCheck  # noqa: PLC0415 - only for tests that ask for it

    item = request.node
    leaks = item.stash[_LEAKS] = LeakCheck()
    if iscoroutinefunction(item.obj):
        item.obj = leaks.watch_tasks(item.obj)


@pytest.fixture
async def fake_processes() -> AsyncIterator[FakeService]:
    """Provide a `FakeService` that is entered; every `Service` that the tested code creates runs the same scripts.

    So code that creates its own services is tested unchanged; `trio_process.exec` and `Program` are among it.
    """
    from trio_process.testing.fake import FakeService, used_everywhere  # noqa: PLC0415 - only for tests that ask for it

    async with FakeService() as fake:
        with used_everywhere(fake):
            yield fake
