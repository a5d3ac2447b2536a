"""`Stage`: all that a command was told, as a value that is checked when it is made."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Callable, Mapping
from contextlib import ExitStack
from inspect import isasyncgen
from pathlib import Path
from typing import IO, Any, Final, final

import attrs

from .._core import (
    EnvValue,
    OptionError,
    ProcessStartError,
    RunOptions,
    Stdio,
    command_line,
    make_options,
    shown_args,
    shown_command,
    shown_cwd,
)
from .logger import Logger, default_logger, say

LineHandler = Callable[[str], object]
"""What is called with each line; an async function is awaited."""

Source = str | bytes | os.PathLike[str] | IO[bytes] | Stdio | AsyncIterable[bytes]
Target = os.PathLike[str] | IO[bytes] | IO[str] | Stdio | LineHandler

_VERBS: Final = {
    "command": "Command(program)",
    "args": "Command(program, *args)",
    "cwd": "with_dir",
    "env": "with_env",
    "stdin": "with_stdin",
    "stdout": "with_stdout",
    "stderr": "with_stderr",
    "timeout": "with_timeout",
    "disable_capture": "with_stdout(Stdio.NULL)",
    "detach": "Service.start(..., detach=True): a Command is waited for",
}


@final
@attrs.frozen
class Redirect:
    """What `RunOptions` can't say of an output: append to its file, call for each line, flush a file of ours before."""

    append: bool = False
    call: LineHandler | None = None
    file: IO[Any] | None = None


_PLAIN: Final = Redirect()


@final
@attrs.frozen(kw_only=True)
class Stage:
    """One command of a pipe, or the only one."""

    options: RunOptions
    feed: AsyncIterable[bytes] | None = None
    stdout: Redirect = _PLAIN
    stderr: Redirect = _PLAIN
    logger: Logger | None = None

    @property
    def typed(self) -> str:
        """The command as one would type it, secrets masked."""
        return command_line(shown_command(self.options), shown_args(self.options))

    @property
    def takes_input(self) -> bool:
        """Whether nothing was said of its stdin, so that a pipe can be put there."""
        return self.options.stdin is None and self.feed is None

    @property
    def gives_output(self) -> bool:
        """Whether its stdout goes nowhere else, so that a pipe can be put there."""
        return self.options.stdout is Stdio.PIPE and self.stdout.call is None

    def with_env(self, env: Mapping[str, EnvValue]) -> Stage:
        """Return the same with more of an environment."""
        return self._told(env={**self.options.env, **env})

    def with_dir(self, directory: str | bytes | os.PathLike[str] | None) -> Stage:
        """Return the same in another directory."""
        return self._told(cwd=directory)

    def with_timeout(self, seconds: float | None) -> Stage:
        """Return the same with another time limit."""
        return self._told(timeout=seconds)

    def with_stdin(self, source: Source) -> Stage:
        """Return the same with another stdin."""
        if source is Stdio.PIPE:
            raise OptionError("a Command's stdin can't be Stdio.PIPE: nobody would write to it; give the data itself")
        source = _unwrapped(source)
        if isinstance(source, AsyncIterable):
            return attrs.evolve(self._told(stdin=Stdio.PIPE), feed=source)
        if isinstance(source, os.PathLike):
            source = Path(source)
        elif not isinstance(source, (str, bytes, bytearray)) and not hasattr(source, "fileno"):
            raise OptionError(
                "stdin must be str or bytes (data), a pathlib.Path, an open binary file, a Stdio, "
                f"or an async iterable of bytes; got {source!r}"
            )
        return attrs.evolve(self._told(stdin=source), feed=None)

    def with_output(self, stream: str, target: Target, *, append: bool) -> Stage:
        """Return the same with another stdout or stderr."""
        given: Any = _unwrapped(target)
        if append and not isinstance(given, os.PathLike):
            raise OptionError(f"append is for a {stream} that goes into a path; got {given!r}")
        told, redirect = given, _PLAIN
        if isinstance(given, os.PathLike):
            told, redirect = Path(given), Redirect(append=append)
        elif hasattr(given, "fileno"):
            # of a text file, the descriptor below is used: what it has buffered goes out before the command starts
            told, redirect = getattr(given, "buffer", given), Redirect(file=given)
        elif callable(given):
            told, redirect = Stdio.PIPE, Redirect(call=given)
        changes: dict[str, Any] = {stream: redirect}
        return attrs.evolve(self._told(**{stream: told}), **changes)

    def with_options(self, options: Mapping[str, Any]) -> Stage:
        """Return the same with more of `RunOptions`."""
        for option in options:
            if option in _VERBS:
                raise OptionError(f"{option} is not for with_options; use {_VERBS[option]}")
        make_options(self.options.command, (), options)  # names the nearest one where a name is unknown
        return self._told(**options)

    def prepared(self, ends: Mapping[str, IO[bytes]], files: ExitStack) -> RunOptions:
        """Return what a service is to run.

        Args:
            ends: Its ends of the pipes to its neighbours.
            files: Closes what was opened for it.
        """
        options = self.options
        if isasyncgen(self.feed) and self.feed.ag_frame is None:
            raise OptionError(f"the async generator that `{self.typed}` was to read was read before; give a new one")
        changes: dict[str, Any] = dict(ends)
        if options.stdin is None:
            changes.setdefault("stdin", Stdio.NULL)
        command = os.fsdecode(options.command)  # type: ignore[arg-type]  # RunOptions takes no Secret for a command
        if options.cwd is not None and "/" in command and not os.path.isabs(command):
            changes["command"] = os.path.join(os.getcwd(), command)
        for stream in ("stdout", "stderr"):
            if getattr(self, stream).append:
                changes[stream] = files.enter_context(self._appending(getattr(options, stream)))
        prepared = attrs.evolve(options, **changes)  # checked again: a file given may have been closed since
        for redirect in (self.stdout, self.stderr):
            if redirect.file is not None:
                self._flush(redirect.file)
        return prepared

    def _flush(self, file: IO[Any]) -> None:
        try:
            file.flush()
        except OSError as error:
            name = getattr(file, "name", file)
            raise ProcessStartError(
                f"can't start `{self.typed}`: the buffer of {name!r} can't be written: {error.strerror}"
            ) from error

    def _appending(self, path: Path) -> IO[bytes]:
        try:
            return path.open("ab", buffering=0)
        except OSError as error:
            raise ProcessStartError(f"can't start `{self.typed}`: {str(path)!r}: {error.strerror}") from error

    def say(self, level: str, message: str, **more: object) -> None:
        """Tell the logger."""
        options = self.options
        fields = {"cmd": shown_command(options), "args": shown_args(options), "dir": shown_cwd(options), **more}
        say(self.logger or default_logger(), level, message, fields)

    def _told(self, **changes: Any) -> Stage:
        return attrs.evolve(self, options=attrs.evolve(self.options, **changes))


def _unwrapped(file: Any) -> Any:
    """Return the file that `trio.open_file` wraps, anything else as it is."""
    return file.wrapped if hasattr(file, "wrapped") and hasattr(file, "fileno") else file
