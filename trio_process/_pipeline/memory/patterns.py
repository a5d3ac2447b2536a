"""Find the files that match a pattern, as `glob.glob` does, except that ``**`` doesn't follow links to directories.

Such links may form cycles, as in a `node_modules` directory made by pnpm: `glob.glob` would then find each file forty
levels deep, and with two such links it would not end at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import trio

_ANY_DEPTH = "**"


def has_wildcard(pattern: str) -> bool:
    """Return whether a pattern has wildcards, and isn't just the name of one file."""
    return "*" in pattern or "?" in pattern or "[" in pattern


def matches(root: str, pattern: str) -> Iterator[str]:
    """Yield the paths that match a pattern, possibly with duplicates; a directory stands for everything in it.

    Args:
        root: The directory that the pattern is relative to.
        pattern: The pattern.
    """
    import glob  # noqa: PLC0415 - kept out of the import time

    def found(tops: Iterable[str], segment: str) -> Iterator[str]:
        for top in tops:
            for path in glob.iglob(segment, root_dir=os.path.join(root, top)):
                yield os.path.join(top, path)

    def directories(paths: Iterable[str]) -> list[str]:
        return [path for path in dict.fromkeys(paths) if os.path.isdir(os.path.join(root, path))]

    head, *between = _segments(pattern)
    if not between:
        yield from glob.iglob(pattern, root_dir=root)
        return
    tops = directories(found([""], head) if head else ["/" if pattern.startswith("/") else ""])
    for segment in between[:-1]:
        tops = directories(found([top for top, _ in _below(root, tops)], segment))
    if between[-1]:
        yield from found([top for top, _ in _below(root, tops)], between[-1])
        return
    for top in tops:
        if top:
            yield top
        else:
            yield from (
                os.path.join(here, name) for here, names in _below(root, [""]) for name in names if name[0] != "."
            )


def _segments(pattern: str) -> list[str]:
    """Return the parts of a pattern between its ``**``; several of them in a row are one."""
    segments: list[list[str]] = [[]]
    for part in pattern.split("/"):
        if part != _ANY_DEPTH:
            segments[-1].append(part)
        elif segments[-1] or len(segments) == 1:
            segments.append([])
    return ["/".join(segment) for segment in segments]


def _below(root: str, tops: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield directories and their subdirectories, each once, and the names of the files in them; hidden ones are left out."""
    seen: set[str] = set()
    for top in tops:
        start = os.path.join(root, top)
        for directory, names, files in os.walk(start):
            here = top if directory == start else os.path.join(top, os.path.relpath(directory, start))
            names[:] = [] if here in seen else [name for name in names if not name.startswith(".")]
            if here not in seen:
                seen.add(here)
                give_way()
                yield here, files


def give_way() -> None:
    """Interrupt a long search, or the reading of a large file, if the run is being stopped."""
    try:
        trio.from_thread.check_cancelled()
    except RuntimeError:
        pass  # not in one of Trio's threads
