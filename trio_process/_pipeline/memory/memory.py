"""Remember runs: the last fingerprint of each spec, and how far the last run got.

One file holds a salt, a record per success and per end, and digests of files; see `journal` for how it survives
crashes. The memory is bound to the path of this file: after it was moved or copied, nothing is up to date.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, final

import attrs

from ..._core import logger
from ..result import RunResult, SpecState
from ..spec import RunSpec
from .fingerprint import ABSENT, Digests, Fingerprint, command_digest, find_files, take_fingerprint
from .journal import Journal
from .patterns import has_wildcard
from .reasons import FORCED, NEW, find_differences, it_ran
from .records import BATCH, batches, size_of, without_outdated
from .unchanged import find_unchanged

_VERSION: Final = 1
_FAULTS: Final = (ValueError, KeyError, TypeError, AttributeError)
_FEW: Final = 100
"""The maximum number of files that are checked in the event loop's own thread: about 2 µs each on a local disk."""

_MOST_OUTDATED: Final = 1000
"""The number of outdated entries, beyond the number of current ones, at which the file is rewritten."""


@final
@attrs.frozen
class LastRun:
    """The last remembered run.

    Attributes:
        tasks: The requested tasks; empty for all.
        arguments: The arguments given to these.
        ends: For each spec that ended, its state, the digest of its command, and why it ran or didn't.
    """

    tasks: tuple[str, ...]
    arguments: tuple[str, ...]
    ends: Mapping[str, tuple[str, str, str]]


