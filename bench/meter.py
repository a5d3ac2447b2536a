"""`Meter`: how long some work takes by the clock, and how much of our own processor time.

On a machine that others use too, the clock shows what they do. Processor time doesn't: it is what this process itself
has used in user and system mode (getrusage(2), `RUSAGE_SELF`), all threads together, its children excluded.
"""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from .harness import Values, cpu_key


def processor_time() -> float:
    """Return the processor time of this process, in seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@final
class Meter:
    """Measures from its creation on."""

    def __init__(self) -> None:
        self._begin = time.perf_counter()
        self._used = processor_time()

    def rate(self, key: str, units: float, per: float = 1.0) -> Values:
        """Return how many units of work were done in a second, and the processor time for each, in µs.

        Args:
            key: The key of the figure.
            units: How much has been done.
            per: What the rate is counted in: 1e6 gives millions a second.
        """
        used = processor_time() - self._used
        return {key: units / per / (time.perf_counter() - self._begin), cpu_key(key): used / units * 1e6}


def processor_time_of(command: Sequence[str], **options: Any) -> float:
    """Run a command to its success and return its own processor time in seconds, without that of its children."""
    with subprocess.Popen(command, **options) as process:
        if process.stdin is not None:
            process.stdin.close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        # a zombie still has its own figures (proc_pid_stat(5): utime, stime); the usage that wait4(2) gives adds the children
        fields = Path(f"/proc/{process.pid}/stat").read_text("ascii").rpartition(")")[2].split()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
