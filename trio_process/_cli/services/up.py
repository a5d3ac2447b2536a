"""``trio-process up``: run in the foreground or in the background, or attach to a running instance."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Final

import trio

from ..._control import ControlError, ControlServer
from ..._core import AlreadyRunningError, DaemonError, ProcessError, in_seconds
from ..._process import Service
from ..._supervisor import Supervisor, names_of, supervisor_of
from ..instance import Instance
from ..output import print_error, report, write
from ..screen import Screen, wants_live_view
from ..terminal import Terminal
from ..text import listed
from .follow import attach_to
from .live import LiveShow
from .requests import ServiceRequests
from .resident import LISTEN, TOKEN
from .serve import FAILED, ServeSettings, serve
from .show import PlainShow
from .view import Lines, wants_colour

_LOOK: Final = 0.1  # seconds
_START: Final = 60.0  # seconds until an instance answers
_LAST_LINES: Final = 20
_GOOD: Final = ("ready", "completed")
_BAD: Final = ("failed", "skipped")


async def bring_up(
    instance: Instance,
    names: Sequence[str],
    detach: bool,  # noqa: FBT001 - the options of the command line
    wait: bool,  # noqa: FBT001 - as above
    timeout: float | None,  # noqa: ASYNC109 - as above
    listen: str,
) -> int:
    """Run the command `up`; return the exit status."""
    token = os.environ.pop(TOKEN, None)
    supervisor: Supervisor | None = None
    enabled: frozenset[str] = frozenset()
    if instance.file.is_file() or not instance.pid():  # else the directory was renamed while the instance was running
        # faults are reported before anything starts
        supervisor = await trio.to_thread.run_sync(supervisor_of, instance.file, tuple(names))
        enabled = frozenset([spec.name for spec in supervisor._specs if spec.enabled and spec.replicas])
    if listen:  # as above
        ControlServer(listen, token=token)
    instance.prepare()
    _ = instance.address  # an overlong path is reported before anything starts
    settings = ServeSettings(names=tuple(names), listen=listen, token=token)
    while True:
        if await _let_run_end(instance, timeout):
            supervisor = None  # it is read again, as it may have changed meanwhile
        if pid := instance.pid():
            if listen:
                raise ProcessError(
                    f"the services of {instance.file} are already running (PID {pid}), without --listen; see them by "
                    f"`{instance.typed('ui')}`, or run `{instance.typed('down')}` first"
                )
            return await _join(instance, names, enabled if wait else None, detach=detach, timeout=timeout)
        if detach:
            await _leave_in_background(instance, names, listen, token)
            report(f"the services of {instance.file} run in the background; {instance.typed('down')} stops them")
            return await _wait_until_ready(instance, timeout, enabled, fresh=True) if wait else 0
        if not enabled:
            report(f"{instance.file} has no service to start")
        with suppress(AlreadyRunningError):  # another process was faster
            return await _stay_in_foreground(instance, settings, supervisor)
        supervisor = None


async def _let_run_end(instance: Instance, timeout: float | None) -> bool:  # noqa: ASYNC109 - as above
    """Wait for the end of a `run` that started services of the file for its tasks; return whether there was an instance.

    Raises:
        ProcessError: It did not end within `timeout` seconds.
    """
    if not (pid := instance.pid()):
        return False
    with suppress(DaemonError), trio.move_on_after(_START):
        await instance.wait_until_it_answers(lambda: not instance.pid())
    if await instance.command() != "run":
        return True
    report(f"trio-process run (PID {pid}) uses the services of {instance.file}; waiting until it has ended")
    with trio.move_on_after(float("inf") if timeout is None else timeout) as limit:
        while instance.pid() == pid:  # noqa: ASYNC110 - another process's end
            await trio.sleep(_LOOK)
    if limit.cancelled_caught:
        assert timeout is not None
        raise ProcessError(f"trio-process run (PID {pid}) still uses the services after {in_seconds(timeout)}")
    return True


async def _stay_in_foreground(instance: Instance, settings: ServeSettings, supervisor: Supervisor | None) -> int:
    """Run the services and show them until they end or are stopped; return the exit status."""
    with ExitStack() as stack:
        terminal = Terminal()
        stack.callback(terminal.close)
        if os.environ.get("NO_COLOR") or not wants_live_view(os.environ) or (terminal.exists and not terminal.is_ours):
            return await serve(instance, settings, _plain, supervisor)
        screen = Screen(terminal)
        stack.callback(screen.close)
        return await serve(instance, settings, lambda shown: LiveShow(shown, screen, colour=True), supervisor)


def _plain(supervisor: Supervisor) -> PlainShow:
    return PlainShow(Lines(names_of(supervisor), colour=wants_colour()), _write_in_thread, print_error)


async def _write_in_thread(text: str) -> None:
    await trio.to_thread.run_sync(write, text, abandon_on_cancel=True)


async def _join(
    instance: Instance,
    names: Sequence[str],
    awaited: frozenset[str] | None,
    *,
    detach: bool,
    timeout: float | None,  # noqa: ASYNC109 - as above
) -> int:
    """Start the named services of a running instance, and attach to it."""
    client = await instance.reach(_START)
    report(f"the services of {instance.file} are already running (PID {instance.pid()})")
    try:
        plan = await client.post("/reload", dryRun=True)
        if differing := [*plan["added"], *plan["removed"], *plan["changed"]]:  # by an edit of the file, or by `scale`
            report(f"the file differs from them ({listed(differing)}); {instance.typed('reload')} applies the file")
    except ControlError as error:
        report(f"the file has changed since they were started, and has faults: {error}")
    failures = await ServiceRequests(client, timeout).each("start", names, "ready") if names else 0
    if detach:
        if awaited is not None:
            failures += await _wait_until_ready(instance, timeout, awaited, fresh=False)
        return FAILED if failures else 0
    await attach_to(client, None)
    return FAILED if failures else 0


async def _leave_in_background(instance: Instance, names: Sequence[str], listen: str, token: str | None) -> None:
    """Start an instance in the background, and return when it responds.

    Raises:
        DaemonError: It has ended; the message contains the last lines of its log.
    """
    written = instance.log_file.stat().st_size if instance.log_file.exists() else 0
    environment = {LISTEN: listen or None, TOKEN: token}
    async with Service() as service:
        with trio.CancelScope(shield=True):  # else an instance with a PID unknown to us could stay
            resident = await service.start(
                sys.executable,
                "-m",
                "trio_process._cli.services.resident",
                instance.file,
                *names,
                env=environment,
                detach=True,
            )
        try:
            with trio.fail_after(_START):
                await instance.wait_until_it_answers(lambda: not resident.is_running)
        except BaseException as error:
            if resident.is_running:
                with trio.CancelScope(shield=True):
                    await resident.stop(_START)
            if isinstance(error, (DaemonError, trio.TooSlowError)):
                said = _quoted(instance, written)
                if not said and not resident.is_running:
                    instance.claim().release()  # the disk is full, say, which takes no log either
                raise DaemonError(f"the services of {instance.file} did not start{said}") from None
            raise


def _quoted(instance: Instance, begin: int) -> str:
    try:
        text = instance.log_file.read_bytes()[begin:].decode(errors="replace")
    except OSError:
        return ""
    return "".join(f"\n  {line}" for line in text.splitlines()[-_LAST_LINES:])


async def _wait_until_ready(
    instance: Instance,
    timeout: float | None,  # noqa: ASYNC109 - as above
    enabled: frozenset[str],
    *,
    fresh: bool,
) -> int:
    """Wait until all wanted services are ready; return the exit status. The instance keeps running in any case.

    Args:
        instance: The instance.
        timeout: Seconds to wait, None for no limit.
        enabled: The services that it starts; until then they look as if they were not wanted.
        fresh: Whether it starts all of them now; else some may have been stopped since.
    """
    client = instance.client()
    waits = ""
    reported: set[tuple[str, int]] = set()  # names with the number of their run
    with trio.move_on_after(float("inf") if timeout is None else timeout):
        while True:
            rows = await client.get("/services")
            wanted = [row for row in rows if row["state"] != "stopped"]
            begun = {row["name"] for row in rows if row["state"] != "stopped" or row["generation"]}
            bad = [row for row in wanted if row["state"] in _BAD]
            if bad:
                print_error(
                    "".join(
                        f"trio-process: {row['name']}: {row['state']}: {row['error'] or ''}\n" for row in bad
                    ).rstrip()
                )
                return FAILED
            for row in wanted:
                if row["state"] == "backoff" and (row["name"], row["generation"]) not in reported:
                    reported.add((row["name"], row["generation"]))
                    print_error(
                        f"trio-process: {row['name']}: {row['error'] or 'has ended'}; it will be restarted; "
                        f"`{instance.typed('logs', row['name'])}` shows why"
                    )
            waiting = [row["name"] for row in wanted if row["state"] not in _GOOD]
            if fresh or not begun:
                waiting += sorted(enabled - begun)
            if not waiting:
                return 0
            waits = listed(waiting)
            await trio.sleep(_LOOK)
    assert timeout is not None
    raise ProcessError(f"not ready within {in_seconds(timeout)}: {waits}; they run on")
