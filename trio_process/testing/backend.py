"""`ScriptedBackend`: runs scripts where other backends spawn children."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import final

import trio

from .._core import RunOptions
from .._process import Backend, Handle, Reactor, encoded, file_was_closed, not_encodable, start_error
from .call import Call
from .commands import Commands
from .handle import FakeHandle
from .recording import Recorder


@final
class ScriptedBackend:
    """Starts scripts instead of children. During a recording, a command without a script starts a real child.

    Args:
        reactor: The reactor of the service.
        commands: The scripts.
        make_real: Creates the backend for real children.
    """

    def __init__(self, reactor: Reactor, commands: Commands, make_real: Callable[[], Backend]) -> None:
        self._reactor = reactor
        self._commands = commands
        self._make_real = make_real
        self._real: Backend | None = None

    @property
    def mechanism(self) -> str:
        """How descendants are found: a script has none."""
        return "scripted" if self._real is None else self._real.mechanism

    @property
    def guardian_pid(self) -> int | None:
        """None: there is nothing to guard."""
        return None if self._real is None else self._real.guardian_pid

    def spawn(self, id: str, options: RunOptions, number: int) -> Handle:  # noqa: A002 - as in the protocol
        """Start the script of a command, or raise the error that its behaviour has."""
        _check_texts(options)
        call = Call(id, options, trio.current_time())
        rule = self._commands.find(call)
        if rule is None:
            recorder = self._commands.recorder
            if recorder is None or recorder._finished:
                raise self._commands.unknown(options)
            return self._spawn_real(call, number, recorder)
        behaviour = rule._next_behaviour(call)
        self._commands.calls.append(call)
        error = behaviour._failure(options)
        if error is not None:
            raise error
        try:
            return FakeHandle(call, behaviour, self._reactor, number, self._commands.problems.append)
        except OSError as failure:  # a file that it is given to read or write
            raise start_error(options, failure, opening=True) from failure
        except ValueError as failure:  # I/O operation on closed file
            raise file_was_closed(options, failure) from None

    def _spawn_real(self, call: Call, number: int, recorder: Recorder) -> Handle:
        recorder._check_clock()
        if self._real is None:
            self._real = self._make_real()
        self._commands.calls.append(call)
        real = self._real
        return recorder._spawn(call, lambda: real.spawn(call.id, call.options, number))

    def adopt(self, pid: int, log: int | None) -> Handle:
        """Refuse: a script does not outlive its service."""
        if log is not None:
            os.close(log)
        raise ProcessLookupError(errno.ESRCH, "a FakeService knows no process of an earlier life", pid)

    def close(self) -> None:
        """Close the backend for real children, if there is one."""
        if self._real is not None:
            self._real.close()


def _check_texts(options: RunOptions) -> None:
    """Refuse a text that has no bytes: a script would run where a real child can't be started."""
    texts = [options.command, *options.args, *options.env, *options.env.values(), options.cwd]
    try:
        for text in texts:
            if text is not None:
                encoded(text)
        if isinstance(options.stdin, str):
            options.stdin.encode(options.encoding)
    except UnicodeEncodeError as error:
        raise not_encodable(options, error) from None
