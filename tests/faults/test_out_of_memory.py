"""The peak of memory and the out-of-memory killer, told by cgroups where the kernel counts their memory."""

import os
from pathlib import Path

import pytest
import trio
from harness import needs_cgroups
from support import runtime_of

from trio_process import Service, ServiceOptions
from trio_process._process.containment import cgroup


def test_the_peak_and_the_oom_killer_are_read_where_the_kernel_tells(tmp_path):
    cell = cgroup.Cgroup(str(tmp_path))
    assert (cell.peak, cell.oom_killed) == (None, None)
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 3\noom 1\noom_kill 0\noom_group_kill 0\n")
    assert cell.oom_killed is False
    (tmp_path / "memory.peak").write_text("123456\n")
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\noom_group_kill 0\n")
    assert (cell.peak, cell.oom_killed) == (123456, True)


@needs_cgroups
async def test_the_peak_and_the_oom_killer_are_reported_where_the_kernel_counts_memory():
    eater = "read -r line; exec python3 -c 'print(len(bytearray(100_000_000)))'"
    with trio.fail_after(60):
        async with Service(options=ServiceOptions(containment="cgroup")) as service:
            process = await service.start("sh", "-c", eater)
            limit = Path(runtime_of(service).backend._cgroups.path, process.id, "memory.max")
            counted = limit.exists()
            if counted:
                limit.write_text("30M")
            await process.send_input("\n")
            await process.wait(check=False)
            usage = process.result().usage
            if not counted:
                assert usage.oom_killed is None
                pytest.skip("memory is not counted here: no delegated cgroup with this process alone in it")
            assert process.signal_name == "SIGKILL"
            assert usage.oom_killed is True
            assert 20 * 2**20 < usage.max_rss <= 30 * 2**20
            fine = await service.run("true")
            assert fine.usage.oom_killed is False


@pytest.fixture
def unit(tmp_path):
    """Return what stands for the cgroup of a unit, and marks it as delegated, with these processes in it."""

    def make(processes, *, controllers="cpu memory pids", delegated=True, name="myapp.service"):
        path = tmp_path / name
        path.mkdir()
        (path / "cgroup.controllers").write_text(f"{controllers}\n")
        (path / "cgroup.subtree_control").write_text("\n")
        (path / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in processes))
        if delegated:
            try:
                os.setxattr(path, "user.delegate", b"1")
            except OSError:
                pytest.skip("this file system has no extended attributes")
        return path

    return make


def test_this_process_leaves_a_delegated_cgroup_that_it_is_alone_in(unit):
    path = unit([os.getpid()])
    assert cgroup.base_of(str(path)) == str(path)
    assert cgroup.count_memory(str(path))
    main = path / "trio-process-main"
    assert (main / "cgroup.procs").read_text() == "0"
    assert (path / "cgroup.subtree_control").read_text() == "+memory"
    assert cgroup.base_of(str(main)) == str(path)  # for the next service


def test_in_an_empty_delegated_cgroup_only_the_controller_is_passed_on(unit):
    path = unit([])
    assert cgroup.count_memory(str(path))
    assert not (path / "trio-process-main").exists()
    assert (path / "cgroup.subtree_control").read_text() == "+memory"


@pytest.mark.parametrize(
    ("processes", "changes"),
    [
        ([os.getpid()], {"delegated": False}),
        ([os.getpid()], {"delegated": False, "name": "session.scope"}),
        ([os.getpid()], {"controllers": "pids"}),
        ([os.getpid()], {"controllers": ""}),
        ([os.getpid(), 1], {}),
        ([0, os.getpid()], {}),
        ([1], {}),
    ],
    ids=["not delegated", "of root", "no controller", "none", "another process", "an unseen one", "only others"],
)
def test_a_cgroup_that_is_not_ours_alone_stays_as_it_is(unit, processes, changes):
    if changes.get("name") and os.geteuid() != 0:
        pytest.skip("only root's scopes are not its own")
    path = unit(processes, **changes)
    before = {entry.name: entry.read_text() for entry in path.iterdir()}
    assert not cgroup.count_memory(str(path))
    assert {entry.name: entry.read_text() for entry in path.iterdir()} == before


def test_a_scope_of_this_user_counts_as_delegated(unit, monkeypatch):
    path = unit([], delegated=False, name="run-r1.scope")
    if os.geteuid() == 0:
        os.chown(path, 1000, -1)
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cgroup.count_memory(str(path))


def test_a_cgroup_that_passes_memory_on_already_is_used_as_it_is(unit):
    path = unit([1], delegated=False)
    (path / "cgroup.subtree_control").write_text("memory pids\n")
    assert cgroup.count_memory(str(path))
    assert (path / "cgroup.subtree_control").read_text() == "memory pids\n"
