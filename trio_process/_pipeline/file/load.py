"""Read a pipeline file, or report every fault in it at once (docs/reference/pipeline-file.md)."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

import attrs

from ..._core import PipelineError, checks, escape_controls
from ..plan import cycles, format_cycle
from ..spec import RunSpec

if TYPE_CHECKING:
    from .allowance import Allowance
    from .faults import Faults
    from .resolve import Task
    from .service.entry import ServiceEntry

    FindFaults = Callable[[Sequence[ServiceEntry]], object]

LARGEST: Final = 16 * 2**20
"""The maximum size of a file, in bytes; a larger file is a wrong path, such as /dev/zero or a core dump."""

TOOL: Final = "trio-process"
"""The name of our table in pyproject.toml, below `tool`."""

STDIN: Final = "-"
"""The path that means standard input."""


@final
@attrs.frozen
class PipelineFile:
    """A pipeline file without faults.

    Attributes:
        path: The file.
        directory: Its directory, absolute.
        tasks: Its tasks, in the order of the file.
        procfile: Whether it is a Procfile, whose tasks are meant to run concurrently.
        default: The tasks of a `run` without names; None for all tasks that are not manual.
        cleanup_timeout: Seconds for cleaning up after a halt, or None for the runner's default.
        services: Its services, in the order of the file.
        strategy: Which services are restarted together, as in the file; None for the supervisor's default.
        faults: Where service entries record faults that only appear when units are made from them.
        files: The files it was read from: itself, included files, and env files; absolute paths, empty if it isn't
            regular.
        is_regular: Whether it is a file in its directory; for anything else, such as a pipe, nothing can be remembered.
    """

    path: Path
    directory: str
    tasks: tuple[Task, ...]
    procfile: bool = False
    default: tuple[str, ...] | None = None
    cleanup_timeout: float | None = None
    services: tuple[ServiceEntry, ...] = ()
    strategy: str | None = None
    faults: Faults | None = attrs.field(default=None, repr=False, eq=False)
    files: tuple[str, ...] = ()
    is_regular: bool = True

    @property
    def specs(self) -> list[RunSpec]:
        """The specs of the tasks."""
        return [task.spec for task in self.tasks]


def read_pipeline(
    path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
    environ: Mapping[str, str] = os.environ,
    *,
    keep_in: str | None = None,
    find_faults: FindFaults | None = None,
) -> PipelineFile:
    """Return what a pipeline file contains.

    Args:
        path: The file, as for the public `load_pipeline`.
        environ: The environment.
        keep_in: The directory beside a large file in which its checked values are kept, if that exists; None to keep
            none.
        find_faults: Called with services of a file that has faults, to report those that only a unit can find.

    Raises:
        PipelineError: The file can't be read or has faults, other than those that only a unit can find.
        OptionError: `path` is not a path.
    """
    from .allowance import Allowance  # noqa: PLC0415 - as in _read

    file = checks.file_path("path", path)
    values = dict(environ)  # os.environ decodes on each access
    return _read(file, values, (), Allowance(), keep_in=keep_in, find_faults=find_faults)


def _read(
    file: Path,
    environ: dict[str, str],
    includers: Sequence[str],
    allowance: Allowance,
    *,
    keep_in: str | None = None,
    find_faults: FindFaults | None = None,
) -> PipelineFile:
    # the modules that read files are imported lazily: they take as long to import as the rest of the package
    from .checked import Checked, read_checked, write_checked  # noqa: PLC0415
    from .faults import Faults  # noqa: PLC0415
    from .procfile import is_procfile  # noqa: PLC0415

    directory, is_regular = _directory(file)
    text = _read_text(file)
    if is_procfile(file):
        return _read_procfile(file, text, directory, environ, is_regular=is_regular)
    kept = None if keep_in is None or not is_regular else Path(directory, keep_in, f"{file.name}.checked")
    known = None if kept is None else read_checked(kept, text, directory)
    if known is not None:
        return PipelineFile(
            file, directory, **known._asdict(), faults=Faults(str(file)), files=(os.path.abspath(file),)
        )
    section, found = _read_toml(
        file, text, directory, environ, includers, allowance, find_faults, is_regular=is_regular
    )
    if kept is not None:
        checked = Checked(found.tasks, found.default, found.cleanup_timeout, found.strategy)
        write_checked(kept, text, directory, section, checked)
    return found


def _read_procfile(file: Path, text: str, directory: str, environ: dict[str, str], *, is_regular: bool) -> PipelineFile:
    from .faults import Faults  # noqa: PLC0415 - as in _read
    from .procfile import as_services, read_procfile  # noqa: PLC0415
    from .resolve import Task  # noqa: PLC0415

    faults = Faults(str(file))
    specs = read_procfile(text, directory, environ, faults)
    faults.raise_if_any()
    return PipelineFile(
        file,
        directory,
        tuple(Task(spec, spec.name) for spec in specs),
        procfile=True,
        services=tuple(as_services(specs, faults)),
        faults=faults,
        files=(os.path.abspath(file), os.path.join(directory, ".env")) if is_regular else (),
        is_regular=is_regular,
    )


def _read_toml(
    file: Path,
    text: str,
    directory: str,
    environ: dict[str, str],
    includers: Sequence[str],
    allowance: Allowance,
    find_faults: FindFaults | None,
    *,
    is_regular: bool,
) -> tuple[Mapping[str, Any], PipelineFile]:
    """Return the table of the pipeline, and the file."""
    from .faults import Faults  # noqa: PLC0415 - as in _read
    from .service.reader import ServiceReader  # noqa: PLC0415
    from .tasks import TaskReader  # noqa: PLC0415
    from .toml_lines import key_lines  # noqa: PLC0415

    _refuse_deep_keys(file, text)
    document = _parse(file, text)
    faults = Faults("stdin" if str(file) == STDIN else str(file), lambda: key_lines(text))
    section, prefix = _section(file, document, faults)
    reader = TaskReader(faults, prefix, directory, environ, allowance)
    top = reader.read_top(section)
    files, others = _include(
        top.get("include", {}), faults, prefix, directory, environ, (*includers, _key(file)), allowance, find_faults
    )
    tasks = reader.read(section, [task.in_file(name) for name, each in files.items() for task in each.tasks])
    included = [entry.in_file(name) for name, each in files.items() for entry in each.services]
    services = ServiceReader(faults, prefix, directory, reader.variables, reader.defaults).read(
        section.get("services"), included
    )
    reader.check_uses(tasks, {entry.name for entry in services})
    default = reader.read_default(top.get("default"), tasks)
    if find_faults is not None and (faults or others):
        find_faults(services[len(included) :])
    faults.raise_if_any(others)
    _refuse_cycles(tasks, prefix, faults)
    faults.raise_if_any()
    found = PipelineFile(
        file,
        directory,
        tuple(tasks),
        default=default,
        cleanup_timeout=top.get("cleanup-timeout"),
        services=tuple(services),
        strategy=top.get("strategy"),
        faults=faults,
        files=_files_of(file, reader.variables.files, files.values()) if is_regular else (),
        is_regular=is_regular,
    )
    return section, found


def _files_of(file: Path, env_files: Iterable[str], included: Iterable[PipelineFile]) -> tuple[str, ...]:
    theirs = [path for each in included for path in each.files]
    return tuple(dict.fromkeys((os.path.abspath(file), *env_files, *theirs)))


def _include(
    paths: Mapping[str, str],
    faults: Faults,
    prefix: tuple[str, ...],
    directory: str,
    environ: dict[str, str],
    includers: Sequence[str],
    allowance: Allowance,
    find_faults: FindFaults | None,
) -> tuple[dict[str, PipelineFile], list[str]]:
    """Return the included files by name, and the faults of those that can't be loaded."""
    files: dict[str, PipelineFile] = {}
    others: list[str] = []
    from .allowance import DEEPEST, FILES  # noqa: PLC0415 - as in _read
    from .commands import as_path  # noqa: PLC0415

    for name, path in paths.items():
        file = Path(directory, as_path(path))
        if _key(file) in includers:
            chain = " → ".join([*includers[includers.index(_key(file)) :], _key(file)])
            faults.add((*prefix, "include", name), f"a cycle of files: {chain}")
            continue
        if len(includers) > DEEPEST:
            faults.add((*prefix, "include", name), f"includes are nested more than {DEEPEST} deep")
            continue
        if not allowance.take(FILES, 1, faults.at(*prefix, "include", name)):
            break
        try:
            files[name] = _read(file, environ, includers, allowance, find_faults=find_faults)
        except _UnreadableError as error:
            faults.add((*prefix, "include", name), *error.faults)
        except PipelineError as error:
            others += error.faults
    return files, others


