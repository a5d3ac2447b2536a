"""From `RunOptions` to a running child and our ends of its pipes.

No `preexec_fn` and no ``user=``: both make `Popen` fork instead of vfork, which costs 60 to 90 ms at 2 GB of memory.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import lru_cache
from typing import NamedTuple, final

from ..._core import RunOptions, dumps, find_user
from ..environment import Environment, Programs, encoded, find_program
from ..reap import open_pidfd
from ..start_errors import file_was_closed, launcher_error, not_encodable, start_error
from . import fork_exec
from .stdio import Descriptors, OutputEnds


class Spawned(NamedTuple):
    """A running child: its PID, its pidfd, and our ends of its pipes.

    `log` is the file that a detached child writes, open for reading; `launch` is the pipe with the launcher's report.
    """

    pid: int
    pidfd: int
    stdin: int | None
    outputs: OutputEnds
    log: int | None
    launch: int | None


@final
class Spawner:
    """Starts the children of one service."""

    def __init__(self) -> None:
        self._environment = Environment()
        self._programs = Programs()
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the null device."""
        os.close(self._null)

    def spawn(self, options: RunOptions, mark: str, cgroup: str = "") -> Spawned:
        """Start a child whose descendants carry `mark` (unless it is empty), in the cgroup of the directory `cgroup` if given.

        Raises:
            ProcessStartError: The child can't be started; `ProgramNotFoundError` if there is no such program.
        """
        descriptors = Descriptors(self._null)
        try:
            pid = self._start(descriptors, options, mark, cgroup)
            pidfd = open_pidfd(pid)
        except OSError as error:
            descriptors.close_ours()
            raise start_error(options, error, opening=descriptors.is_opening) from error
        except UnicodeEncodeError as error:
            descriptors.close_ours()
            raise not_encodable(options, error) from None
        except ValueError as error:  # I/O operation on closed file
            descriptors.close_ours()
            raise file_was_closed(options, error) from None
        except BaseException:
            descriptors.close_ours()
            raise
        finally:
            descriptors.close_theirs()
        descriptors.unblock_ours()
        return Spawned(pid, pidfd, descriptors.stdin, descriptors.outputs, descriptors.log, descriptors.launch)

    def _start(self, descriptors: Descriptors, options: RunOptions, mark: str, cgroup: str) -> int:
        environment, path = self._environment.of(options.env, "" if options.detach else mark)
        image = self._image(descriptors, options, environment, path, cgroup)
        try:
            return fork_exec.start(image)
        except OSError as error:
            launched = descriptors.launch is not None  # then it was the launcher that could not be executed
            if launched or b"/" in encoded(options.command) or not fork_exec.is_of_exec(image, error):
                raise
        return self._start_one_of_all(image, options, path)

    def _start_one_of_all(self, image: fork_exec.Image, options: RunOptions, path: str) -> int:
        """Start the first program of the PATH whose exec succeeds; if none does, raise the error of the first one."""
        self._programs.remember(options.command, path, None)
        failures: list[OSError] = []
        try:
            for place in self._programs.look_up_all(options.command, path, options.cwd):
                try:
                    pid = fork_exec.start(image._replace(executables=(place,)))
                except OSError as error:
                    if not fork_exec.is_of_exec(image, error):
                        raise
                    failures.append(error)
                else:
                    self._programs.remember(options.command, path, place)
                    return pid
            raise failures[0]
        finally:
            failures.clear()  # their tracebacks refer to this frame: the collector would have to free them

    def _image(
        self, descriptors: Descriptors, options: RunOptions, environment: list[bytes], path: str, cgroup: str
    ) -> fork_exec.Image:
        places = self._programs.places(options.command, path, options.cwd)  # first: it opens, and so truncates, nothing
        argv = [encoded(options.command), *[encoded(argument) for argument in options.args]]
        stdin, stdout, stderr = descriptors.open(options)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        unblock = [int(options.stop_signal)] if blocked and options.stop_signal in blocked else []
        if options.limits or options.nice is not None or options.user is not None or cgroup or unblock:
            programs = self._programs.look_up_all(options.command, path, options.cwd)  # the launcher can't look again
            launcher, argv = self._launcher(descriptors, programs, argv, options, cgroup, unblock)
            places = (launcher,)
        return fork_exec.Image(
            argv,
            places,
            environment,
            options.cwd,  # type: ignore[arg-type]  # a path was turned into str or bytes when the options were made
            stdin,
            stdout,
            stderr,
            descriptors.passed,
            options.detach,
            options.umask,
        )

    def _launcher(
        self,
        descriptors: Descriptors,
        programs: list[bytes],
        argv: list[bytes],
        options: RunOptions,
        cgroup: str,
        unblock: list[int],
    ) -> tuple[bytes, list[bytes]]:
        """Return the launcher that prepares the child and execs the command, the first of `programs` that it can (launcher.py)."""
        account = None if options.user is None else find_user(options.user)
        limits = dict(options.limits)
        settings = {"nice": options.nice, "limits": limits, "user": account, "cgroup": cgroup, "unblock": unblock}
        spec = dumps({**settings, "programs": len(programs)})
        python = interpreter(options)
        status = descriptors.open_launch()
        launcher = [python, "-I", "-S", "-X", "utf8", "-c", _launcher_source(), str(status), spec]
        return os.fsencode(python), [*[os.fsencode(word) for word in launcher], *programs, *argv]


def interpreter(options: RunOptions) -> str:
    """Return the Python that runs the launcher.

    Raises:
        ProcessStartError: There is no such Python: this program is frozen, or embeds Python.
    """
    python = sys.executable
    if not python or getattr(sys, "frozen", False):  # then it is this very program, which would be started again
        try:
            python = find_program("python3", os.environ.get("PATH", os.defpath))
        except OSError:
            raise launcher_error(
                options, f"sys.executable is {sys.executable!r}, and there is no python3 on the PATH"
            ) from None
    elif not os.access(python, os.X_OK):
        raise launcher_error(options, f"sys.executable is {python!r}, which can't be executed")
    return python


@lru_cache
def _launcher_source() -> str:
    """Return the source of the launcher, even from a zip file."""
    from pkgutil import get_data  # noqa: PLC0415 - 0.6 ms of the import time, and few starts need a launcher

    source = get_data(__package__, "launcher.py")
    assert source is not None, "the package has no launcher.py"
    return source.decode()
