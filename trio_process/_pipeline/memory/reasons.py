"""Describe in words why a spec has to run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from .fingerprint import ABSENT, Fingerprint

NEW: Final = "it has not passed yet"
FORCED: Final = "--force"


def because(reasons: Iterable[str]) -> str:
    """Return reasons as a clause.

    >>> because(["the input a changed", "the output b is gone"])
    'because the input a changed, and because the output b is gone'
    """
    return ", and ".join(["because of --force" if reason == FORCED else f"because {reason}" for reason in reasons])


def it_ran(reasons: Iterable[str]) -> str:
    """Return why a spec ran.

    >>> it_ran([NEW])
    'it ran because it had not passed yet'
    """
    return f"it ran {because(['it had not passed yet' if reason == NEW else reason for reason in reasons])}"


def find_differences(made: Mapping[str, Any], now: Fingerprint) -> list[str]:
    """Return the changes between two fingerprints.

    Args:
        made: The fingerprint of a spec when it last passed.
        now: Its current fingerprint.
    """
    reasons = []
    if made["command"] != now.command:
        changed = f" ({made['shown']} → {now.shown})" if made["shown"] != now.shown else ", in what isn't shown"
        reasons.append(f"the command differs{changed}")
    for what, before, after in (
        ("variable", made["env"], now.env),
        ("input", made["inputs"], now.inputs),
        ("result of", made["results"], now.results),
    ):
        for name in dict.fromkeys((*before, *after)):
            old, new = before.get(name, ABSENT), after.get(name, ABSENT)
            if old != new:
                how = "is new" if old == ABSENT else "is gone" if new == ABSENT else "changed"
                reasons.append(f"the {what} {name} {how}")
    return reasons
