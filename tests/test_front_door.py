"""The public objects under misuse."""

import copy
import os
import pickle

import pytest

from trio_process import (
    ControlServer,
    Core,
    Daemon,
    HealthServer,
    PIDFile,
    ProcessError,
    RingBuffer,
    Runner,
    Service,
    Supervisor,
    UnitSpec,
)
from trio_process.testing import FakeService

COPIES = (copy.copy, copy.deepcopy, pickle.dumps)


def refused(value):
    for make in COPIES:
        with pytest.raises(TypeError, match=f"^{type(value).__name__} objects can't be copied or pickled"):
            make(value)


def test_blocks_can_be_neither_copied_nor_pickled():
    for block in (
        Service(),
        FakeService(),
        Core(Service),
        Daemon(),
        HealthServer("127.0.0.1:0"),
        Supervisor([]),
        ControlServer("127.0.0.1:0"),
    ):
        refused(block)
    for make in COPIES[1:]:  # a configuration that holds one
        with pytest.raises(TypeError, match="Service objects can't be copied"):
            make({"runner": Runner(Service())})


async def test_what_stands_for_a_running_process_can_be_neither_copied_nor_pickled():
    async with FakeService() as fake:
        fake.on("serve", exit_after=1000)
        async with Supervisor([UnitSpec(name="web", command="serve")], service=fake) as supervisor:
            process = await fake.start("serve")
            with fake.subscribe() as events:
                for value in (process, process.lines(), events, supervisor["web"]):
                    refused(value)
                assert events.statistics().open_receive_channels == 1  # a copy that is collected would close it


async def test_an_action_can_be_neither_copied_nor_pickled():
    async with Core(FakeService) as core:
        refused(core.action("process.run"))


def test_the_copy_of_a_ring_buffer_is_independent():
    for size in (4, 10_000, float("inf")):
        ring = RingBuffer(size)
        ring.write(b"abcd")
        for twin in (copy.copy(ring), copy.deepcopy(ring), pickle.loads(pickle.dumps(ring))):
            twin.write(b"xy")
            assert twin.bytes().endswith(b"cdxy")
            assert twin.capacity == size
            assert ring.bytes() == b"abcd"
            assert ring.dropped == 0


def test_the_copy_of_a_pid_file_does_not_hold_it(tmp_path):
    with PIDFile(tmp_path / "a.pid") as pid_file:
        for twin in (copy.copy(pid_file), copy.deepcopy(pid_file), pickle.loads(pickle.dumps(pid_file))):
            assert twin.path == pid_file.path
            assert not twin.held
            twin.release()
            assert pid_file.path.exists()
            with pytest.raises(ProcessError, match=str(os.getpid())):
                twin.acquire()
