"""The files that patterns match: as `glob` has it, but that links which go round cost nothing."""

import glob
import os
import time

import pytest

from trio_process import RunSpec
from trio_process._pipeline.memory.fingerprint import ABSENT, Digests, find_files
from trio_process._pipeline.memory.patterns import matches

FILES = ("a.py", "b.txt", ".hidden", "sub/c.py", "sub/.d.py", "sub/deep/e.py", ".git/f.py", "sub/x[1].py", "größe/g.py")


@pytest.fixture
def tree(tmp_path):
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def files(root, paths):
    return {path for path in paths if os.path.isfile(os.path.join(root, path))}


@pytest.mark.parametrize(
    "pattern",
    ["*", "*.py", "**/*.py", "sub/**/*.py", "sub/*", "s*/**/e.py", "**/deep/*", "**/**/*.py", "nothing/**", "x**", "[ab].*",
     "sub/x[[]1].py", "./**/*.py", "../*/a.py", "gr*/g.py", "**/.d*", "a.py/**", "**/*", "**"],
)  # fmt: skip
def test_the_same_files_match_as_with_glob(tree, pattern):
    assert files(tree, matches(str(tree), pattern)) == files(tree, glob.glob(pattern, root_dir=tree, recursive=True))
    if pattern != "**":  # a directory, elsewhere than here, stands for itself
        shown = f"{tree}/{pattern}"
        assert files("/", matches("/", shown)) == files("/", glob.glob(shown, recursive=True))


@pytest.mark.parametrize("pattern", ["**/*.py", "**", "sub/**", "sub", "**/none"])
def test_links_that_go_round_are_not_followed(tree, pattern):
    for n in range(6):
        (tree / f"round{n}").symlink_to(".")
        (tree / "sub" / f"round{n}").symlink_to("..")
    began = time.monotonic()
    found = find_files(RunSpec(name="t", command="x", cwd=tree), [pattern], Digests(b"", {}))
    assert time.monotonic() - began < 20
    assert not any("round" in path for path, digest in found.items() if digest != ABSENT)


def test_a_directory_stands_for_all_files_in_it_and_names_that_are_not_utf_8_are_kept_apart(tree):
    for name in (b"\xff", b"\xfe"):
        with open(os.path.join(os.fsencode(tree), b"sub", name), "wb") as file:
            file.write(name)
    found = find_files(RunSpec(name="t", command="x", cwd=tree), ["sub"], Digests(b"", {}))
    odd = {os.fsdecode(b"sub/" + name) for name in (b"\xff", b"\xfe")}
    assert set(found) == {"sub/c.py", "sub/.d.py", "sub/deep/e.py", "sub/x[1].py"} | odd
    assert len(set(found.values())) == len(found)
    assert find_files(RunSpec(name="t", command="x", cwd=tree), ["sub/**"], Digests(b"", {})) == found


def test_what_can_not_be_read_is_absent_and_what_never_ends_is_not_read(tree):
    os.mkfifo(tree / "fifo")
    (tree / "loop").symlink_to("loop")
    spec = RunSpec(name="t", command="x", cwd=tree)
    names = ["fifo", "loop", "/dev/zero", "x" * 300, "a.py/x"]
    assert find_files(spec, names, Digests(b"", {})) == dict.fromkeys(names, ABSENT)


def test_brackets_stand_for_themselves_too(tree):
    spec = RunSpec(name="t", command="x", cwd=tree)
    for pattern in ("sub/x[1].py", "sub/x[1].*", "**/x[1].py"):
        assert list(find_files(spec, [pattern], Digests(b"", {}))) == ["sub/x[1].py"]
    (tree / "sub" / "x1.py").write_text("")
    assert list(find_files(spec, ["sub/x[1].py"], Digests(b"", {}))) == ["sub/x1.py", "sub/x[1].py"]


@pytest.mark.parametrize("pattern", ["**/" * 40 + "x", "**/d/" * 12 + "**/x", "**/*/" * 12 + "**/x", "**/d/**/" * 12])
def test_many_wildcards_of_any_depth_take_no_longer_than_a_few(tmp_path, pattern):
    deep = tmp_path.joinpath(*["d"] * 40)
    deep.mkdir(parents=True)
    (deep / "x").write_text("")
    began = time.monotonic()
    found = find_files(RunSpec(name="t", command="x", cwd=tmp_path), [pattern], Digests(b"", {}))
    assert list(found) == ["/".join(["d"] * 40 + ["x"])]
    assert time.monotonic() - began < 20
