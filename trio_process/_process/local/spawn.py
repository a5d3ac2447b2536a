"""From `RunOptions` to a running child and our ends of its pipes.

No `preexec_fn` and no `user=`: both make `Popen` fork instead of vfork, which costs 60 to 90 ms at 2 GB of memory.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final, NamedTuple, final

from ..._core import OptionError, RunOptions, Stream, find_user
from ..environment import Environment, encoded, executable
from ..reap import open_pidfd
from ..start_errors import start_error
from . import fork_exec
from .stdio import Descriptors

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
        self._environment = Environment()
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the null device."""
        os.close(self._null)

    def spawn(self, options: RunOptions, mark: str, cgroup: str = "") -> Spawned:
        """Start a child whose descendants bear `mark`, none if it is empty, in the directory `cgroup` if there is one.

        Raises:
            ProcessStartError: It can't be started; `ProgramNotFoundError` if there is no such program.
        """
        descriptors = Descriptors(self._null)
        try:
            pid = fork_exec.start(self._image(descriptors, options, mark, cgroup))
            pidfd = open_pidfd(pid)
        except OSError as error:
            descriptors.close_ours()
            raise start_error(options, error) from error
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
        descriptors.unblock_ours()
        return Spawned(pid, pidfd, descriptors.stdin, descriptors.outputs, descriptors.log, descriptors.launch)

    def _image(self, descriptors: Descriptors, options: RunOptions, mark: str, cgroup: str) -> fork_exec.Image:
        environment, path = self._environment.of(options.env, "" if options.detach else mark)
        program = executable(options.command, path, options.cwd)
        argv = [encoded(options.command), *[encoded(argument) for argument in options.args]]
        stdin, stdout, stderr = descriptors.open(options)
        if options.limits or options.nice is not None or options.user is not None or cgroup:
            argv = self._launcher(descriptors, argv, program, options, cgroup)
            program = os.fsencode(sys.executable)
        return fork_exec.Image(
            argv,
            program,
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
        self, descriptors: Descriptors, argv: list[bytes], program: bytes, options: RunOptions, cgroup: str
    ) -> list[bytes]:
        """Return the command that becomes the command once it has applied what only the child can (launcher.py)."""
        account = None if options.user is None else find_user(options.user)
        import json  # noqa: PLC0415 - kept out of the import time

        spec = json.dumps({"nice": options.nice, "limits": dict(options.limits), "user": account, "cgroup": cgroup})
        status = descriptors.open_launch()
        launcher = [sys.executable, "-I", "-S", "-X", "utf8", _LAUNCHER, str(status), spec]
        return [*[os.fsencode(word) for word in launcher], program, *argv]
