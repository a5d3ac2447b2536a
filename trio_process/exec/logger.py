"""Loggers: what they look like, the standard library's as one, and the rule that none of them changes an outcome."""

from __future__ import annotations

import logging
from typing import Protocol, final, runtime_checkable

from .._core import OptionError, command_line
from .._core import logger as own_logger


@runtime_checkable
class Logger(Protocol):
    """What a command reports to; a structlog logger is one as it is.

    The messages are "executing command" (debug, before it starts) and "command failed" (error, after a failure), the
    fields `cmd`, `args` and `dir`, after a failure `error` (its text) and `duration` (seconds) too. Secrets are masked.
    """

    def debug(self, message: str, /, **fields: object) -> object:
        """Take note of what is about to happen."""

    def error(self, message: str, /, **fields: object) -> object:
        """Take note of a failure."""


@final
class NopLogger:
    """The default: says nothing."""

    __slots__ = ()

    def debug(self, message: str, /, **fields: object) -> None:
        """Say nothing."""

    def error(self, message: str, /, **fields: object) -> None:
        """Say nothing."""


@final
class StdlibLogger:
    """Writes to a `logging.Logger`: the fields as `key=value` after the message, and as `fields` of the record.

    Args:
        logger: Where to write; None for `logging.getLogger("trio_process.exec")`.

    >>> command_logger = StdlibLogger(logging.getLogger("deploy"))
    """

    __slots__ = ("_logger",)

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger if logger is not None else logging.getLogger("trio_process.exec")

    def debug(self, message: str, /, **fields: object) -> None:
        """Write a record of level DEBUG."""
        self._log(logging.DEBUG, message, fields)

    def error(self, message: str, /, **fields: object) -> None:
        """Write a record of level ERROR."""
        self._log(logging.ERROR, message, fields)

    def _log(self, level: int, message: str, fields: dict[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            # not as attributes of the record: "args" is one already, and logging refuses to overwrite it
            said = " ".join(f"{key}={_written(value)}" for key, value in fields.items() if value is not None)
            self._logger.log(level, "%s %s", message, said, extra={"fields": fields})


def _written(value: object) -> str:
    if isinstance(value, tuple):
        return repr(command_line(value[0], value[1:])) if value else "''"
    return f"{value:.3f}" if isinstance(value, float) else repr(value)


_NOTHING_SAID = NopLogger()
_default: Logger = _NOTHING_SAID


def set_default_logger(logger: Logger | None) -> None:
    """Set what commands without a logger of their own report to, in the whole program; None for nothing.

    Raises:
        OptionError: It has no `debug` and `error`.
    """
    global _default  # noqa: PLW0603 - the contract asks for one default in the program
    _default = checked(logger) or _NOTHING_SAID


def default_logger() -> Logger:
    """Return what commands without a logger of their own report to."""
    return _default


def checked(logger: Logger | None) -> Logger | None:
    """Return the logger if it is one; the text of the refusal names the remedy."""
    if logger is None or (callable(getattr(logger, "debug", None)) and callable(getattr(logger, "error", None))):
        if isinstance(logger, logging.Logger):
            raise OptionError(f"a logging.Logger takes no fields; write StdlibLogger({logger!r})")
        return logger
    raise OptionError(f"logger must have the methods debug and error, got {logger!r}")


def say(logger: Logger, level: str, message: str, fields: dict[str, object]) -> None:
    """Tell a logger; if it raises, that is only told to our own."""
    try:
        getattr(logger, level)(message, **fields)
    except Exception:  # noqa: BLE001 - whatever a stranger's logger raises: the command's outcome is not its business
        own_logger.warning("the logger %r raised; the command goes on", logger, exc_info=True)
