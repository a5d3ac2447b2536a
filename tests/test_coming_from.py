"""The converted files of docs/examples/coming-from load, their plans can be shown, and the pages use keys that exist."""

import re
from pathlib import Path

import pytest
from invoke import invoke

from trio_process import load_pipeline, load_services

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "examples" / "coming-from"
RUNNERS = {"make": 8, "just": 6, "go-task": 9, "npm": 8, "tox": 10}
SUPERVISORS = {"process-compose": 5, "supervisord": 4, "docker-compose": 4, "systemd": 3}
PAGES = ("coming-from-task-runners.md", "coming-from-supervisors.md")


def dry_run(path, *tasks):
    done = invoke("run", "-f", str(path), "--dry-run", *tasks)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("name", "count"), RUNNERS.items())
def test_a_converted_task_file_loads_and_shows_its_plan(name, count):
    path = EXAMPLES / f"{name}.toml"
    specs = load_pipeline(path)
    assert len(specs) == count
    everything = dry_run(path, *[spec.name for spec in specs])
    assert all(re.search(rf"^  {re.escape(spec.name)}\s", everything, re.MULTILINE) for spec in specs)
    by_default = dry_run(path)
    assert by_default.startswith("wave 0\n")
    assert len(by_default.splitlines()) < len(everything.splitlines())


@pytest.mark.parametrize(("name", "count"), SUPERVISORS.items())
def test_a_converted_file_of_services_loads(name, count):
    path = EXAMPLES / f"{name}.toml"
    assert len(load_services(path)) == count
    if load_pipeline(path):
        assert "wave 0\n" in dry_run(path)


def test_each_converted_file_is_shown_in_a_page_and_tested_here():
    pages = "\n".join((ROOT / "docs" / "how-to" / page).read_text() for page in PAGES)
    names = {path.stem for path in EXAMPLES.glob("*.toml")}
    assert names == {*RUNNERS, *SUPERVISORS}
    assert set(re.findall(r"examples/coming-from/([\w-]+)\.toml", pages)) == names
