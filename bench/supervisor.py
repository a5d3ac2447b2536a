"""A hundred services kept running, beside supervisord, circusd and pm2: how long they take, and what they cost.

Each daemon is a process of its own and gets a configuration file of its own kind. It is looked at from outside, the same way
for all: through `/proc`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

import attrs

from .harness import Benchmark, Contender, Figure, Goal, Values, tool

SERVICES: Final = 100
MORE_SERVICES: Final = 1000
LINES: Final = 1_000_000
IDLE: Final = 10.0  # seconds
KILLS: Final = 20
GRACE: Final = 1.0
BACKOFF: Final = 0.1

COMMAND: Final = "trio-process up"

_LIMIT: Final = 150.0  # seconds for each step; supervisord stops 100 stubborn services in 107
_POLL: Final = 0.001
_AGAIN: Final = (
    1.0  # seconds after which circusd gets another SIGTERM: it drops one that comes while it looks after its watchers
)
_STUBBORN: Final = ["sh", "-c", "trap '' INT TERM; exec sleep 1000"]
_PLAIN: Final = ["sleep", "1000"]

_PROGRAM: Final = """
import sys, trio
from trio_process import Daemon, Supervisor

async def main():
    async with Daemon() as daemon, Supervisor.from_file(sys.argv[1]):
        await daemon.run()

trio.run(main)
"""


@attrs.frozen
class Service:
    """One service, for every kind of configuration file."""

    name: str
    argv: Sequence[str]
    log: Path | None = None


def trio_process(directory: Path, services: Sequence[Service], argv: Sequence[str]) -> list[str]:
    """`[services]`, for a program of ten lines or for the command line."""
    lines = ["[defaults]", f'grace-period = "{GRACE:g}s"']
    for one in services:
        lines += [f"[services.{one.name}]", f"run = {json.dumps(one.argv)}"]
        lines.append(f'restart = {{ mode = "always", backoff = {BACKOFF}, jitter = 0, max-restarts = 1000 }}')
        if one.log is not None:
            lines += [f"log-file = {json.dumps(str(one.log))}"]
    file = directory / "trio-process.toml"
    file.write_text("\n".join(lines))
    return [sys.executable, *argv, str(file)]


def supervisord(directory: Path, services: Sequence[Service]) -> list[str]:
    """`[program:x]`, without a retry of its own kind: it restarts at once what has run."""
    lines = ["[supervisord]", "nodaemon=true", f"logfile={directory}/log", f"pidfile={directory}/pid", "minfds=10000"]
    if os.geteuid() == 0:
        lines.append("user=root")
    for one in services:
        command = " ".join(f"'{arg}'" if " " in arg else arg for arg in one.argv).replace("''", '""')
        lines += [f"[program:{one.name}]", f"command={command}", "startsecs=0", "autorestart=true"]
        lines += [f"stopwaitsecs={GRACE:g}", f"stdout_logfile={one.log or 'NONE'}", "stdout_logfile_maxbytes=0"]
        lines.append("stderr_logfile=NONE")
    file = directory / "supervisord.conf"
    file.write_text("\n".join(lines))
    return [tool("supervisord") or "supervisord", "-c", str(file)]


def circusd(directory: Path, services: Sequence[Service]) -> list[str]:
    """`[watcher:x]`, by its own sockets in the directory."""
    lines = ["[circus]", "check_delay=1", f"endpoint=ipc://{directory}/e", f"pubsub_endpoint=ipc://{directory}/p"]
    for one in services:
        lines += [f"[watcher:{one.name}]", f"cmd={one.argv[0]}"]
        lines += [f"args={' '.join(f'{chr(34)}{arg}{chr(34)}' if ' ' in arg else arg for arg in one.argv[1:])}"]
        lines += [f"graceful_timeout={GRACE:g}", "max_retry=-1"]
        if one.log is not None:
            lines += ["stdout_stream.class=FileStream", f"stdout_stream.filename={one.log}"]
    file = directory / "circus.ini"
    file.write_text("\n".join(lines))
    return [tool("circusd") or "circusd", str(file)]


def pm2(directory: Path, services: Sequence[Service]) -> list[str]:
    """An ecosystem file, in the foreground."""
    apps = []
    for one in services:
        app: dict[str, object] = {"name": one.name, "script": shutil.which(one.argv[0]), "args": list(one.argv[1:])}
        app |= {"interpreter": "none", "kill_timeout": GRACE * 1000, "vizion": False, "pmx": False}
        app |= {"out_file": str(one.log or "/dev/null"), "error_file": "/dev/null", "merge_logs": True}
        apps.append(app)
    file = directory / "ecosystem.config.json"
    file.write_text(json.dumps({"apps": apps}))
    return [tool("pm2-runtime") or "pm2-runtime", "start", str(file)]


_OF_WRITERS: Final = ("sh", "sleep", "seq")
"""The programs of a service that writes lines."""

Configure = Callable[[Path, Sequence[Service]], list[str]]


def _processor_time(pid: int) -> float:
    """Return the seconds that a process has used, to the nanosecond (clock_getcpuclockid(3), which Python has for threads)."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0  # it has ended


