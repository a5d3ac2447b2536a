"""Run the resident: the process that ``daemon start`` leaves in the background, a `Daemon` around an ordinary command.

    python -m trio_process._cli.daemon.resident SPEC_FILE

It reports to its parent, the command ``daemon start``, with one JSON object per line on stdout: `running` and `ready`
with the PID of the command, `ended` with the PID and how it ended, `failed` with the reason why the resident ends. Once
the parent has exited, the resident continues without reporting.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Final, final
from urllib.parse import urlsplit

import trio

from ..._core import (
    CommandResult,
    EndReason,
    ProcessError,
    RegistryError,
    RestartPolicy,
    RunOptions,
    Stdio,
    open_scope,
)
from ..._daemon import Daemon, DaemonEntry, Registration, default_registry, hold_entry
from ..._process import ManagedProcess, Program, Service, ServiceOptions
from ..state import explain
from .files import REAPING, DaemonSpec, ResidentState, StateFiles, read_spec

LOG_SIZE: Final = 10 * 2**20
_POLICIES: Final = {
    "never": RestartPolicy.never,
    "on-failure": RestartPolicy.on_failure,
    "always": RestartPolicy.always,
}
_CAPTURED: Final = 65536  # enough to find the ready line of the command
_RENEW_EVERY: Final = 10.0  # seconds

_logger = logging.getLogger("trio_process")


@final
class ParentPipe:
    """The pipe to the command ``daemon start``, which waits at the other end of our stdout."""

    def __init__(self) -> None:
        self._open = True

    def report(self, **message: object) -> bool:
        """Send a message; return whether the parent is still reading."""
        if self._open:
            try:
                os.write(1, json.dumps(message).encode() + b"\n")
            except OSError:
                self.close()  # the parent has exited: the daemon continues
        return self._open

    def close(self) -> None:
        """Close the pipe, which ends the messages."""
        if self._open:
            self._open = False
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.close(null)


def main() -> int:
    """Run the daemon that a spec file describes; return the exit status."""
    path = Path(sys.argv[1])
    spec = read_spec(path)
    path.unlink()
    files = StateFiles(spec.code, spec.daemon)
    # "watched": the log is rotated, and a message must not be written to the oldest part, or to a deleted file
    logging.basicConfig(
        format="%(asctime)s trio-process: %(message)s",
        level=logging.INFO,
        handlers=[WatchedFileHandler(files.log_file, encoding="utf-8", errors="backslashreplace")],
    )
    parent = ParentPipe()
    try:
        result = trio.run(_Resident(spec, files, parent).run)
    except (ProcessError, OSError) as error:
        if not parent.report(failed=explain(error)):
            _logger.error("%s", explain(error))  # noqa: TRY400 - its text is meant for users
        return 1
    if result is None or result.reason is EndReason.STOPPED or result.reason is EndReason.CANCELLED:
        return 0
    assert result.exit_code is not None
    return result.exit_code if result.exit_code >= 0 else 128 - result.exit_code


@final
class _Resident:
    """Run the command of a spec, restart it according to its policy, and report its state."""

    def __init__(self, spec: DaemonSpec, files: StateFiles, parent: ParentPipe) -> None:
        self._spec = spec
        self._files = files
        self._parent = parent
        self._process: ManagedProcess | None = None
        self._latest: ManagedProcess | None = None  # the latest one, even once it has ended
        self._starts = 0
        self._last: CommandResult | None = None

    async def run(self) -> CommandResult | None:
        """Return how the command last ended; None if it never ran."""
        spec = self._spec
        async with Daemon(
            pid_file=self._files.pid_file,
            restart=_POLICIES[spec.restart](),
            shutdown_timeout=spec.grace + REAPING,
        ) as daemon:
            daemon.on_reload(self._pass_hangup_on)
            async with self._registered():
                self._files.keep(spec)  # only once it is the running instance: a refused start changes nothing
                await daemon.run(self._run_once)
        return self._last

    @asynccontextmanager
    async def _registered(self) -> AsyncIterator[None]:
        """Keep an entry in the registry, and write it again if it is removed: a resident without an entry is hard to find."""
        spec = self._spec
        registration = hold_entry(
            default_registry(),
            DaemonEntry(
                code=spec.code,
                daemon=spec.daemon,
                health=health_address(spec.health_url),
                project=spec.directory,
                binary=_binary(spec),
            ),
        )
        try:
            async with open_scope() as nursery:
                nursery.start_soon(_renew, registration)
                yield
                nursery.cancel_scope.cancel()
        finally:
            registration.withdraw()

    async def _run_once(self) -> None:
        spec = self._spec
        options = RunOptions(
            command=spec.command[0],
            args=spec.command[1:],
            cwd=spec.directory,
            name=f"{spec.code}/{spec.daemon}",
            stdin=Stdio.NULL,
            buffer_size=_CAPTURED,
            log_file=self._files.log_file,
            log_max_bytes=LOG_SIZE,
        )
        self._starts += 1
        try:
            await self._run_command(options)
        finally:
            self._report_killed()

    async def _run_command(self, options: RunOptions) -> None:
        spec = self._spec
        async with Service(options=ServiceOptions(guardian=True, strays="all", grace_period=spec.grace)) as service:
            process = await service.start_with_options(options)
            self._process = self._latest = process
            self._report_state(process.pid)
            self._parent.report(running=process.pid)
            try:
                async with open_scope() as nursery:
                    if spec.ready_line:
                        nursery.start_soon(self._await_ready_line, process)
                    await process.wait(check=False)
                    nursery.cancel_scope.cancel()
            finally:
                self._process = None
            self._last = process.result()
            self._report_state(None)
            self._parent.report(ended=process.pid, how=how_it_ended(self._last), success=self._last.exit_code == 0)
        self._last.check()

    async def _await_ready_line(self, process: ManagedProcess) -> None:
        with suppress(ProcessError):  # it ended by itself before
            await process.wait_for_line(self._spec.ready_line)
            self._parent.report(ready=process.pid)

    def _report_killed(self) -> None:
        """Report to ``daemon stop`` that the command did not end within its grace period."""
        result = None if self._latest is None else self._latest.result()
        asked = result is not None and result.reason in (EndReason.STOPPED, EndReason.CANCELLED)
        if result is not None and asked and result.exit_code == -signal.SIGKILL and self._spec.grace:
            _logger.warning("the command had not ended within %g s of SIGTERM, and was killed", self._spec.grace)
            self._report_state(None, killed=True)

    def _report_state(self, command: int | None, *, killed: bool = False) -> None:
        restarts = self._starts - 1
        try:
            self._files.report(ResidentState(resident=os.getpid(), command=command, restarts=restarts, killed=killed))
        except OSError as error:
            _logger.warning("%s could not be written: %s", self._files.state_file, error.strerror)

    def _pass_hangup_on(self) -> None:
        process = self._process
        if process is None or process.pid is None or process.exit_code is not None:
            _logger.info("SIGHUP is not passed on: the command is not running")
            return
        # to the command alone, as `systemctl reload` does: it may kill other members of its group
        os.kill(process.pid, signal.SIGHUP)


async def _renew(registration: Registration) -> None:
    while True:
        await trio.sleep(_RENEW_EVERY)
        try:
            if registration.renew():
                _logger.warning("the registry entry had been removed, and was written again")
        except (RegistryError, OSError) as error:
            _logger.warning("the registry entry is gone, and can't be written again: %s", error)


def how_it_ended(result: CommandResult) -> str:
    """Describe how a command ended, in a few words."""
    if result.signal_name is not None:
        return f"was killed by {result.signal_name}"
    return f"ended with exit status {result.exit_code}"


def health_address(url: str) -> str:
    """Return the address of a health URL for the registry, without user and password; empty for https.

    Readers of the registry request the address over plain HTTP.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{parts.port or 80}"


def _binary(spec: DaemonSpec) -> str:
    try:
        return str(Program(spec.command[0]).find())
    except ProcessError:
        return spec.command[0]  # the start will report the fault


if __name__ == "__main__":
    sys.exit(main())
