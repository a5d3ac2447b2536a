"""fork and exec, in one function: CPython's own, with `Popen`, which wraps it, as the fallback.

`Popen` takes 30 of a spawn's 120 µs, mostly to encode the environment each time. `_posixsubprocess` is private, so it
is used only in versions whose `fork_exec` is known, and never again once it has refused its arguments.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Final, NamedTuple

_KNOWN: Final = {(3, 11), (3, 12), (3, 13), (3, 14)}


class Image(NamedTuple):
    """The arguments of an exec, encoded: `environment` as ``NAME=value``; None for a stream means to inherit ours.

    The first of `executables` that can be executed is; the last one is where the program was seen.
    """

    argv: Sequence[bytes]
    executables: tuple[bytes, ...]
    environment: Sequence[bytes]
    cwd: str | bytes | None
    stdin: int | None
    stdout: int | None
    stderr: int | None
    passed: tuple[int, ...]
    new_session: bool
    umask: int | None


_childrens_limit: tuple[int, int] | None = None
_our_limit: tuple[int, int] | None = None


def spawn_with_descriptor_limit(soft: int, hard: int) -> None:
    """Start children with this limit of descriptors from now on, whatever our own limit is."""
    global _childrens_limit, _our_limit
    _childrens_limit, _our_limit = (soft, hard), resource.getrlimit(resource.RLIMIT_NOFILE)


@contextmanager
def _limited() -> Iterator[None]:
    """Apply the children's limit during a fork, so that the child inherits it: two system calls; open descriptors stay open."""
    assert _childrens_limit is not None
    assert _our_limit is not None
    resource.setrlimit(resource.RLIMIT_NOFILE, _childrens_limit)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, _our_limit)


def start(image: Image) -> int:
    """Start a child in a process group of its own; return its PID.

    Raises:
        OSError: The fork or the exec failed; `filename` is the directory if the directory was the cause.
    """
    global _fork_exec  # noqa: PLW0603 - given up for good, for all services
    if _fork_exec is None:
        return _start_by_popen(image)
    reading, writing = os.pipe()
    try:
        if writing <= 2:
            return _start_by_popen(image)
        try:
            pid = _start(_fork_exec, image, reading, writing)
        except TypeError:
            _fork_exec = None  # its parameters have changed; nothing was forked
            return _start_by_popen(image)
        finally:
            os.close(writing)
        report = os.read(reading, 50000)  # silent from the exec on, which has happened already: this was a vfork
    finally:
        os.close(reading)
    if report:
        with suppress(ChildProcessError):  # a handler of SIGCHLD, or a thread in waitpid(-1), has reaped it
            os.waitpid(pid, 0)
        raise _failure(image, report)
    return pid


def _start(fork_exec: Callable[..., int], image: Image, reading: int, writing: int) -> int:
    if _childrens_limit is None:
        return _fork(fork_exec, image, reading, writing)
    with _limited():
        return _fork(fork_exec, image, reading, writing)


def _fork(fork_exec: Callable[..., int], image: Image, reading: int, writing: int) -> int:
    return fork_exec(
        image.argv,
        image.executables,
        True,  # close_fds
        tuple(sorted((*image.passed, writing))) if image.passed else (writing,),
        image.cwd,
        image.environment,
        -1 if image.stdin is None else image.stdin,
        -1,
        -1,
        -1 if image.stdout is None else image.stdout,
        -1,
        -1 if image.stderr is None else image.stderr,
        reading,
        writing,
        True,  # restore_signals: SIGPIPE and others that Python ignores
        image.new_session,
        -1 if image.new_session else 0,  # the process group
        None,
        None,
        None,
        -1 if image.umask is None else image.umask,
        None,
        True,  # allow_vfork
    )


def _failure(image: Image, report: bytes) -> OSError:
    """Return the error that the child has reported, as ``NAME:ERRNO:TEXT`` (Modules/_posixsubprocess.c)."""
    name, number, text = report.split(b":", 2)
    code = int(number, 16)
    if name == b"OSError" and code:
        before_exec = text.startswith(b"noexec")  # "noexec:chdir" for the directory from Python 3.13 on
        return OSError(code, os.strerror(code), image.cwd if before_exec else os.fsdecode(image.executables[-1]))
    return OSError(report.decode(errors="replace"))


def is_of_exec(image: Image, error: OSError) -> bool:
    """Return whether an error of `start` came from the exec, and not from the fork or the directory."""
    return error.filename is not None and error.filename != image.cwd


def _start_by_popen(image: Image) -> int:
    directory = os.fsencode(image.cwd or b"")
    there = (each for each in image.executables if os.access(os.path.join(directory, each), os.X_OK))
    with nullcontext() if _childrens_limit is None else _limited():
        child = subprocess.Popen(
            image.argv,
            executable=next(there, image.executables[-1]),
            stdin=image.stdin,
            stdout=image.stdout,
            stderr=image.stderr,
            cwd=image.cwd,
            env=dict(entry.split(b"=", 1) for entry in image.environment),
            pass_fds=image.passed,
            start_new_session=image.new_session,
            process_group=None if image.new_session else 0,
            umask=-1 if image.umask is None else image.umask,
        )
    child.returncode = 0  # it is ours to reap, not Popen's: this quiets its destructor
    return child.pid


def _find_fork_exec() -> Callable[..., int] | None:
    if sys.implementation.name != "cpython" or sys.version_info[:2] not in _KNOWN:
        return None
    try:
        from _posixsubprocess import fork_exec  # noqa: PLC0415 - see above
    except ImportError:
        return None
    return fork_exec


_fork_exec: Callable[..., int] | None = _find_fork_exec()
