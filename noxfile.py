"""What a developer does, each in an environment of its own: `nox -s tests`, `types`, `lint`, `docs`, `package`, `demo`, `bench`."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2026.8.10"  # older ones take a `python3.12` on the PATH at its name, even a shim that can't run
nox.options.sessions = ["tests", "types", "lint", "docs", "package"]
nox.options.default_venv_backend = "virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = "yes"

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = [
    name.rsplit(" ", 1)[-1]
    for name in PROJECT["project"]["classifiers"]
    if name.startswith("Programming Language :: Python :: 3.")
]


def _runs(program: str, version: str) -> bool:
    """Whether a program is that version of Python: a shim of pyenv may be there, and may refuse to run."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        found = subprocess.run([program, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False  # not executable, not a program, or a network disk that is gone
    return found.returncode == 0 and found.stdout.strip() == version


def _find_pythons() -> list[str]:
    """Let nox find what pyenv has installed, return what there is, and refuse to go on without any supported Python.

    nox skips a Python that it can't find, and with all of them skipped it would call that a success.
    """
    installed = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/*/bin"))
    found = []
    for version in PYTHONS:
        on_path = shutil.which(f"python{version}")
        if f"{sys.version_info[0]}.{sys.version_info[1]}" == version or (on_path and _runs(on_path, version)):
            found.append(version)
            continue
        for directory in reversed(installed):
            if _runs(str(directory / f"python{version}"), version):
                os.environ["PATH"] += os.pathsep + str(directory)
                found.append(version)
                break
    if not found:
        raise SystemExit(f"no supported Python was found: one of {', '.join(PYTHONS)} is needed on the PATH")
    return found


_FOUND = _find_pythons()


def _install(session: nox.Session, *groups: str) -> None:
    """Install the package as a user would, not editable, with the groups of pyproject.toml."""
    session.install(*nox.project.dependency_groups(PROJECT, *groups), ".[cli]")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests, on every supported Python of this machine. Arguments go to pytest: `nox -s tests -- -k name`."""
    _install(session, "test")
    # the engines of clusters run the same code on every Python, and take as long as all the rest: one Python tries them
    env = {} if session.python == _FOUND[0] else {"TRIO_PROCESS_TEST_ENGINES": "none"}
    # whatever the environment says, compiled tests are kept: compiling them takes three times as long as importing them. One
    # process does it for all workers
    env["PYTHONDONTWRITEBYTECODE"] = ""
    collect = ["python", "-m", "pytest", "--collect-only", "--cache-clear", "-n0", *session.posargs]
    session.run(*collect, env=env, silent=True)
    # most tests wait for a process or a clock, so that three at once keep a processor busy; `-- -n0` runs one by one
    workers = ["-n", str(3 * len(os.sched_getaffinity(0))), "--maxprocesses", "12", "--dist", "loadgroup"]
    try:
        session.run("python", "-m", "pytest", *workers, *session.posargs, env=env)
    except CommandFailed as failure:
        failed = _failed_tests()
        if failure.return_code != _TESTS_FAILED or not failed:
            raise
        # real engines, terminals and signals on a busy machine: what failed is tried once more, and has to pass then
        session.run("python", "-m", "pytest", "-n0", *failed, env=env)


_TESTS_FAILED = 1  # of pytest's exit codes


def _failed_tests() -> list[str]:
    """Return the names of the tests that failed. pytest-xdist adds a group to them, so that `--last-failed` would lose some."""
    found = Path(".pytest_cache/v/cache/lastfailed")
    names = json.loads(found.read_text()) if found.exists() else {}
    return [re.sub(r"@[a-z]+$", "", name) for name in names]


@nox.session
def types(session: nox.Session) -> None:
    """Check the types, strictly: of the package, of a program that uses it, and that every public name has one."""
    _install(session, "types")
    session.run("mypy", *session.posargs)
    session.run("mypy", "tests/typing/program.py")
    session.run("basedpyright", "-p", "tests/typing")
    session.run("basedpyright", "--verifytypes", "trio_process", "--ignoreexternal")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format; `nox -s lint -- --fix` mends both."""
    session.install(*nox.project.dependency_groups(PROJECT, "lint"))
    fix = "--fix" in session.posargs
    session.run("ruff", "check", *(["--fix"] if fix else []), ".")
    session.run("ruff", "format", *([] if fix else ["--check"]), ".")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build/html, and compare its reference with the public names; a warning is an error."""
    _install(session, "docs")
    session.run("sphinx-build", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html", *session.posargs)
    session.run("python", "docs/check_reference.py", "docs/_build/html")


@nox.session
def package(session: nox.Session) -> None:
    """Build both archives as a release does, check that the package index can show them, and install the wheel."""
    session.install(*nox.project.dependency_groups(PROJECT, "package"))
    made = Path(session.create_tmp()) / "dist"
    shutil.rmtree(made, ignore_errors=True)
    session.run("python", "-m", "build", "--no-isolation", "--outdir", str(made))
    archives = [str(path) for path in sorted(made.iterdir())]
    session.run("twine", "check", "--strict", *archives)
    session.install("--force-reinstall", "--no-deps", archives[0])
    session.run("python", "-c", "import importlib.metadata as m; print('trio-process', m.version('trio-process'))")


@nox.session
def demo(session: nox.Session) -> None:
    """Run this repository's own pipeline on this repository; arguments go to `trio-process run`."""
    session.install(".[cli]")
    session.run("trio-process", "run", "-f", "trio-process.toml", *(session.posargs or ["demo"]))


@nox.session
def bench(session: nox.Session) -> None:
    """Measure, against the peers installed beside it; arguments go to `python -m bench`."""
    _install(session, "bench")
    session.run("python", "-m", "bench", *session.posargs)
