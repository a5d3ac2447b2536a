"""The page of faults names tests that there are."""

import re
from pathlib import Path


def test_the_page_names_tests_that_there_are():
    here = Path(__file__).parent
    page = (here.parents[1] / "docs" / "explanation" / "faults.md").read_text()
    files = list(here.parent.rglob("test_*.py"))
    names = {name for file in files for name in re.findall(r"def test_(\w+)", file.read_text())}
    names |= {file.stem.removeprefix("test_") for file in files}
    cells = [row.rsplit("|", 2)[1] for row in page.splitlines() if row.startswith("| ") and row.count("|") >= 4]
    cells = [cell for cell in cells if set(cell) - set(" -") and cell.strip() != "test"]
    assert len(cells) > 40
    for cell in cells:
        for quoted in re.findall(r"`([^`\[]+)(?:\[[^`]*)?`", cell):
            assert any(quoted.strip("…") in name for name in names), quoted
