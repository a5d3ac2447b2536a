"""Every test of the contract runs in two worlds."""

import pytest
import trio.testing
from worlds import World


@pytest.fixture(params=["real", "fake"])
def clock(request):
    """Return the clock that pytest-trio runs the test with; None stands for the real one."""
    return trio.testing.MockClock(autojump_threshold=0) if request.param == "fake" else None


@pytest.fixture
def world(clock):
    """Return where the test takes place."""
    return World(fake=clock is not None)
