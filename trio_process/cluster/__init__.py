"""A `Service` whose processes run on Slurm, on Dask, on other hosts, or anywhere that a command can reach.

An engine only places *agents*: this package's execution layer at the other end of a stream of bytes. Processes started
through a `ClusterService` are watched and stopped as if they ran here.
"""

from .._cluster import Agent, AgentState
from .launchers import command_agents, dask_agents, local_agents, ssh_agents
from .service import ClusterService
from .slurm import slurm_agents

__all__ = [
    "Agent",
    "AgentState",
    "ClusterService",
    "command_agents",
    "dask_agents",
    "local_agents",
    "slurm_agents",
    "ssh_agents",
]
