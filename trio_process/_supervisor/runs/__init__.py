"""One run of a unit: of a command, or of an async function."""

from .command_run import CommandRun, Exits
from .main_run import MainRun
from .run import Run

__all__ = ["CommandRun", "Exits", "MainRun", "Run"]