def descendants(root: int) -> list[tuple[int, str]]:
    """Return PID and command of a process and its descendants, zombies aside."""
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        try:
            command, _, rest = Path(f"/proc/{pid}/stat").read_text("utf-8").partition("(")[2].rpartition(")")
            if rest.split()[0] not in "ZX":
                found.append((pid, command))
            for task in os.listdir(f"/proc/{pid}/task"):
                waiting += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text("ascii").split())
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
    return found


class Running:
    """A daemon that runs, and its services.

    Attributes:
        up: Seconds from its start until all services ran.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], program: str, count: int, *, drops_signals: bool = False
    ) -> None:
        self._process = process
        self._drops_signals = drops_signals
        self._program = program
        self._count = count
        self._known: set[int] = set()
        self.up = self._until(lambda: len(self.services()) >= count)

    def _until(self, is_true: Callable[[], object]) -> float:
        began = time.perf_counter()
        while not is_true():
            if self._process.poll() is not None or time.perf_counter() - began > _LIMIT:
                raise RuntimeError(f"the daemon has ended, or did not come so far in {_LIMIT:g} s")
            time.sleep(_POLL)
        return time.perf_counter() - began

    def tree(self) -> list[tuple[int, str]]:
        """Return PID and command of the daemon and its descendants."""
        return descendants(self._process.pid)

    def services(self) -> set[int]:
        """Return the PIDs of the services: of the daemon's own children, those that are known are not looked at again."""
        root = Path(f"/proc/{self._process.pid}/task")
        children = {int(pid) for file in root.glob("*/children") for pid in file.read_text("ascii").split()}
        self._known &= children
        for pid in children - self._known:
            with suppress(OSError):  # it has ended meanwhile
                if Path(f"/proc/{pid}/comm").read_text("utf-8").strip() == self._program:
                    self._known.add(pid)
        return set(self._known)

    def _own(self) -> list[int]:
        return [pid for pid, command in self.tree() if command not in (self._program, *_OF_WRITERS)]

    def processor_time(self) -> float:
        """Return the seconds that the daemon has used, without its services, with all threads that have ended."""
        return sum(map(_processor_time, self._own()))

    def memory(self) -> float:
        """Return what is private to the daemon, in MB."""
        total = 0
        for pid in self._own():
            with suppress(OSError):  # a fork that has become a service, or has ended
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines():
                    if line.startswith("Private_"):
                        total += int(line.split()[1])
        return total / 1000

    def restart(self) -> float:
        """Kill a service, and return after how many seconds there is another one."""
        # circusd sometimes starts two for one that was killed, and stops one of them later, which it doesn't replace
        self._until(lambda: len(self.services()) == self._count)
        before = self.services()
        os.kill(min(before), signal.SIGKILL)
        return self._until(lambda: self.services() - before)

    def stop(self) -> float:
        """Return after how many seconds the daemon and all services have ended."""
        services = self.services()
        began = time.perf_counter()
        self._process.terminate()
        while self._drops_signals and time.perf_counter() - began < _LIMIT:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_AGAIN)
                break
            self._process.terminate()
        self._process.wait(_LIMIT)
        while any(Path(f"/proc/{pid}").exists() for pid in services):
            time.sleep(_POLL)
        return time.perf_counter() - began


