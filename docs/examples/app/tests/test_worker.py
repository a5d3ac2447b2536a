"""The worker on virtual time: gzip is a script, and a minute takes no time."""

import trio
from depot.worker import work

# ruff: noqa: ARG001 - a test asks for the clock by naming it among its arguments


async def run_worker(store, seconds):
    with trio.move_on_after(seconds):
        await work(store, "worker 1")


async def test_files_are_packed_in_the_order_of_their_arrival(store, fake_processes, autojump_clock):
    fake_processes.on("gzip", ...)
    for name in ("a.txt", "b.txt"):
        store.add(name, b"content")
    await run_worker(store, 10)
    assert [file.state for file in store.files()] == ["packed", "packed"]
    assert [call.args[-1] for call in fake_processes.calls] == [str(store.content(number)) for number in (1, 2)]


async def test_a_failure_is_recorded_with_what_gzip_wrote_and_the_next_file_is_packed(
    store, fake_processes, autojump_clock
):
    full = {"lines": {"stderr": ["gzip: No space left on device"]}, "exit_code": 1}
    fake_processes.on("gzip", ..., then=[full, {"exit_code": 0}])
    for name in ("a.txt", "b.txt"):
        store.add(name, b"content")
    await run_worker(store, 10)
    assert [(file.state, file.error) for file in store.files()] == [
        ("failed", "gzip: No space left on device"),
        ("packed", None),
    ]


async def test_a_gzip_that_hangs_is_stopped_after_a_minute(store, fake_processes, autojump_clock):
    fake_processes.on("gzip", ..., exit_code=None)
    store.add("a.txt", b"content")
    await run_worker(store, 61)
    assert store.get(1).state == "failed"
    assert "ran into its timeout" in store.get(1).error


async def test_a_worker_that_is_stopped_puts_its_file_back(store, fake_processes, autojump_clock):
    fake_processes.on("gzip", ..., exit_code=None)
    store.add("a.txt", b"content")
    await run_worker(store, 1)
    assert store.get(1).state == "waiting"


async def test_a_worker_takes_up_what_it_left_when_it_was_killed(store, fake_processes, autojump_clock):
    fake_processes.on("gzip", ...)
    store.add("a.txt", b"content")
    store.take("worker 1")
    await run_worker(store, 1)
    assert store.get(1).state == "packed"


def test_two_workers_never_get_the_same_file(store):
    store.add("a.txt", b"content")
    assert store.take("worker 1").worker == "worker 1"
    assert store.take("worker 2") is None
