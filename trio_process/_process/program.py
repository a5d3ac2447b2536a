"""`Program`: one executable, found once and run for its text."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Unpack, final

import attrs

from .._core import Argument, ProgramNotFoundError, RunInKeywords, RunKeywords, checks, make_options
from .environment import find_program
from .service import Service


@final
@attrs.define(eq=False)
class Program:
    """An executable by its name.

    Args:
        name: As it is found on the PATH, or a path.
        path: Where it is; None to look it up on the PATH, once: `find` keeps it here.

    >>> async def main() -> str:
    ...     return await Program("git").run("--version")
    """

    name: str = attrs.field(validator=lambda _, __, value: checks.text("name", value, empty=False))
    path: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))

    def find(self) -> Path:
        """Return the absolute path of the executable, and keep it in `path`; a set `path` wins.

        Raises:
            ProgramNotFoundError: There is none, or it may not be executed.
        """
        wanted = os.fspath(self.path) if self.path is not None else self.name
        search = os.environ.get("PATH", os.defpath) if "/" not in wanted else ""
        try:
            found = find_program(wanted, search)
        except OSError as error:
            where = f"on the PATH ({search})" if search else "there"
            raise ProgramNotFoundError(f"there is no executable {wanted!r} {where}: {error.strerror}") from error
        self.path = Path(os.path.abspath(found))
        return self.path

    async def run(self, *args: Argument, **options: Unpack[RunKeywords]) -> str:
        """Run it, and return its combined output, whole, without the white space around it.

        Args:
            *args: Its arguments.
            **options: The fields of `RunOptions`.

        Raises:
            CommandFailedError: It did not end well; ``.result`` has the output, trimmed likewise.
            ProgramNotFoundError: There is no such program.
        """
        given = {"buffer_size": math.inf, **options}
        async with Service() as service:
            result = await service.run_with_options(make_options(self.find(), args, given), check=False)
        if not result.ok:
            attrs.evolve(result, output_bytes=result.output_bytes.strip()).check()
        return result.output.strip()

    async def run_dir(
        self, directory: str | os.PathLike[str], *args: Argument, **options: Unpack[RunInKeywords]
    ) -> str:
        """As `run`, in a directory."""
        return await self.run(*args, cwd=directory, **options)
