"""Stream a build as it runs, and count its lines; `python -m compileall` stands in for the build."""

import sys
import tempfile

import trio

from trio_process import ActionProcessOutput, Service

PACKAGE = (
    next(path for path in sys.path if path.endswith(f"python{sys.version_info[0]}.{sys.version_info[1]}")) + "/json"
)


async def main() -> None:
    lines = 0
    with tempfile.TemporaryDirectory() as cache:
        async with Service() as service:
            build = await service.start(
                sys.executable,
                *("-m", "compileall", "-f", PACKAGE),
                env={"PYTHONUNBUFFERED": "1", "PYTHONPYCACHEPREFIX": cache},
                timeout=600,
                idle_timeout=60,
            )
            with service.subscribe(ActionProcessOutput, id=build.id) as events:
                async for event in events:  # ends when the build has ended
                    lines += 1
                    print(f"{lines:3} {event.line}")
            await build.wait()
    print("done")


trio.run(main)

# Prints:
#
#     1 Listing '...json'...
#     2 Compiling '...__init__.py'...
#   ...
#   done
