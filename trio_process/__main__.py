"""``python -m trio_process``, and the console script ``trio-process``."""

from __future__ import annotations

import os
import sys

_COERCED = ("C.UTF-8", "C.utf8", "UTF-8")


def main() -> None:
    """Run the command line; without the extra `cli`, say how to get it."""
    try:
        from ._cli.main import main as run  # noqa: PLC0415 - it needs the extra
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.exit("trio-process: the command line needs click; install it with: pip install 'trio-process[cli]'")
    _fill_standard_streams()
    _forget_coerced_locale()
    run()


def _forget_coerced_locale() -> None:
    """Take back the LC_CTYPE that Python itself has set in a C locale (PEP 538): commands get the environment that we got."""
    if os.environ.get("LC_CTYPE") not in _COERCED:
        return
    try:
        with open("/proc/self/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return
    given = [entry.partition(b"=")[2] for entry in entries if entry.startswith(b"LC_CTYPE=")]
    if given:
        os.environb[b"LC_CTYPE"] = given[0]
    else:
        del os.environ["LC_CTYPE"]


def _fill_standard_streams() -> None:
    """Put the null device where a standard stream is closed, as in ``trio-process run >&-``.

    Python has None for such a stream, and the next file or pipe that is opened gets its number: the stdout of a child
    would go there.
    """
    for place, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
            os.set_inheritable(opened, True)
            setattr(sys, name, open(opened, "w" if place else "r", encoding="utf-8"))  # noqa: SIM115 - for good


if __name__ == "__main__":
    main()
