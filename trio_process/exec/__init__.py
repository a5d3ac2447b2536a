"""Run one command: commands as immutable values, pipes between them, and loggers.

>>> async def main() -> None:
...     version = await Command("git", "--version").output()
...     count = await (Command("git", "log", "--oneline") | Command("wc", "-l")).output()
"""

from .command import Command, run_quiet
from .lines import Line, Lines
from .logger import Logger, NopLogger, StdlibLogger, set_default_logger
from .pipe import Pipe, PipeResult

__all__ = [
    "Command",
    "Line",
    "Lines",
    "Logger",
    "NopLogger",
    "Pipe",
    "PipeResult",
    "StdlibLogger",
    "run_quiet",
    "set_default_logger",
]
