"""The shape of the package: which layer imports which, where names live, and what an import costs."""

import ast
import functools
import importlib
import inspect
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import is_typeddict

import public_attributes
import pytest

import trio_process

ROOT = os.path.dirname(trio_process.__file__)

# which layers each layer imports, no more and no less
LAYERS = {
    "_core": set(),
    "_process": {"_core"},
    "_daemon": {"_core"},
    "_pipeline": {"_core"},
    "_supervisor": {"_core", "_process", "_daemon", "_pipeline"},
    "_control": {"_core", "_process", "_daemon", "_pipeline", "_supervisor"},
    "_cluster": {"_core", "_process"},
    "cluster": {"_core", "_process", "_cluster"},
    "exec": {"_core", "_process"},
    "testing": {"_core", "_process"},
    "_cli": {
        "_core",
        "_process",
        "_daemon",
        "_pipeline",
        "_supervisor",
        "_control",
        "_cluster",
        "cluster",
    },
}

# wings, and the modules of its layer that each imports, no more and no less
WINGS = {
    ("_core", "events"): {"checks", "enums", "errors", "scope", "serialize", "unique", "waiting"},
    ("_core", "system"): set(),
    ("_process", "output"): {"reactor"},
    ("_process", "containment"): {"backend", "environment", "reactor", "reap"},
    ("_process", "local"): {"backend", "end_reason", "environment", "reactor", "reap", "start_errors"},
    ("_daemon", "health"): set(),
    ("_daemon", "registry"): {"pidfile"},
    ("_pipeline", "file"): {"derived", "plan", "spec"},
    ("_pipeline", "memory"): {"derived", "result", "spec"},
    ("_supervisor", "probes"): set(),
    ("_supervisor", "replicas"): {"errors", "spec", "unit", "unit_lines", "watchers"},
    ("_supervisor", "rules"): set(),
    ("_supervisor", "runs"): set(),
    ("_control", "api"): {"message", "problem"},
    ("_control", "gate"): {"problem"},
    ("_control", "live"): {"message", "problem"},
    ("_control", "page"): {"message", "problem"},
    ("_cli", "daemon"): {"output", "state", "text"},
    ("_cli", "run"): {"find", "instance", "job_control", "limits", "output", "screen", "terminal", "text"},
    ("_cli", "services"): {"colour", "find", "instance", "output", "screen", "state", "terminal", "text"},
    ("_cli", "views"): {"colour", "screen", "text"},
}
BETWEEN_WINGS = {
    ("_cli", "run"): {"views"},
    ("_control", "api"): {"gate", "live", "page"},
    ("_control", "live"): {"gate"},
    ("_control", "page"): {"live"},
    ("_process", "local"): {"containment", "output"},
    ("_supervisor", "replicas"): {"probes", "rules", "runs"},
}

PUBLIC = ["trio_process", "trio_process.cluster", "trio_process.exec", "trio_process.testing"]


def modules():
    for folder, _, names in os.walk(ROOT):
        for name in names:
            if name.endswith(".py"):
                path = os.path.join(folder, name)
                parts = os.path.relpath(path, ROOT).removesuffix(".py").split(os.sep)
                yield path, parts


# one worker runs all of these, and so reads the package once
pytestmark = pytest.mark.xdist_group("package")


@functools.cache
def tree_of(path):
    with open(path, encoding="utf-8") as file:
        return ast.parse(file.read())


