"""Compare the public names of the package with the anchors of the built reference; the `docs` session runs this.

    python docs/check_reference.py docs/_build/html

Every name in an `__all__` list and every public attribute of a public class has an anchor on a page of the reference, and
no other name of the package has one. The public attributes are those of `tests/public_attributes.txt`, which a test
compares with the code.
"""

import html.parser
import importlib
import sys
from pathlib import Path

import members

PUBLIC = ("trio_process", "trio_process.cluster", "trio_process.exec", "trio_process.testing")

# What is public without being in an `__all__` list: the members of `core.process`, the special methods that are the whole point
# of a class, and the fixtures and the marker of the pytest plugin.
ALSO = {
    *(f"core.process.{name}" for name in ("exists", "get", "kill", "list", "run", "run_in", "run_with_env", "start")),
    "trio_process.Supervisor.__getitem__",
    "trio_process.Probe.__call__",
    "fake_processes",
    "no_leaks",
    "no_real_processes",
}


class Anchors(html.parser.HTMLParser):
    """Collects the anchors of described objects: the `id` of each `<dt class="sig">`."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag == "dt" and found.get("id"):
            self.found.add(found["id"])


def expected() -> set[str]:
    """Return the names that must have an anchor."""
    names = set(ALSO)
    for module in PUBLIC:
        names.update(f"{module}.{name}" for name in importlib.import_module(module).__all__)
    for owner, listed in members.LISTED.items():
        if not members.is_alias(owner, members.load(owner)):
            names.update(f"{owner}.{name}" for name in listed)
    hostile = importlib.import_module("trio_process.testing.hostile")
    names.update(f"trio_process.testing.hostile.{name}" for name in hostile.__all__)
    return names


def anchored(directory: Path) -> set[str]:
    """Return the names that have one."""
    names: set[str] = set()
    for page in sorted((directory / "reference").glob("*.html")):
        parser = Anchors()
        parser.feed(page.read_text(encoding="utf-8"))
        names |= parser.found
    return names


def main() -> int:
    """Print what is missing or too much; return 1 if anything is."""
    directory = Path(sys.argv[1])
    wanted, found = expected(), anchored(directory)
    for name in sorted(wanted - found):
        print(f"no anchor in the reference: {name}")
    for name in sorted(found - wanted):
        print(f"in the reference, but not public: {name}")
    bare = members.undescribed()
    for name in bare:
        print(f"no description: {name}")
    print(f"{len(wanted)} public names, {len(wanted & found)} with an anchor, {len(found - wanted)} anchors too many")
    return int(wanted != found or bool(bare))


if __name__ == "__main__":
    sys.exit(main())
