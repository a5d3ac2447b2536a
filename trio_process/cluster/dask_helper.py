"""The helper that speaks with a Dask scheduler, a process of its own: Dask's loop and threads stay out of the client.

It reads a line of JSON, then writes one line per event, and reads one line per worker that is to have an agent:

    {"address", "security", "workers"}  →
    ← {"event": "worker", "worker": ADDRESS, "name", "host"}      a worker is there, or has come back
    {"worker": ADDRESS, "config"}  →
    ← {"event": "listed"}                                         that was all, for now
    ← {"event": "gone", "worker": ADDRESS}                        it has left
    ← {"event": "done", "worker": ADDRESS, "error": TEXT}         its agent has ended
    ← {"event": "lost", "worker": ADDRESS, "error": TEXT}         the task failed; an agent that called back may live on
    ← {"event": "failed", "error": TEXT}                          the scheduler can't be reached, or not any more

The end of its stdin ends it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import Callable
from importlib import import_module
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
    tasks = {asyncio.create_task(_watch(client, given["workers"])), asyncio.create_task(_obey(client, reader))}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            await task
    finally:
        for task in tasks:
            task.cancel()
        await client.close(timeout=2)


async def _obey(client: Client, reader: asyncio.StreamReader) -> None:
    """Start the agents that the client asks for, until its end."""
    tasks: set[asyncio.Task[None]] = set()
    try:
        while line := await reader.readline():
            order = json.loads(line)
            task = asyncio.create_task(_run(client, order["worker"], order["config"]))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    finally:
        for task in tasks:
            task.cancel()


async def _watch(client: Client, wanted: list[str] | None) -> None:
    """Report each worker once, until the scheduler is gone; a worker that was restarted has another address."""
    known: set[str] = set()
    while client.status != "closed":
        try:
            workers = (await client.scheduler.identity())["workers"]
        except OSError:  # Dask's client connects again by itself, and closes if that takes too long
            await asyncio.sleep(_LOOK)
            continue
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
    say(event="failed", error=f"the Dask scheduler at {client.scheduler.address} has been gone for {_CONNECT} s")


_FUTURES: dict[str, Any] = {}


async def _run(client: Client, worker: str, config: dict[str, Any]) -> None:
    def submit(function: Callable[..., Any], argument: Any) -> Any:
        key = f"trio-process-agent-{uuid.uuid4().hex}"
        where = {"workers": [worker], "allow_other_workers": False}
        future = _FUTURES[worker] = client.submit(function, argument, **where, pure=False, retries=0, key=key)
        return future

    try:
        # a worker that can't import the function of a task does not report that: it dies
        failure = await submit(import_module, run_agent.__module__).exception()
        if failure is not None:
            raise failure  # noqa: TRY301 - as that of the agent's task
        status, words = await submit(run_agent, config)
    except Exception as failure:  # noqa: BLE001 - whatever kept the task from running is reported
        say(event="lost", worker=worker, error=f"{type(failure).__name__}: {failure}")
        return
    error = f"the agent exited with code {status}" if status else ""
    say(event="done", worker=worker, error=error + "".join(f"\n  {line}" for line in words.splitlines()))


if __name__ == "__main__":
    asyncio.run(main())
