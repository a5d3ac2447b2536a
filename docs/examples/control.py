"""Two services and a pipeline, controlled over HTTP: `python control.py`, or `python control.py unix:app.sock`."""

import sys

import trio

from trio_process import ControlServer, Daemon, Probe, Runner, RunSpec, Supervisor, UnitSpec

UNITS = [
    UnitSpec(name="db", command="sh", args=["-c", "echo ready; exec sleep 1000"], ready=Probe.line("ready")),
    UnitSpec(name="web", command="sleep", args=["1000"], after=["db"], replicas=2),
]
SPECS = [
    RunSpec(name="dump", command="echo", args=["dumped"]),
    RunSpec(name="upload", command="echo", args=["uploaded"], after=["dump"]),
]


async def nightly(supervisor: Supervisor, control: ControlServer) -> None:
    stopping = trio.Event()  # set by the stop button of the page
    updates = control.pipeline("nightly", SPECS, stopping=stopping)
    await Runner(supervisor.service).run_all(SPECS, updates=updates, stopping=stopping)
    await trio.sleep_forever()


async def main(addr: str = "127.0.0.1:8700") -> None:
    supervisor = Supervisor(UNITS)
    async with Daemon() as daemon, ControlServer(addr, supervisor=supervisor) as control, supervisor:
        print(control.login_url.reveal(), flush=True)
        await daemon.run(nightly, supervisor, control)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
