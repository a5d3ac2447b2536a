"""Choose between the media types of an answer, by the `Accept` header of its request (RFC 9110, 12.4.2 and 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

_WEIGHT: Final = r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\Z"  # compiled and cached at first use


def preferred(accept: str, offers: Sequence[str], usual: str) -> str:
    """Return the media type to send: the usual one, unless the client names another with at least the same weight.

    Args:
        accept: The value of the header; empty if there is none.
        offers: The other types, the best first. A range such as ``*/*`` doesn't name them: clients send it that know
            nothing of them. Parameters other than the weight are ignored.
        usual: The usual type, which is also sent if the client takes none of them.

    >>> preferred("application/json, */*;q=0.1", ["application/json"], "text/plain")
    'application/json'
    >>> preferred("application/json;q=0", ["application/json"], "text/plain")
    'text/plain'
    """
    weights: dict[str, float] = {}
    for part in accept.lower().split(","):
        kind, *parameters = (each.strip() for each in part.split(";"))
        weight = _weight(parameters)
        weights[kind] = max(weight, weights.get(kind, weight))
    ranges = (usual, f"{usual.partition('/')[0]}/*", "*/*")
    least = next((weights[each] for each in ranges if each in weights), 0.0)
    best = max(offers, key=lambda each: weights.get(each, 0.0))
    return best if weights.get(best, 0.0) > 0 and weights[best] >= least else usual


def _weight(parameters: Iterable[str]) -> float:
    given = next((each[2:] for each in parameters if each.startswith("q=")), "1")
    return float(given) if re.match(_WEIGHT, given) else 0.0  # such as `q=-1`: it is wanted by no measure
