"""`Program`: one executable, looked up once, whose `run` returns its output."""

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
        name: Its name on the PATH, or a path.
        path: Its path; None to look it up on the PATH, once: `find` stores it here.

    >>> async def main() -> str:
    ...     return await Program("git").run("--version")
    """

    name: str = attrs.field(validator=lambda _, __, value: checks.text("name", value, empty=False))
    path: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))

    def find(self) -> Path:
        """Return the absolute path of the executable, and store it in `path`; if `path` is set, return that.

        Raises:
            ProgramNotFoundError: There is no such program, or it may not be executed.
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
        """Run the program, and return all of its combined output, without trailing white space.

        Args:
            *args: Its arguments.
            **options: The fields of `RunOptions`.

        Raises:
            CommandFailedError: The run failed; ``.result`` has the output, trimmed likewise.
            ProgramNotFoundError: There is no such program.
        """
        given = {"buffer_size": math.inf, **options}
        async with Service() as service:
            result = await service.run_with_options(make_options(self.find(), args, given), check=False)
        if not result.ok:
            attrs.evolve(result, output_bytes=result.output_bytes.rstrip()).check()
        return result.output.rstrip()

    async def run_dir(
        self, directory: str | os.PathLike[str], *args: Argument, **options: Unpack[RunInKeywords]
    ) -> str:
        """As `run`, in a directory."""
        return await self.run(*args, cwd=directory, **options)
