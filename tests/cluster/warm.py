"""A warm start for agents and for Dask's helper: forks of one process that has imported everything.

Each of some four hundred tests starts an agent, and on Dask a helper too; their imports alone would be most of the time
that the whole suite takes. What runs is the same code over the same streams, and what an engine starts and ends is `STUB`, a
program that hands its streams over and ends as the fork does. Some tests of each engine start the real program.

usage: warm.py SOCKET MODULE
"""

import os
import signal
import socket
import sys
from pathlib import Path

STUB = """#!{python} -IS
import os, signal, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    words = [os.getcwd(), *sys.argv[1:], "", *[f"{{name}}={{value}}" for name, value in os.environ.items()]]
    message = "\\0".join(words).encode(errors="surrogateescape")
    socket.send_fds(server, [len(message).to_bytes(4, "big") + message], [0, 1, 2])
    os.close(0), os.close(1)
    status = server.recv(4)
code = int.from_bytes(status, "big", signed=True) if len(status) == 4 else 1
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


def main(path, name):
    """Serve until we are ended."""
    program = _agent() if name == "trio_process.agent" else _dask_helper()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(20)
        while True:
            connection, _ = server.accept()
            with connection:
                if os.fork() == 0:
                    server.close()
                    os._exit(watch(connection, program))


def _agent():
    import trio_process.agent

    return trio_process.agent.main


def _dask_helper():
    import asyncio

    import trio_process.cluster.dask_helper

    return lambda _: asyncio.run(trio_process.cluster.dask_helper.main())


def watch(connection, program):
    """Run a program in a child of ours, and report how that ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, descriptors, _, _ = socket.recv_fds(connection, 2**20, 3)
    while len(message) < 4 + int.from_bytes(message[:4], "big"):
        message += connection.recv(2**20)
    words = message[4:].decode(errors="surrogateescape").split("\0")
    pid = os.fork()
    if pid == 0:
        connection.close()
        os._exit(run(words, descriptors, program))
    for descriptor in (*descriptors, 0, 1, 2):
        os.close(descriptor)
    _, status = os.waitpid(pid, 0)
    connection.send(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
    return 0


def run(words, descriptors, program):
    os.setsid()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    end = words.index("")
    directory, *args = words[:end]
    os.environ.clear()
    os.environ.update(word.split("=", 1) for word in words[end + 1 :])
    os.chdir(directory)
    if "-m" in args:
        args = args[args.index("-m") + 2 :]
    try:
        return program(args) or 0
    except SystemExit as end:
        return end.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def write_stub(path, server):
    """Write the program that stands for Python in front of a module that the server knows."""
    Path(path).write_text(STUB.format(python=os.path.realpath(sys.executable), path=str(server)))
    Path(path).chmod(0o755)


if __name__ == "__main__":
    main(*sys.argv[1:])
