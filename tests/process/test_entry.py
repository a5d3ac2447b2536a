"""Entering a service: what it needs of the system, and what is left when that can't be had."""

import os
import resource
from contextlib import contextmanager

import pytest
import trio

from trio_process import OptionError, ProcessError, Service, ServiceClosedError


@contextmanager
def descriptors_left(count):
    """Leave this process `count` descriptors to open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1 + count, hard))
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(count):
            os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


@pytest.mark.parametrize("count", range(3))
async def test_a_service_that_can_not_be_entered_leaks_no_descriptor(count):
    with trio.fail_after(10):
        with descriptors_left(count), pytest.raises(ProcessError, match="Too many open files"):
            async with Service():
                pytest.fail("it was entered")


async def test_a_file_that_was_closed_before_the_start_is_refused(tmp_path):
    with trio.fail_after(10):
        async with Service() as service:
            options = {}
            with open(tmp_path / "out", "wb") as options["stdout"]:
                from trio_process import RunOptions

                made = RunOptions(command="true", **options)
            with pytest.raises(OptionError, match="closed before the start"):
                await service.run_with_options(made)
            assert service.list() == []


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
async def test_a_fifo_is_refused_as_opening_it_would_wait(tmp_path, stream):
    from trio_process import ProcessStartError

    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with trio.fail_after(10):
        async with Service() as service:
            with pytest.raises(ProcessStartError, match="it is a FIFO"):
                await service.run("cat", **{stream: fifo})


async def test_a_service_that_could_not_be_entered_says_so_and_can_be_tried_again():
    service = Service()
    with trio.fail_after(30):
        with descriptors_left(0), pytest.raises(ProcessError, match="can't be entered"):
            await service.__aenter__()
        assert service.statistics().containment == "none"
        with pytest.raises(ServiceClosedError, match="not entered"):
            await service.start("true")
        async with service:
            assert (await service.run("echo", "at last")).output == "at last\n"
