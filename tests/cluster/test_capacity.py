"""What an agent may use: the limits of its cgroup, and of each one above it, hold."""

import os

import pytest

from trio_process._cluster import capacity
from trio_process._core.system import cgroups as cgroups_of_system

GIB = 2**30


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    """Make cgroups of these limits, and put this process into the last one."""
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE", "SLURM_MEM_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 2**24, "SC_PAGE_SIZE": 4096}.__getitem__)
    monkeypatch.setattr(cgroups_of_system, "_OURS", str(tmp_path / "ours"))
    monkeypatch.setattr(cgroups_of_system, "_MOUNTS", str(tmp_path / "mounts"))

    def make(settings, inside):
        for path, values in settings.items():
            place = tmp_path / "mounted" / path.removeprefix("/")
            place.mkdir(parents=True, exist_ok=True)
            for name, value in values.items():
                (place / name).write_text(f"{value}\n")
        (tmp_path / "ours").write_text(f"4:memory:/elsewhere\n0::{inside}\n")
        (tmp_path / "mounts").write_text(f"41 31 0:38 / {tmp_path}/mounted rw - cgroup2 cgroup2 rw\n")

    return make


@pytest.mark.parametrize(
    ("settings", "inside", "slots", "memory"),
    [
        ({}, "/job/step", 64, 64 * GIB),
        ({"/": {"memory.max": GIB, "cpu.max": "200000 100000"}}, "/", 2, GIB),
        ({"/job/step": {"memory.max": "max", "cpu.max": "max 100000"}}, "/job/step", 64, 64 * GIB),
        ({"/job": {"memory.max": GIB, "cpu.max": "400000 100000"}, "/job/step": {"memory.max": "max"}}, "/job/step", 4, GIB),
        ({"/job": {"memory.max": 3 * GIB}, "/job/a/b": {"memory.max": 2 * GIB}}, "/job/a/b", 64, 2 * GIB),
        ({"/job": {"memory.max": GIB}, "/job/a/b": {"memory.max": 2 * GIB}}, "/job/a/b", 64, GIB),
        ({"/job": {"cpu.max": "50000 100000"}, "/other": {"memory.max": 1}}, "/job/step", 1, 64 * GIB),
    ],
    ids=["none", "a container", "no limits", "of the job", "of the step", "lower above", "half a processor"],
)  # fmt: skip
def test_the_lowest_limit_from_here_to_the_root_holds(cgroups, settings, inside, slots, memory):
    cgroups(settings, inside)
    assert (capacity.usable_slots(), capacity.usable_memory()) == (slots, memory)


def test_without_cgroups_the_machine_is_the_limit(cgroups):
    assert (capacity.usable_slots(), capacity.usable_memory()) == (64, 64 * GIB)
