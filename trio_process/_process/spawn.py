"""From `RunOptions` to a running child and our ends of its pipes.

No `preexec_fn` and no `user=`: both make `Popen` fork instead of vfork, which costs 60 to 90 ms at 2 GB of memory.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, final

from .._core import (
    OptionError,
    ProcessStartError,
    ProgramNotFoundError,
    RunOptions,
    Secret,
    Stdio,
    Stream,
    command_line,
    escape_controls,
    find_user,
)
from . import fork
from .descendants import MARKER
from .reap import open_pidfd

PIPE_CAPACITY: Final = 65536
"""What a pipe holds at least before a writer waits, in bytes (pipe(7), "Pipe capacity")."""


_MARKER: Final = MARKER.encode()

_LAUNCHER: Final = str(Path(__file__).with_name("launcher.py"))


class Spawned(NamedTuple):
    """A child that runs: its PID, the pidfd to watch it by, and our ends of its pipes.

    `log` is the file that a detached one writes, to follow it by; `launch` tells how its launcher has fared.
    """

    pid: int
    pidfd: int
    stdin: int | None
    outputs: dict[Stream, int]
    log: int | None
    launch: int | None


@final
class Spawner:
    """Starts the children of one service."""

    def __init__(self) -> None:
        self._environment = _Environment()
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._found: dict[tuple[str, str], str] = {}

    def close(self) -> None:
        """Close the null device."""
        os.close(self._null)

    def spawn(self, options: RunOptions, mark: str, cgroup: str = "") -> Spawned:
        """Start a child whose descendants bear `mark`, none if it is empty, in the directory `cgroup` if there is one.

        Raises:
            ProcessStartError: It can't be started; `ProgramNotFoundError` if there is no such program.
        """
        descriptors = _Descriptors(self._null)
        try:
            image = self._image(descriptors, options, mark, cgroup)
            pid = fork.start(image)
            pidfd = open_pidfd(pid)
        except OSError as error:
            descriptors.close_ours()
            raise explain(options, error) from error
        except UnicodeEncodeError as error:
            descriptors.close_ours()
            raise OptionError(
                f"a text for {options.shown_command!r} can't be encoded: {error}; give it as bytes"
            ) from None
        except ValueError as error:  # I/O operation on closed file
            descriptors.close_ours()
            raise OptionError(
                f"a file given to {options.shown_command!r} was closed before the start: {error}"
            ) from None
        except BaseException:
            descriptors.close_ours()
            raise
        finally:
            descriptors.close_theirs()
        return Spawned(pid, pidfd, descriptors.stdin, descriptors.outputs, descriptors.log, descriptors.launch)

    def _image(self, descriptors: _Descriptors, options: RunOptions, mark: str, cgroup: str) -> fork.Image:
        environment, path = self._environment.of(options.env, "" if options.detach else mark)
        executable = self._executable(options.command, path, options.cwd)
        argv = [encoded(options.command), *[encoded(argument) for argument in options.args]]
        ends = descriptors.open(options)
        if options.limits or options.nice is not None or options.user is not None or cgroup:
            argv = self._launcher(descriptors, argv, executable, options, cgroup)
            executable = sys.executable
        return fork.Image(
            argv,
            os.fsencode(executable),
            environment,
            options.cwd,  # type: ignore[arg-type]  # a path was turned into str or bytes when the options were made
            ends.stdin,
            ends.stdout,
            ends.stderr,
            descriptors.passed,
            options.detach,
            options.umask,
        )

    def _launcher(
        self, descriptors: _Descriptors, argv: list[bytes], executable: str, options: RunOptions, cgroup: str
    ) -> list[bytes]:
        """Return the command that becomes the command once it has applied what only the child can (launcher.py)."""
        account = None if options.user is None else find_user(options.user)
        import json  # noqa: PLC0415 - kept out of the import time

        spec = json.dumps({"nice": options.nice, "limits": dict(options.limits), "user": account, "cgroup": cgroup})
        status = descriptors.open_launch()
        launcher = [sys.executable, "-I", "-S", "-X", "utf8", _LAUNCHER, str(status), spec, executable]
        return [*[os.fsencode(word) for word in launcher], *argv]

    def _executable(self, command: Any, path: str, cwd: Any) -> str:
        """Return the path of a program, looked up on the PATH that the child will have (environ(7), execvp(3)).

        A relative directory in it, an empty one too, is one of the child's own directory, where it is when it execs.
        """
        name = os.fsdecode(command)
        if "/" in name:
            return name
        found = self._found.get((name, path))
        if found is None or not os.access(found, os.X_OK):
            found = find_program(name, path, "" if cwd is None else os.fsdecode(cwd))
            if all(directory.startswith("/") for directory in path.split(os.pathsep)):
                self._found[name, path] = found
        return found


def encoded(argument: Any) -> bytes:
    """Return an argument as the child gets it; here alone a secret is revealed."""
    return os.fsencode(argument.reveal() if isinstance(argument, Secret) else argument)


@final
class _Environment:
    """Our environment, encoded once for all children, until it changes."""

    def __init__(self) -> None:
        # a nested service hands its own ancestors' marks on
        self._ancestors = os.environb.get(_MARKER, b"")
        self._known: dict[bytes, bytes] = {}
        self._entries: list[bytes] = []

    def of(self, overlay: Mapping[str, Any], mark: str) -> tuple[list[bytes], str]:
        """Return the environment of a child as `NAME=value`, and the PATH in it."""
        # os.environ decodes and checks each value anew, which takes 25 µs; what it is made of is compared in 1 µs
        ours: dict[bytes, bytes] = getattr(os.environb, "_data", None) or dict(os.environb)
        if ours != self._known:
            self._known = dict(ours)
            self._entries = [name + b"=" + value for name, value in ours.items() if name != _MARKER]
        entries = self._entries
        path = ours.get(b"PATH")
        if overlay:
            merged = {name: value for name, value in ours.items() if name != _MARKER}
            for name, value in overlay.items():
                if value is None or name == MARKER:  # another mark would hide its descendants from us
                    merged.pop(os.fsencode(name), None)
                else:
                    merged[os.fsencode(name)] = encoded(value)
            entries = [name + b"=" + value for name, value in merged.items()]
            path = merged.get(b"PATH")
        if mark:
            own = mark.encode()
            entries = [*entries, _MARKER + b"=" + (self._ancestors + b";" + own if self._ancestors else own)]
        # a detached process belongs to nobody, not to our own supervisor either
        return entries, os.defpath if path is None else os.fsdecode(path)


def find_program(name: str, path: str, cwd: str = "") -> str:
    """Return the first executable file of that name in the directories of `path`; a name with a slash is its own path.

    What is relative is so to `cwd`, ours if it is empty.

    Raises:
        FileNotFoundError: There is none.
        PermissionError: There is one, but nobody may execute it.
    """
    forbidden = None
    directories = path.split(os.pathsep) if "/" not in name else [""]
    for directory in directories:
        candidate = name if "/" in name else os.path.join(directory or os.curdir, name)
        file = os.path.join(cwd, candidate)
        if os.path.isfile(file):
            if os.access(file, os.X_OK):
                return candidate
            forbidden = forbidden or candidate
    if forbidden is not None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), forbidden)
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)


class _Ends(NamedTuple):
    """The child's ends: descriptors, None where it inherits ours."""

    stdin: int | None
    stdout: int | None
    stderr: int | None


