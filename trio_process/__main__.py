"""`python -m trio_process`, and the console script `trio-process`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line; without the extra `cli`, say how to get it."""
    try:
        from ._cli.main import main as run  # noqa: PLC0415 - it needs the extra
    except ModuleNotFoundError as error:
        if error.name not in {"click", "rich"}:
            raise
        sys.exit(f"trio-process: the command line needs {error.name}; install it with: pip install 'trio-process[cli]'")
    _fill_standard_streams()
    run()


def _fill_standard_streams() -> None:
    """Put the null device where a standard stream is closed, as in `trio-process run >&-`.

    Python has None for such a stream, and the next file or pipe that anybody opens gets its number: what a child writes to
    its stdout would go there.
    """
    for place, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
            os.set_inheritable(opened, True)
            setattr(sys, name, open(opened, "w" if place else "r", encoding="utf-8"))  # noqa: SIM115 - for good


if __name__ == "__main__":
    main()
