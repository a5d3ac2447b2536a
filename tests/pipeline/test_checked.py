"""The kept values of a large file are those of the file, and are used only as long as it means the same."""

import os
from pathlib import Path

import pytest

from trio_process import PipelineError
from trio_process._pipeline import read_pipeline
from trio_process._pipeline.file import checked, load

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path
    for folder in ("docs/examples", "tests/pipeline/converted")
    for path in (ROOT / folder).rglob("*.toml")
    if path.name != "pyproject.toml" and "include" not in path.read_text()
)
TEXT = """
default = ["test-a-1"]
cleanup-timeout = "5s"
[defaults]
timeout = "1m"
env = { MODE = "ci" }
[tasks.lint]
run = ["ruff", "check", "ä b", ""]
description = "Checks"
inputs = ["src/**/*.py", "conf"]
outputs = "out"
dir = "sub"
[tasks.test]
shell = "pytest ${matrix.os}; $HOME $$"
after = ["lint"]
matrix = { os = ["a", "b"], n = [1, 2] }
retries = 3
retry-delay = 0.5
stop-signal = "INT"
ok-exit-codes = [0, 5]
limits = { nofile = [10, 20], core = "unlimited" }
resources = { cpus = 2, memory = "1G" }
arguments = false
[tasks.ask]
run = "python"
interactive = true
manual = true
when = "always"
allow-failure = true
nice = 5
[tasks.log]
run = "x"
log-file = "log/x"
stdin = "data"
idle-timeout = 3
grace-period = 1
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(checked, "LARGE", 0)
    (tmp_path / "kept").mkdir()
    (tmp_path / "trio-process.toml").write_text(TEXT, encoding="utf-8")
    return tmp_path


def read(place):
    return read_pipeline(place / "trio-process.toml", keep_in="kept")


def read_without_parsing(place, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(load, "_parse", lambda *_: pytest.fail("it was parsed"))
        return read(place)


def test_they_are_those_of_the_file_in_every_field(place, monkeypatch):
    first = read(place)
    again = read_without_parsing(place, monkeypatch)
    assert again == first == read_pipeline(place / "trio-process.toml")
    assert [spec.options for spec in again.specs] == [spec.options for spec in first.specs]
    assert [repr(spec) for spec in again.specs] == [repr(spec) for spec in first.specs]
    assert [hash(spec.name) for spec in again.specs] == [hash(spec.name) for spec in first.specs]
    assert (again.default, again.cleanup_timeout, len(again.tasks)) == (("test-a-1",), 5.0, 7)
    assert (place / "kept" / "trio-process.toml.checked").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_files_of_the_documentation_mean_the_same(place, path):
    (place / "trio-process.toml").write_bytes(path.read_bytes())
    for other in path.parent.glob("*"):
        if other.is_file() and other.name != "trio-process.toml":
            (place / other.name).write_bytes(other.read_bytes())
    first = read(place)
    again = read(place)
    for one in (first, again):
        assert one.tasks == first.tasks
        assert (one.default, one.cleanup_timeout, one.strategy) == (
            first.default,
            first.cleanup_timeout,
            first.strategy,
        )
        assert [entry.name for entry in one.services] == [entry.name for entry in first.services]


DEPENDENT = {
    "a variable": '[tasks.a]\nrun = "echo ${HOME}"',
    "a default": '[tasks.a]\nrun = "echo ${NOPE:-x}"',
    "the directory of the file": '[tasks.a]\nrun = "echo ${file.dir}"',
    "a secret": 'secrets = ["NOPE"]\n[tasks.a]\nrun = "x"',
    "a secret of a task": '[tasks.a]\nrun = "x"\nsecrets = ["NOPE"]',
    "an env file": '[tasks.a]\nrun = "x"\nenv-file = { path = "nope", optional = true }',
    "an env file of all": '[defaults]\nenv-file = { path = "nope", optional = true }\n[tasks.a]\nrun = "x"',
    "a user": '[tasks.a]\nrun = "x"\nuser = 0',
    "a service": '[services.a]\nrun = "x"\n[tasks.a]\nrun = "x"',
    "an included file": 'include = { other = "other.toml" }\n[tasks.a]\nrun = "x"',
}


@pytest.mark.parametrize("what", DEPENDENT)
def test_a_file_that_depends_on_more_than_its_text_is_not_kept(place, what):
    (place / "other.toml").write_text('[tasks.b]\nrun = "x"')
    (place / "trio-process.toml").write_text(DEPENDENT[what])
    read(place)
    assert os.listdir(place / "kept") == []


def test_a_file_with_faults_is_not_kept(place):
    (place / "trio-process.toml").write_text(TEXT + "[tasks.bad]\n")
    with pytest.raises(PipelineError, match="has neither"):
        read(place)
    assert os.listdir(place / "kept") == []


def test_small_files_and_places_without_the_directory_are_left_alone(place, monkeypatch):
    monkeypatch.setattr(checked, "LARGE", 2**15)
    read(place)
    assert os.listdir(place / "kept") == []
    monkeypatch.setattr(checked, "LARGE", 0)
    (place / "kept").rmdir()
    assert len(read(place).tasks) == 7
    assert not (place / "kept").exists()
    assert len(read_pipeline(place / "trio-process.toml").tasks) == 7
    assert not (place / "kept").exists()


def test_a_file_that_has_changed_is_read_again(place, monkeypatch):
    read(place)
    (place / "trio-process.toml").write_text(TEXT.replace("retries = 3", "retries = 4"), encoding="utf-8")
    assert {spec.retries for spec in read(place).specs} == {0, 4}
    assert {spec.retries for spec in read_without_parsing(place, monkeypatch).specs} == {0, 4}


@pytest.mark.parametrize("what", ["its place", "its encoding", "our modules"])
def test_the_same_text_elsewhere_is_read_again(place, monkeypatch, what, tmp_path_factory):
    read(place)
    parsed, parse = [], load._parse
    monkeypatch.setattr(load, "_parse", lambda *args: (parsed.append(args), parse(*args))[1])
    read(place)
    assert parsed == []
    if what == "its place":
        other = tmp_path_factory.mktemp("other") / "place"
        place.rename(other)
        place = other
    elif what == "its encoding":
        monkeypatch.setattr(checked.sys, "getfilesystemencoding", lambda: "ascii")
    else:
        ours = tmp_path_factory.mktemp("ours")
        (ours / "new.py").write_text("")
        monkeypatch.setattr(checked, "_CODE", (ours,))
    found = read(place)
    assert len(parsed) == 1
    assert found.specs[0].cwd == str(place / "sub")


@pytest.mark.parametrize("how", ["cut", "others can write", "not ours", "a directory"])
def test_kept_values_that_can_not_be_trusted_are_not_used(place, how):
    first = read(place)
    kept = place / "kept" / "trio-process.toml.checked"
    if how == "cut":
        kept.write_bytes(kept.read_bytes()[:-1])
    elif how == "others can write":
        kept.chmod(0o666)
    elif how == "not ours":
        kept.write_bytes(b"x" * 1000)
    else:
        kept.unlink()
        kept.mkdir()
    assert read(place) == first
