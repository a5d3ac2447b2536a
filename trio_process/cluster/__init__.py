"""Past one machine: a `Service` whose processes run on Slurm, Dask, other hosts, or wherever a command leads.

An engine only places *agents*: this package's layer 1 at the other end of a stream of bytes. What is started through a
`ClusterService` is seen and stopped as if it ran here.
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
