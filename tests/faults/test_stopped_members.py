"""A stop reaches what is stopped by a signal: the leader, members of its group, escapees."""

import signal
import time

import pytest
import trio
from support import sh, state_of, wait_until

from trio_process import EndReason, Service
from trio_process._process import reap

MEMBER = "trap 'echo saved; exit' TERM; echo up $$; kill -STOP $$; while :; do sleep 0.05; done"

GROUPS = {
    "the leader": MEMBER,
    "a member": f'sh -c "{MEMBER.replace("$", chr(92) + "$")}" & wait',
    "an escapee": f'setsid sh -c "{MEMBER.replace("$", chr(92) + "$")}" & wait',
    "a member of a leader that ignores it": f"trap '' TERM; (trap - TERM; {MEMBER}) & wait",
}


@pytest.mark.parametrize("who", GROUPS)
async def test_what_is_stopped_has_its_last_words(who):
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start(*sh(GROUPS[who]), name=who)
            line = await process.wait_for_line("up ")
            pid = int(line.text.split()[1])
            if not who.endswith("ignores it"):
                await wait_until(lambda: state_of(pid) == "T")
            result = await process.stop(8.0)
            assert "saved" in result.output
            assert result.duration < 8
            assert result.reason is EndReason.STOPPED


@pytest.mark.parametrize("who", ["a member", "two members", "a member of a leader that ignores it"])
async def test_a_leader_that_dies_at_once_has_no_stopped_member_hung_up(who, monkeypatch):
    """A group that loses its leader while a member is stopped gets SIGHUP of the kernel (_exit(2))."""
    scripts = {**GROUPS, "two members": f"{GROUPS['a member']}& {GROUPS['a member']}"}
    send = reap.signal_group

    def send_slowly(pid, pidfd, number):
        send(pid, pidfd, number)
        if number == signal.SIGTERM:
            time.sleep(0.05)  # the thread loses the processor, and the leader has it

    monkeypatch.setattr(reap, "signal_group", send_slowly)
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start(*sh(scripts[who]))
            count = 2 if who == "two members" else 1
            await wait_until(lambda: process.output().count("up ") == count)
            pids = [int(line.split()[1]) for line in process.output().splitlines()]
            await wait_until(lambda: all(state_of(pid) == "T" for pid in pids))
            result = await process.stop(8.0)
            assert result.output.count("saved") == count
            assert result.duration < 8


async def test_what_was_suspended_does_nothing_before_it_is_asked_to_end(monkeypatch):
    sent = []
    send = reap.signal_group

    def note(pid, pidfd, number):
        sent.append(number)
        send(pid, pidfd, number)

    async with Service() as service:
        process = await service.start("sleep", "1000")
        process.suspend()
        await wait_until(lambda: state_of(process.pid) == "T")
        monkeypatch.setattr(reap, "signal_group", note)
        await process.stop(8.0)
    assert sent == [signal.SIGTERM, signal.SIGCONT]


@pytest.mark.parametrize("delay", [0.0, 0.001])
async def test_a_sigstop_that_takes_effect_just_after_the_stop_costs_no_grace(delay):
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start("sleep", "1000")
            process.suspend()
            if delay:
                await trio.sleep(delay)
            result = await process.stop(20.0)
            assert result.exit_code == -signal.SIGTERM
