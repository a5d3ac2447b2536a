"""`python -m trio_process`, and the console script `trio-process`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; without the extra `cli`, say how to get it."""
    try:
        from ._cli.main import cli  # noqa: PLC0415 - it needs the extra
    except ModuleNotFoundError as error:
        if error.name not in {"click", "rich"}:
            raise
        sys.exit(f"trio-process: the command line needs {error.name}; install it with: pip install 'trio-process[cli]'")
    cli(prog_name="trio-process")


if __name__ == "__main__":
    main()
