"""Keep an index beside a memory, so that an unchanged pipeline is recognized without reading the memory.

The memory says what specs were made from: digests, by path. It also says for which size, time and inode each digest is
known. The index joins the two: it has a table of files with the size, time and inode at which all specs that have them
are up to date. An unchanged pipeline then costs one stat(2) for each file, and one comparison for each spec.

* The memory is the truth. The index is derived from it, may be deleted at any time, and only ever says that a spec is
  up to date; whatever it doesn't confirm is left to the memory, spec by spec.
* It belongs to the beginning of one memory: the records up to a `journal.Mark`. Later records are read; a spec that they
  concern is left out, and so is a spec that comes after it. If a file has been hashed since, the index isn't used.
* It holds nothing that the memory doesn't know to be older than the clock's grain (see `fingerprint`).
* It holds commands as they are shown; of commands with secrets, of environments and of standard input only digests.
"""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Final, final

from ..derived import read_derived, write_derived
from ..spec import RunSpec
from .fingerprint import ABSENT, DIRECTORY, Digests, command_digest, env_digests, expand, match_files, root_of
from .journal import Mark
from .patterns import has_wildcard
from .records import Records

_KIND: Final = "index 1"
_NUMBERS: Final = "I"
_LATEST: Final = 2**63
"""In nanoseconds: some file systems have times, before 1677 or after 2262, that the table can't hold."""

Stamp = tuple[int, int, int]
"""The size, the time in nanoseconds and the inode of a file."""

Stamps = dict[str, Stamp | str]
"""The stamps of files by path; `ABSENT` for a missing file."""

Entry = tuple[str, tuple[str, ...], bytes | tuple[Stamps, Stamps]]
"""What a spec that is up to date looks like: its declaration, its `after`, and its files.

The files are their numbers in the table. If there are wildcards, directories or missing files, they are the stamps of
the inputs and of the outputs that are found."""


@final
class Files:
    """A table of files and their stamps.

    Args:
        root: The directory that the paths are relative to.
        paths: The paths.
        stamps: The sizes, times and inodes.

    Attributes:
        root: As given.
    """

    __slots__ = ("_numbers", "_paths", "_stamps", "root")

    def __init__(self, root: str, paths: list[str], stamps: tuple[bytes, bytes, bytes]) -> None:
        self.root = root
        self._paths = paths
        self._stamps = tuple(array(kind, column) for kind, column in zip("QqQ", stamps, strict=True))
        self._numbers: dict[str, int] = {}

    def add(self, path: str, stamp: Stamp) -> int:
        """Add a file, and return its number."""
        if path not in self._numbers:
            self._numbers[path] = len(self._paths)
            self._paths.append(path)
            for column, value in zip(self._stamps, stamp, strict=True):
                column.append(value)
        return self._numbers[path]

    def find_changed(self, numbers: Iterable[int] | None) -> set[int]:
        """Return the numbers of the files that have changed or are gone.

        Args:
            numbers: The files to look at, each once; None for all.
        """
        is_here = _is_here(self.root)  # the system has a shorter way from the working directory
        paths = self._paths if is_here else [_join(self.root, path) for path in self._paths]
        sizes, times, inodes = self._stamps
        rows: Iterable[tuple[int, str, int, int, int]] = zip(
            range(len(paths)), paths, sizes, times, inodes, strict=True
        )
        if numbers is not None:
            rows = ((number, paths[number], sizes[number], times[number], inodes[number]) for number in numbers)
        changed = set()
        look = os.stat
        for number, path, size, at, inode in rows:
            try:
                found = look(path)
            except OSError:
                changed.add(number)
                continue
            if found.st_mtime_ns != at or found.st_size != size or found.st_ino != inode:
                changed.add(number)
        if is_here and not _is_here(self.root):
            changed.update(range(len(paths)))  # another thread has changed the working directory meanwhile
        return changed

    def columns(self) -> tuple[str, list[str], tuple[bytes, ...]]:
        """Return the arguments from which the same table can be made."""
        return self.root, self._paths, tuple([column.tobytes() for column in self._stamps])

    def row(self, number: int) -> tuple[str, Stamp]:
        """Return the path and the stamp of a file."""
        sizes, times, inodes = self._stamps
        return self._paths[number], (sizes[number], times[number], inodes[number])


