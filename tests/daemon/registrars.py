"""A program for the tests of the registry: `registrars.py DIRECTORY COUNT ROUNDS`.

COUNT processes register, list and unregister at once, each with a key of its own; every two neighbours' keys share a file
name. Each looks whether what must be there is there, and leaves dead entries for the others to prune. Prints a line for
everything that was wrong, and `done N` for each process.
"""

import os
import sys

from trio_process._daemon import DaemonEntry, Registry


def say(text):
    os.write(1, f"{text}\n".encode())  # in one piece: many write at once


def live(directory, number, rounds, permanent):
    registry = Registry(directory)
    code, daemon = ("a-b", f"c{number}") if number % 2 else ("a", f"b-c{number + 1}")
    entry = DaemonEntry(code, daemon, project="/srv/" + "x" * 300, extra={"round": 0})
    looks = 0

    def look(there):
        nonlocal looks
        looks += 1
        found = {(e.code, e.daemon): e for e in registry.list()}
        missing = permanent - found.keys()
        if missing:
            say(f"{number} does not see the permanent {missing}")
        for other in found.values():
            if other.project != entry.project or not other.binary == other.health == "":
                say(f"{number} read half of {other}")
        if ((code, daemon) in found) is not there:
            say(f"{number} {'does not see' if there else 'sees'} its own in the list")
        got = registry.get(code, daemon)
        if there and (got is None or got.pid != os.getpid() or got.extra != entry.extra):
            say(f"{number} got {got} for its own")
        if not there and got is not None:
            say(f"{number} got {got} for nothing")

    for count in range(rounds):
        entry = DaemonEntry(code, daemon, project=entry.project, extra={"round": count})
        if count % 3:
            with registry.registered(entry):
                look(there=True)
        else:
            registry.register(entry)
            look(there=True)
            registry.register(entry)  # over its own
            look(there=True)
            registry.unregister(code, daemon)
        look(there=False)
        registry.register(DaemonEntry("dead", f"{number}-{count}", pid=2**22 + 1, project=entry.project))
    say(f"done {looks}")


def main(directory, count, rounds):
    registry = Registry(directory)
    permanent = {("permanent", str(number)) for number in range(5)}
    for code, daemon in permanent:
        registry.register(DaemonEntry(code, daemon, project="/srv/" + "x" * 300))
    children = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            try:
                live(directory, number, rounds, permanent)
            except BaseException as error:
                say(f"{number} failed: {error!r}")
            finally:
                os._exit(0)
        children.append(pid)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
