"""`trio-process run --executor`: the same results wherever the tasks run."""

import json
import os
import shutil
import sys
import time

import pytest
from invoke import invoke, reap_background

from trio_process._cli.run import place

FILE = """
[tasks.first]
run = "echo one"
[tasks.second]
shell = "cat; echo two; pwd"
after = ["first"]
[tasks.bad]
shell = "echo no >&2; exit 3"
after = ["first"]
[tasks.never]
run = "echo never"
after = ["bad"]
"""


@pytest.fixture
def run(tmp_path):
    """Return a function that runs tasks in this process, as starting another takes longer."""
    (tmp_path / "trio-process.toml").write_text(FILE)

    def run(*args, **env):
        return invoke("run", *args, cwd=tmp_path, env=env)

    yield run
    reap_background()


def outcome(path):
    found = json.loads(path.read_text())
    return [(one["name"], one["exitCode"], one["output"]) for one in found["results"]]


@pytest.mark.parametrize("kind", ["local", "slurm", "dask", "ssh"])
def test_the_results_are_the_same_everywhere(kind, run, request, tmp_path):
    if kind == "dask":
        request.getfixturevalue("warm_dask_helper")
    executor = {"local": lambda: "local:2", "slurm": _slurm, "dask": _dask, "ssh": _ssh}[kind](*_given(kind, request))
    run("--report", f"json={tmp_path}/here")
    done = run("--report", f"json={tmp_path}/there", "--executor", executor, PATH=_path(kind, tmp_path, request))
    assert done.returncode == 1, done.stdout + done.stderr
    assert outcome(tmp_path / "there") == outcome(tmp_path / "here")


def _given(kind, request):
    match kind:
        case "slurm":
            return (request.getfixturevalue("slurm"),)
        case "dask":
            return (request.getfixturevalue("dask_address"),)
        case "ssh":
            return (request.getfixturevalue("sshd"),)
    return ()


def _slurm(conf):
    return "slurm:2?-c2 --mem=100"


def _dask(address):
    return f"dask:{address}"


def _ssh(options):
    return "ssh:127.0.0.1"


def _path(kind, tmp_path, request):
    """Return the PATH; for ssh with a wrapper in front that knows key and port, as a user's ssh_config would."""
    if kind != "ssh":
        return os.environ["PATH"]
    programs = tmp_path / "bin"
    programs.mkdir()
    real, options = shutil.which("ssh"), request.getfixturevalue("sshd")
    script = f"""#!{sys.executable}
import os, sys
remote = sys.argv[-1].replace("python3", {sys.executable!r})
os.execv({real!r}, ["ssh", *{options!r}, *sys.argv[1:-1], remote])
"""
    (programs / "ssh").write_text(script)
    (programs / "ssh").chmod(0o755)
    return f"{programs}:{os.environ['PATH']}"


def test_the_variable_stands_for_the_option(run, warm_agents):
    assert run("first", TRIO_PROCESS_EXECUTOR="local:1").returncode == 0
    assert run("first", TRIO_PROCESS_EXECUTOR="elsewhere").returncode == 2


@pytest.mark.parametrize(
    "executor",
    ["", "lokal", "local:", "local:0", "local:x", "ssh:", "ssh:a,,b", "slurm:", "dask:", "slurm:a", "slurm:1?'"],
)
def test_what_names_no_executor_is_usage_also_without_the_engine(run, executor, tmp_path):
    done = run("first", "--executor", executor, PATH=str(tmp_path))
    assert done.returncode == 2
    assert "--executor must be" in done.stderr


def test_the_first_signal_ends_a_run_that_waits_in_a_queue(run, tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "srun").write_text("#!/bin/sh\nkill -INT $PPID; exec sleep 10\n")
    (programs / "srun").chmod(0o755)
    began = time.monotonic()
    done = run("first", "--executor", "slurm:1", PATH=f"{programs}:{os.environ['PATH']}")
    assert time.monotonic() - began < 9
    assert done.returncode == 130
    assert "Ctrl-C: nothing has run" in done.stdout + done.stderr


def test_a_run_says_that_it_waits_for_its_first_agent(run, tmp_path, monkeypatch):
    programs, said = tmp_path / "bin", tmp_path / "said"
    programs.mkdir()
    (programs / "srun").write_text(f"#!/bin/sh\nuntil [ -e {said} ]; do sleep 0.01; done; exit 1\n")
    (programs / "srun").chmod(0o755)
    monkeypatch.setattr(place, "NOTICE_AFTER", 0.05)
    monkeypatch.setattr(place, "print_error", said.write_text)
    done = run("first", "--executor", "slurm:1", PATH=f"{programs}:{os.environ['PATH']}")
    assert done.returncode == 2
    assert "waiting for the first one" in said.read_text()


def test_an_engine_that_is_not_installed_says_how_to_install_it(run, tmp_path):
    done = run("first", "--executor", "ssh:host", PATH=str(tmp_path))
    assert done.returncode == 2
    assert "openssh-client" in done.stderr
