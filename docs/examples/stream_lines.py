"""Start a server, wait until it is up, read its output, and stop it."""

import sys

import trio

from trio_process import Service

SERVER = """
import time
print("listening", flush=True)
for number in range(1_000_000):
    print("request", number, flush=True)
    time.sleep(0.01)
"""


async def main() -> None:
    async with Service() as service:
        server = await service.start(sys.executable, "-c", SERVER, name="server")
        await server.wait_for_line("listening", timeout=30)
        async for line in server.lines():
            print(line.stream, line.text)
            if line.text == "request 2":
                break
        result = await server.stop()
        print(result.reason, result.signal_name, "ok" if result.ok else "not ok")


trio.run(main)

# Prints:
#
#   stdout listening
#   stdout request 0
#   stdout request 1
#   stdout request 2
#   stopped SIGTERM ok
