"""A daemon that runs a pipeline, then supervises the server that it has built, and starts it again when it fails.

python docs/examples/supervisor.py /tmp/shop.pid 127.0.0.1:9091
curl -i http://127.0.0.1:9091/ready
kill -TERM $(cat /tmp/shop.pid)
"""

import logging
import sys

import trio

from trio_process import Daemon, ProcessError, RestartPolicy, Runner, RunSpec, Service

PYTHON = sys.executable

BUILD = [
    RunSpec(name="generate", command=PYTHON, args=["-c", "print('pages generated')"]),
    RunSpec(name="check", command=PYTHON, args=["-c", "print('pages checked')"], after=["generate"], retries=1),
]

SERVER = "import time; print('serving', flush=True); time.sleep(1_000_000)"


async def build_and_serve(daemon: Daemon) -> None:
    async with Service() as service:
        report = await Runner(service).run_all(BUILD, timeout=60)
        if not report.acceptable:
            raise ProcessError(f"the build failed: {[result.name for result in report.results if not result.passed]}")
        print("built", flush=True)

        async with service.open(PYTHON, "-c", SERVER, name="server") as server:
            await server.wait_for_line("serving", timeout=30)
            daemon.set_ready(True)
            print("ready", flush=True)
            try:
                await server.wait()  # a failure is raised here, and the daemon calls this function again
            finally:
                daemon.set_ready(False)


async def main(pid_file: str = "/tmp/shop.pid", health_addr: str = "127.0.0.1:9091") -> None:
    async with Daemon(
        pid_file=pid_file,
        health_addr=health_addr,
        ready=False,
        restart=RestartPolicy.on_failure(backoff=0.1),
    ) as daemon:
        print("health:", daemon.health_addr, flush=True)
        await daemon.run(build_and_serve, daemon)
    print("stopped", flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    trio.run(main, *sys.argv[1:])
