"""The engines, for the tests of this folder; each test is told on which it runs."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import engines


def pytest_configure(config):
    """Make the engines known to all folders, so that tests of the contract run on those of this folder's tests."""
    if not config.pluginmanager.is_registered(engines):
        config.pluginmanager.register(engines)


@pytest.fixture(params=["agent", "ssh", "slurm", "dask"])
def engine(request):
    """Return the name of the engine that the test runs on."""
    return request.param


@pytest.fixture
def real_launcher(engine, request):
    """Return a launcher of one agent on that engine, which is the program as users start it."""
    return request.getfixturevalue("make_launcher")(engine, 1)


@pytest.fixture
def launcher(engine, request):
    """Return a launcher of one agent on that engine."""
    return request.getfixturevalue("make_launcher")(engine, 1, request.getfixturevalue("warm_python"))


@pytest.fixture
def two_agents(engine, request):
    """Return a launcher of two agents on that engine."""
    return request.getfixturevalue("make_launcher")(engine, 2, request.getfixturevalue("warm_python"))
