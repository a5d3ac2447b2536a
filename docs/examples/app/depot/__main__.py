"""The whole depot as one program: `python -m depot CONTROL-ADDRESS`, until SIGTERM.

It keeps the services of `trio-process.toml` up, shows them on a page, and reports to systemd when they are ready.
"""

import logging
import sys
from pathlib import Path

import trio

from trio_process import ControlServer, Daemon, Service, ServiceOptions, Supervisor

FILE = Path(__file__).parents[1] / "trio-process.toml"
# as PID 1 of a container, this program inherits orphans; those of its services are reaped
OPTIONS = ServiceOptions(guardian=True, strays="descendants")


async def run(supervisor: Supervisor, daemon: Daemon) -> None:
    await supervisor.wait_ready(timeout=60)
    daemon.set_ready(True)
    print("all services are ready", flush=True)
    await supervisor.wait()


async def main(control: str) -> None:
    async with Daemon(ready=False) as daemon, Service(options=OPTIONS) as service:
        supervisor = Supervisor.from_file(FILE, service=service)
        async with ControlServer(control, supervisor=supervisor) as server, supervisor:
            print("control page:", server.login_url.reveal(), flush=True)
            await daemon.run(run, supervisor, daemon)
    print("stopped", flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    if len(sys.argv) != 2:
        sys.exit("usage: python -m depot CONTROL-ADDRESS, such as 127.0.0.1:8700 or unix:/run/depot/control.sock")
    trio.run(main, sys.argv[1])
