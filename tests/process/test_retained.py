"""What is retained of the finished ones bounds nobody's own result."""

import gc
import math
import traceback
import weakref
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from support import child_of, sh

from trio_process import CommandFailedError, Core, EndReason, ProcessStartError, Program, Service, ServiceOptions
from trio_process._process import Lifecycle

SIZE = 70 * 2**20  # ServiceOptions.retain_bytes is 64 MiB
HEAD = ("head", "-c", str(SIZE), "/dev/zero")


async def test_a_run_gets_its_whole_output_however_much_it_is():
    with trio.fail_after(60):
        async with Core(Service) as core:
            assert len(await core.process.run(*HEAD)) == SIZE
            service = core.service(Service)
            assert len((await service.run(*HEAD, buffer_size=math.inf)).stdout) == SIZE
            assert service.statistics().remembered_bytes == 0
        assert len(await Program(HEAD[0]).run(*HEAD[1:])) == SIZE


async def test_runs_that_end_together_get_theirs_too():
    sizes = []

    async def run(service):
        sizes.append(len((await service.run("head", "-c", "1000", "/dev/zero")).stdout))

    with trio.fail_after(30):
        async with Service(options=ServiceOptions(retain_bytes=10)) as service:
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(run, service)
            assert service.statistics().remembered_bytes == 0
    assert sizes == [1000] * 20


async def test_who_waits_for_a_process_gets_its_whole_output_too():
    with trio.fail_after(60):
        async with Service() as service:
            process = await service.start(*HEAD, buffer_size=math.inf)
            await process.wait()
            assert len(process.output_bytes()) == SIZE
            await service.run("true")  # from here on it is one of the finished ones, and more than those may hold
            assert process.output_bytes() == b""


async def test_a_stop_and_a_reader_of_lines_get_theirs_though_nothing_is_retained():
    got = {}

    async def read(process, task_status):
        lines = process.lines()
        task_status.started()
        got["lines"] = [line.text async for line in lines]

    with trio.fail_after(30):
        async with Service(options=ServiceOptions(retain_bytes=0)) as service, trio.open_nursery() as nursery:
            process = await service.start("sh", "-c", "seq 3000; exec sleep 60")
            await nursery.start(read, process)
            await process.wait_for_line("3000")
            got["result"] = await process.stop()
    assert got["result"].stdout.split() == got["lines"] == [str(number) for number in range(1, 3001)]


async def test_a_reader_that_is_busy_between_two_lines_still_gets_them_all():
    with trio.fail_after(30):
        async with Service(options=ServiceOptions(retain_bytes=1000)) as service:
            process = await service.start("seq", "3000", buffer_size=math.inf)
            lines = process.lines()
            found = [(await anext(lines)).text]
            await process.wait()
            for _ in range(3):
                await service.run("seq", "1000")  # of whose output there is more than may be held
            found += [line.text async for line in lines]
            assert (len(found), found[-1], lines.missed) == (3000, "3000", 0)
            del lines
            await service.run("true")
            assert process.output_bytes() == b""
            unread = process.lines()
            del unread
            assert child_of(process).claims == 0


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_the_bound_holds_as_soon_as_nothing_refers_to_a_process(count):
    with trio.fail_after(30):
        async with Service(options=ServiceOptions(retain_bytes=1000)) as service:
            for _ in range(count):
                await service.start("head", "-c", "500000", "/dev/zero")
            await service.wait_all()
            assert service.statistics().remembered_bytes == 0
            process = await service.start("head", "-c", "500000", "/dev/zero")
            await process.wait()
            assert len(process.output_bytes()) == 500_000


