"""Nothing left: no descriptors, no processes, no privilege; and everything at once."""

import errno
import os
import pwd
import re
import resource
import time
from contextlib import contextmanager

import pytest
import trio
from harness import new_tag, none_with_tag, program, some_with_tag, with_tag
from support import child_of, open_descriptors, sh, wait_until

from trio_process import (
    ActionProcessExited,
    ActionProcessOutput,
    ProcessNotFoundError,
    ProcessStartError,
    Service,
    ServiceOptions,
    Status,
)
from trio_process._process import Reactor
from trio_process._process.output import Capture, Ring

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")


@pytest.fixture
def lonely(monkeypatch):
    """A user that no other process is: the kernel counts all of a user, also those of the test beside (getrlimit(2))."""
    number = 1_000_000 + os.getpid()
    entry = pwd.struct_passwd(("lonely", "x", number, number, "", "/", "/bin/sh"))
    others = pwd.getpwuid
    monkeypatch.setattr(pwd, "getpwuid", lambda user: entry if user == number else others(user))
    return number


@contextmanager
def no_descriptors_left():
    """Let this process open nothing more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    fill = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2, before[1]))
    try:
        while True:
            try:
                fill.append(os.dup(0))
            except OSError:
                break
        yield
    finally:
        for descriptor in fill:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_without_descriptors_a_start_fails_with_advice_and_everything_else_goes_on():
    with trio.fail_after(20):
        async with Service() as service:
            echo = await service.start("cat")
            await echo.send_input("before\n")
            await echo.wait_for_line("before")
            held = open_descriptors()
            with no_descriptors_left():
                for options in ({}, {"nice": 1}, {"stdin": b"x" * 100_000}):
                    with pytest.raises(ProcessStartError, match=r"no file descriptors are left.*ulimit -n") as caught:
                        await service.start("true", **options)
                    assert isinstance(caught.value.__cause__, OSError)
                await echo.send_input("meanwhile\n")
                await echo.wait_for_line("meanwhile")
            assert open_descriptors() == held
            assert (await service.run("echo", "again")).output == "again\n"
            await echo.close_stdin()
            assert await echo.wait() == 0
            assert service.statistics().failed == 3


async def test_without_descriptors_processes_end_and_no_descendant_is_missed():
    tag = new_tag()
    with trio.fail_after(20):
        async with Service(options=ServiceOptions(grace_period=0.1)) as service:
            process = await service.start(*sh("setsid sleep $1 & sleep $1 & cat", tag))
            await some_with_tag(tag, 2)
            with no_descriptors_left():
                result = await process.stop()
                assert result.status is Status.KILLED
                assert service.running() == []
            assert with_tag(tag) == []


async def test_without_descriptors_a_guarded_service_says_so_and_recovers():
    with trio.fail_after(20):
        async with Service(options=ServiceOptions(guardian=True)) as service:
            with no_descriptors_left(), pytest.raises(ProcessStartError, match="no file descriptors are left"):
                await service.start("true")
            await service.run("true")
            assert service.statistics().guardian_pid is not None


async def test_a_failed_start_leaves_nothing_open(tmp_path):
    with trio.fail_after(20):
        async with Service() as service:
            held = open_descriptors()
            for command in ("/nowhere/at/all", "/etc/passwd"):
                for options in (
                    {"log_file": tmp_path / "log"},
                    {"limits": {"core": 0}},
                    {"stdin": b"x" * 100_000},
                    {"detach": True, "log_file": tmp_path / "log"},
                ):
                    with pytest.raises(ProcessStartError):
                        await service.start(command, **options)
            assert open_descriptors() == held


@needs_root
async def test_a_fork_bomb_under_a_limit_ends_with_its_process(lonely):
    # 50 at most: each forks twice, so that it would fill the machine if it could
    bomb = "bomb() { bomb & bomb & wait; }; echo ready; bomb 2>/dev/null"
    with trio.fail_after(30):
        async with Service(options=ServiceOptions(grace_period=0.05)) as service:
            process = await service.start(*sh(bomb), user=lonely, limits={"nproc": 50}, idle_timeout=10)
            await process.wait_for_line("ready", timeout=10)
            await trio.sleep(0.1)  # let it grow to its limit
            assert (await service.run("echo", "alive")).output == "alive\n"
            result = await process.stop()
            assert result.duration < 10
    # the fixture of all tests looks for what is left


@needs_root
async def test_a_bomb_of_escapees_is_caught_too(lonely):
    bomb = 'setsid sh -c "$BOMB" & setsid sh -c "$BOMB" & sleep 0.02'
    with trio.fail_after(30):
        async with Service(options=ServiceOptions(grace_period=0.05)) as service:
            process = await service.start(
                *sh(f"echo ready; while :; do {bomb}; done 2>/dev/null"),
                env={"BOMB": f"while :; do {bomb}; done 2>/dev/null"},
                user=lonely,
                limits={"nproc": 50, "cpu": 20},
            )
            await process.wait_for_line("ready", timeout=10)
            await trio.sleep(0.1)
            await process.stop()


@needs_root
async def test_a_start_beyond_the_limit_of_processes_says_so(lonely):
    with trio.fail_after(20):
        async with Service() as service:
            await service.start("sleep", "100", user=lonely)  # those there are already count, not the new one
            with pytest.raises(ProcessStartError, match="the limit on processes is reached"):
                await service.start("sleep", "100", user=lonely, limits={"nproc": 0})


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"user": "nobody"}, "user='nobody' could not be applied: .*privilege"),
        ({"nice": -5}, "nice=-5 could not be applied: .*privilege"),
        ({"limits": {"nofile": (64, 10**6)}}, r"limits\['nofile'\]=\(64, 1000000\) could not be applied"),
    ],
)
@needs_root
async def test_what_cannot_be_applied_is_named(options, named):
    body = f"""
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
async with Service() as service:
    try:
        await service.start("true", **{options!r})
    except ProcessStartError as error:
        print(error, len(service.running()), service.list()[0].status)
