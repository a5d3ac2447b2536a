"""Where the cgroups of this process are: what the kernel says of them, and where they are mounted."""

import os

import pytest

from trio_process._core import own_cgroups, read_cgroup
from trio_process._core.system import cgroups

OLD = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu"


def mount(place, root="/", options="shared:9 "):
    return f"41 31 0:38 {root} {place} rw,relatime {options}- cgroup2 cgroup2 rw"


@pytest.fixture
def found(tmp_path, monkeypatch):
    def found(ours, *mounts):
        for name, lines in (("_OURS", ours), ("_MOUNTS", "\n".join([OLD, *mounts]))):
            (tmp_path / name).write_text(f"{lines}\n")
            monkeypatch.setattr(cgroups, name, str(tmp_path / name))
        return own_cgroups()

    return found


@pytest.mark.parametrize(
    ("inside", "mounts", "directories"),
    [
        ("/", [mount("/sys/fs/cgroup")], ["/sys/fs/cgroup"]),
        ("/a/b", [mount("/c")], ["/c/a/b", "/c/a", "/c"]),
        ("/a", [mount("/sys/fs/cgroup/unified", options="")], ["/sys/fs/cgroup/unified/a", "/sys/fs/cgroup/unified"]),
        ("/pod/box", [mount("/c", "/pod/box")], ["/c"]),
        ("/pod/box/a", [mount("/c", "/pod/box", "shared:1 master:2 ")], ["/c/a", "/c"]),
        ("/pod/box", [mount("/other", "/pod/boxes"), mount("/c")], ["/c/pod/box", "/c/pod", "/c"]),
        ("/pod/box", [mount("/other", "/pod/bo")], []),
        ("/../a", [mount("/c")], []),
        ("/../a", [mount("/c", "/..")], ["/c/a", "/c"]),
        ("/a b", [mount("/c\\040d", "/a\\040b")], ["/c d"]),
        ("/cgroup2", ["41 31 0:38 / /cgroup2 rw - tmpfs cgroup2 rw", mount("/c")], ["/c/cgroup2", "/c"]),
        ("/a", [], []),
    ],
    ids=[
        "a container", "below", "beside the old ones", "a part", "below a part", "another part first", "only another part",
        "outside of the namespace", "a namespace below the mount", "blanks", "of that name", "none",
    ],
)  # fmt: skip
def test_the_directories_follow_from_the_path_and_the_mount(found, inside, mounts, directories):
    assert found(f"4:memory:/elsewhere\n0::{inside}", *mounts) == directories


def test_without_the_unified_hierarchy_there_are_none(found, monkeypatch):
    assert found("4:memory:/a", mount("/c")) == []
    monkeypatch.setattr(cgroups, "_OURS", "/no/such/file")
    assert own_cgroups() == []


def test_what_is_found_here_is_there():
    assert all(map(os.path.isdir, own_cgroups()))


def test_a_setting_is_stripped_and_empty_if_there_is_none(tmp_path):
    (tmp_path / "memory.max").write_text("max\n")
    assert (read_cgroup(str(tmp_path), "memory.max"), read_cgroup(str(tmp_path), "cpu.max")) == ("max", "")