@contextmanager
def running(configure: Configure, services: Sequence[Service], program: str) -> Iterator[Running]:
    """Run a daemon for the length of the block, with its modules compiled beforehand, as those of an installed package are."""
    with tempfile.TemporaryDirectory() as cache:
        with _started(configure, _several(2, _PLAIN), "sleep", cache):
            pass
        with _started(configure, services, program, cache) as daemon:
            yield daemon


@contextmanager
def _started(configure: Configure, services: Sequence[Service], program: str, cache: str) -> Iterator[Running]:
    # the paths of unix sockets are short, and circus needs one
    with tempfile.TemporaryDirectory(prefix="tp") as name:
        environment = {**os.environ, "XDG_STATE_HOME": name, "PM2_HOME": f"{name}/pm2", "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        command = configure(Path(name), services)
        null = subprocess.DEVNULL
        process = subprocess.Popen(command, cwd=name, env=environment, stdin=null, stdout=null, stderr=null)
        try:
            yield Running(process, program, len(services), drops_signals=configure is circusd)
        finally:
            if process.poll() is None:
                _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a daemon that a failed sample has left, and all of its services."""
    process.terminate()
    try:
        process.wait(2 * GRACE)
    except subprocess.TimeoutExpired:
        for pid, _ in descendants(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def _several(count: float, argv: Sequence[str]) -> list[Service]:
    return [Service(f"s{number}", argv) for number in range(max(2, int(count)))]


def keep(scale: float, configure: Configure, backoff: float) -> Values:
    """Services that do nothing: start them, look, kill some, stop them."""
    with running(configure, _several(SERVICES * scale, _PLAIN), "sleep") as daemon:
        values = {"up": daemon.up}
        time.sleep(min(2.0, 100 * scale))  # whatever else it does at its start
        used, idle = daemon.processor_time(), max(0.1, IDLE * scale)
        time.sleep(idle)
        values["idle"] = (daemon.processor_time() - used) / idle * 100
        values["memory"] = daemon.memory()
        restarts = [daemon.restart() - backoff for _ in range(max(1, int(KILLS * scale)))]
        values["restart"] = median(restarts) * 1000
        values["stop"] = daemon.stop()
    return values


def stop_stubborn(scale: float, configure: Configure) -> Values:
    """Services that ignore the signals that ask them to end: SIGTERM, of pm2 SIGINT."""
    with running(configure, _several(SERVICES * scale, _STUBBORN), "sleep") as daemon:
        return {"stop": daemon.stop()}


def log(scale: float, configure: Configure) -> Values:
    """One service that writes lines, to a file."""
    count = int(LINES * scale)
    with tempfile.TemporaryDirectory() as name:
        file = Path(name, "lines.log")
        writer = ["sh", "-c", f"sleep 1; seq 1 {count}; echo end; exec sleep 1000"]
        with running(configure, [Service("seq", writer, file)], "sh") as daemon:
            time.sleep(0.5)  # what else it does at its start is over; the lines come later
            used, began = daemon.processor_time(), time.perf_counter()
            while not file.exists() or not file.read_bytes()[-64:].rstrip().endswith(b"end"):
                if time.perf_counter() - began > _LIMIT:
                    raise RuntimeError("the lines never came")
                time.sleep(0.01)
            return {"cpu": (daemon.processor_time() - used) / count * 1e6}


def weigh(scale: float, configure: Configure) -> Values:
    """A hundred services, and a thousand."""
    weights = []
    for count in (SERVICES, MORE_SERVICES):
        with running(configure, _several(count * scale, _PLAIN), "sleep") as daemon:
            time.sleep(min(2.0, 100 * scale))
            weights.append(daemon.memory())
    more = max(1, int(MORE_SERVICES * scale) - max(2, int(SERVICES * scale)))
    return {"memory": (weights[1] - weights[0]) / more * 1000}


OURS: Final = partial(trio_process, argv=("-c", _PROGRAM))
UP: Final = partial(trio_process, argv=("-m", "trio_process", "up", "-f"))
_PEERS: Final[tuple[tuple[str, Configure, tuple[str, ...]], ...]] = (
    ("supervisord", supervisord, ("/supervisord",)),
    ("circusd", circusd, ("/circusd",)),
    ("pm2", pm2, ("/pm2-runtime", "/node")),
)


def _contenders(
    measure: Callable[..., Values], *, backoff: bool = False, without: Sequence[str] = ()
) -> tuple[Contender, ...]:
    ours = {"backoff": BACKOFF} if backoff else {}
    others = {"backoff": 0.0} if backoff else {}
    return (
        Contender("trio_process", partial(measure, configure=OURS, **ours)),
        Contender(COMMAND, partial(measure, configure=UP, **ours)),
        *[
            Contender(name, partial(measure, configure=configure, **others), needs)
            for name, configure, needs in _PEERS
            if name not in without
        ],
    )


def _against_each(text: str, figure: str, most: float) -> tuple[Goal, ...]:
    return tuple([Goal(text=f"{text} {name}", figure=figure, peer=name, most=most) for name, _, _ in _PEERS])


BENCHMARKS: Final = (
    Benchmark(
        name="services",
        title="100 services kept running (`sleep`)",
        figures=(
            Figure("up", "time until all run", "s", more_is_better=False),
            Figure("stop", "time until all are stopped", "s", more_is_better=False),
            Figure(
                "restart", "time from `kill -9` to the next process, without the backoff", "ms", more_is_better=False
            ),
            Figure("memory", "memory of the daemon", "MB", more_is_better=False),
            Figure("idle", "processor, idle", "%", more_is_better=False),
        ),
        contenders=_contenders(keep, backoff=True),
        goals=(
            *_against_each("all up in at most 0.25 x the time of", "up", 0.25),
            *_against_each("all stopped in at most 1.2 x the time of", "stop", 1.2),
            Goal(text="a restart at most 20 ms beyond the backoff", figure="restart", most=20.0),
            Goal(text="idle, no processor time", figure="idle", most=0.05),
        ),
    ),
    Benchmark(
        name="services-stubborn",
        title="100 services that ignore SIGTERM, with a grace of 1 s",
        figures=(Figure("stop", "time until all are stopped", "s", more_is_better=False),),
        contenders=_contenders(stop_stubborn),
        goals=(Goal(text="the grace, and 1 s", figure="stop", most=GRACE + 1.0),),
    ),
    Benchmark(
        name="services-log",
        title="a million lines of a service, to a file",
        figures=(Figure("cpu", "processor time of the daemon", "µs a line", more_is_better=False),),
        contenders=_contenders(log),
        goals=(Goal(text="at most 1.0 x supervisord", figure="cpu", peer="supervisord", most=1.0),),
    ),
    Benchmark(
        name="services-memory",
        title="1,000 services instead of 100",
        figures=(Figure("memory", "memory of each further one", "kB", more_is_better=False),),
        contenders=_contenders(weigh, without=("circusd", "pm2")),
        goals=(Goal(text="6 kB", figure="memory", most=6.0),),
    ),
)
