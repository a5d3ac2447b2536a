"""A client that is killed: it starts ten processes, prints their PIDs, and then does nothing until it dies.

usage: client.py (agent N | ssh N OPTION... | slurm N | dask ADDRESS)
"""

import sys

import trio

from trio_process.cluster import ClusterService, dask_agents, local_agents, slurm_agents, ssh_agents

PROCESSES = """
trap 'sleep 0.2; exit 0' TERM
sleep 600 & echo $$ $!
wait
"""
ESCAPES = """
setsid sh -c 'echo $$; exec sleep 600' &
echo $$
exec sleep 600
"""


def launcher(engine, *args):
    match engine:
        case "agent":
            return local_agents(2)
        case "ssh":
            return ssh_agents("127.0.0.1", python=sys.executable, options=args)
        case "slurm":
            return slurm_agents(2, "-c4", "--mem=200")
        case "dask":
            return dask_agents(args[0])


async def main():
    async with ClusterService(launcher(*sys.argv[1:])) as cluster:
        for number in range(10):
            escapes = number < 2
            process = await cluster.start("sh", "-c", ESCAPES if escapes else PROCESSES, grace_period=1)
            lines, wanted = [], 2
            async for line in process.lines():
                lines += line.text.split()
                if len(lines) == wanted:
                    break
            print(*lines, flush=True)
        print("up", flush=True)
        await trio.sleep_forever()


trio.run(main)
