"""Print the events of one process as JSON, a line each."""

import json

import trio

from trio_process import Service


async def main() -> None:
    async with Service() as service:
        with service.subscribe(name="brief") as events:
            await service.run("sh", "-c", "echo hello; kill -9 $$", name="brief", check=False)
            for _ in range(4):
                event = await events.receive()
                print(type(event).__name__, json.dumps(event.to_dict()))


trio.run(main)

# Prints:
#
#   ActionProcessStarted {"id": "proc-1-...", "name": "brief", "command": "sh", "args": [...], "dir": null, "pid": ..., "at": "..."}
#   ActionProcessOutput {"id": "proc-1-...", "name": "brief", "line": "hello", "stream": "stdout", "partial": false}
#   ActionProcessKilled {"id": "proc-1-...", "name": "brief", "signal": "SIGKILL"}
#   ActionProcessExited {"id": "proc-1-...", ..., "exitCode": -9, "duration": ..., "error": "...", "reason": "signalled"}
