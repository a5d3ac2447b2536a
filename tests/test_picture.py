"""The README's picture can be made anew, shows a run, and tells nothing of the machine that it was made on."""

import re
import runpy
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "_static" / "live-view.svg"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Make it as `python docs/make_picture.py PATH` does, of the same run at three times the speed."""
    picture = tmp_path_factory.mktemp("picture") / "made.svg"
    maker = runpy.run_path(str(ROOT / "docs" / "make_picture.py"))
    state = maker["main"].__globals__
    state["PIPELINE"], count = re.subn(
        r"sleep ([\d.]+)", lambda found: f"sleep {float(found[1]) / 3:.3f}", state["PIPELINE"]
    )
    assert count > 5
    maker["main"](picture)
    return picture


def said(picture):
    root = ET.fromstring(picture.read_text(encoding="utf-8"))
    return ["".join(text.itertext()).replace("\xa0", " ") for text in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("which", ["kept", "made"])
def test_it_shows_a_run_and_nothing_of_the_machine(which, request):
    picture = PICTURE if which == "kept" else request.getfixturevalue("made")
    words = said(picture)
    for word in ("trio-process run", "lint", "test-3.11", "all checks passed", "exited with code 1 (allowed to fail)"):
        assert any(word in one for one in words), word
    text = picture.read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|tmp|Users)/", text)
    assert set(re.findall(r"https?://[^\"\s]+", text)) == {"http://www.w3.org/2000/svg"}


def test_the_readme_shows_it():
    assert "docs/_static/live-view.svg" in (ROOT / "README.md").read_text(encoding="utf-8")
