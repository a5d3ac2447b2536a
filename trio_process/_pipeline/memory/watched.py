"""`Watched`: find the specs that are affected by a change of files. Contents count, not times; outputs don't count."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import final

from ..spec import RunSpec
from .fingerprint import Digests, find_files, root_of
from .patterns import has_wildcard


@final
class Watched:
    """The inputs of specs, as of the last check.

    Args:
        specs: The specs.
    """

    def __init__(self, specs: Sequence[RunSpec]) -> None:
        self._specs = specs
        self._digests = Digests(os.urandom(16), {})
        self._outputs: set[str] = set()  # all files ever seen: a deleted file matches no pattern
        self._inputs: dict[str, dict[str, str]] = {}
        self.changes()

    def changes(self) -> dict[str, list[str]]:
        """Check again; return the inputs that have changed since the last check, for each spec concerned."""
        now = {spec.name: _absolute(spec, spec.inputs, self._digests) for spec in self._specs if spec.inputs}
        for spec in self._specs:
            self._outputs.update(_absolute(spec, spec.outputs, self._digests))
        changed: dict[str, list[str]] = {}
        for name, files in now.items():
            before = self._inputs.get(name, {})
            paths = [path for path in {**before, **files} if before.get(path) != files.get(path)]
            if paths := [path for path in paths if path not in self._outputs]:
                changed[name] = paths
        self._inputs = now
        return changed

    def directories(self) -> list[tuple[str, bool]]:
        """Return the directories that contain all present and future inputs, each with whether it includes subdirectories."""
        found: dict[str, bool] = {}
        for spec in self._specs:
            root = root_of(spec)
            for pattern in spec.inputs:
                directory, is_deep = _directory(root, pattern)
                found[directory] = found.get(directory, False) or is_deep
        return list(found.items())


def _absolute(spec: RunSpec, patterns: Sequence[str], digests: Digests) -> dict[str, str]:
    root = root_of(spec)
    found = find_files(spec, patterns, digests)
    return {os.path.normpath(os.path.join(root, path)): digest for path, digest in found.items()}


def _directory(root: str, pattern: str) -> tuple[str, bool]:
    """Return the nearest existing directory that contains the matches of a pattern, and whether at any depth."""
    parts = pattern.split("/")
    fixed = next((place for place, part in enumerate(parts) if has_wildcard(part)), len(parts) - 1)
    directory = os.path.normpath(
        os.path.join(root, "/".join(parts[:fixed]) or ("/" if pattern.startswith("/") else "."))
    )
    is_deep = fixed < len(parts) - 1 or "**" in parts[fixed]
    whole = os.path.join(directory, parts[-1])
    if not is_deep and not has_wildcard(pattern) and os.path.isdir(whole):
        return whole, True
    while not os.path.isdir(directory):
        directory, is_deep = os.path.dirname(directory), True
    return directory, is_deep
