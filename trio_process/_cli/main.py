"""The command line: ``trio-process run | why | exec | up | daemon | daemons | health``, and the commands of services."""

from __future__ import annotations

import atexit
import errno
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any, Final, final

import click

from .output import OutputLost, discard_unwritten, escape_unencodable, without_output

# a command is imported when it is used: `exec` doesn't need the live view of `run`
_COMMANDS: Final = {
    "run": ("run.command", "run"),
    "why": ("run.why", "why"),
    "exec": ("exec", "execute"),
    "daemon": ("daemon.commands", "daemon"),
    "daemons": ("daemons", "daemons"),
    "health": ("health", "health"),
    "up": ("services.commands", "up"),
    "down": ("services.commands", "down"),
    "ps": ("services.commands", "ps"),
    "logs": ("services.commands", "logs"),
    "start": ("services.commands", "start"),
    "stop": ("services.commands", "stop"),
    "restart": ("services.commands", "restart"),
    "scale": ("services.commands", "scale"),
    "reload": ("services.commands", "reload"),
    "attach": ("services.commands", "attach"),
    "ui": ("services.commands", "ui"),
}

EXTRA: Final = ("click", "rich")
"""The packages that the extra `cli` installs."""

COMPLETE: Final = "_TRIO_PROCESS_COMPLETE"
"""The variable by which a shell asks for completion; click derives its name from ours."""

_INTERRUPTED: Final = 128 + 2
_UNWRITABLE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@final
class _Commands(click.Group):
    """A group that imports each command on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        try:
            command: click.Command = getattr(import_module(f".{module}", __package__), name)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] not in EXTRA:
                raise
            sys.exit(missing(error.name))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; for an unknown name, report the nearest one and how a task is run: make and just need no `run`."""
        name = args[0]
        if name in _COMMANDS or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        from .._core import nearest  # noqa: PLC0415 - only for this error

        hint = f"a task is run by `trio-process run TASK`{nearest(name, _COMMANDS)}"
        raise click.UsageError(f"there is no command {name!r}; {hint}", ctx)

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command line, or complete it for a shell."""
        if COMPLETE in os.environ:
            from .completion import use_our_bash  # noqa: PLC0415 - only if a shell asks for it

            use_our_bash()
        return super().main(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and exit with 130 after a Ctrl-C that it doesn't handle; click would print "Aborted!" and exit with 1."""
        try:
            return super().invoke(ctx)
        except* KeyboardInterrupt:
            pass  # an exception group, if a nursery was interrupted
        sys.exit(_INTERRUPTED)


def missing(name: str) -> str:
    """Return the advice for a missing package of the extra."""
    package = name.partition(".")[0]
    return f"trio-process: the command line needs {package}; install it with: pip install 'trio-process[cli]'"


_HELP: Final = "Run commands, pipelines, services and daemons, and leave no process behind."


@click.command(cls=_Commands, help=_HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="trio-process", prog_name="trio-process")
def cli() -> None:
    """Run commands, pipelines, services and daemons, and leave no process behind."""


def main() -> None:
    """Run the command line."""
    atexit.register(discard_unwritten)
    escape_unencodable()
    try:
        sys.exit(cli.main(prog_name="trio-process", standalone_mode=False))
    except click.ClickException as error:
        with suppress(OSError):  # the exit status reports it even if the text can't be written
            error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(_INTERRUPTED)
    except OSError as error:
        # the commands handle their own output; this text is click's: help, or the version
        if error.errno not in _UNWRITABLE:
            raise
        lost = OutputLost()
        lost.__cause__ = error
        sys.exit(without_output(lost))
