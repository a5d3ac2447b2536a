"""A worker: takes files from the depot, one at a time, and packs them with gzip.

`python -m depot.worker` runs one until SIGTERM. Any number of workers can share a depot.
"""

import os

import trio

from trio_process import CommandFailedError, Daemon, Service

from .store import File, Store, open_store

POLL = 0.2  # seconds between two looks at an empty depot
LIMIT = 60.0  # seconds that packing one file may take


async def pack(service: Service, store: Store, file: File) -> None:
    """Pack one file, and record how that ended."""
    try:
        await service.run("gzip", "--best", "--force", "--keep", store.content(file.id), timeout=LIMIT)
    except CommandFailedError as error:  # a timeout, too
        store.packed(file.id).unlink(missing_ok=True)
        store.finish(file.id, error=error.result.stderr.strip() or str(error))
        print("failed", file.name, flush=True)
    else:
        store.finish(file.id)
        print("packed", file.name, flush=True)


async def work(store: Store, worker: str) -> None:
    """Pack files until cancelled; a file that is being packed then goes back to the depot."""
    store.put_back(worker)  # left by an earlier run that was killed
    print(worker, "is waiting for files", flush=True)
    try:
        async with Service() as service:
            while True:
                file = store.take(worker)
                if file is None:
                    await trio.sleep(POLL)
                else:
                    await pack(service, store, file)
    finally:
        store.put_back(worker)


async def main() -> None:
    worker = f"worker {os.environ.get('TRIO_PROCESS_REPLICA', '1')}"
    async with Daemon() as daemon:  # SIGTERM and SIGINT cancel `work`
        await daemon.run(work, open_store(), worker)


if __name__ == "__main__":
    trio.run(main)
