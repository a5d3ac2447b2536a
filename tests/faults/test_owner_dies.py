"""SIGKILL of the owner: what the guardian kills, what stays without one, and what is meant to stay."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress

import pytest
import trio
from harness import Program, a_stranger, new_tag, none_with_tag, program, read_line, running, some_with_tag, with_tag
from support import is_gone, process_of, state_of, wait_gone, wait_until

from trio_process import Service, ServiceOptions
from trio_process._process import Reactor
from trio_process._process.containment import Guardian
from trio_process._process.containment.guardian import _BLANK, _LINE, _SCRIPT

_OWNER = """
service = Service(options=ServiceOptions(guardian=True, grace_period=30))
async with service:
    tag = sys.argv[1]
    await service.start("sleep", tag)
    await service.start("sh", "-c", "trap '' TERM HUP; sleep $1 & setsid sleep $1 & sleep $1", "sh", tag)
    await service.start("sh", "-c", "(setsid nohup sleep $1 >/dev/null 2>&1 &); exec sleep $1", "sh", tag)
    print(service.statistics().guardian_pid, flush=True)
    await trio.sleep_forever()
"""


async def kill_owner(owner):
    """SIGKILL, and the time from then."""
    owner.send_signal(signal.SIGKILL)
    await owner.wait()
    return trio.current_time()


async def test_with_a_guardian_nothing_survives_sigkill_of_the_owner():
    tag = new_tag()
    with trio.fail_after(60), a_stranger("sleep", "3598", start_new_session=True):
        async with running(program(_OWNER, tag)) as owner:
            guardian = int(await read_line(owner))
            await some_with_tag(tag, 6)
            killed = await kill_owner(owner)
            await none_with_tag(tag)
            assert trio.current_time() - killed < 8.0  # 20 ms on a machine at rest; nothing else would end them
            await wait_gone(guardian)


async def test_a_guardian_that_is_killed_is_replaced():
    tag = new_tag()
    with trio.fail_after(60):
        async with running(program(_OWNER, tag), stderr=subprocess.DEVNULL) as owner:
            first = int(await read_line(owner))
            await some_with_tag(tag, 6)
            os.kill(first, signal.SIGKILL)
            (second,) = await wait_until(lambda: [pid for pid in guardians(owner.pid) if pid != first])
            assert len(with_tag(tag)) == 6
            await kill_owner(owner)
            await none_with_tag(tag)
            await wait_gone(second)


async def test_guardian_and_owner_killed_again_and_again_leave_nothing():
    tag = new_tag()
    with trio.fail_after(60):
        async with running(program(_OWNER, tag), stderr=subprocess.DEVNULL) as owner:
            seen = {int(await read_line(owner))}
            for _ in range(5):
                (guardian,) = await wait_until(lambda: guardians(owner.pid))
                os.kill(guardian, signal.SIGKILL)
                seen.add(guardian)
                await wait_until(lambda: (now := guardians(owner.pid)) and not seen & set(now))
            await kill_owner(owner)
            await none_with_tag(tag)


def guardians(owner):
    """Return the PIDs of the guardians of a process, by what they are called."""
    found = []
    for name in os.listdir("/proc"):
        process = process_of(int(name)) if name.isdecimal() else None
        if process is not None and process.parent == owner and process.state not in "ZX":
            with suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:  # it may have been reaped just now
                if b"trio-process-guardian" in file.read():
                    found.append(int(name))
    return found


async def test_a_guardian_is_small_alone_in_its_session_and_holds_only_its_pipe_and_table():
    with trio.fail_after(60):
        async with running(program(_OWNER, new_tag())) as owner:
            pid = int(await read_line(owner))

            def status():
                with open(f"/proc/{pid}/status") as file:
                    return dict(line.split(":", 1) for line in file)

            def ignored():
                return {number for number in wanted if int(status()["SigIgn"], 16) >> (number - 1) & 1}

            wanted = {
                signal.SIGINT,
                signal.SIGTERM,
                signal.SIGHUP,
                signal.SIGQUIT,
                signal.SIGTSTP,
                signal.SIGPIPE,
            }
            await wait_until(lambda: ignored() == wanted)  # a shell, which has to get to its first line
            assert int(status()["VmRSS"].split()[0]) < 3000  # kB
            with open(f"/proc/{pid}/cmdline", "rb") as file:  # which `ps` and `systemctl status` show
                assert len(file.read()) < 150
            assert os.getsid(pid) == pid
            targets = {os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")}
            assert len(targets) == 3
            assert os.devnull in targets
            await kill_owner(owner)
            await wait_gone(pid)


async def test_a_guardian_kills_the_groups_in_its_table_and_no_others():
    reactor = Reactor()
    with trio.fail_after(60), a_stranger("sleep", "3596", start_new_session=True) as stranger, ExitStack() as stack:
        stack.callback(reactor.close)
        guardian = Guardian("a-token-of-none", 123456789, reactor)
        stack.callback(guardian.close)
        guarded = [subprocess.Popen(["sleep", "60"], start_new_session=True) for _ in range(30)]
        for child in guarded:
            stack.callback(child.wait)
            stack.callback(child.kill)
            guardian.add(child.pid)
        guardian.add(stranger.pid)
        guardian.discard(guarded[3].pid)  # two lines to be used again
        guardian.discard(stranger.pid)
        guardian.discard(stranger.pid)
        guardian.add(guarded[3].pid)
        guardian.add(guarded[3].pid)
        with open(os.devnull) as null:
            os.dup2(null.fileno(), guardian._pipe)  # so the pipe ends
        await wait_until(lambda: all(child.poll() == -signal.SIGKILL for child in guarded))


def table(text):
    """Return a file in memory, as the table of a guardian."""
    number = os.memfd_create("table")
    os.pwrite(number, text, 0)
    return number


def lines_of(guardian):
    """Return the table of a guardian as lines."""
    return [line.strip() for line in os.pread(guardian._table, 2**16, 0).decode().splitlines()]


@contextmanager
def largest_file(size):
    """Let this process write no file past `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_guardian_takes_no_part_of_a_line_for_a_group(tmp_path):
    whole, blank = _LINE % 1234567, _BLANK
    begun = [whole[:size] + blank[size:] for size in range(15)]
    erased = [blank[:size] + whole[size:] for size in range(1, 17)]
    number = table(b"".join(begun + erased) + _LINE % 4711 + whole[:7])
    killed = tmp_path / "killed"
    script = f'kill() {{ echo "$*" >> {killed}; }}\n{_SCRIPT}'  # a true one could end every process on a mistake
    words = ["/bin/sh", "-c", script, "trio-process-guardian", "a-token-of-none", "", "123456789"]
    ours, pipe = os.pipe()
    os.close(pipe)
    subprocess.run(words, stdin=number, stdout=ours, timeout=60, check=True)
    os.close(ours)
    os.close(number)
    assert killed.read_text() == "-s KILL -- -4711\n"


@pytest.mark.parametrize("size", [*range(16, 32), 4096 + 5])
async def test_a_group_that_finds_no_room_in_the_table_is_not_half_in_it(size, caplog):
    reactor = Reactor()
    with ExitStack() as stack:
        stack.callback(reactor.close)
        guardian = Guardian("a-token-of-none", 123456789, reactor)
        stack.callback(guardian.close)
        room = size // 16
        with largest_file(size):
            for group in range(1_000_000, 1_000_000 + room + 1):
                guardian.add(group)
            assert "no room for a group" in caplog.text
            caplog.clear()
            whole = [line for line in lines_of(guardian) if line.startswith("+") and line.endswith(".")]
            assert whole == [f"+{group:12d} ." for group in range(1_000_000, 1_000_000 + room)]
            guardian.discard(1_000_000 + room)
        guardian.add(1_000_000 + room)
        assert lines_of(guardian)[room] == f"+{1_000_000 + room:12d} ."
        assert caplog.text == ""


async def test_a_group_that_can_not_be_taken_out_of_the_table_is_forgotten_with_it(caplog):
    reactor = Reactor()
    with ExitStack() as stack:
        stack.callback(reactor.close)
        guardian = Guardian("a-token-of-none", 123456789, reactor)
        stack.callback(guardian.close)
        guardian.add(4711)
        guardian.add(4712)
        with largest_file(0):
            guardian.discard(4711)
            assert "no guardian could be started" in caplog.text
            assert guardian.pid is None
            guardian.discard(4713)
            guardian.add(4714)
        caplog.clear()
        guardian.add(4715)
        assert lines_of(guardian) == [f"+{group:12d} ." for group in (4712, 4714, 4715)]
        guardian.discard(4712)
        guardian.add(4716)
        assert lines_of(guardian) == [f"+{group:12d} ." for group in (4716, 4714, 4715)]
        assert caplog.text == ""


async def test_a_service_that_may_write_no_file_any_more_goes_on(caplog):
    with trio.fail_after(60):
        async with Service(options=ServiceOptions(guardian=True)) as service:
            first = await service.start("cat")
            with largest_file(0):
                assert (await service.run("echo", "one")).output == "one\n"
                await first.close_stdin()
                assert await first.wait() == 0
            assert (await service.run("echo", "two")).output == "two\n"
            assert service.statistics().guardian_pid is not None
    assert "bug" not in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
async def test_a_guardian_kills_also_while_no_process_can_be_forked():
    user = 2_000_000 + os.getpid()  # that no other process is: the kernel counts all of a user (getrlimit(2))
    token = f"token-{user}"
    with trio.fail_after(60), ExitStack() as stack:

        def start(*words, **options):
            child = subprocess.Popen(words, user=user, group=user, extra_groups=[], cwd="/", **options)
            stack.callback(child.wait)
            stack.callback(child.kill)
            return child

        leader = start("sleep", "60", process_group=0)
        members = [start("sleep", "60", process_group=leader.pid) for _ in range(2)]
        escapee = start("sleep", "60", start_new_session=True, env={**os.environ, "TRIO_PROCESS_ID": f"{token}-1"})
        number = table(_LINE % leader.pid)
        theirs, ours = os.pipe()
        guardian = start(
            *("/bin/sh", "-c", 'eval "$trio_process_script"', "trio-process-guardian", token, "", "123456789"),
            stdin=number,
            stdout=theirs,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "trio_process_script": _SCRIPT},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NPROC, (5, 5)),  # as many as there are then
        )
        for descriptor in (number, theirs, ours):
            os.close(descriptor)
        await wait_until(lambda: all(child.poll() == -signal.SIGKILL for child in (leader, *members, escapee)))
        await wait_until(lambda: guardian.poll() == 0)


THREAD = "import threading, time; threading.Thread(target=time.sleep, args=(60,)).start()"


@pytest.mark.parametrize("script", ["", THREAD], ids=["a zombie", "a zombie with a live thread"])
async def test_a_guardian_kills_a_zombie_and_looks_for_it_no_longer(script, tmp_path):
    limit, scans = 10**8 + os.getpid(), tmp_path / "scans"
    (tmp_path / "grep").write_text(f'#!/bin/sh\necho >> {scans}\nexec {shutil.which("grep")} "$@"\n')
    (tmp_path / "grep").chmod(0o755)
    with trio.fail_after(60), ExitStack() as stack:
        mark = f"import resource; resource.setrlimit(resource.RLIMIT_RTTIME, ({10 * limit}, {10 * limit}))"
        end = "import ctypes; ctypes.CDLL(None).pthread_exit(None)"
        child = subprocess.Popen([sys.executable, "-c", f"{mark}\n{script}\n{end}"])  # not reaped before the end
        stack.callback(child.wait)
        stack.callback(child.kill)
        await wait_until(lambda: state_of(child.pid) == "Z")
        tasks = f"/proc/{child.pid}/task"
        assert len(os.listdir(tasks)) == (2 if script else 1)
        with open(os.devnull) as ended:  # as a pipe whose other end is closed
            await trio.run_process(
                ["/bin/sh", "-c", _SCRIPT, "trio-process-guardian", f"token-{limit}", "", str(limit)],
                stdout=ended,
                env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
            )
        assert scans.read_text() == "\n" * 4  # by two marks, and once more
        await wait_until(lambda: len(os.listdir(tasks)) == 1)


async def test_a_guardian_heeds_no_variable_of_its_owner():
    tag = new_tag()
    with trio.fail_after(60), a_stranger("sleep", "3597", start_new_session=True) as stranger:
        environment = {**os.environ, f"group_{stranger.pid}": "1", "X": f"a\ngroup_{stranger.pid}=1"}
        async with running(program(_OWNER, tag), env=environment) as owner:
            guardian = int(await read_line(owner))
            await some_with_tag(tag, 6)
            await kill_owner(owner)
            await none_with_tag(tag)
            await wait_gone(guardian)
            assert not is_gone(stranger.pid)


async def test_a_clean_end_leaves_no_guardian():
    with trio.fail_after(60):
        body = """
async with Service(options=ServiceOptions(guardian=True)) as service:
    await service.run("true")
    print(service.statistics().guardian_pid, flush=True)
"""
        async with running(program(body)) as owner:
            guardian = int(await read_line(owner))
            await owner.wait()
            assert is_gone(guardian)


async def test_without_a_guardian_children_outlive_sigkill_of_the_owner():
    tag = new_tag()
    with trio.fail_after(60):
        async with running(program(_OWNER.replace("guardian=True", "guardian=False"), tag)) as owner:
            assert await read_line(owner) == "None"
            pids = await some_with_tag(tag, 6)
            await kill_owner(owner)
            assert sorted(with_tag(tag)) == sorted(pids)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            await none_with_tag(tag)


async def test_a_nested_service_goes_with_the_program_that_is_killed():
    tag = new_tag()
    with trio.fail_after(60):
        async with running(
            program(_NESTING, tag, *program(_OWNER.replace("guardian=True", "guardian=False"), tag))
        ) as outer:
            inner = int(await read_line(outer))
            await some_with_tag(tag, 6)
            os.kill(inner, signal.SIGKILL)
            assert await read_line(outer) == "-9"
            assert with_tag(tag) == []


_NESTING = """
async with Service(options=ServiceOptions(guardian=True)) as service:
    inner = await service.start(*sys.argv[2:])
    await inner.wait_for_line("None")
    print(inner.pid, flush=True)
    print(await inner.wait(check=False), flush=True)
    await trio.sleep_forever()
"""


async def test_a_nested_service_goes_with_the_outermost_owner():
    tag = new_tag()
    with trio.fail_after(60):
        async with running(
            program(_NESTING, tag, *program(_OWNER.replace("guardian=True", "guardian=False"), tag))
        ) as outer:
            await read_line(outer)
            await some_with_tag(tag, 6)
            await kill_owner(outer)
            await none_with_tag(tag)


@pytest.mark.parametrize("pipe", [True, False])
async def test_sigkill_of_the_command_line_leaves_nothing(pipe):
    tag = new_tag()
    words = ("exec", "--", "sh", "-c", "setsid sleep $1 & sleep $1", "sh", tag)
    command = Program((sys.executable, "-m", "trio_process", *words))
    with trio.fail_after(60):
        async with running(command, stdout=subprocess.PIPE if pipe else subprocess.DEVNULL) as cli:
            await some_with_tag(tag, 2)
            await kill_owner(cli)
            await none_with_tag(tag)
