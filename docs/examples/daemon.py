"""A daemon: one instance, a health server, an entry in the registry, a reload, and a graceful shutdown.

Run it, and look at it from another terminal:

    python docs/examples/daemon.py /tmp/myapp.pid 127.0.0.1:9090
    curl -i http://127.0.0.1:9090/health
    curl -i http://127.0.0.1:9090/ready
    kill -HUP $(cat /tmp/myapp.pid)
    kill -TERM $(cat /tmp/myapp.pid)
"""

import logging
import sys

import trio

from trio_process import Daemon, DaemonEntry, default_registry


class Pool:
    """Stands for a connection pool, as a database's library would give one."""

    async def ping(self) -> None:
        """Raise if the database is not there."""
        await trio.sleep(0.001)

    async def reconnect(self) -> None:
        """Replace the connections, by settings that may have changed."""
        await trio.sleep(0.001)


async def connect() -> Pool:
    await trio.sleep(0.5)
    return Pool()


async def serve(pool: Pool) -> None:
    while True:
        await pool.ping()
        await trio.sleep(1)


async def main(pid_file: str = "/tmp/myapp.pid", health_addr: str = "127.0.0.1:9090") -> None:
    async with Daemon(
        pid_file=pid_file,
        health_addr=health_addr,
        registry=default_registry(),
        registry_entry=DaemonEntry(code="myapp", daemon="server"),
        ready=False,
    ) as daemon:
        print(f"healthy at {daemon.health_addr}, not ready yet", flush=True)
        pool = await connect()
        assert daemon.health is not None
        daemon.health.add_check(pool.ping, name="database")

        @daemon.on_reload  # SIGHUP, which `systemctl reload` sends
        async def reload() -> None:
            await pool.reconnect()
            print("reloaded", flush=True)

        daemon.set_ready(True)
        print("ready", flush=True)
        await daemon.run(serve, pool)  # until SIGTERM or SIGINT, daemon.stop(), a cancellation, or serve returns
        print("stopping", flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    trio.run(main, *sys.argv[1:])
