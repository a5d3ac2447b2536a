"""Why a start failed, and what to do about it."""

from __future__ import annotations

import errno
import os
import resource
import sys
from typing import Final

from .._core import (
    OptionError,
    ProcessStartError,
    ProgramNotFoundError,
    RunOptions,
    command_line,
    escape_controls,
    in_one_line,
    loads,
    shown_args,
    shown_command,
    shown_cwd,
    shown_path,
)

_LONGEST_COMMAND: Final = 2000  # characters


def start_error(options: RunOptions, error: OSError, *, opening: bool = False) -> ProcessStartError:
    """Return the error of a spawn that failed, saying what was wrong and what to do.

    Args:
        options: The process.
        error: What the kernel said.
        opening: Whether it came from opening a standard stream, and not from the fork or the exec.
    """
    typed = _typed(options)
    cwd, shown = _directory(options), shown_cwd(options)
    where = f" in {in_one_line(shown)}" if shown is not None else ""
    kind = ProcessStartError
    command = shown_command(options)
    named = isinstance(error.filename, (str, bytes, os.PathLike))  # else a descriptor, or None
    place = os.fsdecode(error.filename) if named else command
    if cwd is not None and not os.path.isdir(cwd):
        why = f"the directory cwd={shown!r} {'is a file' if os.path.exists(cwd) else 'does not exist'}"
    elif cwd is not None and error.errno == errno.EACCES and not os.access(cwd, os.X_OK):
        why = f"the directory cwd={shown!r} may not be entered by this user"
    elif opening and error.errno not in (errno.EMFILE, errno.ENFILE):
        file = (
            f"{shown_path(options, error.filename)!r}: "
            if error.filename is not None
            else "one of its standard streams: "
        )
        why = f"{file}{error.strerror}"
    elif isinstance(error, (FileNotFoundError, NotADirectoryError)):
        kind = ProgramNotFoundError
        why = _why_not_found(command, place, cwd or "")
    elif isinstance(error, PermissionError) or error.errno in (errno.ENOEXEC, errno.ETXTBSY, errno.ELOOP):
        why = _why_not_executed(options, error, place)
    elif error.errno == errno.E2BIG:
        why = "the arguments and the environment are too long for this system (execve(2)); hand data over by stdin or a file"
    elif error.errno in (errno.EMFILE, errno.ENFILE):
        why = f"no file descriptors are left ({error.strerror}); {_more_descriptors(error)}"
    elif error.errno == errno.EAGAIN:
        why = "the limit on processes is reached (ulimit -u, or pids.max of the cgroup)"
    else:
        why = error.strerror or str(error)
    return kind(f"can't start `{typed}`{where}: {why}")


def _why_not_executed(options: RunOptions, error: OSError, place: str) -> str:
    """Return why a program that is there was not executed (execve(2))."""
    if error.errno == errno.ENOEXEC:
        return f"{place!r} can't be executed: a script needs a first line like #!/bin/sh, or its interpreter as the command"
    if error.errno == errno.ETXTBSY:
        return f"{place!r} is open for writing ({error.strerror})"
    if error.errno == errno.ELOOP:  # of links, or of interpreters
        return f"{place!r}: {error.strerror}"
    file = os.path.join(_directory(options) or "", place)
    there = error.errno == errno.EACCES and "/" in place and os.path.isfile(file)
    if there and _is_mounted_noexec(file):
        return f"{place!r} is on a file system that is mounted noexec, from which nothing is executed"
    if there and os.access(file, os.X_OK) and options.user is None:
        return f"{place!r} is executable by this user, but the interpreter that its first line names is not"
    return f"{place!r} is not executable by this user; is it a program, and does it have the x bit (chmod +x)?"


def _is_mounted_noexec(file: str) -> bool:
    try:
        return bool(os.statvfs(file).f_flag & os.ST_NOEXEC)
    except OSError:
        return False  # it has just gone


def _more_descriptors(error: OSError) -> str:
    """Return advice for EMFILE, or for ENFILE, the limit of the whole system."""
    if error.errno == errno.ENFILE:
        return "the whole system has no more (fs.file-max)"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        return "close some, or raise the limit (ulimit -n)"
    return f"close some, or run fewer processes at once: only root can raise the hard limit of {hard} (ulimit -Hn)"


LAUNCHED: Final = b"="
"""What a launcher reports just before it becomes the command."""


def launch_error(options: RunOptions, report: bytes) -> ProcessStartError:
    """Return the error of a child whose launcher has failed: what could not be applied, the exec, or the launcher itself."""
    failure = report.removeprefix(LAUNCHED)
    if not failure:
        return launcher_error(options, f"sys.executable, {sys.executable!r}, ended without running it")
    step, number, text, file = loads(failure)
    error = OSError(number, os.strerror(number), file or shown_command(options)) if number else OSError(text)
    if not step:
        failed = start_error(options, error)
    else:
        why = os.strerror(number) if number else text
        forbidden = number in (errno.EPERM, errno.EACCES)  # the latter by setpriority(2)
        advice = "; that takes a privilege which this process does not have" if forbidden else ""
        failed = ProcessStartError(f"can't start `{_typed(options)}`: {step} could not be applied: {why}{advice}")
    failed.__cause__ = error
    return failed


def launcher_error(options: RunOptions, why: str) -> ProcessStartError:
    """Return the error of a start that needs the launcher, where that can't be run."""
    set_options = [f"{name}=" for name in ("limits", "nice", "user") if getattr(options, name) not in (None, {})]
    needed = " and ".join(set_options) or "a cgroup, or to unblock its stop signal"
    return ProcessStartError(
        f"can't start `{_typed(options)}`: a Python interpreter has to run first, for {needed}, and {why}; "
        "set sys.executable to an interpreter, or do without"
    )


def not_encodable(options: RunOptions, error: UnicodeEncodeError) -> OptionError:
    """Return the error of a start with a text that has no bytes in its encoding."""
    return OptionError(f"a text for {shown_command(options)!r} can't be encoded: {error}; give it as bytes")


def file_was_closed(options: RunOptions, error: ValueError) -> OptionError:
    """Return the error of a start with an open file that was closed meanwhile."""
    return OptionError(f"a file given to {shown_command(options)!r} was closed before the start: {error}")


def _directory(options: RunOptions) -> str | None:
    return None if options.cwd is None else os.fsdecode(options.cwd)


def _typed(options: RunOptions) -> str:
    typed = escape_controls(command_line(shown_command(options), shown_args(options)))
    return typed if len(typed) <= _LONGEST_COMMAND else typed[:_LONGEST_COMMAND] + " […]"


def _why_not_found(command: str, place: str, cwd: str) -> str:
    """Return why there is no such file: `place`, where the program was seen, or one that it names."""
    if "/" in place and os.path.exists(os.path.join(cwd, place)):
        return f"{place!r} is there, but the interpreter that its first line names, or its loader, is not"
    if "/" not in command:
        advice = "is it installed, and in a directory of PATH?"
        if any(character.isspace() for character in command):
            advice = "the command is one word here, its arguments follow it one by one (or run a shell: 'sh', '-c', …)"
        return f"there is no program {command!r} on its PATH; {advice}"
    return f"there is no file {command!r}"
