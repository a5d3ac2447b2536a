"""The small C programs that are the limit of what a machine can do, compiled on the spot."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Final

_SOURCES: Final = Path(__file__).parent / "c"


def program(name: str) -> str:
    """Return the path of a program, compiled from `c/NAME.c` unless that was done before."""
    source = _SOURCES / f"{name}.c"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    target = Path(tempfile.gettempdir()) / f"trio-process-bench-{os.getuid()}-{name}-{digest}"
    if not target.exists():
        with tempfile.TemporaryDirectory() as directory:
            made = Path(directory) / name
            subprocess.run(["gcc", "-O2", "-o", made, source], check=True)
            target.write_bytes(made.read_bytes())
        target.chmod(0o700)
    return str(target)
