"""`FakeService`: a `Service` that runs scripts on Trio's clock instead of processes."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Unpack, final

from .._core import Argument, Core, OptionError, RunOptions, ServiceClosedError, checks, raise_first
from .._process import Backend, Reactor, Service, ServiceOptions, make_local_backend, use_backend
from .backend import ScriptedBackend
from .behaviour import Behaviour, as_behaviours
from .call import Call
from .commands import Commands, Predicate, Rule
from .recording import Recorder
from .replay import load_recording

if TYPE_CHECKING:
    from .keywords import BehaviourKeywords


@final
class FakeService(Service):
    """A `Service` whose processes are scripts, usable wherever a `Service` is.

    It spawns no processes. Everything else is the real thing: states, events, results, errors, timeouts and grace
    periods. It uses only Trio's clock, so under `autojump_clock` nothing takes any time.

    Args:
        core: The core that it registers its actions with.
        options: The options of the service.

    Starting a command that is not registered raises `UnregisteredCommandError`. If a script failed (other input than
    `expects`, an exception in a generator), leaving the block raises `ScriptError`, unless the block has already failed.
    An exception that is not an `Exception`, such as that of `pytest.fail()`, is raised unchanged.

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
        """All calls so far, in order, including those whose start failed."""
        return self._commands.calls

    def on(
        self,
        command: Argument | re.Pattern[str] | Predicate,
        *args: Argument | re.Pattern[str] | EllipsisType,
        then: Iterable[Behaviour | Mapping[str, Any]] = (),
        **behaviour: Unpack[BehaviourKeywords],
    ) -> Rule:
        """Register the behaviour of a command; if several registrations match, the last one counts.

        Args:
            command: The program. Or a compiled regular expression, searched for in the whole command as typed in a shell.
                Or a function that is called with the `Call` and returns whether it matches.
            *args: The exact arguments; a final ``...`` matches any further ones. An argument can be a regular
                expression, which must match all of it.
            then: The behaviours of the second start, the third and so on; the last one applies to all later starts.
                Without other keywords, the first of them is for the first start.
            **behaviour: The fields of a `Behaviour`.

        Returns:
            The registration; its `calls` are the calls that it has matched.

        Raises:
            OptionError: An option is invalid.

        >>> def example(fake: FakeService) -> None:
        ...     fake.on("redis-server", ..., lines=["Ready to accept connections"], exit_code=None)
        ...     fake.on("flaky", exit_code=1, then=[Behaviour(exit_code=0)])
        """
        later = as_behaviours("then", then)
        behaviours = [Behaviour(**behaviour), *later] if behaviour or not later else later
        return self._commands.add(Rule((_program(command), *args), behaviours))

    def record(self, path: str | os.PathLike[str]) -> Recorder:
        """Run commands that are not registered as real processes, and record them in a file for `replay`.

        The file is written when the block of the service is left, or the `with` block of the returned recorder; not
        after an exception. A recording needs the real clock. The file holds commands, arguments, output and exit codes
        with their times. Secrets in it are masked; the environment, the directory and the input are left out.

        >>> async def main() -> None:
        ...     async with FakeService() as fake:
        ...         fake.record("tests/data/git.jsonl")
        ...         await fake.run("git", "--version")
        """
        if self._commands.recorder is not None and not self._commands.recorder._finished:
            raise ServiceClosedError("this service is already recording")
        recorder = self._commands.recorder = Recorder(path)
        return recorder

    def replay(self, path: str | os.PathLike[str]) -> None:
        """Register the commands of a recording, each to be started as often, and in the same order, as it was recorded.

        A command that was not recorded, or that is started more often, raises `UnregisteredCommandError`.

        Raises:
            OptionError: The file is not a valid recording.
            OSError: The file can't be read.
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
    """Make every service that is entered inside the block run the scripts of `fake`; for the fixture `fake_processes`."""
    return use_backend(fake._make_backend)


def _program(command: Any) -> Any:
    if isinstance(command, RunOptions):
        raise OptionError("on takes the command and its arguments one by one, not a RunOptions")
    if isinstance(command, re.Pattern) or callable(command):
        return command
    return checks.argument("command", command)