def _key(file: Path) -> str:
    return os.path.realpath(file)


def _refuse_deep_keys(file: Path, text: str) -> None:
    """Refuse deep nesting, which takes `tomllib` quadratic time. Keys have no line breaks, so few texts need the check."""
    from .toml_lines import DEEPEST, TooDeepError, key_lines  # noqa: PLC0415 - as in _read

    if all(line.count(".") < DEEPEST for line in text.split("\n")):
        return
    try:
        key_lines(text)
    except TooDeepError as error:
        raise PipelineError([f"{file}:{error.line}: a key is nested more than {DEEPEST} deep"]) from None


def has_pipeline(pyproject: Path) -> bool:
    """Whether a pyproject.toml has our table; a broken file counts as having none."""
    try:
        return isinstance(_parse(pyproject, _read_text(pyproject)).get("tool", {}).get(TOOL), dict)
    except (PipelineError, AttributeError):  # AttributeError: `tool` is not a table
        return False


def _directory(file: Path) -> tuple[str, bool]:
    """Return the absolute directory of a file, and whether the file lies there; for a pipe or device, return our own."""
    try:
        if str(file) == STDIN or _is_stream(file):
            return os.path.realpath(os.curdir), False
        return os.path.realpath(file.parent), True  # a loop of symbolic links is reported when the file is read
    except OSError as error:  # of getcwd(3)
        gone = f"the working directory can't be determined: {error.strerror}"
        raise PipelineError([f"can't read {str(file)!r}: {gone}; give an absolute path"]) from error


