"""`Probe`: finds out whether a unit is ready, or still alive."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection
from typing import Any, Final, Self, TypedDict, Unpack, final

import attrs

from ..._core import Argument, OptionError, checks, nearest, short_repr
from .asker import Asker
from .kinds import (
    PLACEHOLDER,
    CallKind,
    CommandKind,
    FileKind,
    HttpKind,
    Kind,
    LineKind,
    Place,
    TcpKind,
    UnixKind,
)

GOOD_STATUS: Final = range(200, 400)
UNTIL_READY: Final = 1.0
"""The default period in seconds, until the unit is ready."""
FROM_THEN_ON: Final = 10.0
"""The default period from then on."""


class ProbeKeywords(TypedDict, total=False):
    """The keywords of all kinds of probes."""

    initial_delay: float
    period: float | None
    timeout: float
    failures: int
    successes: int


@final
@attrs.frozen(kw_only=True, repr=False)
class Probe:
    """A check of a running unit; created by `line`, `http`, `tcp`, `unix`, `file`, `command` or `call`.

    Args:
        initial_delay: Seconds before the first run of the probe.
        period: Seconds between the starts of two runs of the probe; None for every second until the unit is ready,
            and every 10 s from then on.
        timeout: Seconds that one run of the probe may take.
        failures: How many failures in a row make a ready unit unready, or have an unresponsive one restarted.
        successes: How many successes in a row make a unit ready.

    Raises:
        OptionError: An option is invalid; the message names it.

    Runs of a probe never overlap, and a result counts only for the run of the unit that it was made for. ``{replica}`` in
    a text stands for the replica's number, from 1. ``await probe()`` runs the probe once and returns ``(ok, reason)``, so
    that a probe can be a `HealthCheck`, too. Only `line`, `command` and `call` work on virtual time.

    >>> Probe.tcp("127.0.0.1:5432", period=5.0).period
    5.0
    """

    _kind: Kind = attrs.field(alias="kind", repr=False)
    initial_delay: float = 0.0
    period: float | None = None
    timeout: float = 1.0
    failures: int = 3
    successes: int = 1

    def __repr__(self) -> str:
        return short_repr(self, self._describe())

    def __attrs_post_init__(self) -> None:
        put = object.__setattr__
        put(self, "initial_delay", checks.seconds("initial_delay", self.initial_delay))
        if self.period is not None:
            put(self, "period", checks.seconds("period", self.period, positive=True))
        put(self, "timeout", checks.seconds("timeout", self.timeout, positive=True))
        put(self, "failures", checks.whole("failures", self.failures, least=1))
        put(self, "successes", checks.whole("successes", self.successes, least=1))

    @classmethod
    def line(cls, pattern: str | re.Pattern[str], **keywords: Unpack[ProbeKeywords]) -> Self:
        """Return a probe that waits for a line in the output of the current run.

        Args:
            pattern: A substring of the line, or a compiled regular expression that is searched for in it.
            **keywords: Accepted for uniformity, without effect: this probe waits, and is not repeated.
        """
        return cls(kind=LineKind(pattern), **_known(keywords))

    @classmethod
    def http(cls, url: str, *, status: int | Collection[int] = GOOD_STATUS, **keywords: Unpack[ProbeKeywords]) -> Self:
        """Return a probe that requests a URL; redirects are not followed, and at most 64 KiB are read.

        Args:
            url: An ``http://`` or ``https://`` URL.
            status: The status code, or codes, that count as success.
            **keywords: `initial_delay` and so on.
        """
        return cls(kind=HttpKind(url, status), **_known(keywords))

    @classmethod
    def tcp(cls, address: str, **keywords: Unpack[ProbeKeywords]) -> Self:
        """Return a probe that connects to an address.

        Args:
            address: ``host:port``, ``:port`` or ``[::1]:port``.
            **keywords: `initial_delay` and so on.
        """
        return cls(kind=TcpKind(address), **_known(keywords))

    @classmethod
    def unix(cls, path: str | os.PathLike[str], **keywords: Unpack[ProbeKeywords]) -> Self:
        """Return a probe that connects to a unix socket."""
        return cls(kind=UnixKind(path), **_known(keywords))

    @classmethod
    def file(cls, path: str | os.PathLike[str], **keywords: Unpack[ProbeKeywords]) -> Self:
        """Return a probe that checks whether a file or directory exists."""
        return cls(kind=FileKind(path), **_known(keywords))

    @classmethod
    def command(cls, program: Argument, *args: Argument, **keywords: Unpack[ProbeKeywords]) -> Self:
        """Return a probe that runs a command in the unit's directory and environment; at `timeout` its group is killed.

        Args:
            program: The program.
            *args: Its arguments.
            **keywords: `initial_delay` and so on.
        """
        argv = (checks.path("program", program), *checks.arguments("args", args))
        return cls(kind=CommandKind(argv), **_known(keywords))

    @classmethod
    def call(cls, function: Callable[[], Any], **keywords: Unpack[ProbeKeywords]) -> Self:
        """Return a probe that calls a function: an async one, or a synchronous one that is run in a thread.

        Args:
            function: A function without arguments. None, True and ``""`` mean healthy; a ``(bool, str)`` and a
                `CommandResult` are understood; any other value, and an exception, mean unhealthy.
            **keywords: `initial_delay` and so on.
        """
        return cls(kind=CallKind(function), **_known(keywords))

    async def __call__(self) -> tuple[bool, str]:
        """Run the probe once; return whether it succeeded, and the reason if it did not.

        Raises:
            OptionError: It is a `line` probe, which needs a run of a unit.
        """
        probe = self._for_replica(1)
        if isinstance(probe._kind, LineKind):
            await probe._kind.ask(Place())
        asker = Asker(probe._kind, probe.timeout)
        return await asker.ask(Place())

    # for the supervisor

    def _describe(self) -> str:
        return self._kind.describe()

    @property
    def _is_line(self) -> bool:
        return isinstance(self._kind, LineKind)

    @property
    def _earliest(self) -> float:
        """Seconds from a start to the earliest time at which the probe can make a unit ready."""
        return 0.0 if self._is_line else self.initial_delay + (self.successes - 1) * (self.period or UNTIL_READY)

    def _for_replica(self, replica: int) -> Self:
        return attrs.evolve(self, kind=self._kind.for_replica(replica))

    @property
    def _needs_placeholder(self) -> bool:
        """Whether several replicas would share an address or a file."""
        return self._kind.place_of_its_own and PLACEHOLDER not in self._kind.describe()


def _known(keywords: ProbeKeywords) -> ProbeKeywords:
    known = ProbeKeywords.__annotations__
    for name in keywords:
        if name not in known:
            raise OptionError(f"unknown option {name!r} of a probe{nearest(name, known)}", option=name)
    return keywords
