"""Sphinx extension: describe every public attribute of a class at its `autoclass`, in the order of the source.

autodoc leaves out what has no docstring of its own: the fields of values, instance attributes, members of enums. Those are
described in the docstring of the class, below "Attributes:" or "Args:". Here each gets an entry of its own, with an
anchor, its type and that description, which then stands there alone. What is public is listed in
`tests/public_attributes.txt`, and `check_reference.py` holds the pages to that list.
"""

import importlib
import inspect
import re
import typing
from enum import Enum
from pathlib import Path

import attrs
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.util.docutils import SphinxDirective
from sphinx.util.inspect import stringify_signature
from sphinx.util.typing import stringify_annotation

ROOT = Path(__file__).resolve().parent.parent
LISTED = {
    owner: members.split()
    for owner, _, members in (
        line.partition(":") for line in (ROOT / "tests" / "public_attributes.txt").read_text().splitlines()
    )
}
SPECIAL = {"trio_process.Supervisor": ["__getitem__"], "trio_process.Probe": ["__call__"]}  # the point of these classes
# how the types of arguments are shown: what an alias stands for, and the class whose fields a set of keywords has
ALIASES = {
    "Argument": "str | bytes | os.PathLike | Secret",
    "Directory": "str | bytes | os.PathLike",
    "EnvValue": "str | bytes | os.PathLike | Secret | None",
    "OutputTarget": "Stdio | Path | IO[bytes]",
    "Predicate": "Callable[[Call], object]",
    "StartError": "OSError | ProcessStartError",
    "StdinSource": "Stdio | bytes | str | Path | IO[bytes] | None",
    "Talk": "Callable[[Call], Generator]",
    "builtins.list": "list",
    "_Instance": "Instance",
    "_Reload": "Function",
}
KEYWORDS = {
    "AdoptKeywords": "trio_process.RunOptions",
    "BehaviourKeywords": "trio_process.testing.Behaviour",
    "CommandKeywords": "trio_process.RunOptions",
    "DaemonKeywords": "trio_process.DaemonOptions",
    "ProbeKeywords": "trio_process.Probe",
    "RunInKeywords": "trio_process.RunOptions",
    "RunKeywords": "trio_process.RunOptions",
    "RunWithEnvKeywords": "trio_process.RunOptions",
    "SupervisorKeywords": "trio_process.Supervisor",
}
BOTH_PATHS = re.compile(r"(~?)(?:os\.)?PathLike\[str\] \| ~?(?:os\.)?PathLike\[bytes\]")
# of arguments that a callable gets: in the callable's type, or as `*args`
VARIADIC = re.compile(r"(\[)?(?:\*|(?:~typing\.)?Unpack\[)PosArgsT\]?(?(1)\])")
UNPACKED = re.compile(r"~?(?:typing\.)?Unpack\[~?(?:\w+\.)*(\w+)\]")
ALIAS = re.compile(rf"(?<![\w.~])(?:~?trio_process(?:\.\w+)*\.|checks\.)?({'|'.join(map(re.escape, ALIASES))})\b")
SECTION = re.compile(r"^(Args|Attributes):\n((?:[ ]+[^\n]*\n|\n)*)", re.MULTILINE)
ENTRY = re.compile(r"^    (\*{0,2}\w+)(?: \([^)]*\))?: ((?:[^\n]*\n(?:     +[^\n]*\n|\n(?=     ))*))", re.MULTILINE)


def load(path):
    """Return what a dotted path names."""
    for cut in range(path.count(".") + 1, 0, -1):
        parts = path.split(".")
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise ImportError(path)


def readable(types):
    """Return types, in a signature or alone, without names that are only known inside the package."""
    types = VARIADIC.sub(lambda found: "..." if found[1] else "object", types)
    types = UNPACKED.sub(lambda found: "~" + KEYWORDS[found[1]], types)
    types = ALIAS.sub(lambda found: ALIASES[found[1]], types)
    return BOTH_PATHS.sub(lambda found: f"{found[1]}os.PathLike", types)


def own_bases(cls):
    """Return the classes of this package that a class is made of."""
    return [base for base in cls.__mro__ if base.__module__.partition(".")[0] == "trio_process"]


def is_alias(path, value):
    """Whether a public name is a second name of a class, whose attributes are described at the first."""
    return value.__name__ != path.rpartition(".")[2]


def in_order(cls, names):
    """Return names in the order of the source: fields, then the rest; a class before its bases."""
    order = []
    for base in own_bases(cls):
        if attrs.has(base):
            order += [field.name for field in attrs.fields(base)]
        order += [*inspect.get_annotations(base), *vars(base)]
    return sorted(names, key=lambda name: order.index(name) if name in order else -1)


def described_in(docstring):
    """Return the descriptions of arguments and attributes in the docstring of a class."""
    found = {}
    for section in SECTION.finditer(docstring + "\n"):
        for entry in ENTRY.finditer(section[2]):
            found[entry[1]] = inspect.cleandoc(entry[2])
    return found


def has_own_entry(cls, name):
    """Whether a name is a method or a property, whose docstring is its description."""
    value = inspect.getattr_static(cls, name, None)
    if isinstance(value, property):
        return inspect.isfunction(value.fget)  # otherwise it is a field that is stored elsewhere
    return isinstance(value, (classmethod, staticmethod)) or inspect.isfunction(value)


def type_of(cls, name):
    """Return the annotation of an attribute, as text."""
    for base in own_bases(cls):
        hints = inspect.get_annotations(base)
        if name not in hints:
            continue
        try:
            hint = typing.get_type_hints(base).get(name)
        except (NameError, TypeError):
            hint = None
        text = stringify_annotation(hint, mode="smart") if hint is not None else hints[name]
        text = (
            str(text).removeprefix("ClassVar[").removeprefix("Final[") if str(text).startswith("Final[") else str(text)
        )
        return readable(re.sub(r"~?trio_process(?:\._\w+)+(?:\.\w+)*\.(\w+)", r"\1", text))
    return assigned_type(cls, name)


