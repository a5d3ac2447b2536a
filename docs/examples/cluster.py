"""Run one pipeline where the argument says, such as `cluster.py slurm`; by default on two agents of this machine."""

import sys

import trio

from trio_process import Runner, RunSpec
from trio_process.cluster import ClusterService, dask_agents, local_agents, slurm_agents, ssh_agents

LAUNCHERS = {
    "local": lambda: local_agents(2),
    "ssh": lambda: ssh_agents("node1", "me@node2", python="/opt/venv/bin/python"),
    "slurm": lambda: slurm_agents(2, "-c4", "--mem=8G", "--time=2:00:00"),
    "dask": lambda: dask_agents("tcp://scheduler:8786"),
}

SPECS = [
    RunSpec(name="prepare", command="sh", args=["-c", "echo prepared"]),
    # retried on another agent if its own is lost; stopped, with time to clean up, if it takes too long
    RunSpec(name="train", command="sh", args=["-c", "echo trained"], after=["prepare"], retries=1, timeout=3600),
    RunSpec(name="report", command="sh", args=["-c", "echo reported"], after=["train"]),
]


async def main(where: str = "local") -> None:
    async with ClusterService(LAUNCHERS[where]()) as cluster:
        result = await Runner(cluster).run_all(SPECS, schedule="eager")
        for one in result.results:
            print(one.name, one.state, one.output.strip())


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])

# Prints:
#
#   prepare passed prepared
#   train passed trained
#   report passed reported
