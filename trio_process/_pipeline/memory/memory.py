"""Remember runs: the last fingerprint of each spec, and how far the last run got.

One file holds a salt, a record per success and per end, and digests of files; see `records`, and `journal` for how it
survives crashes. The memory is bound to the path of this file: after it was moved or copied, nothing is up to date.

With an `index` beside it, the file need not be read while nothing has changed. The records are then read as soon as
they are needed: for a spec that the index doesn't confirm, for `why`, or to resume.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, final

import attrs

from ..._core import ProcessError, logger
from ..result import RunResult, SkippedError, SpecState
from ..spec import RunSpec
from .fingerprint import ABSENT, Digests, Fingerprint, command_digest, find_files, take_fingerprint
from .index import Index, make_index
from .journal import Journal, Mark, end_of, parse
from .patterns import has_wildcard
from .reasons import FORCED, NEW, find_differences, it_ran
from .records import End, Records, batches, since, unchanged, without_outdated
from .unchanged import find_unchanged

_VERSION: Final = 1
_FAULTS: Final = (ValueError, KeyError, TypeError, AttributeError)
_FEW: Final = 100
"""The maximum number of files that are checked in the event loop's own thread: about 2 µs each on a local disk."""

_MOST_OUTDATED: Final = 1000
"""The number of outdated entries, beyond the number of current ones, at which the file is rewritten."""

WORTH_AN_INDEX: Final = 2**18
"""The size of a memory from which an index is kept: a smaller one is read in 5 ms."""

_MUCH: Final = 2**18
"""The most bytes of later records with which an index is used."""

