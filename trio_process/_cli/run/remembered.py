"""Use the memory beside a pipeline file: which tasks are up to date, and how far the last run got."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ..._core import OptionError, PipelineError, escape_controls
from ..._pipeline import Memory, PipelineFile, RunAllResult, RunSpec, because, find_unmatched
from .last_run import DIRECTORY, failed_last_time
from .select import give_arguments, select, with_needs


def open_memory(file: PipelineFile) -> Memory | None:
    """Return the memory of a pipeline file; None if it doesn't lie in its directory, such as a pipe."""
    if not file.is_regular:
        return None
    directory = Path(file.directory, DIRECTORY)
    with suppress(OSError):  # the memory itself reports that it can't be written
        directory.mkdir(exist_ok=True)
        ignored = directory / ".gitignore"
        if not ignored.exists():
            ignored.write_text("*\n")
    return Memory(directory / f"{file.path.name}.memory")


class Chosen(NamedTuple):
    """The selection to run: the specs, the requested names, and the names of the specs that are already done."""

    specs: list[RunSpec]
    tasks: tuple[str, ...]
    arguments: tuple[str, ...]
    done: set[str]


def choose(
    file: PipelineFile,
    memory: Memory | None,
    tasks: tuple[str, ...],
    arguments: tuple[str, ...],
    *,
    only_failed: bool,
    resuming: bool,
) -> Chosen:
    """Return the selection to run.

    Args:
        file: The file.
        memory: Its memory.
        tasks: The given names.
        arguments: The arguments after ``--``.
        only_failed: Whether to run only the tasks that didn't pass last time, all or the given ones, with their
            dependencies.
        resuming: Whether to resume the last run.

    Raises:
        ProcessError: The selection is not possible; the text says why.
    """
    if resuming:
        if tasks or arguments or only_failed:
            raise OptionError("--resume goes on with the last run, its tasks and arguments; leave these out")
        return resume(file, memory)
    file = give_arguments(file, tasks, arguments)
    if only_failed:
        failed = failed_last_time(file)
        names = [name for name in select(file, tasks) if name in failed] if tasks else failed
    else:
        names = select(file, tasks)
    return Chosen(with_needs(file, names), tasks, arguments, set())


def begin(memory: Memory | None, chosen: Chosen, *, force: bool) -> None:
    """Record the start of a run; with `force`, nothing is up to date."""
    if memory is None:
        return
    memory.begin(chosen.tasks, chosen.arguments, chosen.done)
    if force:
        memory.force(spec.name for spec in chosen.specs if spec.inputs)


def resume(file: PipelineFile, memory: Memory | None) -> Chosen:
    """Return the selection of the last run, and how far it got.

    Raises:
        PipelineError: There was no last run, or it had tasks that the file no longer has.
    """
    last = None if memory is None else memory.last_run()
    if memory is None or last is None:
        raise PipelineError(["there is no run to resume; leave --resume out"])
    given = give_arguments(file, last.tasks, last.arguments)
    specs = with_needs(given, select(given, last.tasks))
    by_name = {spec.name: spec for spec in specs}
    done: set[str] = set()
    for spec in _dependencies_first(specs):
        if all(name in done for name in spec.after) and memory.has_passed(spec, [by_name[name] for name in spec.after]):
            done.add(spec.name)
    return Chosen(specs, last.tasks, last.arguments, done)


def _dependencies_first(specs: Sequence[RunSpec]) -> Iterable[RunSpec]:
    pending = {spec.name: spec for spec in specs}
    while pending:
        ready = [spec for spec in pending.values() if not any(name in pending for name in spec.after)]
        yield from ready
        for spec in ready:
            del pending[spec.name]


def remember_ends(memory: Memory | None, result: RunAllResult) -> None:
    """Record the ends that the run itself doesn't record: of specs that were skipped or could not run."""
    for one in result.results if memory is not None else ():
        if not one.attempts and not one.passed:
            assert memory is not None, "there are results to go through"
            memory.ended(one)


def explain(file: PipelineFile, names: Sequence[str], memory: Memory | None) -> str:
    """Return for each task why it ran or did not, and whether it would run now."""
    if memory is None:
        raise PipelineError([f"nothing is remembered of {str(file.path)!r}"])
    last = memory.last_run()
    specs = {spec.name: spec for spec in file.specs}
    lines: list[str] = []
    for name in select(file, names):
        spec = specs[name]
        lines.append(f"{name}: {_now(spec, [specs[needed] for needed in spec.after], memory)}")
        if last is not None and name in last.ends:
            state, _, reason = last.ends[name]
            word = "not run" if state == "up_to_date" else state
            lines.append(f"  last run: {word}{'; ' if reason else ''}{reason}")
        lines += [f"  no file matches the input {pattern}" for pattern in find_unmatched(spec)]
    return "\n".join([escape_controls(line).replace("\n", "\\n") for line in lines])


def _now(spec: RunSpec, dependencies: Sequence[RunSpec], memory: Memory) -> str:
    if not spec.inputs:
        return "would run because it has no `inputs`"
    reasons = memory.reasons(spec, dependencies)
    return f"would run {because(reasons)}" if reasons else memory.since(spec)
