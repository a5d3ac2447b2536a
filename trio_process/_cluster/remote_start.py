"""`RemoteStart`: the start of a process at the other end, which takes a place on an agent and the agent's answer."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any, Final, final

import trio

from .._core import ProcessError, ProcessStartError, ProgramNotFoundError, RunOptions, escape_controls, shown_command
from .._process import start_error
from .agents import LostStartError, Place, Roster
from .connection import Connection, Remote
from .messages import Failed
from .options import local_text
from .remote_output import RemoteOutput
from .remote_stdin import RemoteStdin
from .wire import WireError


@final
class RemoteStart:
    """Places a process on an agent and waits for the answer; if that agent is about to leave, another one is asked.

    Args:
        roster: The agents.
        options: The options of the process.
        packed: The options that are sent.

    Attributes:
        place: The place that it has, None until it has one.
        session: The connection that it was started through, None until then.
        number: Its number in that session.
        prompt: Whether a task waits for the start, so that it is reported promptly.
        answered: Whether the agent has answered.
    """

    __slots__ = (
        "_asker", "_failure", "_is_refused", "_options", "_packed", "_roster", "answered", "number", "place", "prompt",
        "session",
    )  # fmt: skip

    def __init__(self, roster: Roster, options: RunOptions, packed: dict[str, Any]) -> None:
        self._roster: Final = roster
        self._options: Final = options
        self._packed: Final = packed
        self._asker: trio.lowlevel.Task | None = None  # waits for the answer
        self._is_refused = False
        self._failure: ProcessError | None = None
        self.place: Place | None = None
        self.session: Connection | None = None
        self.number: int = 0
        self.prompt: bool = True
        self.answered: bool = False

    async def complete(
        self, remote: Remote, stdin: RemoteStdin, output: RemoteOutput, *, prompt: bool
    ) -> ProcessError | None:
        """Wait for a place, and for the agent's answer; return why the process can't be started, None once it runs."""
        self.prompt = prompt
        while True:
            self.place = await self._roster.place(self._options)
            await self._ask(self.place, remote, stdin, output)
            if not self._is_refused:
                break
            self.place.release()
            self._is_refused = False
        failure, self._failure = self._failure, None
        return failure

    async def _ask(self, place: Place, remote: Remote, stdin: RemoteStdin, output: RemoteOutput) -> None:
        session, packed = place.session, self._packed
        if place.env:
            packed = {**packed, "env": {**packed.get("env", {}), **place.env}}
        self.answered = False
        try:
            self.number = session.spawn(remote, packed, prompt=self.prompt or stdin.open)
        except WireError as error:
            self._failure = start_error(self._options, OSError(errno.E2BIG, str(error)))
            return
        self.session = session
        stdin.connect(session.link, self.number)
        output.connect(session.link, self.number)
        # as long as a launcher takes, or until the agent is given up: a shield around an event would cost 15 µs more
        self._asker = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(_not_yet)

    def release(self) -> None:
        """Release the place; can be repeated."""
        if self.place is not None:
            self.place.release()

    # the answers

    def runs(self) -> str:
        """Called when the process runs; return its host."""
        assert self.place is not None
        self._answer()
        return self.place.agent.host

    def fail(self, message: Failed) -> None:
        """Called when the command can't be started."""
        assert self.place is not None
        kind = ProgramNotFoundError if message.not_found else ProcessStartError
        self._failure = kind(f"{escape_controls(message.text)} (on {self.place.agent.host})")
        if message.errno is not None:
            filename = None if message.filename is None else local_text(message.filename)
            self._failure.__cause__ = OSError(message.errno, os.strerror(message.errno), filename)
        self._answer()

    def refuse(self) -> None:
        """Called when the agent is about to leave, so that another one is asked."""
        self._is_refused = True
        self._answer()

    def lose(self, why: str) -> None:
        """Called when the agent was lost before it answered."""
        assert self.place is not None
        text = f"`{shown_command(self._options)}` was lost while it was started: {why}"
        self._failure = LostStartError(text, self.place.agent.host)
        self._answer()

    def _answer(self) -> None:
        self.answered = True
        if self._asker is not None:
            trio.lowlevel.reschedule(self._asker)
            self._asker = None


def _not_yet(_: Callable[[], object]) -> trio.lowlevel.Abort:
    """Put a cancellation off until the agent has answered."""
    return trio.lowlevel.Abort.FAILED