def imports_of(path, parts):
    """Yield the absolute name of every module that a file imports, wherever in it."""
    package = ["trio_process", *parts[:-1]]
    tree = tree_of(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, 0, alias.name.split(".")
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = base + (node.module.split(".") if node.module else [])
            if node.level and len(name) == 1:  # from .. import x
                for alias in node.names:
                    yield node.lineno, node.level, [*name, alias.name]
            else:
                yield node.lineno, node.level, name


def test_layers_import_one_way_and_only_through_the_door():
    faults = []
    found = {layer: set() for layer in LAYERS}
    for path, parts in modules():
        layer = parts[0]
        for line, level, name in imports_of(path, parts):
            if name[0] != "trio_process":
                continue
            where = f"{os.path.relpath(path, ROOT)}:{line}"
            if not level:
                # a program that is run as a file of its own has no package to be relative to
                faults.append(f"{where} imports {'.'.join(name)} absolutely")
                continue
            if layer not in LAYERS or len(name) == 1 or name[1] == layer:
                continue  # the map itself, or within the layer
            if name[1] not in LAYERS:
                continue
            found[layer].add(name[1])
            if name[1] not in LAYERS[layer]:
                faults.append(f"{where}: {layer} must not import {name[1]}")
            elif len(name) > 2:
                faults.append(f"{where} imports {'.'.join(name)}: past the door of {name[1]}")
    assert not faults, "\n".join(faults)
    assert found == LAYERS


def test_every_layer_is_known():
    folders = {parts[0] for _, parts in modules() if len(parts) > 1}
    assert folders == set(LAYERS)


def relative_imports(path, parts):
    """Yield line and name of what a file imports from this package, the names that a door hands on aside."""
    package = ["trio_process", *parts[:-1]]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            if node.module:
                yield node.lineno, base + node.module.split(".")
            else:
                for alias in node.names:
                    yield node.lineno, [*base, alias.name]


def test_wings_are_known_and_so_is_the_ground_that_they_stand_on():
    found = {}
    for path, parts in modules():
        if len(parts) >= 3:
            wing = (parts[0], parts[1])
            ground = found.setdefault(wing, set())
            for _, name in relative_imports(path, parts):
                if name[1:2] == [wing[0]] and len(name) > 2 and name[2] != wing[1] and (wing[0], name[2]) not in WINGS:
                    ground.add(name[2])
    assert found == WINGS


def test_wings_are_imported_through_their_door_and_import_one_another_one_way():
    faults = []
    for path, parts in modules():
        own = tuple(parts[:2]) if len(parts) >= 3 else None
        for line, name in relative_imports(path, parts):
            wing = tuple(name[1:3])
            if wing not in WINGS or wing == own:
                continue
            where = f"{os.path.relpath(path, ROOT)}:{line}"
            if len(name) > 3:
                faults.append(f"{where} imports {'.'.join(name)}: past the door of the wing")
            if own is not None and own[0] == wing[0] and wing[1] not in BETWEEN_WINGS.get(own, ()):
                faults.append(f"{where}: the wing {own[1]} must not import {wing[1]}")
    assert not faults, "\n".join(faults)


def test_tests_import_through_the_door_all_that_it_hands_on():
    """The test of a module may import from there what no other module needs, and so no door has."""
    faults = []
    for path in Path(__file__).parent.rglob("*.py"):
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("trio_process._"):
                continue
            parts = node.module.split(".")
            doors = [importlib.import_module(".".join(parts[:length])) for length in range(2, len(parts))]
            faults += [
                f"{path.name}:{node.lineno}: {name} is imported from {door.__name__}"
                for name in [alias.name for alias in node.names]
                for door in doors
                if name in getattr(door, "__all__", ())
            ]
    assert not faults, "\n".join(faults)


def imported_for_types_or_at_once(tree):
    """Yield the imports of a module that are made at once, and those that only a type checker sees."""
    for node in tree.body:  # later imports may go round
        if isinstance(node, ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            yield from (each for each in node.body if isinstance(each, ast.ImportFrom))


def test_layers_have_no_cycle_of_modules_not_even_for_types():
    graph = {}
    for path, parts in modules():
        name = ".".join(["trio_process", *parts]).removesuffix(".__init__")
        tree = tree_of(path)
        graph[name] = set()
        package = name.split(".") if parts[-1] == "__init__" else name.split(".")[:-1]
        for node in imported_for_types_or_at_once(tree):
            if node.level:
                base = package[: len(package) - node.level + 1]
                if node.module:
                    graph[name].add(".".join([*base, node.module]))
                else:
                    graph[name].update(".".join([*base, alias.name]) for alias in node.names)
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in graph and name not in done:
            path.append(name)
            for other in sorted(graph[name]):
                visit(other)
            path.pop()
            done.add(name)

    for name in graph:
        visit(name)


def sizes(layer):
    """Yield name, lines and attributes of each class of a layer."""
    for path, parts in modules():
        if parts[0] == layer:
            for node in ast.walk(tree_of(path)):
                if isinstance(node, ast.ClassDef):
                    kept = {
                        target.attr
                        for each in ast.walk(node)
                        if isinstance(each, (ast.Assign, ast.AnnAssign))
                        for target in (each.targets if isinstance(each, ast.Assign) else [each.target])
                        if isinstance(target, ast.Attribute) and getattr(target.value, "id", "") == "self"
                    }
                    yield node.name, node.end_lineno - node.lineno + 1, len(kept)


def test_no_class_of_the_execution_layer_has_more_than_250_lines_or_20_attributes():
    assert not [size for size in sizes("_process") if size[1] > 250 or size[2] > 20]


def test_no_function_has_more_than_50_lines():
    """Its signature and its docstring aside."""
    found = {}
    for path, _ in modules():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                body = node.body[ast.get_docstring(node) is not None :]
                lines = node.end_lineno - body[0].lineno + 1 if body else 0
                if lines > 50:
                    found[f"{os.path.relpath(path, ROOT)}: {node.name}"] = lines
    assert not found


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there_once(name):
    module = importlib.import_module(name)
    assert len(module.__all__) == len(set(module.__all__))
    missing = [each for each in module.__all__ if not hasattr(module, each)]
    assert not missing


def test_every_public_name_has_one_home():
    homes = {}
    for name in PUBLIC:
        for each in importlib.import_module(name).__all__:
            homes.setdefault(each, []).append(name)
    assert not {each: names for each, names in homes.items() if len(names) > 1}


def test_a_public_class_has_one_name_but_for_the_two_aliases():
    names = {}
    for module in PUBLIC:
        found = importlib.import_module(module)
        for each in found.__all__:
            value = getattr(found, each)
            if inspect.isclass(value):
                names.setdefault(value, set()).add(each)
    twice = {frozenset(found) for found in names.values() if len(found) > 1}
    assert twice == {frozenset({"Info", "ProcessInfo"}), frozenset({"Process", "ManagedProcess"})}


def test_what_a_public_class_shows_is_a_deliberate_act():
    """A new attribute without an underscore becomes a promise; `python tests/public_attributes.py` writes the list anew."""
    listed = public_attributes.FILE.read_text().splitlines()
    found = public_attributes.found()
    new = sorted(set(found) - set(listed))
    assert found == listed, "run `python tests/public_attributes.py` if this is meant:\n" + "\n".join(new)


def undocumented(value, name):
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return []
    found = [] if inspect.getdoc(value) else [name]
    if inspect.isclass(value):
        for each, member in vars(value).items():
            if each.startswith("_"):
                continue
            function = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
            if (inspect.isfunction(function) or isinstance(function, property)) and not inspect.getdoc(function):
                found.append(f"{name}.{each}")
    return found


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_a_docstring(name):
    module = importlib.import_module(name)
    assert module.__doc__
    missing = []
    for each in module.__all__:
        missing += undocumented(getattr(module, each), each)
    assert not missing


def test_public_classes_are_final_but_for_errors_and_protocols():
    open_classes = set()
    for name in PUBLIC:
        module = importlib.import_module(name)
        for each in module.__all__:
            value = getattr(module, each)
            if not inspect.isclass(value) or issubclass(value, Exception) or getattr(value, "_is_protocol", False):
                continue
            if is_typeddict(value):  # made to be extended by those who wrap the call
                continue
            if not getattr(value, "__final__", False) and "Enum" not in str(type(value).__mro__):
                open_classes.add(each)
    # the fake service is one of the first, the result of a pipe one of the second
    assert open_classes <= {"Service", "CommandResult"}


def test_every_module_says_what_it_is_for():
    missing = []
    for path, parts in modules():
        if not ast.get_docstring(tree_of(path)) and parts[-1] != "__main__":
            missing.append(path)
    assert not missing


def test_a_cold_import_is_light():
    heavy = (
        "quart",
        "quart_trio",
        "hypercorn",
        "click",
        "rich",
        "cattrs",
        "networkx",
        "json",
        "tomllib",
        "xml",
        "pytest",
        "hypothesis",
    )
    code = f"import sys, trio_process; print(*[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []


def test_the_upper_layers_are_loaded_when_they_are_asked_for():
    code = """
import sys, trio_process
layers = ("_daemon", "_pipeline", "_supervisor", "_control")
loaded = [layer for layer in layers if "trio_process." + layer in sys.modules]
assert not loaded, loaded
assert {"Daemon", "Runner", "Supervisor", "ControlServer"} <= set(dir(trio_process))
from trio_process import Daemon
assert "trio_process._daemon" in sys.modules
assert "trio_process._pipeline" not in sys.modules
from trio_process import Supervisor
assert "trio_process._supervisor" in sys.modules
assert "trio_process._control" not in sys.modules
from trio_process import *
assert ControlServer is trio_process.ControlServer
assert not hasattr(trio_process, "NoSuchName")
"""
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


def test_an_import_changes_nothing_of_the_process():
    code = """
import os, signal, sys, threading, warnings
warnings.simplefilter("error")
import trio
before = ([signal.getsignal(n) for n in signal.valid_signals()], dict(os.environ), threading.active_count(), sys.excepthook)
fds = sorted(os.listdir("/proc/self/fd"))
import trio_process, trio_process.exec
after = ([signal.getsignal(n) for n in signal.valid_signals()], dict(os.environ), threading.active_count(), sys.excepthook)
assert before == after
assert sorted(os.listdir("/proc/self/fd")) == fds
"""
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


def test_every_module_can_be_imported():
    names = [info.name for info in pkgutil.walk_packages([ROOT], "trio_process.") if not info.name.endswith("__main__")]
    assert len(names) > 150
    # the order is that of the names, not that of the map; a launcher is a script that a child runs
    chosen = sorted(name for name in names if name.rpartition(".")[2] != "launcher")
    code = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    subprocess.run([sys.executable, "-c", code, *chosen], timeout=120, check=True)


def test_the_version_is_that_of_the_distribution():
    from importlib.metadata import distribution

    found = distribution("trio-process")
    if json.loads(found.read_text("direct_url.json") or "{}").get("dir_info", {}).get("editable"):
        return  # it has the version of the day on which it was installed; test_examples.py reads that of the project
    assert trio_process.__version__ == found.version


def test_no_two_files_of_tests_have_one_name():
    """pytest imports them by their base name, and refuses to collect the second."""
    seen = {}
    for folder, _, names in os.walk(os.path.dirname(__file__)):
        for name in names:
            if name.startswith("test_") and name.endswith(".py"):
                seen.setdefault(name, []).append(folder)
    assert not {name: folders for name, folders in seen.items() if len(folders) > 1}
