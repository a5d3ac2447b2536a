"""The results as an SVG, written by hand; it follows the reader's choice of a light or dark page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import log10
from typing import Any, Final

from .harness import OURS
from .report import number

_WIDTH: Final = 860
_LABELS: Final = 250  # left of the bars
_VALUES: Final = 150  # right of them
_BAR: Final = 15
_GAP: Final = 7
_STYLE: Final = """
  text { font: 12px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #24292f }
  .title { font-size: 14px; font-weight: 600 }
  .unit, .note { fill: #57606a; font-size: 11px }
  .value { font-variant-numeric: tabular-nums }
  .ours { fill: #0f766e } .peer { fill: #b6c2cf } .kin { fill: #7fb8b1 }
  .range { stroke: #57606a; stroke-width: 1.5 }
  .line { stroke: #d0d7de; stroke-width: 1 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .unit, .note { fill: #9aa4af }
    .ours { fill: #2dd4bf } .peer { fill: #4b5563 } .kin { fill: #1f7a70 }
    .range { stroke: #c9d1d9 }
    .line { stroke: #3d444d }
  }
"""


def draw(results: Sequence[dict[str, Any]]) -> str:
    """Return the picture of all benchmarks: a panel for each figure, a bar for each contender, the range on it."""
    parts: list[str] = []
    top = 46
    for row in results:
        for figure in row["figures"]:
            if figure["contenders"]:
                panel, height = _panel(row, figure, top)
                parts += panel
                top += height + 22
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" width="{_WIDTH}" height="{top}" role="img">'
        f"<title>trio_process and its peers</title><style>{_STYLE}</style>"
        '<text x="12" y="22" class="note">medians, with the range of all rounds; each panel was measured in the same '
        "minutes, the contenders in turn</text>"
    )
    return head + "\n" + "\n".join(parts) + "\n</svg>\n"


def _panel(row: dict[str, Any], figure: dict[str, Any], top: int) -> tuple[list[str], int]:
    contenders = figure["contenders"]
    most: float = max(one["max"] for one in contenders)
    least: float = min(one["min"] for one in contenders if one["min"] > 0)
    logarithmic = most / least > 60
    room = _WIDTH - _LABELS - _VALUES

    def place(value: float) -> float:
        if logarithmic:
            floor = log10(least) - 0.3
            return room * max(0.0, log10(max(value, 1e-12)) - floor) / (log10(most) - floor)
        return room * value / most

    better = "more is better" if figure["more_is_better"] else "less is better"
    scale = ", logarithmic" if logarithmic else ""
    unit = f"{figure['unit']}, " if figure["unit"] else ""
    parts = [
        f'<text x="12" y="{top}" class="title">{escape(row["title"])}</text>',
        f'<text x="12" y="{top + 17}" class="unit">{escape(figure["title"])}: {escape(unit)}{better}{scale}</text>',
    ]
    y = top + 28
    ranked = sorted(contenders, key=lambda one: one["median"], reverse=figure["more_is_better"])
    begin = y
    for one in ranked:
        kind = "ours" if one["name"] == OURS else "kin" if one["name"].startswith(OURS) else "peer"
        weight = ' font-weight="600"' if kind == "ours" else ""
        middle = y + _BAR / 2
        width = max(2.0, place(one["median"]))
        low, high = place(one["min"]), place(one["max"])
        ratio = one["ours_to_this"]
        times = "" if kind == "ours" or ratio is None else f"  ({number(ratio)} x)"
        parts += [
            f'<text x="{_LABELS - 10}" y="{middle + 4}" text-anchor="end"{weight}>{escape(one["name"])}</text>',
            f'<rect class="{kind}" x="{_LABELS}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2"/>',
            f'<line class="range" x1="{_LABELS + low:.1f}" x2="{_LABELS + high:.1f}" y1="{middle}" y2="{middle}"/>',
            (
                f'<text class="value" x="{_WIDTH - _VALUES + 14}" y="{middle + 4}"{weight}>{number(one["median"])}'
                f'<tspan class="note">{times}</tspan></text>'
            ),
        ]
        y += _BAR + _GAP
    parts.append(f'<line class="line" x1="{_LABELS}" x2="{_LABELS}" y1="{begin - 3}" y2="{y - _GAP + 3}"/>')
    return parts, y - top
