"""`Commands`: the registered commands, how they are matched, and the list of calls."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from types import EllipsisType
from typing import TYPE_CHECKING, Any, final

from .._core import (
    OptionError,
    ProcessError,
    RunOptions,
    Secret,
    command_line,
    escape_controls,
    shown,
    shown_args,
    shown_command,
)
from .behaviour import Behaviour
from .call import Call

if TYPE_CHECKING:
    from .recording import Recorder

Predicate = Callable[[Call], object]


class UnregisteredCommandError(ProcessError, LookupError):
    """A command was started that is not registered; the message names the nearest registered one."""


class ScriptError(ProcessError, AssertionError):
    """A script failed: its input was not the expected input, or its generator raised an exception."""


@final
class Rule:
    """One registration; made by `FakeService.on`.

    Attributes:
        calls: The calls that this registration has matched.
    """

    def __init__(self, pattern: Sequence[Any], behaviours: Sequence[Behaviour], *, strict: bool = False) -> None:
        self.calls: list[Call] = []
        self._pattern = pattern
        self._behaviours = behaviours
        self._strict = strict
        _check_pattern(pattern)

    def _matches(self, call: Call) -> bool:
        """Return whether the rule matches this call."""
        first, rest = self._pattern[0], self._pattern[1:]
        if isinstance(first, re.Pattern):
            return first.search(str(call)) is not None
        if callable(first):
            return bool(first(call))
        given = call.options.args
        if rest and rest[-1] is ...:
            rest = rest[:-1]
            given = given[: len(rest)]
        pairs = zip((first, *rest), (call.options.command, *given), strict=False)
        return len(rest) == len(given) and all(_same(wanted, value) for wanted, value in pairs)

    def _next_behaviour(self, call: Call) -> Behaviour:
        """Record a call, and return the behaviour for it."""
        place = len(self.calls)
        if self._strict and place >= len(self._behaviours):
            raise UnregisteredCommandError(
                f"`{escape_controls(str(call))}` is started more often than in the recording, which has it {place} time(s); "
                "record it again"
            )
        self.calls.append(call)
        return self._behaviours[min(place, len(self._behaviours) - 1)]

    def __str__(self) -> str:
        first = self._pattern[0]
        if isinstance(first, re.Pattern):
            return f"re.compile({first.pattern!r})"
        if callable(first):
            return str(getattr(first, "__qualname__", first))
        words = [_word(part) for part in self._pattern if part is not ...]
        return command_line(words[0], words[1:]) + (" ..." if self._pattern[-1] is ... else "")


@final
class Commands:
    """The registered rules, the latest first, and the calls so far."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.problems: list[BaseException] = []
        self.recorder: Recorder | None = None
        self._rules: list[Rule] = []

    def add(self, rule: Rule) -> Rule:
        """Register a rule; it takes precedence over earlier ones."""
        self._rules.append(rule)
        return rule

    def find(self, call: Call) -> Rule | None:
        """Return the rule for a call."""
        return next((rule for rule in reversed(self._rules) if rule._matches(call)), None)

    def unknown(self, options: RunOptions) -> UnregisteredCommandError:
        """Return the error for a command without a rule, naming the nearest."""
        typed = command_line(shown_command(options), shown_args(options))
        names = [str(rule) for rule in self._rules]
        if names:
            best = max(names, key=lambda name: SequenceMatcher(None, name, typed).ratio())
            more = f"; did you mean `{best}`?"
        else:
            more = ", and nothing else is."
        words = ", ".join(repr(word) for word in (shown_command(options), *shown_args(options)))
        return UnregisteredCommandError(
            f"`{escape_controls(typed)}` is not registered with this fake{more} Register it with fake.on({words}, lines=[...])"
        )


def _word(part: Any) -> str:
    if isinstance(part, re.Pattern):
        return str(part.pattern)
    return shown(part) if isinstance(part, (str, bytes, os.PathLike, Secret)) else repr(part)


def _check_pattern(pattern: Sequence[Any]) -> None:
    first = pattern[0]
    if isinstance(first, EllipsisType) or any(part is ... for part in pattern[1:-1]):
        raise OptionError("`...` stands for any further arguments, so it can only be the last one")
    if (isinstance(first, re.Pattern) or callable(first)) and len(pattern) > 1:
        raise OptionError("a regular expression or a function stands for the whole command: give no arguments after it")
    for part in pattern:
        if isinstance(part, (bool, int, float)) or part is None:
            raise OptionError(f"a command and its arguments are texts, got {part!r}; write {str(part)!r}")


def _same(wanted: Any, given: Any) -> bool:
    """Return whether an argument matches: a text, a secret, a regular expression or `unittest.mock.ANY`."""
    if isinstance(wanted, re.Pattern):
        return wanted.fullmatch(shown(given)) is not None
    if isinstance(wanted, Secret) or isinstance(given, Secret):
        return bool(wanted == given)
    if isinstance(wanted, (str, bytes, os.PathLike)):
        return os.fsencode(wanted) == os.fsencode(given)
    return bool(wanted == given)
