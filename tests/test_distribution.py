"""What is built is complete, and reads well where it is published: the archives are made and opened here."""

import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import trio_process

ROOT = Path(__file__).parents[1]
VERSION = trio_process.__version__
# what the tests and the README's commands read, beside the package
NEEDED = [
    ".ci/run",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE.APACHE2",
    "LICENSE.MIT",
    "README.md",
    "SECURITY.md",
    "bench/__main__.py",
    "docs/_static/live-view.svg",
    "docs/conf.py",
    "docs/examples/first_run.py",
    "noxfile.py",
    "pyproject.toml",
    "tests/conftest.py",
    "tests/public_attributes.txt",
    "trio-process.toml",
]

pytestmark = pytest.mark.xdist_group("distribution")  # one worker builds the archives


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    pytest.importorskip("hatchling", reason="hatchling builds the archives")
    directory = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(directory)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return directory


@pytest.fixture(scope="module")
def wheel(built):
    with zipfile.ZipFile(built / f"trio_process-{VERSION}-py3-none-any.whl") as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel):
    return message_from_bytes(wheel.read(f"trio_process-{VERSION}.dist-info/METADATA"))


def test_the_source_archive_has_what_its_tests_and_commands_need(built):
    with tarfile.open(built / f"trio_process-{VERSION}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py")}
    assert not {*NEEDED, *tracked} - names
    assert not [name for name in names if "__pycache__" in name or name.startswith(("docs/_build", ".venv", ".nox"))]


def test_the_wheel_holds_the_two_packages_and_nothing_else(wheel):
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert tops == {"trio_process", "pytest_trio_process", f"trio_process-{VERSION}.dist-info"}
    data = {
        str(path.relative_to(ROOT)) for path in (ROOT / "trio_process").rglob("*.*") if "__pycache__" not in path.parts
    }
    assert not data - set(wheel.namelist())


def test_the_metadata_names_authors_and_where_things_are(metadata):
    assert metadata["Version"] == VERSION
    assert metadata["Author"]
    links = dict(value.split(", ", 1) for value in metadata.get_all("Project-URL"))
    assert links.keys() == {"Documentation", "Source", "Changelog", "Issues"}
    assert all(link.startswith("https://") for link in links.values())
    assert metadata["License-Expression"] == "MIT OR Apache-2.0"


def test_the_readme_has_no_link_that_is_dead_on_the_package_index(metadata):
    text = metadata.get_payload()
    assert text.startswith("# trio-process")
    relative = [line for line in text.replace("](https://", "").splitlines() if "](" in line]
    assert not relative


def test_the_changelog_has_a_section_for_this_version():
    assert f"## [{VERSION}] - " in (ROOT / "CHANGELOG.md").read_text()
