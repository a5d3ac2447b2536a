"""`Stage`: one command with all its options, as a value that is validated when it is created."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Callable, Mapping
from contextlib import ExitStack
from inspect import isasyncgen
from io import FileIO
from pathlib import Path
from typing import IO, Any, Final, final

import attrs

from .._core import (
    EnvValue,
    OptionError,
    ProcessStartError,
    RunOptions,
    Stdio,
    bad_option,
    command_line,
    make_options,
    shown_args,
    shown_command,
    shown_cwd,
)
from .._process import open_path
from .logger import Logger, default_logger
from .logger import log as log_to

LineHandler = Callable[[str], object]
"""A function that is called with each line; an async one is awaited."""

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
    """What `RunOptions` can't express for an output: append to a file, call a handler, flush our file before the start."""

    append: bool = False
    call: LineHandler | None = None
    file: IO[Any] | None = None


_PLAIN: Final = Redirect()


@final
@attrs.frozen(kw_only=True)
class Stage:
    """One command of a pipe, or a command by itself."""

    options: RunOptions
    feed: AsyncIterable[bytes] | None = None
    stdout: Redirect = _PLAIN
    stderr: Redirect = _PLAIN
    logger: Logger | None = None

    @property
    def command_line(self) -> str:
        """The command as typed in a shell, secrets masked."""
        return command_line(shown_command(self.options), shown_args(self.options))

    @property
    def takes_input(self) -> bool:
        """Whether its stdin is still free for a pipe."""
        return self.options.stdin is None and self.feed is None

    @property
    def gives_output(self) -> bool:
        """Whether its stdout is still free for a pipe."""
        return self.options.stdout is Stdio.PIPE and self.stdout.call is None

    def with_env(self, env: Mapping[str, EnvValue]) -> Stage:
        """Return the same stage with more environment variables."""
        return self._with(env={**self.options.env, **env})

    def with_dir(self, directory: str | bytes | os.PathLike[str] | None) -> Stage:
        """Return the same stage with another working directory."""
        return self._with(cwd=directory)

    def with_timeout(self, seconds: float | None) -> Stage:
        """Return the same stage with another time limit."""
        return self._with(timeout=seconds)

    def with_stdin(self, source: Source) -> Stage:
        """Return the same stage with another stdin."""
        if source is Stdio.PIPE:
            raise OptionError(
                "a Command's stdin can't be Stdio.PIPE, which nothing would write to; give the data itself"
            )
        source = _unwrapped(source)
        if isinstance(source, AsyncIterable):
            return attrs.evolve(self._with(stdin=Stdio.PIPE), feed=source)
        if isinstance(source, os.PathLike):
            source = Path(source)
        elif not isinstance(source, (str, bytes, bytearray)) and not hasattr(source, "fileno"):
            raise bad_option(
                "stdin",
                "must be str or bytes (data), a pathlib.Path, an open binary file, a Stdio, "
                f"or an async iterable of bytes; got {source!r}",
            )
        return attrs.evolve(self._with(stdin=source), feed=None)

    def with_output(self, stream: str, target: Target, *, append: bool) -> Stage:
        """Return the same stage with another stdout or stderr."""
        given: Any = _unwrapped(target)
        if append and not isinstance(given, os.PathLike):
            raise bad_option("append", f"is for a {stream} that goes into a path; got {given!r}")
        option, redirect = given, _PLAIN
        if isinstance(given, os.PathLike):
            option, redirect = Path(given), Redirect(append=append)
        elif hasattr(given, "fileno"):
            # the descriptor below a text file is used, and its buffer is flushed before the command starts
            option, redirect = getattr(given, "buffer", given), Redirect(file=given)
        elif callable(given):
            option, redirect = Stdio.PIPE, Redirect(call=given)
        changes: dict[str, Any] = {stream: redirect}
        return attrs.evolve(self._with(**{stream: option}), **changes)

    def with_options(self, options: Mapping[str, Any]) -> Stage:
        """Return the same stage with other fields of `RunOptions`."""
        for option in options:
            if option in _VERBS:
                raise bad_option(option, f"is not for with_options; use {_VERBS[option]}")
        make_options(self.options.command, (), options)  # raises for an unknown name
        return self._with(**options)

    def prepared(self, ends: Mapping[str, IO[bytes]], files: ExitStack) -> RunOptions:
        """Return the options to run it with.

        Args:
            ends: Its ends of the pipes to its neighbours.
            files: Receives the files opened for it, to close them.
        """
        options = self.options
        if isasyncgen(self.feed) and self.feed.ag_frame is None:
            raise OptionError(
                f"the async generator that `{self.command_line}` should read has been read before; give a new one"
            )
        changes: dict[str, Any] = dict(ends)
        if options.stdin is None:
            changes.setdefault("stdin", Stdio.NULL)
        command = os.fsdecode(options.command)  # type: ignore[arg-type]  # RunOptions takes no Secret for a command
        if options.cwd is not None and "/" in command and not os.path.isabs(command):
            changes["command"] = os.path.join(os.getcwd(), command)
        for stream in ("stdout", "stderr"):
            if getattr(self, stream).append:
                changes[stream] = files.enter_context(self._appending(getattr(options, stream)))
        prepared = attrs.evolve(options, **changes)  # validated again: a file may have been closed since
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
                f"can't start `{self.command_line}`: the buffer of {name!r} can't be written: {error.strerror}"
            ) from error

    def _appending(self, path: Path) -> IO[bytes]:
        try:
            return FileIO(open_path(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "a")
        except OSError as error:
            raise ProcessStartError(f"can't start `{self.command_line}`: {str(path)!r}: {error.strerror}") from error

    def log(self, level: str, message: str, **more: object) -> None:
        """Log to the logger of this command."""
        options = self.options
        fields = {"cmd": shown_command(options), "args": shown_args(options), "dir": shown_cwd(options), **more}
        log_to(self.logger or default_logger(), level, message, fields)

    def _with(self, **changes: Any) -> Stage:
        return attrs.evolve(self, options=attrs.evolve(self.options, **changes))


def _unwrapped(file: Any) -> Any:
    """Return the file that `trio.open_file` wraps; anything else unchanged."""
    return file.wrapped if hasattr(file, "wrapped") and hasattr(file, "fileno") else file
