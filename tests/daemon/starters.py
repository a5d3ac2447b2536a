"""A program for the tests of the PID file: many processes that want it at once.

`starters.py race COUNT` races COUNT starters, who all hold what they got until the round is over, and prints a line for
each: `won PID`, `lost HOLDER` or `failed ERROR`, then `over`. A line on stdin, the path, begins a round.

`starters.py churn PATH COUNT SECONDS` lets COUNT processes take and release it as fast as they can, and some die of SIGKILL
while they hold it; prints a line for each: `ACQUISITIONS VIOLATIONS`.

`starters.py hold PATH` takes it, prints its PID and waits for SIGKILL.
"""

import os
import random
import signal
import sys
import time

from trio_process._core import AlreadyRunningError
from trio_process._daemon import PIDFile


def fork(run, *args):
    pid = os.fork()
    if pid == 0:
        try:
            run(*args)
        finally:
            os._exit(0)
    return pid


def race(count):
    count = int(count)
    for line in sys.stdin:
        path = line.rstrip("\n")
        gate, results, end = os.pipe(), os.pipe(), os.pipe()
        children = [fork(start, path, gate, results, end) for _ in range(count)]
        for own in (gate[0], results[1], end[0], gate[1]):
            os.close(own)
        with open(results[0]) as answers:
            for _ in range(count):
                print(answers.readline(), end="", flush=True)
        os.close(end[1])
        for child in children:
            os.waitpid(child, 0)
        print("over", flush=True)


def start(path, gate, results, end):
    for own in (gate[1], results[0], end[1]):
        os.close(own)
    pid_file = PIDFile(path)
    os.read(gate[0], 1)  # end of file: all begin at once
    try:
        pid_file.acquire()
        answer = f"won {os.getpid()}"
    except AlreadyRunningError as error:
        answer = f"lost {error.pid}"
    except BaseException as error:
        answer = f"failed {error!r}"
    os.write(results[1], f"{answer}\n".encode())
    os.read(end[0], 1)  # end of file: the round is over


def churn(path, *numbers):
    count, seconds = map(int, numbers)
    inside = path + ".inside"  # exists while somebody believes to be the only one

    def live(seed):
        chance, until = random.Random(seed), time.monotonic() + seconds
        acquisitions = violations = 0
        while time.monotonic() < until:
            pid_file = PIDFile(path)
            try:
                pid_file.acquire()
            except AlreadyRunningError:
                continue
            acquisitions += 1
            try:
                os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                violations += 1
            else:
                os.unlink(inside)
            if chance.random() < 0.2:
                os.write(1, b"%d %d\n" % (acquisitions, violations))  # in one piece: many write at once
                os.kill(os.getpid(), signal.SIGKILL)
            pid_file.release()
        os.write(1, b"%d %d\n" % (acquisitions, violations))  # in one piece: many write at once

    until, seed = time.monotonic() + seconds, 0
    children = {fork(live, seed := seed + 1) for _ in range(count)}
    while children:
        pid, status = os.waitpid(-1, 0)
        children.discard(pid)
        if os.WIFSIGNALED(status) and time.monotonic() < until:
            children.add(fork(live, seed := seed + 1))


def hold(path):
    PIDFile(path).acquire()
    print(os.getpid(), flush=True)
    signal.pause()


if __name__ == "__main__":
    what, *words = sys.argv[1:]
    {"race": race, "churn": churn, "hold": hold}[what](*words)