def assigned_type(cls, name):
    """Return the type of an attribute that is only set in a method, as `self.name: type = value` says it."""
    for base in own_bases(cls):
        found = re.search(rf"self\.{name}: (?:Final\[([^=\n]+)\]|([^=\n]+)) = ", source_of(base))
        if found:
            return found[1] or found[2]
    return None


def source_of(cls):
    """Return the source of a class; of an error that of its methods, as its `__module__` is the public one."""
    try:
        return inspect.getsource(cls)
    except OSError:
        return "".join(inspect.getsource(value) for value in vars(cls).values() if inspect.isfunction(value))


def description_of(cls, name):
    """Return the description of an attribute, from the docstring of the class that has it, or from the options it repeats."""
    for base in own_bases(cls):
        text = described_in(inspect.cleandoc(vars(base).get("__doc__") or "")).get(name)
        if text:
            return text
    options = load("trio_process.RunOptions")
    if cls is not options and name in LISTED["trio_process.RunOptions"]:
        return f"See `RunOptions.{name}`."
    return None


def entry_of(path, cls, name):
    """Yield the lines that describe one attribute."""
    value = inspect.getattr_static(cls, name, None)
    if has_own_entry(cls, name):
        yield f".. auto{'property' if isinstance(value, property) else 'method'}:: {path}.{name}"
    else:
        yield f".. py:attribute:: {name}"
        if isinstance(value, Enum):
            yield f"   :value: {value.value!r}"
        else:
            kind = type_of(cls, name)
            if kind:
                yield f"   :type: {kind}"
        yield ""
        for line in (description_of(cls, name) or "").splitlines():
            yield f"   {line}"
    yield ""


def undescribed():
    """Return the public attributes that have neither a docstring nor a description in that of their class."""
    classes = {path: load(path) for path in LISTED}
    return [
        f"{path}.{name}"
        for path, cls in classes.items()
        for name in ([] if is_alias(path, cls) else LISTED[path])
        if not has_own_entry(cls, name) and not description_of(cls, name)
    ]


class DescribeClass:
    """Mixed into `autoclass` and `autoexception`: an entry for each public attribute."""

    def run(self):
        """Return the nodes of the class, the entries of its attributes included."""
        path = self.arguments[0]
        names = LISTED.get(path, [])
        cls = load(path)
        if not is_alias(path, cls):
            lines = [""]
            for name in [*SPECIAL.get(path, []), *in_order(cls, names)]:
                lines += entry_of(path, cls, name)
            self.content = StringList([*self.content, *lines], source=f"{path} in {__file__}")
        return super().run()


class DescribeMembers(SphinxDirective):
    """`members`: the functions and values of a module; or, as another name, the methods of a class that is not public."""

    required_arguments = 1
    option_spec: typing.ClassVar = {"as": str}

    def run(self):
        """Return the nodes of the entries."""
        path = self.arguments[0]
        value = load(path)
        lines = self.of_module(path, value) if inspect.ismodule(value) else self.of_class(value, self.options["as"])
        return self.parse_text_to_nodes("\n".join(lines))

    def of_module(self, path, module):
        """Yield an entry for each public name of a module."""
        for name in module.__all__:
            value = getattr(module, name)
            kind = "class" if inspect.isclass(value) else "function" if inspect.isfunction(value) else "data"
            yield f".. auto{kind}:: {path}.{name}"
            if kind == "data":
                yield "   :no-value:"
            yield ""

    def of_class(self, cls, shown_as):
        """Yield an entry for each public method and property of a class."""
        for name, value in vars(cls).items():
            if name.startswith("_"):
                continue
            if isinstance(value, property):
                yield from (f".. py:property:: {shown_as}.{name}", "   :type: bool", "")
            elif inspect.isfunction(value):
                signature = inspect.signature(value)
                kept = [each for each in signature.parameters.values() if each.name != "self"]
                text = stringify_signature(signature.replace(parameters=kept), unqualified_typehints=True)
                yield from (f".. py:method:: {shown_as}.{name}{readable(text)}", "   :async:", "")
            else:
                continue
            docstring = inspect.cleandoc(value.__doc__ or "")
            yield from (f"   {line}" for line in GoogleDocstring(docstring, self.config).lines())
            yield ""


def without_moved_entries(app, what, name, obj, options, lines):  # noqa: ARG001
    """Take out of the docstring of a class what stands in the entries of its attributes."""
    if what not in {"class", "exception"} or name not in LISTED:
        return
    moved = {each for each in LISTED[name] if not has_own_entry(obj, each)}

    def without(section):
        gone = LISTED[name] if section[1] == "Attributes" else moved
        kept = [entry[0] for entry in ENTRY.finditer(section[2]) if entry[1] not in gone]
        return f"{section[1]}:\n{''.join(kept)}" if kept else ""

    lines[:] = SECTION.sub(without, "\n".join(lines) + "\n").splitlines()


def replace_directives(app, config):  # noqa: ARG001
    """Extend two directives of autodoc."""
    for name in ("autoclass", "autoexception"):
        base, _ = directives.directive(name, None, None)
        app.add_directive(name, type("Autoclass", (DescribeClass, base), {}), override=True)


def setup(app):
    """Replace two directives of autodoc, and add one."""
    app.add_directive("members", DescribeMembers)
    app.connect("config-inited", replace_directives, priority=900)  # autodoc adds its own then
    app.connect("autodoc-process-docstring", without_moved_entries, priority=50)
    return {"parallel_read_safe": True}