"""
    bare = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all")  # root without its privileges
    with trio.fail_after(30):
        async with Service() as service:
            result = await service.run(*bare, *program("import resource\n" + body))
            assert re.search(f"can't start `true`: {named}.* 0 failed", result.output), result.output


@needs_root
async def test_what_can_be_applied_is_applied():
    with trio.fail_after(20):
        async with Service() as service:
            result = await service.run(
                *sh("umask; nice; id -u; id -g; id -G; ulimit -n; ulimit -c"),
                umask=0o027,
                nice=7,
                user="nobody",
                limits={"nofile": 99, "core": 0},
            )
            assert result.output.split() == ["0027", "7", "65534", "65534", "65534", "99", "0"]


@contextmanager
def room_for(descriptors):
    """Let this process open so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < descriptors:
        pytest.skip(f"no more than {hard} descriptors may be open here")
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, descriptors), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_thousand_exit_at_the_same_moment():
    number = 1000
    reading, gate = os.pipe()
    with trio.fail_after(60), room_for(4 * number), open(reading, "rb", buffering=0) as stdin:
        async with Service() as service:
            with service.subscribe(ActionProcessExited, buffer=10) as ends:
                try:
                    for n in range(number):
                        await service.start(*sh("read x; echo $1; exit $(($1 % 256))", str(n)), stdin=stdin)
                finally:
                    os.close(gate)  # all of them read the end of file now
                await service.wait_all()
                seen = [await ends.receive() for _ in range(number)]
            assert len({event.id for event in seen}) == number
            for n, process in enumerate(service.list()):
                assert (process.exit_code, process.output()) == (n % 256, f"{n}\n")


async def test_descriptors_memory_and_tasks_stay_flat():
    with trio.fail_after(60):
        async with Service(options=ServiceOptions(retain=10)) as service:
            async with trio.open_nursery() as nursery:

                async def some(number):
                    for _ in range(number):
                        await service.run("true")

                await some(5)
                held, tasks = open_descriptors(), trio.lowlevel.current_statistics().tasks_living
                for _ in range(10):
                    nursery.start_soon(some, 30)
            assert open_descriptors() == held
            assert trio.lowlevel.current_statistics().tasks_living == tasks
            assert len(service.list()) == 10


async def test_without_descriptors_a_program_that_has_never_failed_before_can_still_say_so():
    body = """
async with Service() as service:
    top = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (top, top))
    try:
        await service.run("true")
    except ProcessStartError as error:
        print(error, service.list()[0].status)
"""
    with trio.fail_after(30):
        async with Service() as service:
            result = await service.run(*program("import os\nimport resource\n" + body))
    assert "no file descriptors are left" in result.output
    assert result.output.endswith(" failed\n")


OUT_OF_MEMORY = """
import math, resource
resource.setrlimit(resource.RLIMIT_AS, (400 * 2**20,) * 2)
async with Service() as service:
    try:
        await service.run("sh", "-c", "cat /dev/zero & sleep 100", buffer_size=math.inf)
    except MemoryError as error:
        print(*error.__notes__)
    result = service.list()[0].result()
    print(result.dropped > 2**20, result.output_incomplete, result.ok)
    print((await service.run("echo", "the next one")).output)
"""


async def test_without_memory_for_the_output_the_process_ends_and_its_reader_is_told():
    with trio.fail_after(60):
        async with Service() as service:
            result = await service.run(*program(OUT_OF_MEMORY))
    assert re.sub(r"proc-1-\w+", "ID", result.output).splitlines()[:3] == [
        "the output of 'sh' (ID) could not be taken in, so it was killed",
        "True True False",
        "the next one",
    ]


