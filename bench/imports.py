"""What it takes to import the package, beside what it takes to import Trio alone."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import Final

from .harness import Benchmark, Contender, Figure, Goal, Values

_CODE: Final = "import time; begin = time.perf_counter(); import {}; print((time.perf_counter() - begin) * 1000)"


def importing(scale: float, name: str) -> Values:
    """Return the least of some imports, each in a fresh interpreter."""
    command = [sys.executable, "-I", "-c", _CODE.format(name)]
    if name == "trio_process":
        command.remove("-I")  # it may be the checkout that we stand in
    times = []
    for _ in range(max(1, int(5 * scale))):
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        times.append(float(done.stdout))
    return {"time": min(times)}


BENCHMARKS: Final = (
    Benchmark(
        name="import",
        title="`import trio_process` against `import trio`",
        figures=(Figure("time", "import in a fresh interpreter (the least of five)", "ms", more_is_better=False),),
        contenders=(
            Contender("trio_process", partial(importing, name="trio_process")),
            Contender("trio", partial(importing, name="trio")),
            Contender("asyncio", partial(importing, name="asyncio")),
            Contender("anyio", partial(importing, name="anyio"), ("anyio",)),
            Contender("shellous", partial(importing, name="shellous"), ("shellous",)),
            Contender("plumbum", partial(importing, name="plumbum"), ("plumbum",)),
            Contender("sh", partial(importing, name="sh"), ("sh",)),
        ),
        goals=(Goal(text="at most trio's own + 25 ms", figure="time", peer="trio", most=25.0, difference=True),),
    ),
)
