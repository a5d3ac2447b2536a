"""A Python without the functions of newer system calls, as those that are built on an old system to run on any."""

import os
import signal
import subprocess

import pytest
import trio

from trio_process import EndReason, Service, ServiceOptions
from trio_process._core import memory_file, pidfd_open, pidfd_send_signal


@pytest.fixture(params=["as it is", "old"])
def python(request, monkeypatch):
    if request.param == "old":
        monkeypatch.delattr(os, "pidfd_open")
        monkeypatch.delattr(os, "memfd_create")
        monkeypatch.delattr(signal, "pidfd_send_signal")


@pytest.mark.usefixtures("python")
def test_a_process_is_signalled_by_its_descriptor():
    with subprocess.Popen(["sleep", "60"]) as child:
        pidfd = pidfd_open(child.pid)
        try:
            assert not os.get_inheritable(pidfd)
            pidfd_send_signal(pidfd, signal.SIGTERM)
            assert child.wait(30) == -signal.SIGTERM
            with pytest.raises(ProcessLookupError):
                pidfd_send_signal(pidfd, signal.SIGTERM)
        finally:
            os.close(pidfd)
    with pytest.raises(ProcessLookupError, match="No such process"):
        pidfd_open(2**22 + 1)


@pytest.mark.usefixtures("python")
def test_a_memory_file_is_read_and_written_and_not_inherited():
    descriptor = memory_file("a name")
    try:
        os.pwrite(descriptor, b"here", 2)
        assert os.read(descriptor, 10) == b"\0\0here"
        assert not os.get_inheritable(descriptor)
    finally:
        os.close(descriptor)


@pytest.mark.usefixtures("python")
async def test_a_service_does_all_that_it_does():
    with trio.fail_after(30):
        async with Service(options=ServiceOptions(guardian=True, buffer_size=2_000_000)) as service:
            text = "x" * 1_000_000
            assert (await service.run("cat", stdin=text)).stdout == text
            process = await service.start("sleep", "60")
            assert (await process.stop()).reason is EndReason.STOPPED
