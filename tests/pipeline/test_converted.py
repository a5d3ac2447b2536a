"""Task files of much-used public projects, converted by hand with stand-ins for the commands: they load, and run through.

`docs/how-to/coming-from-task-runners.md` lists them, with what can't be said here.
"""

import re
import shutil
from pathlib import Path

import pytest
from invoke import invoke

from trio_process import load_pipeline, load_services

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent / "converted"
PAGES = ("coming-from-task-runners.md", "coming-from-supervisors.md")
NAMES = sorted(path.stem for path in HERE.glob("*.toml"))


@pytest.fixture
def place(tmp_path):
    """A copy of the files, with the sources that tasks read."""
    for path in HERE.glob("*.toml"):
        shutil.copy(path, tmp_path)
    for name, text in {"a.go": "a", "b.go": "b", "VERSION": "1", "grammar.y": "y", "plugins.yml": "p"}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_a_converted_file_loads_and_every_task_that_asks_nothing_passes(place, name):
    path = place / f"{name}.toml"
    specs = load_pipeline(path)
    if name.startswith("process-compose"):
        assert not specs
        assert len(load_services(path)) >= 3
        return
    asking = {spec.name for spec in specs if spec.interactive}
    needing = {spec.name for spec in specs if asking & {spec.name, *spec.after} or "GITHUB_TOKEN" in str(spec.args)}
    needing |= {spec.name for spec in specs if spec.name in ("clean", "release", "delete-temp-branch", "docker-push")}
    chosen = [spec.name for spec in specs if spec.name not in needing]
    done = invoke("run", "-f", path.name, *chosen, cwd=place)
    assert done.returncode == 0, done.stdout
    by_default = invoke("run", "-f", path.name, cwd=place)
    assert by_default.returncode == 0, by_default.stdout
    if any(spec.inputs for spec in specs):
        assert "= up to date" in invoke("run", "-f", path.name, *chosen, cwd=place).stdout


def test_each_is_listed_with_what_can_not_be_said():
    pages = "\n".join((ROOT / "docs" / "how-to" / page).read_text() for page in PAGES)
    listed = set(re.findall(r"`converted/([\w-]+)\.toml`", pages))
    assert listed == {*NAMES} - {"go-task-arduino-cli-dist"}
    for kind in ("make", "just", "go-task", "npm", "tox", "process-compose"):
        assert sum(name.startswith(kind) or (kind == "tox" and name.startswith("nox")) for name in listed) >= 3
