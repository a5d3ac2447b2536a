"""Fingerprint a spec: digests of its command, its declared environment, its inputs and its dependencies' outputs.

Contents count, not times. A file is not hashed again while its size, modification time in nanoseconds and inode are
unchanged. The exception is a file that was modified just before it was hashed: it may have been modified again within
the resolution of the file system's clock (git calls such entries "racy").
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

import attrs

from ..._core import Secret, command_line, shown_args, shown_command
from ..spec import RunSpec
from .patterns import give_way, has_wildcard, matches

GRAIN: Final = 2 * 10**9
"""In nanoseconds: the coarsest clock of a file system in use (FAT) has a resolution of two seconds."""

if TYPE_CHECKING:
    from hashlib import blake2b

_SIZE: Final = 16
_CHUNK: Final = 2**20
_LARGE: Final = 2**16
DIRECTORY: Final = "/"
"""Used in place of the digest of a directory, which has none."""

ABSENT: Final = ""
"""Used in place of the digest of a missing file."""


@final
@attrs.frozen
class Fingerprint:
    """The fingerprint of a spec.

    Attributes:
        command: The digest of its command, directory and standard input.
        shown: The command in a form safe to display.
        env: The digest of each variable that overrides the environment.
        inputs: The digest of each input, by its path as matched by the patterns.
        results: The digests of the outputs of its dependencies, by dependency and path.
    """

    command: str
    shown: str
    env: Mapping[str, str]
    inputs: Mapping[str, str]
    results: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return {
            "command": self.command, "shown": self.shown, "env": self.env, "inputs": self.inputs, "results": self.results,
        }  # fmt: skip


@final
class Digests:
    """Digests of files, and a cache of them.

    Args:
        salt: Makes digests of short secrets useless to a reader of the memory.
        cached: ``(size, time, inode, digest)`` of each path.

    Attributes:
        cached: The cache.
        fresh: The entries added to the cache since `fresh` was last emptied.
        quickly: Whether a file of more than 64 KiB raises `BlockingIOError` instead of being hashed.
    """

    __slots__ = ("_salt", "cached", "fresh", "quickly")

    def __init__(self, salt: bytes, cached: dict[str, tuple[int, int, int, str]]) -> None:
        self._salt = salt
        self.cached = cached
        self.fresh: dict[str, tuple[int, int, int, str]] = {}
        self.quickly = False

    def of_text(self, *parts: str | bytes) -> str:
        """Return the digest of texts."""
        encoded = [part if isinstance(part, bytes) else part.encode("utf-8", "surrogateescape") for part in parts]
        return self._begin(b"".join([b"%d:%b" % (len(data), data) for data in encoded])).hexdigest()

    def known(self, path: str) -> str | None:
        """Return the digest of a file that need not be hashed again; None for any other file, even a missing one."""
        try:
            found = os.stat(path)
        except OSError:
            return None
        known = self.cached.get(path)
        if known is None or known[1] != found.st_mtime_ns or known[0] != found.st_size or known[2] != found.st_ino:
            return None
        return known[3]

    def of_file(self, path: str) -> str:
        """Return the digest of a file's contents; `ABSENT` if the file is missing or can't be read."""
        try:
            found = os.stat(path)
            if not stat.S_ISREG(found.st_mode):
                return DIRECTORY if stat.S_ISDIR(found.st_mode) else ABSENT
            known = self.cached.get(path)
            mark = (found.st_size, found.st_mtime_ns, found.st_ino)
            if known is not None and known[:3] == mark:
                return known[3]
            if self.quickly and found.st_size > _LARGE:
                raise BlockingIOError(path)  # noqa: TRY301 - not caught by the handler below, and raised only here
            began = time.time_ns()
            digest = self._hash(path)
            if began - found.st_mtime_ns > GRAIN and _mark(path) == mark:
                self.cached[path] = self.fresh[path] = (*mark, digest)
        except BlockingIOError:
            raise
        except OSError:
            return ABSENT
        return digest

    def _begin(self, data: bytes = b"") -> blake2b:
        from hashlib import blake2b  # noqa: PLC0415 - kept out of the import time

        return blake2b(data, key=self._salt, digest_size=_SIZE)

    def _hash(self, path: str) -> str:
        digest = self._begin()
        give_way()
        with open(path, "rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                if len(chunk) == _CHUNK:
                    give_way()
        return digest.hexdigest()


def _mark(path: str) -> tuple[int, int, int]:
    found = os.stat(path)
    return (found.st_size, found.st_mtime_ns, found.st_ino)


def take_fingerprint(spec: RunSpec, dependencies: Iterable[RunSpec], digests: Digests) -> Fingerprint:
    """Return the current fingerprint of a spec.

    Args:
        spec: The spec.
        dependencies: The specs in its `after`.
        digests: Hashes files.
    """
    return Fingerprint(
        command=command_digest(spec, digests),
        shown=_shown(spec),
        env=env_digests(spec, digests),
        inputs=find_files(spec, spec.inputs, digests),
        results={
            f"{needed.name}: {path}": digest
            for needed in dependencies
            for path, digest in find_files(needed, needed.outputs, digests).items()
        },
    )


def command_digest(spec: RunSpec, digests: Digests) -> str:
    """Return the digest of a command, its directory and its standard input."""
    stdin = spec.stdin if isinstance(spec.stdin, (str, bytes)) else repr(spec.stdin)
    return digests.of_text(_revealed(spec.command), *map(_revealed, spec.args), root_of(spec), stdin)


def env_digests(spec: RunSpec, digests: Digests) -> dict[str, str]:
    """Return the digest of each variable with which a spec overrides the environment."""
    return {name: digests.of_text("" if value is None else _revealed(value)) for name, value in spec.env.items()}


def find_files(spec: RunSpec, patterns: Sequence[str], digests: Digests) -> dict[str, str]:
    """Return the digests of the files that match patterns, by path; a pattern without matches is itself listed as absent.

    A directory stands for all files below it.
    """
    return match_files(root_of(spec), patterns, digests.of_file, expand)


def find_unmatched(spec: RunSpec) -> list[str]:
    """Return the patterns of a spec's inputs that match no file."""
    found = match_files(root_of(spec), spec.inputs, _kind_of, expand)
    return [pattern for pattern in spec.inputs if found.get(pattern) == ABSENT]


