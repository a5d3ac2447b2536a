"""The errors: each is a `ProcessError`, and has its data as attributes beside the text."""

from __future__ import annotations

from copy import copy
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_PACKAGE: Final = __name__.partition(".")[0]


class ProcessError(Exception):
    """The base of all errors that this package raises."""

    def __init_subclass__(cls, *, shown_as: type[Exception] | None = None, **options: Any) -> None:
        """Let tracebacks show a class of ours by its public name: that of `shown_as`, if it isn't public itself."""
        super().__init_subclass__(**options)  # of another base
        _show_publicly(cls, shown_as)


def _show_publicly(cls: Any, shown_as: type[Exception] | None = None) -> None:
    package, _, rest = cls.__module__.partition(".")
    if package != _PACKAGE:
        return  # of another program
    if shown_as is None:
        cls.__module__ = package if rest.startswith("_") else f"{package}.{rest.partition('.')[0]}"
        return
    place = cls.__module__, cls.__qualname__
    # pickle looks a class up by its name
    cls.__reduce__ = lambda self: (_made, (*place, self.args), self.__dict__)
    for name in ("__module__", "__name__", "__qualname__"):
        setattr(cls, name, getattr(shown_as, name))


_show_publicly(ProcessError)


def _made(module: str, name: str, args: tuple[Any, ...]) -> Exception:
    """Return an error that was pickled."""
    cls: type[Exception] = getattr(import_module(module), name)
    error = cls.__new__(cls, *args)
    error.args = args
    return error


_Error = TypeVar("_Error", bound=BaseException)


def without_traceback(error: _Error) -> _Error:
    """Return a copy of an error, and of its cause, without their tracebacks, so that it can be stored and raised again.

    A traceback refers to every frame up to the one that caught the error, and so to all that their variables refer to.
    """
    try:
        twin = copy(error)
    except Exception:  # noqa: BLE001 - of another package: its class may not be made for copies
        return error
    twin.__traceback__ = twin.__context__ = None  # some programs make copies keep them: tblib, and so Dask, does
    if error.__cause__ is not None:
        twin.__cause__ = without_traceback(error.__cause__)
    return twin


class OptionError(ProcessError, ValueError):
    """An option is invalid; the message names the option, the value and what was expected.

    Args:
        *args: The message.
        option: The name of the option.

    Attributes:
        option: The name of the option, such as ``"timeout"``; None if it isn't about exactly one.
    """

    option: str | None

    def __init__(self, *args: object, option: str | None = None) -> None:
        super().__init__(*args)
        self.option = option


def bad_option(label: str, why: str) -> OptionError:
    """Return the error of an option, whose message is its label and what is wrong.

    Args:
        label: Its name, maybe with more than that: ``"limits['nofile']"``, ``"user:"``.
        why: What is wrong with its value.
    """
    return OptionError(f"{label} {why}", option=label.rstrip(":").partition("[")[0])


class ActionOptionError(OptionError):
    """An action was called with an option that is unknown, missing or of the wrong type."""


class ActionNotRegisteredError(ProcessError, LookupError):
    """No handler is registered for this action."""


class ActionDisabledError(ProcessError):
    """The action has a handler, but is disabled."""


class ServiceClosedError(ProcessError):
    """The service is closing or closed, and starts no more processes."""


class ProcessNotFoundError(ProcessError, LookupError):
    """No process of this service has this id or PID."""


class ProcessNotRunningError(ProcessError):
    """The process has not started yet, or has already ended."""


class StdinNotAvailableError(ProcessError):
    """The process has no stdin to write to: it was started without one, or one side has closed it."""


class ProcessStartError(ProcessError):
    """The spawn failed; `__cause__` is the `OSError` where there is one."""


class ProgramNotFoundError(ProcessStartError):
    """The program is not on the child's PATH, or not at the given path."""


class StopFailedError(ProcessError):
    """Some processes were still alive 5 s after SIGKILL.

    Attributes:
        processes: A tuple of ``(pid, state, command)``, the state as in ``/proc/PID/stat`` (proc_pid_stat(5)).
    """

    def __init__(self, processes: Iterable[tuple[int, str, str]]) -> None:
        self.processes: tuple[tuple[int, str, str], ...] = tuple(processes)
        super().__init__(self.processes)

    def __str__(self) -> str:
        named = "; ".join(f"PID {pid}, state {state}: {command}" for pid, state, command in self.processes)
        return (
            f"{len(self.processes)} process(es) did not die of SIGKILL: {named}. "
            "A process in state D waits for the kernel (a disk, a network file system) and dies when that answers."
        )


class DaemonError(ProcessError):
    """A daemon was used in the wrong state, or a part of it could not be set up."""


class AlreadyRunningError(DaemonError):
    """Another process holds the PID file.

    Attributes:
        pid: The PID of the holder, 0 if it could not be read.
        path: The PID file.
    """

    def __init__(self, pid: int, path: Path, foreign: bool = False) -> None:  # noqa: FBT001, FBT002 - pickled by position
        super().__init__(pid, path, foreign)
        self.pid = pid
        self.path = path
        self._foreign = foreign

    def __str__(self) -> str:
        if self._foreign:
            return (
                f"already running: the PID file {self.path}, which another program wrote, names PID {self.pid}, and that "
                "process is alive; stop it first, or remove the file if that PID is something else"
            )
        holder = f"PID {self.pid}" if self.pid else "an unknown process"
        return f"already running: {holder} holds the PID file {self.path}; stop it first, or choose another pid_file"


class RestartLimitError(DaemonError):
    """The policy allows no more restarts; `__cause__` is the last failure."""


class UnitFailedError(ProcessError):
    """A unit under supervision failed for good, or can't become ready; `__cause__` is the failure where there is one.

    Args:
        unit: The unit.
        text: What happened to it.

    Attributes:
        unit: The `Unit`.
    """

    unit: Any

    def __init__(self, unit: Any, text: str) -> None:
        super().__init__(unit, text)
        self.unit = unit
        self._text = text

    def __str__(self) -> str:
        return self._text


class ClusterError(ProcessError):
    """An agent on another machine could not be started or reached, or speaks another protocol."""


class RegistryError(ProcessError):
    """An entry of the daemon registry could not be written or read."""


class PipelineError(ProcessError):
    """The specs, or the file that they came from, have faults; nothing was run.

    Attributes:
        faults: A tuple of texts, one per fault.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults: tuple[str, ...] = tuple(faults)
        super().__init__(self.faults)

    def __str__(self) -> str:
        if len(self.faults) == 1:
            return self.faults[0]
        listed = "".join(f"\n  {fault}" for fault in self.faults)
        return f"{len(self.faults)} faults:{listed}"
