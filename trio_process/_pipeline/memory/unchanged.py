"""Find the specs that are up to date before anything runs, with one stat of each file and without reading large ones.

The specs found here pass at once, whether one or ten thousand. Everything else (a large file that must be hashed, a
difference whose reason has to be named) is left to `Memory.check`, spec by spec.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, final

from ..spec import RunSpec
from .fingerprint import ABSENT, Digests, command_digest, env_digests, find_files, root_of


def find_unchanged(
    specs: Iterable[RunSpec], made: Mapping[str, dict[str, Any]], digests: Digests, known: Collection[str] = ()
) -> set[str]:
    """Return the names of specs that are up to date together with all of their dependencies.

    Args:
        specs: The specs, each after its dependencies.
        made: The last fingerprint of each, as kept by `Memory`.
        digests: The known digests of files.
        known: Specs of which this is already known.
    """
    look = _Look(digests)
    outputs: dict[str, dict[str, str]] = {}
    for spec in specs:
        record = made.get(spec.name)
        if spec.name in known and record is not None and "from" in record:
            outputs[spec.name] = record["outputs"]
            continue
        if record is None or not spec.inputs or spec.when == "failure" or "from" not in record:
            continue
        if any(name not in outputs for name in spec.after):
            continue
        before = record["from"]
        results = {f"{name}: {path}": digest for name in spec.after for path, digest in outputs[name].items()}
        if (
            before["command"] == command_digest(spec, digests)
            and before["env"] == env_digests(spec, digests)
            and before["results"] == results
            and before["inputs"] == look.at(spec, spec.inputs)
            and record["outputs"] == look.at(spec, spec.outputs)
            and ABSENT not in record["outputs"].values()
        ):
            outputs[spec.name] = record["outputs"]
    return set(outputs)


@final
class _Look:
    """Lookup of the digests of files, with one stat of each.

    Args:
        digests: The known digests of files.
    """

    def __init__(self, digests: Digests) -> None:
        self._digests = digests
        self._known = digests.known
        self._seen: dict[str, str | None] = {}

    def at(self, spec: RunSpec, patterns: Sequence[str]) -> dict[str, str] | None:
        """Return the digests of matching files, as `find_files` does; None if large files would have to be read."""
        if not patterns:
            return {}
        root, seen = f"{root_of(spec)}/", self._seen
        found: dict[str, str] = {}
        for pattern in patterns:
            path = pattern if pattern[:1] == "/" else root + pattern
            if path in seen:
                digest = seen[path]
            else:
                digest = seen[path] = self._known(path)
            if digest is None:
                return self._at_all(spec, patterns)
            found[pattern] = digest
        return found

    def _at_all(self, spec: RunSpec, patterns: Sequence[str]) -> dict[str, str] | None:
        """Return the same for wildcards, directories, and files that were too young for their digests to be kept."""
        self._digests.quickly = True
        try:
            return find_files(spec, patterns, self._digests)
        except BlockingIOError:
            return None
        finally:
            self._digests.quickly = False
