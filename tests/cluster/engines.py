"""The engines that agents are tested on: plain subprocesses, an sshd, a Slurm, a Dask; each is started once per session."""

import pytest

from trio_process.cluster import local_agents


@pytest.fixture
def agent_launcher():
    """Return a launcher of agents that are plain subprocesses."""
    return local_agents(1)
