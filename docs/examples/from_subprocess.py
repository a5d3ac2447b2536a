"""What `subprocess.run` and `Popen` are used for, in Trio: an output, a failure, input, a pipe, a server, a timeout."""

import trio

from trio_process import CommandFailedError, Service


async def main() -> None:
    async with Service() as service:
        # subprocess.run(["uname", "-s"], capture_output=True, text=True, check=True).stdout
        print((await service.run("uname", "-s")).stdout.strip())

        # subprocess.run(["sort"], input="b\na\n", ...)
        print((await service.run("sort", stdin="b\na\n")).stdout.split())

        # subprocess.run("exit 3", shell=True).returncode
        print((await service.run("sh", "-c", "exit 3", check=False)).exit_code)

        # except subprocess.CalledProcessError as error
        try:
            await service.run("sh", "-c", "echo 'disk is full' >&2; exit 1")
        except CommandFailedError as error:
            print(error.result.exit_code, error.result.stderr.strip())

        # subprocess.run(..., timeout=0.2): here the background sleep ends, too
        result = await service.run("sh", "-c", "sleep 60 & wait", timeout=0.2, check=False)
        print(result.reason)

        # subprocess.Popen(...), for line in process.stdout, process.terminate(), process.wait()
        async with service.open("sh", "-c", "echo ready; exec sleep 60") as server:
            await server.wait_for_line("ready", timeout=10)
        print(server.reason)


trio.run(main)

# Prints:
#
#   Linux
#   ['a', 'b']
#   3
#   1 disk is full
#   timed_out
#   stopped
