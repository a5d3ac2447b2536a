"""Find the files that match a pattern, as `glob.glob` does, except that ``**`` doesn't follow links to directories.

Such links may form cycles, as in a `node_modules` directory made by pnpm: `glob.glob` would then find each file forty
levels deep, and with two such links it would not end at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

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

    parts = pattern.split("/")
    if _ANY_DEPTH not in parts:
        yield from glob.iglob(pattern, root_dir=root)
        return
    place = parts.index(_ANY_DEPTH)
    head, tail = "/".join(parts[:place]), "/".join(parts[place + 1 :])
    for top in glob.iglob(head, root_dir=root) if head else ("/" if place else "",):
        if not os.path.isdir(os.path.join(root, top)):
            continue
        if tail or not top:
            yield from _below(root, top, tail)
        else:
            yield top


def _below(root: str, top: str, tail: str) -> Iterator[str]:
    """Yield the matches of the rest of a pattern in a directory and its subdirectories; names with a leading dot are hidden."""
    start = os.path.join(root, top)
    for directory, names, files in os.walk(start):
        names[:] = [name for name in names if not name.startswith(".")]
        here = top if directory == start else os.path.join(top, os.path.relpath(directory, start))
        found = matches(directory, tail) if tail else (name for name in files if not name.startswith("."))
        yield from (os.path.join(here, path) for path in found)
