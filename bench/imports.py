"""What it takes to import the package, beside what it takes to import Trio alone."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial
from typing import Final

from .harness import Benchmark, Contender, Figure, Goal, Values, cpu_key

_CODE: Final = """
import time
begin, used = time.perf_counter(), time.process_time()
import {}
print((time.perf_counter() - begin) * 1e3, (time.process_time() - used) * 1e6)
"""


def importing(scale: float, name: str) -> Values:
    """Return the least of some imports, each in a fresh interpreter."""
    command = [sys.executable, "-c", _CODE.format(name)]
    times = []
    with tempfile.TemporaryDirectory() as cache:
        # compiled beforehand, as an installed package is, whatever this environment says of that
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for _ in range(1 + max(3, int(5 * scale))):
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            times.append([float(each) for each in done.stdout.split()])
    least, used = map(min, zip(*times[1:], strict=True))
    return {"time": least, cpu_key("time"): used}


BENCHMARKS: Final = (
    Benchmark(
        name="import",
        title="`import trio_process` against `import trio`",
        figures=(Figure("time", "import in a fresh interpreter (the least of five)", "ms", False, "import"),),
        contenders=(
            Contender("trio_process", partial(importing, name="trio_process")),
            Contender("trio", partial(importing, name="trio")),
            Contender("asyncio", partial(importing, name="asyncio")),
            Contender("anyio", partial(importing, name="anyio"), ("anyio",)),
            Contender("shellous", partial(importing, name="shellous"), ("shellous",)),
            Contender("plumbum", partial(importing, name="plumbum"), ("plumbum",)),
            Contender("sh", partial(importing, name="sh"), ("sh",)),
        ),
        goals=(Goal(text="at most a quarter on top of Trio's own", figure=cpu_key("time"), peer="trio", most=1.25),),
    ),
)