async def test_output_that_cannot_be_taken_in_is_an_error_for_all_who_wait(monkeypatch):
    lost = MemoryError("none left")

    def fail(ring, data):
        raise lost

    tag = new_tag()
    with trio.fail_after(20):
        async with Service() as service:
            unharmed = await service.start("cat")
            process = await service.start(*sh("sleep $1 & read x; echo LAST; wait", tag))
            lines = process.lines()
            await some_with_tag(tag)
            with monkeypatch.context() as patch:
                patch.setattr(Ring, "write", fail)
                await process.send_input("go\n")
                for wait in (process.wait, lines.__anext__):
                    with pytest.raises(MemoryError) as caught:
                        await wait()
                    assert caught.value is lost
            assert (process.status, process.result().output_incomplete) == (Status.KILLED, True)
            assert not with_tag(tag)
            await unharmed.send_input("hello\n")
            await unharmed.wait_for_line("hello")


async def test_a_child_that_cannot_be_watched_is_killed_with_its_group(monkeypatch):
    tag = new_tag()

    def fail(pid):
        end = time.monotonic() + 10
        while not with_tag(tag) and time.monotonic() < end:
            pass  # another thread takes the last descriptor, and meanwhile the child goes on
        raise OSError(errno.EMFILE, "no descriptors")

    with trio.fail_after(20):
        async with Service() as service:
            with monkeypatch.context() as patch:
                patch.setattr(os, "pidfd_open", fail)
                with pytest.raises(ProcessStartError):
                    await service.start(*sh("sleep $1 & wait", tag))
            await none_with_tag(tag)


@pytest.mark.parametrize("works", range(3))
async def test_a_child_that_the_kernel_does_not_watch_is_killed_and_its_owner_told(monkeypatch, works):
    tag, full, watch = new_tag(), OSError(errno.ENOSPC, "no watches"), Reactor.watch
    left = iter(range(works))

    def fail(*args):
        if next(left, None) is None:
            raise full
        watch(*args)

    with trio.fail_after(20):
        async with Service() as service:
            held = open_descriptors()
            with monkeypatch.context() as patch:
                patch.setattr(Reactor, "watch", fail)
                process = await service.start(*sh("sleep $1 & wait", tag))
            with pytest.raises(OSError) as caught:
                await process.wait()
            assert caught.value is full
            assert (process.status, process.result().ok, open_descriptors()) == (Status.KILLED, False, held)
            assert not with_tag(tag)
            assert (await service.run("echo", "the next")).output == "the next\n"


async def test_an_adopted_process_that_the_kernel_does_not_watch_lives_on(monkeypatch):
    def fail(*args):
        raise OSError(errno.ENOSPC, "no watches")

    with trio.fail_after(20):
        async with Service() as service:
            process = await service.start("sleep", "1000", detach=True)
            async with Service() as other:
                held = open_descriptors()
                with monkeypatch.context() as patch:
                    patch.setattr(Reactor, "watch", fail)
                    with pytest.raises(ProcessNotFoundError, match="can't be watched"):
                        other.adopt(process.pid, process.started_at, timeout=0.01)
                assert (open_descriptors(), other.list()) == (held, [])
            assert process.is_running
            assert (await process.stop()).exit_code == -15


async def test_a_detached_process_lives_on_where_its_log_cannot_be_followed(monkeypatch, tmp_path):
    def fail(ring, data):
        raise MemoryError

    with trio.fail_after(20):
        async with Service() as service:
            with monkeypatch.context() as patch:
                patch.setattr(Ring, "write", fail)
                process = await service.start(
                    *sh("echo hello; exec sleep 1000"), detach=True, log_file=tmp_path / "log"
                )
                await wait_until(lambda: process.result().output_incomplete)
            assert process.is_running
            assert (tmp_path / "log").read_text() == "hello\n"
            assert (await process.stop()).exit_code == -15


async def test_without_memory_to_tell_of_the_end_it_is_told_all_the_same(monkeypatch):
    copy, lost = Capture.bytes, MemoryError("none left for a copy")

    def fail(capture, stream=None):
        if capture.held:
            raise lost
        return copy(capture, stream)

    with trio.fail_after(20):
        async with Service() as service:
            with service.subscribe(ActionProcessExited) as events, monkeypatch.context() as patch:
                patch.setattr(Capture, "bytes", fail)
                process = await service.start("echo", "hello")
                with pytest.raises(MemoryError) as caught:
                    await process.wait()
                assert caught.value is lost
                assert (await events.receive()).exit_code == 0


async def test_a_reader_is_not_told_of_a_pipe_that_the_kernel_watches_no_more(monkeypatch):
    full, watch = OSError(errno.ENOSPC, "no watches"), Reactor.watch
    with trio.fail_after(20):
        async with Service() as service:
            with service.subscribe(ActionProcessOutput, buffer=1) as events:
                processes = [await service.start("yes") for _ in range(2)]
                await wait_until(lambda: all(child_of(process).backpressure for process in processes))
                failing = iter([True])

                def fail(*args):
                    if next(failing, False):
                        raise full
                    watch(*args)

                monkeypatch.setattr(Reactor, "watch", fail)
                while all(process.is_running for process in processes):
                    await events.receive_batch()
                ended, running = sorted(processes, key=lambda process: process.is_running)
                with pytest.raises(OSError) as caught:
                    await ended.wait()
                assert caught.value is full
                while (await events.receive_batch()).id != running.id:
                    pass
