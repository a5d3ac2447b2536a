"""Loggers: the protocol, an adapter for `logging`, and the rule that a logger never changes an outcome."""

from __future__ import annotations

import logging
from typing import Protocol, final, runtime_checkable

from .._core import OptionError, bad_option, command_line
from .._core import logger as own_logger


@runtime_checkable
class Logger(Protocol):
    """The protocol of a logger for commands; a structlog logger satisfies it unchanged.

    The messages are "executing command" (debug, before it starts) and "command failed" (error, after a failure), the
    fields `cmd`, `args` and `dir`, after a failure `error` (its text) and `duration` (seconds) too. Secrets are masked.
    """

    def debug(self, message: str, /, **fields: object) -> object:
        """Log a command that is about to start."""

    def error(self, message: str, /, **fields: object) -> object:
        """Log a failure."""


@final
class NopLogger:
    """The default logger, which discards everything."""

    __slots__ = ()

    def debug(self, message: str, /, **fields: object) -> None:
        """Discard the message."""

    def error(self, message: str, /, **fields: object) -> None:
        """Discard the message."""


@final
class StdlibLogger:
    """An adapter for `logging.Logger`: fields follow the message as ``key=value``, and are the record's `fields`.

    Args:
        logger: The logger to write to; None for ``logging.getLogger("trio_process.exec")``.

    >>> command_logger = StdlibLogger(logging.getLogger("deploy"))
    """

    __slots__ = ("_logger",)

    def __init__(self, logger: logging.Logger | None = None) -> None:
        if logger is not None and not isinstance(logger, (logging.Logger, logging.LoggerAdapter)):
            raise bad_option("logger", f"must be a logging.Logger or None, got {logger!r}")
        self._logger = logger if logger is not None else logging.getLogger("trio_process.exec")

    def debug(self, message: str, /, **fields: object) -> None:
        """Write a record of level DEBUG."""
        self._log(logging.DEBUG, message, fields)

    def error(self, message: str, /, **fields: object) -> None:
        """Write a record of level ERROR."""
        self._log(logging.ERROR, message, fields)

    def _log(self, level: int, message: str, fields: dict[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            # not as attributes of the record: it has an "args" of its own, which logging refuses to overwrite
            shown = " ".join(f"{key}={_written(value)}" for key, value in fields.items() if value is not None)
            self._logger.log(level, "%s %s", message, shown, extra={"fields": fields})


def _written(value: object) -> str:
    if isinstance(value, tuple):
        return repr(command_line(value[0], value[1:])) if value else "''"
    return f"{value:.3f}" if isinstance(value, float) else repr(value)


_NOP = NopLogger()
_default: Logger = _NOP


def set_default_logger(logger: Logger | None) -> None:
    """Set the logger of all commands in this program that have none of their own; None for no logging.

    Raises:
        OptionError: The logger has no `debug` and `error` methods.
    """
    global _default  # noqa: PLW0603 - the contract asks for one default in the program
    _default = check_logger(logger) or _NOP


def default_logger() -> Logger:
    """Return the logger of commands that have none of their own."""
    return _default


def check_logger(logger: Logger | None) -> Logger | None:
    """Return the logger if it is valid; else raise an `OptionError` that says what to do."""
    if logger is None or (callable(getattr(logger, "debug", None)) and callable(getattr(logger, "error", None))):
        if isinstance(logger, logging.Logger):
            raise OptionError(f"a logging.Logger takes no fields; write StdlibLogger({logger!r})")
        return logger
    raise bad_option("logger", f"must have the methods debug and error, got {logger!r}")


def log(logger: Logger, level: str, message: str, fields: dict[str, object]) -> None:
    """Log a message. An exception of the logger is logged to `trio_process`, and goes no further."""
    try:
        getattr(logger, level)(message, **fields)
    except Exception:  # noqa: BLE001 - whatever a user's logger raises, the outcome of the command is the same
        own_logger.warning("the logger %r raised; the command goes on", logger, exc_info=True)
