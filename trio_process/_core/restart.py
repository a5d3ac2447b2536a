"""`RestartPolicy`: when something that has ended is restarted. Pure: the time and the random number are passed in."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Final, Self, final

import attrs

from . import checks
from .enums import member
from .errors import ProgramNotFoundError, RestartLimitError, bad_option
from .text import in_seconds, short_repr

MOST_JITTER: Final = 100
"""The largest jitter."""

GOOD_RUN: Final = 10.0
"""The shortest run, in seconds, that counts as a good one (process-compose and supervisord's `startsecs` take 1 to 10)."""


class RestartMode(StrEnum):
    """After which ends to restart."""

    NEVER = "never"
    ON_FAILURE = "on_failure"
    ALWAYS = "always"


def _mode(value: RestartMode | str) -> RestartMode:
    return member(RestartMode, value, "mode")


@final
@attrs.frozen(kw_only=True, repr=False)
class RestartPolicy:
    """When to restart a `main` or a unit; created by ``never()``, ``on_failure()`` or ``always()``.

    Args:
        mode: After which ends to restart.
        max_restarts: How many restarts are allowed in `within` seconds; one more raises `RestartLimitError`.
        within: The window for `max_restarts`, in seconds.
        backoff: Seconds before the first restart; the delay doubles with each further one.
        backoff_max: The longest delay, in seconds: at most 10**9.
        jitter: A random share of the delay, up to this fraction, is added to it, so that many daemons don't restart in
            step; at most 100.

    Raises:
        OptionError: An option is invalid; the message names it.

    Delay and count start over after a good run: one of at least 10 seconds and of twice the last delay. A
    `ProgramNotFoundError` is not followed by a restart, because that would not make the program appear; neither is an
    exception that is not an `Exception`.

    >>> RestartPolicy.on_failure(max_restarts=3).backoff
    0.5
    """

    mode: RestartMode = attrs.field(default=RestartMode.NEVER, converter=_mode)
    max_restarts: int | float = 5
    within: float = 60.0
    backoff: float = 0.5
    backoff_max: float = 60.0
    jitter: float = 0.5

    __repr__ = short_repr

    def __attrs_post_init__(self) -> None:
        put = object.__setattr__
        put(self, "max_restarts", checks.whole("max_restarts", self.max_restarts, infinite=True))
        put(self, "within", checks.seconds("within", self.within, positive=True))
        for option in ("backoff", "backoff_max"):
            given = getattr(self, option)
            if isinstance(given, float) and given == math.inf:
                raise bad_option(option, "must be finite; RestartPolicy.never() is for no restart at all")
            put(self, option, checks.seconds(option, given, most=checks.LONGEST))
        put(self, "jitter", _share("jitter", self.jitter))

    @classmethod
    def never(cls) -> Self:
        """Return the policy that never restarts."""
        return cls()

    @classmethod
    def on_failure(
        cls,
        *,
        max_restarts: float = 5,
        within: float = 60.0,
        backoff: float = 0.5,
        backoff_max: float = 60.0,
        jitter: float = 0.5,
    ) -> Self:
        """Return the policy that restarts after an exception; the arguments are those of the class."""
        return cls(
            mode=RestartMode.ON_FAILURE,
            max_restarts=max_restarts,
            within=within,
            backoff=backoff,
            backoff_max=backoff_max,
            jitter=jitter,
        )

    @classmethod
    def always(
        cls,
        *,
        max_restarts: float = 5,
        within: float = 60.0,
        backoff: float = 0.5,
        backoff_max: float = 60.0,
        jitter: float = 0.5,
    ) -> Self:
        """Return the policy that restarts after every end, even a plain return."""
        return attrs.evolve(
            cls.on_failure(
                max_restarts=max_restarts, within=within, backoff=backoff, backoff_max=backoff_max, jitter=jitter
            ),
            mode=RestartMode.ALWAYS,
        )


@final
class Restarts:
    """The restart state of one supervised function or unit: takes its ends, and returns the delays.

    Args:
        policy: The rules.

    Attributes:
        delay: The last delay without its jitter, in seconds; 0 if there was none since the last good run.

    The rules, in order: a final end is final; a good run resets the delay and the count; more restarts in the window than
    allowed raise an error; else wait, twice as long as the last time.
    """

    __slots__ = ("_policy", "_recent", "delay")

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._recent: tuple[float, ...] = ()  # short: no longer than `max_restarts`, and mostly empty
        self.delay = 0.0

    def ended(self, failure: BaseException | None, *, ran: float, now: float, chance: float) -> float | None:
        """Return the seconds until the restart, or None if there is none.

        Args:
            failure: Its exception; None for a plain return.
            ran: How long it ran, in seconds.
            now: The time on any monotonic clock, in seconds.
            chance: A random number from 0 to 1.

        Raises:
            RestartLimitError: A further restart would exceed the limit; `failure` is its cause.
        """
        policy = self._policy
        if not self._restarted(failure):
            return None
        if ran >= max(GOOD_RUN, 2 * self.delay):
            self._recent = ()
            self.delay = 0.0
        if self._recent and self._recent[0] <= now - policy.within:
            self._recent = tuple([at for at in self._recent if at > now - policy.within])
        if len(self._recent) >= policy.max_restarts:
            raise RestartLimitError(self._storm(failure)) from failure
        if policy.max_restarts != math.inf:
            self._recent += (now,)
        self.delay = min(policy.backoff_max, 2 * self.delay if self.delay else policy.backoff)
        return self.delay * (1 + policy.jitter * chance)

    def _restarted(self, failure: BaseException | None) -> bool:
        match self._policy.mode:
            case RestartMode.NEVER:
                return False
            case RestartMode.ON_FAILURE if failure is None:
                return False
            case _:
                return failure is None or (isinstance(failure, Exception) and not _is_final(failure))

    def _storm(self, failure: BaseException | None) -> str:
        policy = self._policy
        last = "it returned" if failure is None else f"{type(failure).__name__}: {failure}"
        return (
            f"not restarted again: {len(self._recent)} restart(s) within {in_seconds(policy.within)} are allowed "
            f"(max_restarts, within), and it ended once more ({last})"
        )


def _share(option: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MOST_JITTER:
        got = checks.brief(value)
        raise bad_option(option, f"must be a share of the delay, 0 to {MOST_JITTER}, got {got}")
    return float(value)


def _is_final(failure: Exception) -> bool:
    if isinstance(failure, ExceptionGroup):
        return failure.subgroup(ProgramNotFoundError) is not None
    return isinstance(failure, ProgramNotFoundError)
