"""`FakeService`: a `Service` that runs scripts on Trio's clock instead of processes."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Unpack, final

from .._core import Argument, Core, OptionError, RunOptions, ServiceClosedError, raise_first
from .._process import Backend, Reactor, Service, ServiceOptions, make_local_backend, use_backend
from .backend import ScriptedBackend
from .behaviour import Behaviour, as_behaviours, make_behaviour
from .call import Call
from .commands import Commands, Predicate, Rule
from .recording import Recorder
from .replay import load_recording

if TYPE_CHECKING:
    from .keywords import BehaviourKeywords


@final
class FakeService(Service):
    """A `Service` whose processes are scripts, usable wherever a `Service` is.

    Everything but the spawn is the real thing: states, events, results, errors, timeouts and grace periods. It lives on
    Trio's clock alone, so that under `autojump_clock` nothing takes any time; and nothing is spawned.

    Args:
        core: The core it belongs to.
        options: How it keeps its processes.

    A command that is not registered raises `UnregisteredCommandError`. When the block is left, a script that met what
    it does not allow (`expects`, an error in a generator) raises `ScriptError`, unless the block failed anyway. What is no
    `Exception`, as `pytest.fail()` in a generator, is raised as it is.

    >>> async def test_push_is_tried_again(autojump_clock):
    ...     async with FakeService() as fake:
    ...         fake.on("git", "push", ..., lines=[(30.0, "fatal: no route to host")], exit_code=128)
    ...         result = await fake.run("git", "push", "origin", check=False)
    ...         assert (result.exit_code, result.duration) == (128, 30.0)
    ...         assert [str(call) for call in fake.calls] == ["git push origin"]
    """

    def __init__(self, core: Core | None = None, options: ServiceOptions | None = None) -> None:
        super().__init__(core, options)
        self._commands = Commands()

    @property
    def calls(self) -> list[Call]:
        """Every start so far, in order, also those that failed."""
        return self._commands.calls

    def on(
        self,
        command: Argument | re.Pattern[str] | Predicate,
        *args: Argument | re.Pattern[str] | EllipsisType,
        then: Iterable[Behaviour | Mapping[str, Any]] = (),
        **behaviour: Unpack[BehaviourKeywords],
    ) -> Rule:
        """Say what a command does; of several registrations that match, the last one counts.

        Args:
            command: The program; or a compiled regular expression that is searched for in the whole command, as one
                would type it; or a function that is given the `Call` and says whether this is the one.
            *args: Its exact arguments; ``...`` as the last stands for any further ones. An argument can be a regular
                expression too, which has to match all of it.
            then: What its second start does, its third and so on; the last one goes for all that follow. Without any
                other keyword the first of these is for the first start.
            **behaviour: What it does; the fields of `Behaviour`.

        Returns:
            The registration; its `calls` are those that it has answered.

        Raises:
            OptionError: A value was refused.

        >>> def example(fake: FakeService) -> None:
        ...     fake.on("redis-server", ..., lines=["Ready to accept connections"], exit_code=None)
        ...     fake.on("flaky", exit_code=1, then=[Behaviour(exit_code=0)])
        """
        later = as_behaviours("then", then)
        behaviours = [make_behaviour(behaviour), *later] if behaviour or not later else later
        return self._commands.add(Rule((_program(command), *args), behaviours))

    def record(self, path: str | os.PathLike[str]) -> Recorder:
        """Run commands that are not registered for real, and keep what they do in a file to `replay`.

        The file is written when the block of the service is left, or the `with` block of what is returned; not after
        an exception. It needs the real clock. It holds commands, arguments, output and exit codes with their times.
        Secrets are masked in it, and neither the environment nor the directory nor the input is in it.

        >>> async def main() -> None:
        ...     async with FakeService() as fake:
        ...         fake.record("tests/data/git.jsonl")
        ...         await fake.run("git", "--version")
        """
        if self._commands.recorder is not None and not self._commands.recorder._finished:
            raise ServiceClosedError("this service is recording already")
        recorder = self._commands.recorder = Recorder(path)
        return recorder

    def replay(self, path: str | os.PathLike[str]) -> None:
        """Let commands do what a recording says, in the order of their starts.

        It is strict: what was not recorded, or is started more often than it was, raises `UnregisteredCommandError`.

        Raises:
            OptionError: The file is no recording.
            OSError: It can't be read.
        """
        for rule in load_recording(path):
            self._commands.add(rule)

    # the block

    @asynccontextmanager
    async def _block(self) -> AsyncIterator[None]:
        async with super()._block():
            yield
        failures = [*self._commands.problems]
        if self._commands.recorder is not None:
            try:
                self._commands.recorder._finish()
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not hide what the scripts met
                failures.append(error)
        raise_first(None, failures)

    def _make_backend(self, reactor: Reactor, options: ServiceOptions) -> Backend:
        return ScriptedBackend(reactor, self._commands, lambda: make_local_backend(reactor, options))


def used_everywhere(fake: FakeService) -> AbstractContextManager[None]:
    """Let every service that is entered in the block run the scripts of `fake`; for the fixture `fake_processes`."""
    return use_backend(fake._make_backend)


def _program(command: Any) -> Any:
    if isinstance(command, RunOptions):
        raise OptionError("on takes the command and its arguments one by one, not a RunOptions")
    return command
