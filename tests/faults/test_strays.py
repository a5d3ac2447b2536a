"""Orphans that the kernel gives to this program, as PID 1 or as a subreaper: reaped, and nobody else's status with them."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import trio
from harness import program, read_line, running

from trio_process import OptionError, ServiceOptions

HEAD = """
import asyncio, ctypes, subprocess, time
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0

def zombies():
    found = []
    for name in os.listdir("/proc"):
        try:
            state, parent = open(f"/proc/{name}/stat").read().rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        if state == "Z" and int(parent) == os.getpid():
            found.append(int(name))
    return found
"""

ORPHANS = [
    "sleep 0.05 & exit",  # of the group
    "setsid sleep 0.05 & exit",
    "(setsid sh -c 'sleep 0.05 & exit' &)",
    "env -i setsid sleep 0.05 & exit",
]


@pytest.mark.parametrize("orphan", ORPHANS)
@pytest.mark.parametrize("strays", ["descendants", "all", "leave"])
async def test_strays_are_reaped_where_that_is_asked_for(orphan, strays):
    body = f"""
async with Service(options=ServiceOptions(strays={strays!r})) as service:
    await service.run("sh", "-c", {orphan!r}, kill_group=False)
    await service.run("true")
    deadline = trio.current_time() + (20 if {strays != "leave"} else 1.5)
    await trio.sleep(0.2)
    while zombies() and trio.current_time() < deadline:
        await trio.sleep(0.05)
    print(len(zombies()), flush=True)
"""
    with trio.fail_after(60):
        async with running(program(f"{HEAD.strip()}\n{body.strip()}")) as owner:
            assert (int(await read_line(owner)) > 0) == (strays == "leave")


STRANGERS = """
async with Service(options=ServiceOptions(strays="descendants")) as service:
    plain = subprocess.Popen(["sh", "-c", "exit 3"])
    session = subprocess.Popen(["sh", "-c", "exit 4"], start_new_session=True)
    forked = os.fork()
    if not forked:
        os._exit(5)
    other = await trio.lowlevel.open_process(["sh", "-c", "exit 6"])
    await service.run("sh", "-c", "sleep 0.05 & exit", kill_group=False)
    await trio.sleep(1.5)  # three looks
    print(plain.wait(), session.wait(), os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]), await other.wait(), flush=True)
    print((await service.run("sh", "-c", "exit 7", check=False)).exit_code, flush=True)
    print((await service.run("sh", "-c", "exit 8", check=False, nice=0)).exit_code, flush=True)
"""


async def test_the_status_of_a_child_that_other_code_waits_for_is_left_alone():
    with trio.fail_after(60):
        async with running(program(f"{HEAD.strip()}\n{STRANGERS.strip()}")) as owner:
            assert await read_line(owner) == "3 4 5 6"
            assert await read_line(owner) == "7"
            assert await read_line(owner) == "8"


def test_an_unknown_way_is_refused():
    with pytest.raises(OptionError, match="strays must be one of leave, descendants, all, got 'some'"):
        ServiceOptions(strays="some")


def can_unshare():
    command = ["unshare", "-pf", "--mount-proc", "true"]
    return (
        shutil.which("unshare")
        and subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0
    )


@pytest.mark.skipif(not can_unshare(), reason="no PID namespace can be made here (unshare(1))")
@pytest.mark.parametrize("command", ["exec", "run"])
async def test_the_command_line_as_pid_1_leaves_no_zombie(command, tmp_path):
    script = "for i in 1 2 3 4 5; do (setsid sleep 0.1 &); done; sleep 2; grep -l '^State:.Z' /proc/[0-9]*/status || true; echo end"
    (tmp_path / "trio-process.toml").write_text(f"[tasks.t]\nshell = {json.dumps(script)}\n")
    arguments = ["exec", "--", "sh", "-c", script] if command == "exec" else ["run"]
    with trio.fail_after(60):
        done = await trio.run_process(
            ["unshare", "-pf", "--mount-proc", sys.executable, "-m", "trio_process", *arguments],
            capture_stdout=True,
            cwd=tmp_path,
        )
    lines = done.stdout.decode().splitlines()
    assert any("end" in line for line in lines)
    assert not [line for line in lines if re.search(r"/proc/\d+/status", line)]
