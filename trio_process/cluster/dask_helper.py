"""The helper that speaks with a Dask scheduler, a process of its own: Dask's loop and threads stay out of the client.

It reads a line of JSON, then writes one line per event, and reads one line per worker that is to have an agent:

    {"address", "security", "workers"}  →
    ← {"event": "worker", "worker": ADDRESS, "name", "host"}      a worker is there, or has come back
    {"worker": ADDRESS, "config"}  →
    ← {"event": "listed"}                                         that was all, for now
    ← {"event": "gone", "worker": ADDRESS}                        it has left
    ← {"event": "done", "worker": ADDRESS, "error": TEXT}         its agent has ended
    ← {"event": "failed", "error": TEXT}                          the scheduler can't be reached

The end of its stdin ends it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from typing import Any

from distributed import Client, Security

from .dask_task import run_agent

_LOOK = 0.5  # seconds between two looks at which workers there are
_CONNECT = 30  # seconds


def say(**what: Any) -> None:
    """Write one line to the client."""
    print(json.dumps(what), flush=True)  # noqa: T201 - this is how it speaks


async def main() -> None:
    """Serve one client until its end."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    given = json.loads(await reader.readline())
    security = Security(**given["security"]) if given["security"] is not None else None
    try:
        client = await Client(
            given["address"], asynchronous=True, security=security, timeout=_CONNECT, set_as_default=False
        )
    except (TimeoutError, OSError, ValueError, TypeError) as error:
        say(event="failed", error=f"the Dask scheduler at {given['address']} can't be reached: {error}")
        return
    tasks: set[asyncio.Task[None]] = set()
    watch = asyncio.create_task(_watch(client, given["workers"]))
    try:
        while line := await reader.readline():
            order = json.loads(line)
            task = asyncio.create_task(_run(client, order["worker"], order["config"]))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    finally:
        watch.cancel()
        for task in tasks:
            task.cancel()
        await client.close(timeout=2)


async def _watch(client: Client, wanted: list[str] | None) -> None:
    """Report each worker once; one that was restarted has another address."""
    known: set[str] = set()
    while True:
        workers = (await client.scheduler.identity())["workers"]
        for address, worker in workers.items():
            name = str(worker.get("name", address))
            if address not in known and (wanted is None or name in wanted or address in wanted):
                say(event="worker", worker=address, name=name, host=worker.get("host", address))
        for address in known.difference(workers):
            say(event="gone", worker=address)
            if address in _FUTURES:  # else it would run again, should that address come back
                await _FUTURES.pop(address).cancel()
        known = set(workers)
        say(event="listed")
        await asyncio.sleep(_LOOK)


_FUTURES: dict[str, Any] = {}


async def _run(client: Client, worker: str, config: dict[str, Any]) -> None:
    error = ""
    try:
        key = f"trio-process-agent-{uuid.uuid4().hex}"
        future = client.submit(
            run_agent, config, workers=[worker], allow_other_workers=False, pure=False, retries=0, key=key
        )
        _FUTURES[worker] = future
        status, words = await future
        if status:
            error = f"the agent exited with code {status}"
        error += "".join(f"\n  {line}" for line in words.splitlines())
    except Exception as failure:  # noqa: BLE001 - whatever kept the task from running is reported
        error = f"{type(failure).__name__}: {failure}"
    say(event="done", worker=worker, error=error)


if __name__ == "__main__":
    asyncio.run(main())
