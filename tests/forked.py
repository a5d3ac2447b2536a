"""Python in a process of its own without another start of it: a fork of this one, which has imported the package already.

Such a process has its own PID, streams, environment, directory, session and signals, and it is a child of ours that is waited for
as any other. What it does not have is an interpreter that has just started: tests of how the program is started (closed streams,
locales, shells, `sys.flags`, another user) run ``python -m trio_process``.
"""

from __future__ import annotations

import atexit
import contextvars
import faulthandler
import gc
import io
import logging
import os
import runpy
import signal
import subprocess
import sys
import threading
import traceback
import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pytest
from trio._core._run import GLOBAL_RUN_CONTEXT
from trio._threads import PARENT_TASK_DATA

from trio_process.__main__ import main
from trio_process._cli.daemon import resident as daemon_resident
from trio_process._cli.services import resident as services_resident
from trio_process._process.local import fork_exec as fork_exec_module

PROGRAM = (sys.executable, "-m", "trio_process")


class Forked(subprocess.Popen):  # type: ignore[type-arg]
    """A `subprocess.Popen` of ``trio-process WORDS``; all its other arguments are given by name."""

    def __init__(self, words: Sequence[str], *, env: Mapping[str, str] | None = None, **options: Any) -> None:
        command = [*PROGRAM, *words]
        super().__init__(command, **options, **program(command, env))


def run(words: Sequence[str], *, timeout: float, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``trio-process WORDS`` to its end, as `subprocess.run` does with its output captured."""
    return run_program([*PROGRAM, *words], timeout=timeout, **options)


def run_program(
    command: Sequence[str | os.PathLike[str]],
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
    closed: Sequence[int] = (),
    given: str | None = None,
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """Run a `program` to its end in the same way."""
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    if given is not None:
        streams["stdin"] = subprocess.PIPE
    with subprocess.Popen(command, **(streams | options | program(command, env, closed=closed))) as process:
        try:
            output = process.communicate(given, timeout=timeout)
        finally:
            process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, *output)


_RESIDENTS = {
    b"trio_process._cli.daemon.resident": daemon_resident.main,
    b"trio_process._cli.services.resident": services_resident.main,
}


def fork_residents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands that run in this process fork what they leave in the background."""
    fork_exec = vars(fork_exec_module)["_fork_exec"]

    def fork(argv: Sequence[bytes], *options: Any) -> int:
        if len(argv) < 3 or argv[1] != b"-m" or argv[2] not in _RESIDENTS:
            return fork_exec(argv, *options)
        *others, _, _ = options  # no preexec_fn, and whether vfork will do
        environment = dict(os.fsdecode(entry).split("=", 1) for entry in others[4])
        words = [os.fsdecode(word) for word in argv[2:]]
        return fork_exec(argv, *others, partial(become, words, environment, _RESIDENTS[argv[2]]), False)

    if fork_exec is not None:  # else another interpreter's, which starts them anew
        monkeypatch.setattr(fork_exec_module, "_fork_exec", fork)


def program(
    command: Sequence[str | os.PathLike[str]], env: Mapping[str, str] | None = None, *, closed: Sequence[int] = ()
) -> dict[str, Any]:
    """Return what lets `subprocess.Popen` fork a Python, instead of starting it, with some descriptors closed.

    The command is ``python -c CODE ARGUMENTS``, ``python FILE ARGUMENTS`` or ``python -m trio_process WORDS``; its only option of Python's
    own is ``-W error``.
    """
    python, *argv = map(os.fspath, command)
    assert python == sys.executable
    strict = argv[:2] == ["-W", "error"]
    if strict:
        argv = argv[2:]
    run: Callable[[], object] = main
    if argv[0] == "-c":
        run = partial(_exec, argv.pop(1))
    elif argv[:2] == ["-m", "trio_process"]:
        argv = argv[2:]
    else:
        run = partial(_run_file, argv[0])
    if strict:
        run = partial(_strictly, run)
    return {"env": env, "preexec_fn": partial(become, argv, env, run, closed)}


def program_of_trio(command: Sequence[str | os.PathLike[str]], env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the same for Trio's `open_process`, which forks in a thread; CPython 3.13 handles no signal in such a fork."""
    return program(command, env) if sys.version_info < (3, 13) else {"env": env}


def _strictly(run: Callable[[], object]) -> object:
    warnings.simplefilter("error")
    return run()


def _run_file(path: str) -> None:
    sys.path[0:0] = [os.path.dirname(os.path.abspath(path))]  # as the interpreter does
    runpy.run_path(path, run_name="__main__")


def _exec(code: str) -> None:
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    exec(compile(code, "<string>", "exec"), vars(module))


def become(
    words: Sequence[str],
    environment: Mapping[str, str] | None,
    run: Callable[[], object] = main,
    closed: Sequence[int] = (),
) -> None:
    """Run ``trio-process WORDS`` in a fork that has its standard streams and its directory, and end with it.

    Another `run` has the words as its `sys.argv`.
    """
    code = 70
    try:
        os.closerange(3, 2**20)  # also the pipe by which Popen learns of the exec
        for descriptor in closed:
            os.close(descriptor)
        _forget_the_tests()
        if environment is not None:
            os.environ.clear()
            os.environ.update(environment)
        _open_streams()
        sys.argv = ["trio-process", *words] if run is main else list(words)
        code = contextvars.Context().run(_ended, run)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _forget_the_tests() -> None:
    """Undo what pytest, Trio and the test have set up in this process."""
    gc.freeze()  # nothing of theirs is collected, so that no file of theirs closes a descriptor which is ours now
    faulthandler.disable()
    atexit._clear()  # what pytest has registered; the command line registers its own
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)  # as the interpreter does
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    GLOBAL_RUN_CONTEXT.__dict__.clear()
    PARENT_TASK_DATA.__dict__.clear()
    logging.root.handlers.clear()
    logging.root.setLevel(logging.WARNING)
    sys.unraisablehook, sys.excepthook = sys.__unraisablehook__, sys.__excepthook__
    warnings.resetwarnings()
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)


