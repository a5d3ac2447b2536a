"""A database, its migration, two workers, and an async function beside them, kept running as long as they are needed."""

import os
import signal
import sys

import trio

from trio_process import Probe, RestartPolicy, Supervisor, UnitSpec

SERVER = "import sys, time; print(sys.argv[1], 'listening', flush=True); time.sleep(1_000_000)"


async def count_visitors(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    task_status.started()
    await trio.sleep_forever()


UNITS = [
    UnitSpec(name="db", command=sys.executable, args=["-c", SERVER, "db"], ready=Probe.line("listening")),
    UnitSpec(
        name="migrate",
        command=sys.executable,
        args=["-c", "print('migrated')"],
        after=["db"],
        restart=RestartPolicy.never(),
    ),
    UnitSpec(
        name="worker",
        command=sys.executable,
        args=["-c", SERVER, "worker"],
        ready=Probe.line("listening"),
        after={"migrate": "completed"},
        restart=RestartPolicy.on_failure(backoff=0.1),
        replicas=2,
    ),
    UnitSpec(name="visitors", main=count_visitors, after=["worker"]),
    UnitSpec(name="mail", command=sys.executable, args=["-c", SERVER, "mail"], enabled=False),
]


async def main() -> None:
    async with Supervisor(UNITS) as supervisor:
        await supervisor.wait_ready(timeout=60)
        print({unit.name: str(unit.state) for unit in supervisor.units})

        worker = supervisor["worker.2"]
        os.kill(worker.process.pid, signal.SIGKILL)
        await worker.wait("backoff", timeout=60)
        await worker.wait("ready", timeout=60)
        print(worker.name, "runs again, for the", f"{worker.generation}nd time")

        async with supervisor.hold("mail") as mail:
            print(mail.name, "is", mail.state)
        print(mail.name, "is", mail.state)
    print({unit.name: str(unit.state) for unit in supervisor.units})


if __name__ == "__main__":
    trio.run(main)

# Prints:
#
#   {'db': 'ready', 'migrate': 'completed', 'worker': 'ready', 'worker.2': 'ready', 'visitors': 'ready', 'mail': 'stopped'}
#   unit worker.2: CommandFailedError: `...python... -c ...` died of SIGKILL after ...; restarting in ... ms
#   worker.2 runs again, for the 2nd time
#   mail is ready
#   mail is stopped
#   {'db': 'stopped', 'migrate': 'completed', 'worker': 'stopped', 'worker.2': 'stopped', 'visitors': 'stopped', 'mail': 'stopped'}