def _is_stream(file: Path) -> bool:
    try:
        mode = os.stat(file).st_mode
    except (OSError, ValueError):
        return False  # reported when it is read
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


class _UnreadableError(PipelineError, shown_as=PipelineError):
    """A file can't be read at all: a fault of what named it."""


def _read_text(file: Path) -> str:
    """Return the text of a file.

    Raises:
        PipelineError: It isn't UTF-8.
        _UnreadableError: It can't be read, or is too large.
    """
    try:
        if str(file) == STDIN:
            data = sys.stdin.buffer.read(LARGEST + 1)
        else:
            with file.open("rb") as opened:
                data = opened.read(LARGEST + 1)
    except OSError as error:
        hint = "; give the file itself" if isinstance(error, IsADirectoryError) else ""
        raise _UnreadableError([f"can't read {str(file)!r}: {error.strerror or error}{hint}"]) from error
    if len(data) > LARGEST:
        raise _UnreadableError([f"{str(file)!r} has more than {LARGEST} bytes: that is not a pipeline file"])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PipelineError([f"{file}:{line}: not UTF-8: {error.reason} (byte {error.start} of the file)"]) from error


def _parse(file: Path, text: str) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - as in read_pipeline

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PipelineError([_toml_fault(file, text, str(error))]) from error
    except ValueError as error:  # a number with more digits than Python converts
        found = re.search(r"(?<![\"'\w])[0-9_]{4300,}", text)
        place = f"{file}:{text.count(chr(10), 0, found.start()) + 1}" if found is not None else str(file)
        largest = f"the largest is {checks.LARGEST}"
        raise PipelineError([escape_controls(f"{place}: a number with thousands of digits; {largest}")]) from error
    except RecursionError as error:
        raise PipelineError([f"{file}: not valid TOML: nested too deeply"]) from error


def _toml_fault(file: Path, text: str, fault: str) -> str:
    """Return the fault that tomllib found, with the line first as in every other fault."""
    found = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", fault)
    place = str(file)
    if found is not None:
        place += ":" + (found[1] or str(text.count("\n") + 1))
        fault = fault[: found.start()] + (f" (column {found[2]})" if found[2] else " (at the end of the file)")
    return escape_controls(f"{place}: not valid TOML: {fault}").replace("\n", "\\n")


def _section(file: Path, document: dict[str, Any], faults: Faults) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the table that contains the pipeline, and its key path."""
    if file.name != "pyproject.toml":
        tool = document.get("tool")
        if isinstance(tool, dict) and TOOL in tool:
            faults.add(
                ("tool", TOOL), f"outside of pyproject.toml the tables stand at the top; leave `tool.{TOOL}` out"
            )
            return {key: value for key, value in document.items() if key != "tool"}, ()
        return document, ()
    tool = document.get("tool", {})
    section = tool.get(TOOL) if isinstance(tool, dict) else None
    if section is None:
        if isinstance(tool, dict) and "trio_process" in tool:
            faults.add(("tool", "trio_process"), f"unknown key; this is written `tool.{TOOL}`, with a hyphen")
        else:
            faults.add((), f"has no `[tool.{TOOL}.tasks.NAME]`")
    elif not isinstance(section, dict):
        from .value_types import quoted  # noqa: PLC0415 - kept out of the import time

        faults.add(("tool", TOOL), f"expected a table, got {quoted(section)}")
    faults.raise_if_any()
    return section or {}, ("tool", TOOL)


def _refuse_cycles(tasks: list[Task], prefix: tuple[str, ...], faults: Faults) -> None:
    """Record every cycle once, at its first task; tasks that only depend on a cycle are not at fault."""
    for members in cycles([task.spec for task in tasks]):
        names = [tasks[place].spec.name for place in members]
        place = (*prefix, "tasks", tasks[members[0]].table, "after")
        faults.add(place, f"a cycle, in which each waits for the next: {format_cycle(names)}")
