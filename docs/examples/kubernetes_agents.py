"""A custom launcher: an agent in each pod that a label selects."""

import subprocess
import sys

import trio

from trio_process import Runner, RunSpec
from trio_process.cluster import ClusterService, command_agents

AGENT = ["python3", "-m", "trio_process.agent"]


def pod_agents(selector: str, namespace: str = "default"):
    """Return a launcher of an agent in each running pod with these labels; their image has Python and this package."""
    kubectl = ["kubectl", "--namespace", namespace]
    found = subprocess.run(
        [*kubectl, "get", "pods", "--selector", selector, "--output", "name"],
        capture_output=True,
        text=True,
        check=True,
    )
    return command_agents(*([*kubectl, "exec", "-i", pod, "--", *AGENT] for pod in found.stdout.split()))


async def main(selector: str) -> None:
    async with ClusterService(pod_agents(selector)) as cluster:
        specs = [RunSpec(name=f"part-{number}", command="echo", args=[str(number)]) for number in range(3)]
        result = await Runner(cluster).run_all(specs)
        print([one.output.strip() for one in result.results])


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
