"""The resources that an agent may use on its host: processors, memory, GPUs; and the identity of the host."""

from __future__ import annotations

import os


def usable_slots() -> int:
    """Return how many processors this process may use: its affinity, its cgroup's quota, its Slurm allocation."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_value("cpu.max").split()
    if len(quota) == 2 and quota[0].isdecimal() and quota[1].isdecimal():
        count = min(count, max(1, int(quota[0]) // int(quota[1])))
    # where Slurm does not bind tasks (TaskPlugin=task/none), only its environment says what was allocated (srun(1)); and
    # more processors may be configured than exist
    allocated = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE") or ""
    return int(allocated) if allocated.isdecimal() and int(allocated) else count


def usable_memory() -> int | None:
    """Return how many bytes of memory this process may use, None if that can't be known."""
    found = []
    limit = _cgroup_value("memory.max")
    if limit.isdecimal():
        found.append(int(limit))
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


def place() -> str:
    """Return the boot and the PID namespace: two processes for which these are equal see the same PIDs."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _cgroup_value(name: str) -> str:
    """Return a setting of this process's cgroup (cgroups(7)), empty if it has none."""
    try:
        with open("/proc/self/cgroup") as file:
            path = next((line[3:].strip() for line in file if line.startswith("0::")), "")
        with open(f"/sys/fs/cgroup{path}/{name}") as file:
            return file.read().strip()
    except OSError:
        return ""