class _Descriptors:
    """The descriptors that one spawn opens: whose they are decides who closes them when it ends or fails."""

    def __init__(self, null: int) -> None:
        self._null = null
        self._theirs: list[int] = []
        self.stdin: int | None = None
        self.outputs: dict[Stream, int] = {}
        self.log: int | None = None
        self.launch: int | None = None
        self.passed: tuple[int, ...] = ()

    def open(self, options: RunOptions) -> _Ends:
        if options.detach:
            return self._open_detached(options)
        stdin = self._open_stdin(options)
        stdout = self._open_output(options.stdout, Stream.STDOUT)
        stderr = stdout if options.stderr is Stdio.STDOUT else self._open_output(options.stderr, Stream.STDERR)
        if options.stderr is Stdio.STDOUT and stdout is None:
            stderr = 1
        return _Ends(stdin, stdout, stderr)

    def _open_detached(self, options: RunOptions) -> _Ends:
        """Open a file, or nothing: a pipe to us would kill the process by SIGPIPE once we are gone."""
        if options.log_file is None:
            target = self._null
        else:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            target = self._own(os.open(options.log_file, flags, 0o666))
            self.log = os.open(options.log_file, os.O_RDONLY | os.O_CLOEXEC)
            os.lseek(self.log, 0, os.SEEK_END)
        stdout = target if options.stdout is Stdio.PIPE else self._open_output(options.stdout, Stream.STDOUT)
        if options.stderr is Stdio.STDOUT:
            return _Ends(self._null, stdout, stdout)
        stderr = target if options.stderr is Stdio.PIPE else self._open_output(options.stderr, Stream.STDERR)
        return _Ends(self._null, stdout, stderr)

    def open_launch(self) -> int:
        """Open the pipe by which the launcher tells of a failure; return its end of it."""
        self.launch, theirs = os.pipe()
        self.passed = (theirs,)
        return self._own(theirs)

    def _open_stdin(self, options: RunOptions) -> int | None:  # noqa: PLR0911 - a case for each kind of source
        source = options.stdin
        if isinstance(source, Stdio):
            if source is Stdio.PIPE:
                theirs, self.stdin = self._pipe()
                self._theirs.append(theirs)
                os.set_blocking(self.stdin, False)
                return theirs
            return self._null if source is Stdio.NULL else None
        if source is None:
            return self._null
        if isinstance(source, str):
            return self._hold(source.encode(options.encoding))
        if isinstance(source, bytes):
            return self._hold(source)
        if isinstance(source, Path):
            return self._own(open_path(source, os.O_RDONLY))
        return source.fileno()

    def _hold(self, data: bytes) -> int:
        """Return a descriptor to read `data` from: a pipe that holds it all, else an unnamed file."""
        if len(data) <= PIPE_CAPACITY:
            theirs, ours = self._pipe()
            self._theirs.append(theirs)
            try:
                os.set_blocking(ours, False)
                if os.write(ours, data) == len(data) if data else True:
                    return theirs
            except BlockingIOError:
                pass  # pipe(7): a user with very many pipes gets smaller ones
            finally:
                os.close(ours)
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.seek(0)
            return self._own(os.dup(file.fileno()))

    def _open_output(self, target: Any, stream: Stream) -> int | None:
        if isinstance(target, Stdio):
            if target is Stdio.PIPE:
                ours, theirs = self._pipe()
                self._theirs.append(theirs)
                self.outputs[stream] = ours
                os.set_blocking(ours, False)
                return theirs
            return self._null if target is Stdio.NULL else None
        if isinstance(target, Path):
            return self._own(open_path(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
        return int(target.fileno())

    def _pipe(self) -> tuple[int, int]:
        return os.pipe()

    def _own(self, descriptor: int) -> int:
        self._theirs.append(descriptor)
        return descriptor

    def close_theirs(self) -> None:
        while self._theirs:
            os.close(self._theirs.pop())

    def close_ours(self) -> None:
        for descriptor in (self.stdin, self.log, self.launch, *self.outputs.values()):
            if descriptor is not None:
                os.close(descriptor)
        self.stdin = self.log = self.launch = None
        self.outputs = {}


def open_path(path: Path, flags: int) -> int:
    """Open the file that a standard stream of a child was given.

    Opening a FIFO waits for its other side (fifo(7)), and we with it; so it is refused.
    """
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        descriptor = -1  # a FIFO that nobody reads
    if descriptor < 0 or stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        if descriptor >= 0:
            os.close(descriptor)
        why = "it is a FIFO, and opening one waits for its other side; open it yourself, and give the open file"
        raise OSError(errno.EINVAL, why, path)
    os.set_blocking(descriptor, True)
    return descriptor


def explain(options: RunOptions, error: OSError) -> ProcessStartError:  # noqa: C901 - a case for each errno
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


def explain_launch(options: RunOptions, report: bytes) -> ProcessStartError:
    """Return the error of a child whose launcher has failed: what could not be applied, or the exec itself."""
    import json  # noqa: PLC0415 - kept out of the import time

    step, number, text = json.loads(report)
    error = OSError(number, os.strerror(number), options.shown_command) if number else OSError(text)
    if not step:
        failed = explain(options, error)
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
        return f"there is no program {command!r} on the PATH that it would have; {advice}"
    if os.path.exists(os.path.join(cwd, command)):
        return f"{command!r} is there, but the interpreter that its first line names, or its loader, is not"
    return f"there is no file {command!r}"
