"""The examples in the docstrings run: also those with a bare `await`, and those that only define a `main`."""

import ast
import contextlib
import doctest
import importlib
import inspect
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import trio

import trio_process
import trio_process.cluster
import trio_process.exec
import trio_process.testing
from trio_process.testing import hostile

ROOT = Path(__file__).parents[1]
LIMIT = 60  # seconds
CHECKER = doctest.OutputChecker()


def documented():
    """Return the names of the modules that hold examples. They are imported when they are tested: some take long."""
    base = ROOT / "trio_process"
    found = [path for path in base.rglob("*.py") if ">>> " in path.read_text()]
    return sorted(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in found)


def examples(module):
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [test for test in finder.find(importlib.import_module(module), module) if test.examples]


async def serve():
    """Stand for a program's main."""


@pytest.fixture
def _in_a_repository(tmp_path, monkeypatch):
    """Give commands such as `git log` something to tell, and files a place."""
    (tmp_path / "tests" / "data").mkdir(parents=True)
    who = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org"]
    for args in (["init", "-q"], [*who, "commit", "-q", "--allow-empty", "-m", "Begin"]):
        subprocess.run(["git", *args], cwd=tmp_path, check=True, timeout=LIMIT)
    monkeypatch.chdir(tmp_path)


def names_of(test):
    """Return the names that an example may use: its module's, all public ones, and what it can't make itself."""
    public = {
        name: getattr(module, name)
        for module in (trio_process, trio_process.cluster, trio_process.exec, trio_process.testing)
        for name in module.__all__
    }
    return {
        **public,
        **test.globs,
        "trio": trio,
        "shutil": shutil,
        "serve": serve,
        "wait_for_health": trio_process.wait_for_health,
    }


async def run_example(example, names):
    """Run one `>>>`, its await too, and return what it printed."""
    code = compile(example.source, "<docstring>", "single", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        result = eval(code, names)
        if inspect.iscoroutine(result):
            await result
    return printed.getvalue()


async def run_examples(test, names):
    for example in test.examples:
        printed = await run_example(example, names)
        assert CHECKER.check_output(example.want, printed, doctest.ELLIPSIS), f"{example.source}{printed}"


async def run_beside_a_server(test, names):
    async with trio_process.HealthServer("127.0.0.1:0") as names["server"]:
        await run_examples(test, names)


async def bounded(function, *args):
    with trio.fail_after(LIMIT):
        await function(*args)


def awaits(test):
    """Whether an example awaits outside of a function."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    codes = [compile(example.source, "<docstring>", "single", flags=flags) for example in test.examples]
    return any(code.co_flags & inspect.CO_COROUTINE for code in codes)


@pytest.mark.usefixtures("_in_a_repository")
@pytest.mark.parametrize("module", documented())
def test_the_examples_of_a_module_run(module):
    found = examples(module)
    assert found
    for test in found:
        check(test)


def check(test):
    names = names_of(test)
    if test.name == hostile.__name__:
        trio.run(bounded, run_beside_a_server, test, names)
    elif awaits(test):
        trio.run(bounded, run_examples, test, names)
    else:  # it may call trio.run itself
        with pytest.raises(StopIteration):
            run_examples(test, names).send(None)
    main = names.get("main")
    if inspect.iscoroutinefunction(main) and not any("trio.run(main" in example.source for example in test.examples):
        trio.run(bounded, main)


NAME = re.compile(r"~?[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(\(\))?")
CODE = re.compile(r"``.+?``|`([^`]+)`", re.DOTALL)


def test_single_backticks_hold_dotted_names_and_nothing_else():
    """They are a role, which cuts `~/.core/daemons` to "core/daemons" and loses what is between angle brackets."""
    faults = []
    for base in (ROOT / "trio_process", ROOT / "pytest_trio_process"):
        for path in base.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.Module)):
                    for found in CODE.finditer(ast.get_docstring(node) or ""):
                        if found[1] is not None and not NAME.fullmatch(found[1]):
                            faults.append(
                                f"{path.relative_to(ROOT)}: {getattr(node, 'name', 'the module')}: {found[0]}"
                            )
    assert not faults, "use double backticks:\n" + "\n".join(faults)
