"""Launchers that need only a command: agents on this machine, over ssh, or through any other command."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, final

import attrs
import trio

from .._cluster import MOST_SLOTS, Agent, Crew, Launcher, open_command, python_argv
from .._core import ClusterError, OptionError, Secret, bad_option, checks

START_TIMEOUT: Final = 60.0
"""Seconds in which an agent that does not have to queue should be up."""

_SSH_FAILED: Final = 255  # ssh(1), "EXIT STATUS": an error of its own; else the status of the remote command

# An existing master of the user is used, but no agent's connection becomes the master of another's: each must end, and
# be killed, alone.
_SSH_DEFAULTS: Final = (
    *("-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=15"),
    *("-o", "ControlMaster=no"),
)


@final
@attrs.frozen
class CommandLauncher:
    """Runs one command per agent, and talks to the agent over the command's stdin and stdout."""

    commands: tuple[tuple[str, str, tuple[str, ...]], ...]  # name, host, argv
    proves_death: Callable[[int, bytes], bool] = lambda status, words: False  # noqa: ARG005 - the least that is known
    start_timeout: float | None = START_TIMEOUT

    async def launch(self, crew: Crew) -> None:
        """Run the commands concurrently."""
        async with trio.open_nursery() as nursery:
            for name, host, argv in self.commands:
                nursery.start_soon(self._attend, crew, crew.roster.add(name, host), argv)
            crew.roster.expect(launching=False)

    @trio.lowlevel.enable_ki_protection
    async def _attend(self, crew: Crew, agent: Agent, argv: tuple[str, ...]) -> None:
        try:
            async with open_command(argv, proves_death=self.proves_death) as channel:
                await crew.attend(agent, channel)
        except ClusterError as error:
            crew.roster.failed(agent, error)


def local_agents(count: int = 1, *, slots: int | None = None) -> Launcher:
    """Return a launcher of agents on this machine: separate processes, each with a guardian of its own.

    Args:
        count: How many agents, at most 10,000.
        slots: How many processes each agent offers to run at the same time; None for the number of processors that it may
            use.

    >>> launcher = local_agents(2, slots=4)
    """
    count = int(checks.whole("count", count, least=1, most=checks.MOST))
    argv = (*python_argv(), *_slots(slots))
    commands = tuple([(f"local-{number}", os.uname().nodename, argv) for number in range(1, count + 1)])
    return CommandLauncher(commands, lambda status, words: True)  # noqa: ARG005 - the command is the agent


def command_agents(*argvs: Sequence[str], slots: int | None = None) -> Launcher:
    """Return a launcher of agents that your own commands start, one agent for each command.

    Each command must run ``python -m trio_process.agent`` somewhere, and pass its stdin and stdout through unchanged, as
    ``kubectl exec -i``, ``docker run -i`` and ``machinectl shell`` do.

    Args:
        *argvs: The commands, each a list of its words.
        slots: How many processes each agent offers to run at the same time; None for the number of processors that it may
            use.

    >>> launcher = command_agents(["kubectl", "exec", "-i", "worker-0", "--", "python3", "-m", "trio_process.agent"])
    """
    if not argvs:
        raise OptionError("command_agents takes at least one command")
    commands = []
    for argv in argvs:
        words = _words("argvs", argv)
        if not words:
            raise OptionError("command_agents: a command is empty")
        commands.append((os.path.basename(words[0]), words[0], (*words, *_slots(slots))))
    return CommandLauncher(tuple(commands))


def ssh_agents(*hosts: str, slots: int | None = None, python: str = "python3", options: Sequence[str] = ()) -> Launcher:
    """Return a launcher of agents on other hosts, one each, reached by ssh(1).

    ssh must work without asking for a password, by a key or an ssh-agent (``BatchMode=yes``).

    Args:
        *hosts: The hosts as ssh knows them: ``"node1"``, ``"me@node2"``.
        slots: How many processes each agent offers to run at the same time; None for the number of processors that it may
            use.
        python: The Python on those hosts that has this package: a program on the PATH, or its path.
        options: Further options of ssh, such as ``["-p", "2222"]``.

    >>> launcher = ssh_agents("node1", "node2", python="/opt/venv/bin/python", options=["-p", "2222"])
    """
    if not hosts:
        raise OptionError("ssh_agents takes at least one host")
    given = _words("options", options)
    checks.text("python", python, empty=False)
    for host in hosts:
        if not re.fullmatch(r"[^-\s]\S*", checks.text("hosts", host)):
            raise OptionError(f"ssh_agents: {host!r} is not a valid host", option="hosts")
    # a shell between sshd and the agent: ssh itself exits with 255 both where it has lost the connection and where a
    # signal has killed its command, but the shell reports the latter as 128 + N
    quoted = " ".join(_quoted(word) for word in [python, "-P", "-m", "trio_process.agent", *_slots(slots)])
    remote = f"exec sh -c {_quoted(quoted + '; exit $?')}"
    commands = tuple(
        [
            (host.rpartition("@")[2], host, ("ssh", *given, *_SSH_DEFAULTS, "--", host, remote))
            for host in map(checks.plain, hosts)
        ]
    )
    return CommandLauncher(commands, lambda status, words: status >= 0 and status != _SSH_FAILED)  # noqa: ARG005


def dask_agents(
    address: str, *, workers: Sequence[str] | None = None, security: Any = None, plaintext: bool = False
) -> Launcher:
    """Return a launcher of agents on a Dask cluster, one per worker, including workers that join or restart later.

    It needs the extra `dask`, here and on the workers. Each agent is a task that occupies one thread of its worker, and
    offers as many slots as the worker has threads.

    Args:
        address: The scheduler, ``"tcp://scheduler:8786"``.
        workers: Only these workers, by name or address; None for all.
        security: The `distributed.Security` of the cluster: agents then call back by TLS.
        plaintext: Let agents on other hosts call back unencrypted.

    Raises:
        ClusterError: `distributed` is not installed, or the certificates can't be used.

    >>> launcher = dask_agents("tcp://127.0.0.1:8786")  # doctest: +SKIP
    """
    if importlib.util.find_spec("distributed") is None:
        raise ClusterError("dask_agents needs Dask's distributed: pip install 'trio-process[dask]'")
    from .dask import make_launcher  # noqa: PLC0415 - only where it is asked for

    if not checks.text("address", address):
        raise bad_option(
            "address", f"must be that of a Dask scheduler, such as 'tcp://scheduler:8786', got {checks.brief(address)}"
        )
    checks.flag("plaintext", plaintext)
    names = None if workers is None else _words("workers", workers)
    return make_launcher(address, names, security, plaintext=plaintext)


def _quoted(word: str) -> str:
    """Quote a word for any login shell."""
    return "'" + word.replace("'", "'\"'\"'") + "'"


def _words(option: str, values: object) -> list[str]:
    """Return arguments as texts; a `Secret` is refused, as other users see what a launcher runs."""
    words = checks.arguments(option, values)
    if any(isinstance(word, Secret) for word in words):
        raise bad_option(option, "can't contain a Secret: other users can see the command that starts an agent")
    return [os.fsdecode(word) for word in words if not isinstance(word, Secret)]


def _slots(slots: int | None) -> tuple[str, ...]:
    return () if slots is None else ("--slots", str(checks.whole("slots", slots, least=1, most=MOST_SLOTS)))