@pytest.mark.parametrize("script", ["echo hello", "sleep 60 & echo hello", "sleep 60 >/dev/null 2>&1 &"])
@pytest.mark.parametrize("timeout", [None, 50])
async def test_a_forgotten_process_is_freed_without_the_garbage_collector(script, timeout):
    async with Service(options=ServiceOptions(retain=0)) as service:
        await service.run(*sh(script), timeout=timeout)
        gc.collect()
        gc.freeze()  # not to look at what there was before
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for _ in range(5):
                await service.run(*sh(script), timeout=timeout)
            gc.collect()
            assert not [found for found in gc.garbage if isinstance(found, Lifecycle)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()


async def stop_one(service):
    await (await service.start("sleep", "60")).stop()


async def kill_one(service):
    process = await service.start("sleep", "60")
    process.kill()
    await process.wait(check=False)


async def let_one_run_out_of_time(service):
    await service.run("sleep", "60", timeout=0.05, check=False)


async def cancel_one(service):
    with trio.move_on_after(0.05):
        await service.run("sleep", "60")


async def let_one_fail(service):
    with pytest.raises(CommandFailedError):
        await service.run("false")


FAILED_STARTS = {
    "not found": (["no-such-program-anywhere"], {}),
    "not executable": (["/etc/passwd"], {}),
    "directory": (["true"], {"cwd": "/no/such/dir"}),
    "stream": (["true"], {"stdin": Path("/no/such/input")}),
    "launcher": (["/etc/passwd"], {"nice": 0}),
    "interpreter": (["greet"], {}),  # the same twice on the PATH, so that one is tried after the other
}


@pytest.mark.parametrize(
    ("kind", "how"),
    [(kind, "run") for kind in FAILED_STARTS]
    + [("not found", how) for how in ("start", "open", "wait", "wait_for_line", "check")],
)
async def test_a_start_that_fails_leaves_nothing_for_the_garbage_collector(tmp_path, kind, how):
    (command, options), directories = FAILED_STARTS[kind], [tmp_path / "first", tmp_path / "second"]
    for directory in directories if kind == "interpreter" else ():
        directory.mkdir()
        (directory / "greet").write_text("#!/no/such/interpreter\n")
        (directory / "greet").chmod(0o755)
        options = {"env": {"PATH": ":".join(map(str, directories))}}

    async def fail():
        with suppress(ProcessStartError):
            if how == "open":
                async with service.open(*command, **options):
                    pass
            await (service.run if how == "run" else service.start)(*command, **options)
        process = service.list()[-1]
        with suppress(ProcessStartError):
            if how == "wait":
                await process.wait()
            elif how == "wait_for_line":
                await process.wait_for_line("x", timeout=0)
            elif how == "check":
                process.result().check()
        assert process.reason is EndReason.FAILED_TO_START

    with trio.fail_after(30):
        async with Service(options=ServiceOptions(retain=1)) as service:
            await fail()
            await fail()
            gc.collect()
            gc.disable()
            gc.freeze()  # not to look at what there was before
            try:
                await fail()
                await fail()
                assert gc.collect() == 0
            finally:
                gc.enable()


async def test_a_start_that_failed_keeps_no_variable_of_its_caller_and_the_caller_keeps_the_traceback():
    class Big:
        pass

    async def fail():
        kept = Big()
        seen.add(kept)
        try:
            await service.start("no-such-program-anywhere")
        except ProcessStartError as error:
            tracebacks.append("".join(traceback.format_exception(error)))

    tracebacks, seen = [], weakref.WeakSet()
    async with Service() as service:
        await fail()
        assert not seen  # although the record is kept
        assert "in fail\n" in tracebacks[0]
        assert "in find_program\n" in tracebacks[0]
        (process,) = service.list()
        for _ in range(3):  # each raise begins a traceback of its own
            with pytest.raises(ProcessStartError) as caught:
                await process.wait()
            assert len(caught.traceback) == 2


def lifecycles():
    return [found for found in gc.get_objects() if isinstance(found, Lifecycle)]


@pytest.mark.parametrize("end", [stop_one, kill_one, let_one_run_out_of_time, cancel_one, let_one_fail])
async def test_one_that_was_ended_is_freed_at_once_without_the_garbage_collector(end):
    with trio.fail_after(30):
        async with Service(options=ServiceOptions(retain=0)) as service:
            gc.collect()
            gc.disable()
            of_other_tests = lifecycles()
            try:
                for _ in range(5):
                    await end(service)
                await service.run("true")
                assert len(lifecycles()) == len(of_other_tests)
            finally:
                gc.enable()