def _is_here(root: str) -> bool:
    try:
        return os.getcwd() == root
    except OSError:  # our working directory was removed
        return False


def _join(root: str, path: str) -> str:
    return path if path[:1] == "/" else f"{root}/{path}"


@final
class Index:
    """The index of a memory.

    Args:
        mark: The end of the records that it was made from.
        files: The files.
        entries: The specs that may be up to date.
        others: The other specs that have passed.
    """

    __slots__ = ("_entries", "_files", "_others", "mark")

    def __init__(self, mark: Mark, files: Files, entries: dict[str, Entry], others: Collection[str]) -> None:
        self.mark = mark
        self._files = files
        self._entries = entries
        self._others = others

    @classmethod
    def read(cls, path: Path) -> Index | None:
        """Return the index in a file; None if there is none that can be used."""
        found = read_derived(path, _KIND)
        if found is None:
            return None
        end, seal, files, entries, others = found
        return cls(Mark(end, seal), Files(*files), entries, others)

    def write(self, path: Path) -> None:
        """Write the index to a file.

        Raises:
            OSError: The file can't be written.
        """
        write_derived(path, _KIND, (*self.mark, self._files.columns(), self._entries, tuple(self._others)))

    @property
    def names(self) -> list[str]:
        """The specs that have passed."""
        return [*self._entries, *self._others]

    def find_unchanged(self, specs: Iterable[RunSpec], digests: Digests, remade: Collection[str]) -> set[str]:
        """Return the names of specs that are up to date together with all of their dependencies.

        Args:
            specs: The specs, each after its dependencies.
            digests: Salts the digests of commands and environments.
            remade: The specs that later records concern.
        """
        entries = self._without(remade)
        chosen = []
        for spec in specs:
            entry = entries.get(spec.name)
            if entry is not None and spec.when != "failure" and entry[0] == _declaration(spec, digests):
                chosen.append((spec, entry[2]))
        numbers: set[int] | None = None
        if len(chosen) < len(self._entries):
            numbers = set(chain.from_iterable([array(_NUMBERS, files) for _, files in chosen if type(files) is bytes]))
        changed = self._files.find_changed(numbers)
        look = _Look()
        unchanged = set[str]()
        for spec, files in chosen:
            if spec.after and not unchanged.issuperset(spec.after):
                continue
            if isinstance(files, tuple):
                is_same = look.finds(spec, *files)
            else:
                is_same = not changed or changed.isdisjoint(array(_NUMBERS, files))
            if is_same:
                unchanged.add(spec.name)
        return unchanged

    def _without(self, names: Collection[str]) -> Mapping[str, Entry]:
        """Return the entries that later records of these specs leave valid."""
        if not names:
            return self._entries
        return {
            name: entry
            for name, entry in self._entries.items()
            if name not in names and not any(needed in names for needed in entry[1])
        }

    def copy_others(self, known: Collection[str], remade: Collection[str], files: Files) -> dict[str, Entry]:
        """Return the entries of specs but `known` that are still valid, and add their files to a table."""
        found: dict[str, Entry] = {}
        for name, (declaration, after, old) in self._without(remade).items():
            if name in known:
                continue
            if isinstance(old, bytes):
                numbers = [files.add(*self._files.row(number)) for number in array(_NUMBERS, old)]
                found[name] = (declaration, after, array(_NUMBERS, numbers).tobytes())
            else:
                found[name] = (declaration, after, old)
        return found


def make_index(
    mark: Mark,
    records: Records,
    specs: Sequence[RunSpec],
    digests: Digests,
    before: Index | None,
    remade: Collection[str],
) -> Index:
    """Return the index of a memory.

    Args:
        mark: The end of the records.
        records: The records.
        specs: The specs to index anew.
        digests: Salts the digests of commands and environments.
        before: The index of earlier records, for other specs; no file has been hashed since.
        remade: The specs that the records after those concern.
    """
    files = Files(root_of(specs[0]), [], (b"", b"", b""))
    names = {spec.name for spec in specs}
    entries = {} if before is None else before.copy_others(names, remade, files)
    for spec in specs:
        if spec.inputs and spec.when != "failure":
            entry = _entry(spec, records, digests, files)
            if entry is not None:
                entries[spec.name] = entry
    return Index(mark, files, entries, [name for name in records.made if name not in entries])


