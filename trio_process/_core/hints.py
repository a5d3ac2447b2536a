"""Which annotations `isinstance` can check, so that an action refuses an option of the wrong type."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Awaitable, Callable
from typing import Any


def checkable_hints(handler: Callable[..., Awaitable[Any]]) -> dict[str, tuple[type, ...]]:
    """Return the annotations of a handler that `isinstance` can check: classes, those of generics, and unions of them."""
    try:
        hints = typing.get_type_hints(handler if inspect.isroutine(handler) else type(handler).__call__)
    except Exception:  # noqa: BLE001 - annotations are any code; one that can't be read checks nothing
        return {}
    found: dict[str, tuple[type, ...]] = {}
    for name, hint in hints.items():
        union = typing.get_origin(hint) in (typing.Union, types.UnionType)
        parts = [_class_of(part) for part in (typing.get_args(hint) if union else (hint,))]
        if all(part is not None for part in parts):
            # PEP 484, "The numeric tower": an int is acceptable where a float is; and JSON has lists for tuples
            more = [other for kind, other in ((float, int), (tuple, list)) if kind in parts]
            found[name] = tuple(part for part in (*parts, *more) if part is not None)
    return found


def _class_of(hint: object) -> type | None:
    """Return the class that `isinstance` takes for a hint, `list` for ``list[str]``; None if there is none.

    Any is a class since 3.11, a protocol need not be checkable, and a typed dictionary is a dict.
    """
    if typing.is_typeddict(hint):
        return dict
    kind = typing.get_origin(hint) or hint
    return kind if isinstance(kind, type) and kind is not Any and not getattr(kind, "_is_protocol", False) else None


def spelled(kinds: tuple[type, ...]) -> str:
    """Return the names of classes as an error gives them: ``int or None``."""
    return " or ".join("None" if kind is types.NoneType else kind.__name__ for kind in kinds)
