"""Every test of the contract runs in all worlds, but for those that only make sense on this machine."""

import sys
from pathlib import Path

import pytest
import trio.testing
from worlds import World

sys.path.insert(0, str(Path(__file__).parents[1] / "cluster"))

import engines


def pytest_configure(config):
    """Make the engines known to all folders, so that tests of the cluster run on those of this folder's tests."""
    if not config.pluginmanager.is_registered(engines):
        config.pluginmanager.register(engines)


@pytest.fixture(params=["real", "fake", "agent", "ssh", "slurm", "dask"])
def clock(request):
    """Return the clock that pytest-trio runs the test with; None stands for the real one."""
    if request.param not in ("real", "fake") and request.node.get_closest_marker("local_only"):
        pytest.skip("what this test does is not possible on another machine")
    return trio.testing.MockClock(autojump_threshold=0) if request.param == "fake" else None


@pytest.fixture
def world(request, clock):
    """Return where the test takes place."""
    kind = request.node.callspec.params["clock"]
    return World(kind, None if kind in ("real", "fake") else request.getfixturevalue(f"{kind}_launcher"))