_SYNC_EVERY: Final = 1.0
"""Seconds between two syncs of successes: a power cut loses only what has passed in the meantime."""


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
        path: The file; an `Index` of it is kept beside it.

    A file that can't be read or written causes no failure: specs are run unnecessarily, and a log record gives the
    reason.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._journal = Journal(Path(path))
        self._place = os.path.realpath(path)
        self._index_path = Path(f"{os.fspath(path)}.index")
        self._index: Index | None = None
        self._later: set[str] = set()  # the specs that records after those of the index concern
        self._is_indexed = False  # whether a new index would say nothing more
        self._mark: Mark | None = None  # of the records that we know; None if there may be others before our last one
        self._records: Records | None = None  # read when they are needed
        self._confirmed: set[str] | None = None  # by a look at the files just before the run
        self._unchanged: set[str] = set()
        self._ends: dict[str, End] = {}  # to be written
        self._reasons: dict[str, str] = {}
        self._kept: frozenset[str] = frozenset()
        self._synced = time.monotonic()
        self._is_synced = True
        salt = self._open_index()
        if salt is None:
            salt = self._read()
        if salt is None:
            # written immediately: of two programs that start concurrently, the second uses the salt of the first
            self._try(lambda: self._journal.rewrite(self._founded))
            salt = self._read() or os.urandom(16)
        self._digests = Digests(salt, {})

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
        specs = list(specs)
        found, self._confirmed = self._confirmed, None
        if found is None:
            found = set() if self._index is None else self._index.find_unchanged(specs, self._digests, self._later)
        if any(spec.inputs and spec.name not in found for spec in specs):
            confirmed = len(found)
            found = find_unchanged(specs, self._all.made, self._digests, found)
            self._is_indexed &= len(found) == confirmed
        for name in found & self._reasons.keys():
            del self._reasons[name]  # from a previous run
        return found

    def are_confirmed(self, specs: Sequence[RunSpec]) -> bool:
        """Return whether the index confirms that all specs are up to date; if not, `find_unchanged` goes on from there.

        Args:
            specs: The specs of a run that starts now, each after its dependencies.
        """
        if self._index is None:
            return False
        self._confirmed = self._index.find_unchanged(specs, self._digests, self._later)
        return len(self._confirmed) == len(specs)

    def is_quick(self, spec: RunSpec, dependencies: Sequence[RunSpec]) -> bool:
        """Return whether `check` needs no thread, because it only has to stat a few files with known digests."""
        if spec.name in self._kept:
            return True
        made = None if self._records is None else self._records.made.get(spec.name)
        if made is None or made.get("forced") or len(made["from"]["inputs"]) + len(made["outputs"]) > _FEW:
            return False
        patterns = (*spec.inputs, *spec.outputs, *(pattern for needed in dependencies for pattern in needed.outputs))
        return not any(map(has_wildcard, patterns))

    def _judge(self, spec: RunSpec, dependencies: Sequence[RunSpec]) -> tuple[list[str], Fingerprint]:
        made = self._all.made.get(spec.name)
        fingerprint = take_fingerprint(spec, dependencies, self._digests)
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
        self._write([record])

    def note_unchanged(self, names: Iterable[str]) -> None:
        """Remember specs that `find_unchanged` has found; written later."""
        self._unchanged.update(names)

    def ended(self, result: RunResult) -> None:
        """Remember how a spec ended in this run."""
        reason = self._reasons.get(result.name)
        if reason is None:
            reason = self.since(result.spec) if result.state is SpecState.UP_TO_DATE else _why(result.error)
        self._ends[result.name] = (result.state.value, command_digest(result.spec, self._digests), reason)
        if result.state is not SpecState.UP_TO_DATE:
            self.flush()  # specs that need not run now need not run when this run is resumed

    def flush(self) -> None:
        """Write the pending records."""
        records = [unchanged(self._unchanged, self._known())] if self._unchanged else []
        records += batches("ends", self._ends)
        self._unchanged.clear()
        self._ends.clear()
        self._write(records)

    def close(self, specs: Sequence[RunSpec]) -> None:
        """Write the pending records, and make sure that they survive a power cut; index the specs if that is worth it."""
        self.flush()
        if not self._is_synced:
            self._write([], sync=True)
        records, mark = self._records, self._mark
        if not specs or self._is_indexed or records is None or mark is None or mark.end < WORTH_AN_INDEX:
            return
        index = make_index(mark, records, specs, self._digests, self._index, self._later)
        self._try(lambda: index.write(self._index_path))
        self._index, self._is_indexed = index, True
        self._later.clear()

    def begin(self, tasks: Iterable[str], arguments: Iterable[str], keep: Collection[str] = ()) -> None:
        """Remember that a run starts, and which tasks were requested.

        Args:
            tasks: The given names.
            arguments: The arguments given to these.
            keep: The specs that passed in the last run and are not run again, because this run resumes it.
        """
        self._kept = frozenset(keep)
        ends = {name: end for name, end in self._all.ends.items() if name in keep} if keep else {}
        opening = {"run": [*tasks], "arguments": [*arguments], "at": time.time()}
        self._write([opening, *batches("ends", ends)])

    def release(self, name: str) -> None:
        """Allow a spec to run although it was passed to `begin` in `keep`."""
        self._kept -= {name}

    def covers(self, spec: RunSpec) -> bool:
        """Return whether a spec can be up to date at all."""
        return bool(spec.inputs) or spec.name in self._kept

    def force(self, names: Iterable[str]) -> None:
        """Forget the fingerprints of specs, so that they are run."""
        self._confirmed = None
        self._write([{"made": name, "forced": True} for name in names])

    def last_run(self) -> LastRun | None:
        """Return the last run, or None if there was none."""
        records = self._all
        return None if records.run is None else LastRun(*records.run, {**records.ends, **self._ends})

    def has_passed(self, spec: RunSpec, dependencies: Sequence[RunSpec]) -> bool:
        """Return whether a spec passed in the last run and has not changed since."""
        state, command, _ = self._all.ends.get(spec.name, ("", "", ""))
        if state not in ("passed", "up_to_date") or command != command_digest(spec, self._digests):
            return False
        return not spec.inputs or not self.reasons(spec, dependencies)

    def passed_at(self, name: str) -> float | None:
        """Return when a spec with inputs last passed, in seconds since the epoch."""
        at = self._all.made.get(name, {}).get("at")
        return None if at is None else float(at)

    def since(self, spec: RunSpec) -> str:
        """Return in words how long a spec has been up to date."""
        at = self.passed_at(spec.name)
        return "up to date" if at is None else since(at)

    @property
    def _all(self) -> Records:
        """Everything that is remembered."""
        if self._records is None:
            self._read()
        if self._records is None:
            self._records = Records()
        self._digests.cached = self._records.cached
        return self._records

    def _known(self) -> Collection[str]:
        """Return the specs that have passed."""
        if self._records is not None:
            return self._records.made.keys()
        return set() if self._index is None else {*self._index.names, *self._later}

    def _open_index(self) -> bytes | None:
        """Open the index, and return the salt of its memory; None without a valid index."""
        try:
            index = Index.read(self._index_path)
            data = None if index is None else self._journal.read_after(index.mark)
        except OSError:
            return None
        if index is None or data is None or len(data) > _MUCH:
            return None
        records = parse(data)
        salt = self._salt_in(next(records, {}))
        for record in records:
            if "files" in record:
                return None  # a file has been hashed again: its old digest must not be believed any more
            if "made" in record:
                self._later.add(str(record["made"]))
        if salt is not None:
            self._index, self._is_indexed = index, not self._later
            self._mark = Mark(index.mark.end + len(data) - data.index(b"\n") - 1, b"")
        return salt

    def _read(self) -> bytes | None:
        """Read all records, and return the salt; None if the file is missing or not a memory for this path."""
        found, salt = Records(), None
        try:
            data = self._journal.data()
            for record in parse(data):
                if "memory" in record:
                    salt = self._salt_in(record)
                    if salt is None:
                        return None
                elif salt is not None:
                    with suppress(*_FAULTS):  # written by another version; the records that we know are usable anyway
                        found.take(record)
        except (OSError, *_FAULTS) as error:
            logger.info("nothing is remembered, as %s can't be read: %s", self._journal.path, error)
            return None
        mark = end_of(data)
        if self._mark is None or self._mark.end != mark.end:
            self._index = None  # another program has written since it was opened
        self._records, self._mark = found, mark
        return salt

    def _salt_in(self, record: dict[str, Any]) -> bytes | None:
        """Return the salt in the first record of a memory; None if it is from another version, or was moved."""
        try:
            is_ours = record["memory"] == _VERSION and record["place"] == self._place
            return bytes.fromhex(record["salt"]) if is_ours else None
        except _FAULTS:
            return None

    def _write(self, records: Iterable[dict[str, Any]], *, sync: bool = False) -> None:
        written = [*batches("files", self._digests.fresh), *records]
        if self._digests.fresh:
            self._index = None  # what it says of files may be outdated
        self._digests.fresh.clear()
        for record in written:
            if "made" in record:
                self._later.add(record["made"])
            if "made" in record or "files" in record:
                self._is_indexed = False
            if "made" in record or "ends" in record:
                self._is_synced = False
            if self._records is not None:
                self._records.take(record)
        if written or sync:
            self._try(lambda: self._append(written, sync=sync))
        if self._records is not None and self._records.are_mostly_outdated(_MOST_OUTDATED):
            self._try(lambda: self._journal.rewrite(without_outdated))
            self._records.count_anew()
            self._mark = None

    def _append(self, records: Iterable[dict[str, Any]], *, sync: bool) -> None:
        now = time.monotonic()
        sync = sync or (not self._is_synced and now > self._synced + _SYNC_EVERY)
        before, mark = self._journal.append(records, sync=sync)
        self._mark = mark if self._mark is not None and self._mark.end == before else None
        if sync:
            self._synced, self._is_synced = now, True

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


def _why(error: ProcessError | None) -> str:
    """Return why a spec did not pass; empty if it did."""
    return error.why if isinstance(error, SkippedError) else str(error or "").partition("\n")[0]
