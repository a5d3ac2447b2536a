"""A stop reaches what is stopped by a signal: the leader, members of its group, escapees."""

import signal

import pytest
import trio
from support import sh, state_of, wait_until

from trio_process import EndReason, Service

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
