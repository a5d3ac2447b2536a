"""What a start that failed is due to, in words that say what to do."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from .._core import ProcessStartError, ProgramNotFoundError, RunOptions, command_line, escape_controls


def start_error(options: RunOptions, error: OSError) -> ProcessStartError:  # noqa: C901 - a case for each errno
    """Return the error of a spawn that failed, saying what was wrong and what to do."""
    typed = escape_controls(command_line(options.shown_command, options.shown_args))
    if len(typed) > 2000:
        typed = typed[:2000] + " […]"
    cwd = options.shown_cwd
    where = f" in {cwd}" if cwd is not None else ""
    kind = ProcessStartError
    command = options.shown_command
    if cwd is not None and not os.path.isdir(cwd):
        why = f"the directory cwd={cwd!r} {'is a file' if os.path.exists(cwd) else 'does not exist'}"
    elif cwd is not None and error.errno == errno.EACCES and not os.access(cwd, os.X_OK):
        why = f"the directory cwd={cwd!r} may not be entered by this user"
    elif _names_another_file(options, error):
        why = f"{error.filename!r}: {error.strerror}"
    elif isinstance(error, FileNotFoundError):
        kind = ProgramNotFoundError
        why = _why_not_found(command, cwd or "")
    elif isinstance(error, PermissionError):
        where_it_is = os.fsdecode(error.filename) if error.filename else command
        why = f"{where_it_is!r} is not executable by this user; is it a program, and does it have the x bit (chmod +x)?"
    elif error.errno == errno.ENOEXEC:
        why = (
            f"{command!r} is no program: a script needs a first line like #!/bin/sh, or its interpreter as the command"
        )
    elif error.errno == errno.E2BIG:
        why = "the arguments and the environment are too long for this system (execve(2)); hand data over by stdin or a file"
    elif error.errno in (errno.EMFILE, errno.ENFILE):
        why = f"no file descriptors are left ({error.strerror}); close some, or raise the limit (ulimit -n)"
    elif error.errno == errno.EAGAIN:
        why = "the limit on processes is reached (ulimit -u, or pids.max of the cgroup)"
    else:
        why = error.strerror or str(error)
    return kind(f"can't start `{typed}`{where}: {why}")


def launch_error(options: RunOptions, report: bytes) -> ProcessStartError:
    """Return the error of a child whose launcher has failed: what could not be applied, or the exec itself."""
    import json  # noqa: PLC0415 - kept out of the import time

    step, number, text = json.loads(report)
    error = OSError(number, os.strerror(number), options.shown_command) if number else OSError(text)
    if not step:
        failed = start_error(options, error)
    else:
        typed = escape_controls(command_line(options.shown_command, options.shown_args))
        why = os.strerror(number) if number else text
        forbidden = number in (errno.EPERM, errno.EACCES)  # the latter by setpriority(2)
        advice = "; that takes a privilege which this process does not have" if forbidden else ""
        failed = ProcessStartError(f"can't start `{typed}`: {step} could not be applied: {why}{advice}")
    failed.__cause__ = error
    return failed


def _names_another_file(options: RunOptions, error: OSError) -> bool:
    """Return whether the error is of a file given for a standard stream."""
    files = [target for target in (options.stdin, options.stdout, options.stderr) if isinstance(target, Path)]
    return error.filename is not None and any(error.filename in (file, str(file)) for file in files)


def _why_not_found(command: str, cwd: str) -> str:
    if "/" not in command:
        advice = "is it installed, and in a directory of PATH?"
        if any(character.isspace() for character in command):
            advice = "the command is one word here, its arguments follow it one by one (or run a shell: 'sh', '-c', …)"
        return f"there is no program {command!r} on its PATH; {advice}"
    if os.path.exists(os.path.join(cwd, command)):
        return f"{command!r} is there, but the interpreter that its first line names, or its loader, is not"
    return f"there is no file {command!r}"
