"""The reference names every route, code, channel and metric."""

import runpy
from pathlib import Path

from trio_process._control.live.hub import CHANNELS

DOCS = Path(__file__).parents[2] / "docs"


def test_the_tables_are_those_of_the_server():
    maker = runpy.run_path(str(DOCS / "make_control_tables.py"))
    text = (DOCS / "reference" / "control.md").read_text(encoding="utf-8")
    assert maker["written"](text) == text, "run python docs/make_control_tables.py"
    assert tuple(maker["EVENTS"]) == CHANNELS
