"""Every test of the contract runs in all worlds, but for those that only make sense on this machine."""

import sys
from pathlib import Path

import pytest
import trio.testing
from worlds import World

sys.path.insert(0, str(Path(__file__).parents[1] / "cluster"))

from engines import (  # noqa: F401 - fixtures
    agent_launcher,
    dask_address,
    dask_launcher,
    slurm,
    slurm_conf,
    slurm_launcher,
    ssh_launcher,
    ssh_master,
    sshd,
    warm_agents,
    warm_dask_helper,
    warm_helper,
    warm_python,
    warm_worker,
)


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
