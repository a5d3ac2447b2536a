"""The engines, for the tests of this folder; each test is told on which it runs."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from engines import (  # noqa: F401 - fixtures
    dask_address,
    dask_tls,
    make_launcher,
    slurm,
    slurm_conf,
    sshd,
    warm_agents,
    warm_dask_helper,
    warm_helper,
    warm_python,
)


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