def _entry(spec: RunSpec, records: Records, digests: Digests, files: Files) -> Entry | None:
    """Return the entry of a spec that could be up to date by what the memory knows, else None."""
    made = [records.made.get(name, {"forced": True}) for name in (spec.name, *spec.after)]
    if any("from" not in record for record in made):
        return None
    record, before = made[0], made[0]["from"]
    results = {
        f"{name}: {path}": digest
        for name, needed in zip(spec.after, made[1:], strict=True)
        for path, digest in needed["outputs"].items()
    }
    if (
        before["results"] != results
        or before["command"] != command_digest(spec, digests)
        or before["env"] != env_digests(spec, digests)
        or ABSENT in record["outputs"].values()
    ):
        return None
    root = root_of(spec)
    inputs, outputs = (_stamps(root, known, records) for known in (before["inputs"], record["outputs"]))
    if inputs is None or outputs is None:
        return None
    declaration = _declaration(spec, digests)
    is_plain = (*inputs,) == spec.inputs and (*outputs,) == spec.outputs
    if is_plain and not any(map(has_wildcard, (*inputs, *outputs))):
        found = [(path, stamp) for path, stamp in chain(inputs.items(), outputs.items()) if isinstance(stamp, tuple)]
        if len(found) == len(inputs) + len(outputs):
            numbers = [files.add(path if root == files.root else _join(root, path), stamp) for path, stamp in found]
            return declaration, spec.after, array(_NUMBERS, numbers).tobytes()
    return declaration, spec.after, (inputs, outputs)


def _stamps(root: str, files: Mapping[str, str], records: Records) -> Stamps | None:
    """Return the stamps at which files have known digests; None if one of them has none."""
    found: Stamps = {}
    for path, digest in files.items():
        if digest == ABSENT:
            found[path] = ABSENT
            continue
        known = records.cached.get(os.path.join(root, path))
        if known is None or known[3] != digest or not -_LATEST <= known[1] < _LATEST:
            return None
        found[path] = known[:3]
    return found


def _declaration(spec: RunSpec, digests: Digests) -> str:
    """Return all that a spec is but the files themselves, comparable: names, patterns, and its command or a digest of it."""
    options = spec.options
    words: tuple[object, ...] = (root_of(spec), options.command, *options.args)
    kind = "plain"
    if options.env or spec.stdin is not None or any([type(word) is not str for word in words]):
        kind = "digest"
        env = env_digests(spec, digests)
        words = (root_of(spec), command_digest(spec, digests), *chain.from_iterable(env.items()))
    counts = f"{kind} {len(words)} {len(spec.after)} {len(spec.inputs)}"
    return "\0".join((counts, *words, *spec.after, *spec.inputs, *spec.outputs))  # type: ignore[arg-type] # all are texts


@final
class _Look:
    """A look at the files that match patterns, at each of them once."""

    def __init__(self) -> None:
        self._stamps: dict[str, Stamp | str] = {}
        self._expanded: dict[tuple[str, str], Sequence[str]] = {}

    def finds(self, spec: RunSpec, inputs: Stamps, outputs: Stamps) -> bool:
        """Return whether the files of a spec have these stamps."""
        return self._at(spec, spec.inputs) == inputs and self._at(spec, spec.outputs) == outputs

    def _at(self, spec: RunSpec, patterns: Sequence[str]) -> Stamps:
        return match_files(root_of(spec), patterns, self._stamp, self._expand)

    def _stamp(self, path: str) -> Stamp | str:
        if path not in self._stamps:
            self._stamps[path] = _stamp(path)
        return self._stamps[path]

    def _expand(self, root: str, pattern: str) -> Sequence[str]:
        if (root, pattern) not in self._expanded:
            self._expanded[root, pattern] = expand(root, pattern)
        return self._expanded[root, pattern]


def _stamp(path: str) -> Stamp | str:
    try:
        found = os.stat(path)
    except OSError:
        return ABSENT
    if stat.S_ISREG(found.st_mode):
        return (found.st_size, found.st_mtime_ns, found.st_ino)
    return DIRECTORY if stat.S_ISDIR(found.st_mode) else ABSENT
