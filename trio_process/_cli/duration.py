"""How a length of time is typed."""

from __future__ import annotations

from typing import final

import click

from .._pipeline import parse_duration


@final
class Duration(click.ParamType[float]):
    """Seconds, or a text such as `10m`."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        if isinstance(value, float):
            return value
        seconds = parse_duration(str(value))
        if seconds is None:
            self.fail(f"expected seconds, or a text such as 90s or 10m; got {str(value)!r}", param, ctx)
        return seconds
