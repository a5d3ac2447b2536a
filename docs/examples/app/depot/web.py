"""The web front: upload a file, look at its state, download it packed.

`python -m depot.web` serves it until SIGTERM; `/health` and `/ready` come with the daemon.
"""

import os
import sqlite3
import sys
from dataclasses import asdict

import trio
from quart import Quart, Response, request, send_file
from quart.typing import ResponseReturnValue

from trio_process import Daemon, DaemonError

from .store import Store, open_store

ADDRESS = os.environ.get("DEPOT_ADDRESS", "127.0.0.1:8080")


def add_routes(app: Quart, store: Store) -> None:
    @app.errorhandler(sqlite3.OperationalError)
    async def busy(error: sqlite3.OperationalError) -> ResponseReturnValue:
        return Response(f"{error}; try again\n", 503)

    @app.get("/")
    async def index() -> ResponseReturnValue:
        return [asdict(file) for file in store.files()]

    @app.put("/files/<name>")
    async def upload(name: str) -> ResponseReturnValue:
        content: bytes = await request.get_data(as_text=False)
        file = store.add(name, content)
        return asdict(file), 202, {"Location": f"/files/{file.id}"}

    @app.get("/files/<int:number>")
    async def state(number: int) -> ResponseReturnValue:
        file = store.get(number)
        return asdict(file) if file else Response("no such file\n", 404)

    @app.get("/files/<int:number>/packed")
    async def download(number: int) -> ResponseReturnValue:
        file = store.get(number)
        if file is None or file.state != "packed":
            return Response("not packed\n", 404 if file is None else 409)
        return await send_file(store.packed(number), attachment_filename=f"{file.name}.gz", as_attachment=True)


async def main() -> None:
    store = open_store()
    async with Daemon(health_addr=ADDRESS, health_checks=[store.check], ready=False) as daemon:
        assert daemon.health is not None
        add_routes(daemon.health.app, store)
        daemon.set_ready(True)
        print(f"serving at http://{daemon.health_addr}", flush=True)
        await daemon.run(trio.sleep_forever)


if __name__ == "__main__":
    try:
        trio.run(main)
    except DaemonError as error:  # the address is taken, or not valid
        sys.exit(f"{error} (DEPOT_ADDRESS)")