def _open_streams() -> None:
    encoding = os.environ.get("PYTHONIOENCODING") or "utf-8"
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdin = sys.__stdin__ = _opened(0, "r", encoding, "surrogateescape")
    sys.stdout = sys.__stdout__ = _opened(1, "w", encoding, "surrogateescape", unbuffered=unbuffered)
    sys.stderr = sys.__stderr__ = _opened(2, "w", encoding, "backslashreplace", buffering=1, unbuffered=unbuffered)


def _opened(
    descriptor: int, mode: str, encoding: str, errors: str, *, buffering: int = -1, unbuffered: bool = False
) -> Any:
    """Return a stream as the interpreter opens it; None, if the descriptor is closed."""
    try:
        os.fstat(descriptor)
    except OSError:
        return None
    if unbuffered:
        raw = io.FileIO(descriptor, mode, closefd=False)
        return io.TextIOWrapper(raw, encoding, errors, write_through=True)  # type: ignore[type-var]
    return open(descriptor, mode, buffering, encoding=encoding, errors=errors, closefd=False)


def _ended(run: Callable[[], object]) -> int:
    """Return the exit status that the interpreter would have."""
    code: object = 0
    interrupted = False
    try:
        found = run()
        code = found if isinstance(found, int) else 0
    except SystemExit as end:
        code = end.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except BaseException as error:
        sys.excepthook(*sys.exc_info())
        code = 1
        interrupted = isinstance(error, KeyboardInterrupt)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError as error:
            code = 120  # as the interpreter says it
            if stream is sys.stdout and sys.stderr is not None:
                print(f"Exception ignored in: {stream!r}\n{error!r}", file=sys.stderr)
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return int(code or 0) & 0xFF  # type: ignore[call-overload, no-any-return]
