"""What every public class shows: `python tests/public_attributes.py` writes tests/public_attributes.txt anew.

Public is what has no underscore in front and comes from this package: from the class or a base of ours, by a definition,
an annotation, `__slots__`, attrs, or an assignment to `self`.
"""

import ast
import importlib
import inspect
import sys
import textwrap
from enum import Enum
from functools import cache
from pathlib import Path

import attrs

MODULES = ["trio_process", "trio_process.exec", "trio_process.testing", "trio_process.cluster"]
FILE = Path(__file__).with_name("public_attributes.txt")


@cache
def own(cls):
    """Return the names that a class itself defines."""
    slots = vars(cls).get("__slots__", ())
    names = {*vars(cls), *vars(cls).get("__annotations__", ()), *([slots] if isinstance(slots, str) else slots)}
    if attrs.has(cls):
        names |= {field.name for field in attrs.fields(cls)}
    if issubclass(cls, Enum):
        names |= set(cls.__members__)
    for node in ast.walk(ast.parse(source_of(cls))):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            for part in target.elts if isinstance(target, ast.Tuple) else [target]:
                if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id == "self":
                    names.add(part.attr)
    return names


def source_of(cls):
    """Return the source of a class; of an error that of its methods, as its `__module__` is the public one."""
    try:
        return textwrap.dedent(inspect.getsource(cls))
    except OSError:
        methods = [value for value in vars(cls).values() if inspect.isfunction(value)]
        return "".join(textwrap.dedent(inspect.getsource(method)) for method in methods)


def attributes(cls):
    """Return the public names of a class, sorted."""
    ours = [base for base in cls.__mro__ if base.__module__.partition(".")[0] == "trio_process"]
    return sorted({name for base in ours for name in own(base) if not name.startswith("_")})


def found():
    """Return a line for each public class."""
    lines = []
    for module in MODULES:
        names = importlib.import_module(module).__all__
        for name in sorted(names):
            value = getattr(importlib.import_module(module), name)
            if inspect.isclass(value):
                lines.append(" ".join([f"{module}.{name}:", *attributes(value)]))
    return lines


if __name__ == "__main__":
    FILE.write_text("\n".join(found()) + "\n")
    sys.stdout.write(f"{FILE}: {len(found())} classes\n")