def _kind_of(path: str) -> str:
    if os.path.isdir(path):
        return DIRECTORY
    return "file" if os.path.isfile(path) else ABSENT


Found = TypeVar("Found")


def match_files(
    root: str,
    patterns: Sequence[str],
    look: Callable[[str], Found | str],
    expand: Callable[[str, str], Sequence[str]],
) -> dict[str, Found | str]:
    """Return what `look` finds at the files that match patterns, by path; a pattern without matches is listed as absent.

    Args:
        root: The directory that the patterns are relative to.
        patterns: The patterns.
        look: Looks at a path; returns `DIRECTORY` or `ABSENT` if there is no file.
        expand: Returns the paths that match a pattern with wildcards, given the root and the pattern.
    """
    found: dict[str, Found | str] = {}
    for pattern in patterns:
        paths = expand(root, pattern) if has_wildcard(pattern) else [pattern]
        before = len(found)
        for path in paths:
            full = os.path.join(root, path)
            at = look(full)
            if at != DIRECTORY:
                found[path] = at
                continue
            for below in _below(full):
                found[os.path.join(path, below)] = look(os.path.join(full, below))
        if len(found) == before:
            found.setdefault(pattern, ABSENT)
    return found


def expand(root: str, pattern: str) -> list[str]:
    """Return the paths that match a pattern, sorted.

    Brackets are also taken literally: in some frameworks they are part of names, as in ``routes/[id]/page.tsx``.
    """
    literal = matches(root, pattern.replace("[", "[[]")) if "[" in pattern else ()
    return sorted({*matches(root, pattern), *literal})


def _below(directory: str) -> list[str]:
    paths: list[str] = []
    for parent, _, names in os.walk(directory):
        give_way()
        paths += [os.path.relpath(os.path.join(parent, name), directory) for name in names]
    return sorted(paths)


def root_of(spec: RunSpec) -> str:
    """Return the directory that the patterns of a spec are relative to."""
    directory = spec.cwd
    if directory is None:
        return os.getcwd()
    if type(directory) is str and directory.startswith("/") and "/." not in directory and "//" not in directory:
        return directory  # the same as `abspath` in a tenth of the time
    return os.path.abspath(os.fsdecode(directory))


def _revealed(value: str | bytes | os.PathLike[str] | os.PathLike[bytes] | Secret) -> str | bytes:
    return value.reveal() if isinstance(value, Secret) else os.fspath(value)


def _shown(spec: RunSpec) -> str:
    return command_line(shown_command(spec.options), shown_args(spec.options))