@final
class Memory:
    """Memory of the fingerprints of specs.

    Args:
        path: The file.

    A file that can't be read or written causes no failure: specs are run unnecessarily, and a log record gives the
    reason.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._journal = Journal(Path(path))
        self._place = os.path.realpath(path)
        self._made: dict[str, dict[str, Any]] = {}
        self._ends: dict[str, tuple[str, str, str]] = {}
        self._run: tuple[tuple[str, ...], tuple[str, ...]] | None = None
        self._cached: dict[str, tuple[int, int, int, str]] = {}
        self._reasons: dict[str, str] = {}
        self._kept: frozenset[str] = frozenset()
        self._unwritten: set[str] = set()
        self._entries = 0  # as stored in the file
        self._records = 0
        salt = self._read()
        if salt is None:
            # written immediately: of two programs that start concurrently, the second uses the salt of the first
            self._try(lambda: self._journal.rewrite(self._founded))
            salt = self._read() or os.urandom(16)
        self._digests = Digests(salt, self._cached)

    def reasons(self, spec: RunSpec, dependencies: Sequence[RunSpec]) -> list[str]:
        """Return the reasons why a spec has to run, in words; empty if it is up to date."""
        return self._judge(spec, dependencies)[0]

    def check(self, spec: RunSpec, dependencies: Sequence[RunSpec], *, quickly: bool = False) -> Fingerprint | None:
        """Return None if a spec is up to date, else its new fingerprint, to be handed to `passed` after a success.

        Raises:
            BlockingIOError: `quickly` was requested, and there is a large file to hash.
        """
        self._digests.quickly = quickly
        if spec.name in self._kept:
            self._reasons[spec.name] = "it had passed before the run was resumed"
            return None
        reasons, fingerprint = self._judge(spec, dependencies)
        self._reasons[spec.name] = it_ran(reasons) if reasons else self.since(spec)
        return fingerprint if reasons else None

    def find_unchanged(self, specs: Iterable[RunSpec]) -> set[str]:
        """Return the names of specs that are up to date together with all of their dependencies.

        Args:
            specs: The specs, each after its dependencies.
        """
        unchanged = find_unchanged(specs, self._made, self._digests)
        for name in unchanged & self._reasons.keys():
            del self._reasons[name]  # from a previous run
        return unchanged

    def is_quick(self, spec: RunSpec, dependencies: Sequence[RunSpec]) -> bool:
        """Return whether `check` needs no thread, because it only has to stat a few files with known digests."""
        if spec.name in self._kept:
            return True
        made = self._made.get(spec.name)
        if made is None or made.get("forced") or len(made["from"]["inputs"]) + len(made["outputs"]) > _FEW:
            return False
        patterns = (*spec.inputs, *spec.outputs, *(pattern for needed in dependencies for pattern in needed.outputs))
        return not any(map(has_wildcard, patterns))

    def _judge(self, spec: RunSpec, dependencies: Sequence[RunSpec]) -> tuple[list[str], Fingerprint]:
        fingerprint = take_fingerprint(spec, dependencies, self._digests)
        made = self._made.get(spec.name)
        if made is None:
            return [NEW], fingerprint
        if made.get("forced"):
            return [FORCED], fingerprint
        reasons = find_differences(made["from"], fingerprint)
        outputs = find_files(spec, spec.outputs, self._digests)
        for path, digest in made["outputs"].items():
            now = outputs.get(path, ABSENT)
            if now == ABSENT:
                reasons.append(f"the output {path} is gone")
            elif now != digest:
                reasons.append(f"the output {path} was changed")
        return reasons, fingerprint

    def passed(self, spec: RunSpec, fingerprint: Fingerprint) -> None:
        """Remember a success."""
        self._digests.quickly = False
        outputs = find_files(spec, spec.outputs, self._digests)
        record = {"made": spec.name, "from": fingerprint.to_dict(), "outputs": outputs, "at": time.time()}
        self._made[spec.name] = record
        self._write([record])

    def ended(self, result: RunResult) -> None:
        """Remember how a spec ended in this run."""
        reason = self._reasons.get(result.name)
        if reason is None:
            text = "" if result.error is None else str(result.error).partition("\n")[0].removeprefix("skipped: ")
            reason = self.since(result.spec) if result.state is SpecState.UP_TO_DATE else text
        self._ends[result.name] = (result.state.value, command_digest(result.spec, self._digests), reason)
        self._unwritten.add(result.name)
        if result.state is not SpecState.UP_TO_DATE:
            self.flush()  # specs that need not run now need not run when this run is resumed

    def flush(self) -> None:
        """Write the pending records."""
        ends = {name: self._ends[name] for name in self._unwritten}
        self._unwritten.clear()
        self._write(batches("ends", ends))

    def begin(self, tasks: Iterable[str], arguments: Iterable[str], keep: Collection[str] = ()) -> None:
        """Remember that a run starts, and which tasks were requested.

        Args:
            tasks: The given names.
            arguments: The arguments given to these.
            keep: The specs that passed in the last run and are not run again, because this run resumes it.
        """
        self._run = (tuple(tasks), tuple(arguments))
        self._kept = frozenset(keep)
        self._ends = {name: end for name, end in self._ends.items() if name in keep}
        opening = {"run": self._run[0], "arguments": self._run[1], "at": time.time()}
        self._write([opening, *batches("ends", self._ends)])

    def release(self, name: str) -> None:
        """Allow a spec to run although it was passed to `begin` in `keep`."""
        self._kept -= {name}

    def covers(self, spec: RunSpec) -> bool:
        """Return whether a spec can be up to date at all."""
        return bool(spec.inputs) or spec.name in self._kept

    def force(self, names: Iterable[str]) -> None:
        """Forget the fingerprints of specs, so that they are run."""
        forced: dict[str, dict[str, Any]] = {name: {"made": name, "forced": True} for name in names}
        self._made |= forced
        self._write(list(forced.values()))

    def last_run(self) -> LastRun | None:
        """Return the last run, or None if there was none."""
        return None if self._run is None else LastRun(*self._run, dict(self._ends))

    def has_passed(self, spec: RunSpec, dependencies: Sequence[RunSpec]) -> bool:
        """Return whether a spec passed in the last run and has not changed since."""
        state, command, _ = self._ends.get(spec.name, ("", "", ""))
        if state not in ("passed", "up_to_date") or command != command_digest(spec, self._digests):
            return False
        return not spec.inputs or not self.reasons(spec, dependencies)

    def passed_at(self, name: str) -> float | None:
        """Return when a spec with inputs last passed, in seconds since the epoch."""
        at = self._made.get(name, {}).get("at")
        return None if at is None else float(at)

    def since(self, spec: RunSpec) -> str:
        """Return in words how long a spec has been up to date."""
        at = self.passed_at(spec.name)
        return "up to date" if at is None else _since(int(at))

    def _read(self) -> bytes | None:
        """Load the records of the file, and return its salt; None if the file is missing or not a memory for this path."""
        salt: bytes | None = None
        try:
            for record in self._journal.read():
                if "memory" in record:
                    if record["memory"] != _VERSION or record["place"] != self._place:
                        return None  # from another version, or moved
                    salt = bytes.fromhex(record["salt"])
                elif salt is not None:
                    with suppress(*_FAULTS):  # written by another version; the records that we know are usable anyway
                        self._records += 1
                        self._entries += size_of(record)
                        self._take(record)
        except (OSError, *_FAULTS) as error:
            logger.info("nothing is remembered, as %s can't be read: %s", self._journal.path, error)
            return None
        return salt

    def _take(self, record: dict[str, Any]) -> None:
        if "made" in record:
            if not record.get("forced"):
                Fingerprint(**record["from"])
                float(record["at"]), dict(record["outputs"])
            self._made[record["made"]] = record
        elif "ends" in record:
            self._ends |= {name: (state, command, why) for name, (state, command, why) in record["ends"].items()}
        elif "files" in record:
            self._cached |= {
                path: (size, changed, inode, digest) for path, (size, changed, inode, digest) in record["files"].items()
            }
        elif "run" in record:
            self._run = (tuple(record["run"]), tuple(record["arguments"]))
            self._ends.clear()

    def _write(self, records: Iterable[dict[str, Any]]) -> None:
        written = [*batches("files", self._digests.fresh), *records]
        self._digests.fresh.clear()
        if not written:
            return
        self._try(lambda: self._journal.append(written))
        self._records += len(written)
        self._entries += sum(map(size_of, written))
        made, several = len(self._made), len(self._ends) + len(self._cached)
        if (
            self._entries > _MOST_OUTDATED + 2 * (made + several)
            or self._records > _MOST_OUTDATED + 2 * (made + several // BATCH)  # many small records take long to read
        ):
            self._try(lambda: self._journal.rewrite(without_outdated))
            self._records, self._entries = made + several // BATCH, made + several

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            logger.info("what was made is not remembered: %s", error)

    def _founded(self, records: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        """Return the initial records of a file that has no memory for this path yet."""
        found = list(records)
        if found and found[0].get("memory") == _VERSION and found[0].get("place") == self._place:
            return found
        return [{"memory": _VERSION, "salt": os.urandom(16).hex(), "place": self._place}]


@cache
def _since(at: int) -> str:
    return time.strftime("up to date since %Y-%m-%d %H:%M:%S", time.localtime(at))
