"""The resources that an agent may use on its host: processors, memory, GPUs."""

from __future__ import annotations

import os

from .._core import own_cgroups, read_cgroup


def usable_slots() -> int:
    """Return how many processors this process may use: its affinity, its cgroup's quota, its Slurm allocation."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for setting in _cgroup_settings("cpu.max"):
        quota = setting.split()
        if len(quota) == 2 and quota[0].isdecimal() and quota[1].isdecimal():
            count = min(count, max(1, int(quota[0]) // int(quota[1])))
    # where Slurm does not bind tasks (TaskPlugin=task/none), only its environment says what was allocated (srun(1)); and
    # more processors may be configured than exist
    allocated = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE") or ""
    return int(allocated) if allocated.isdecimal() and int(allocated) else count


def usable_memory() -> int | None:
    """Return how many bytes of memory this process may use, None if that can't be known."""
    found = [int(limit) for limit in _cgroup_settings("memory.max") if limit.isdecimal()]
    allocated = os.environ.get("SLURM_MEM_PER_NODE", "")
    if allocated.isdecimal() and int(allocated):
        found.append(int(allocated) * 2**20)
    try:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError):
        pass  # not known here
    return min(found) if found else None


def usable_gpus() -> list[str]:
    """Return the GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    return [
        name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip() not in ("", "-1")
    ]


def _cgroup_settings(name: str) -> list[str]:
    """Return a setting of this process's cgroup and of those above it, whose limits hold for it too (cgroups(7))."""
    return [read_cgroup(directory, name) for directory in own_cgroups()]
