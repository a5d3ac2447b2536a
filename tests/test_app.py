"""The application that the tutorial builds, docs/examples/app: its own pipeline passes, and it runs as it is deployed."""

import configparser
import gzip
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
from support import free_port, wait_until

APP = Path(__file__).parents[1] / "docs" / "examples" / "app"
PAGES = [path.read_text() for folder in ("tutorial", "how-to") for path in (APP.parents[1] / folder).glob("*.md")]
LIMIT = 120


@pytest.fixture
def app():
    """Return a copy of the application; the path of a unix socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="tp") as name:
        yield Path(shutil.copytree(APP, Path(name, "app"), ignore=shutil.ignore_patterns("__pycache__", "data", ".*")))


@pytest.fixture
def environment(app):
    """Return the environment of a user who has installed the application's dependencies, on a port of its own."""
    kept = {name: value for name, value in os.environ.items() if name not in {"NOTIFY_SOCKET", "CI"}}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {
        **kept,
        "PATH": path,
        "HOME": str(app),
        "XDG_STATE_HOME": str(app.parent / "state"),
        "DEPOT_ADDRESS": f"127.0.0.1:{free_port()}",
        "DEPOT_DATA": str(app / "data"),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # others are slow to import
        "PYTEST_ADDOPTS": "-p trio -p trio_process",
    }


def ask(url, data=None, method="GET"):
    with urlopen(Request(url, data=data, method=method), timeout=LIMIT) as answer:
        return answer.read()


async def upload(site):
    """Store a file, wait until it is packed, and return what was packed."""
    file = json.loads(ask(f"{site}/files/hello.txt", b"hello " * 100, "PUT"))
    url = f"{site}/files/{file['id']}"
    assert await wait_until(lambda: json.loads(ask(url))["state"] in ("packed", "failed"), LIMIT)
    return gzip.decompress(ask(f"{url}/packed"))


@contextmanager
def running(command, app, environment, log):
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=app, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(timeout=LIMIT)


def test_its_pipeline_passes_and_its_services_pack_an_upload_for_real(app, environment):
    command = [sys.executable, "-m", "trio_process", "run", "--report", "json=report.json"]
    done = subprocess.run(
        command, cwd=app, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    report = json.loads((app / "report.json").read_text())
    assert sorted(result["name"] for result in report["results"]) == ["compile", "smoke", "unit"]
    assert (app / "data" / "files" / "1.gz").exists()


@pytest.mark.parametrize(
    ("module", "changes", "advice"),
    [
        ("depot.store", {"DEPOT_DATA": "/proc/none"}, "set DEPOT_DATA to another directory"),
        ("depot.worker", {}, "run `python -m depot.store` first, or set DEPOT_DATA"),
        ("depot.web", {}, "run `python -m depot.store` first, or set DEPOT_DATA"),
        ("depot.web", {"DEPOT_ADDRESS": "taken"}, "stop it, or choose another address (DEPOT_ADDRESS)"),
        ("depot", {}, "usage: python -m depot CONTROL-ADDRESS"),
    ],
)
def test_what_it_lacks_is_named_in_one_line_with_what_to_do(app, environment, module, changes, advice):
    with socket.create_server(("127.0.0.1", 0)) as server:
        if "DEPOT_ADDRESS" in changes:
            (app / "data" / "files").mkdir(parents=True)
            (app / "data" / "depot.db").touch()
            changes = {"DEPOT_ADDRESS": f"127.0.0.1:{server.getsockname()[1]}"}
        done = subprocess.run(
            [sys.executable, "-m", module], cwd=app, env=environment | changes, capture_output=True, text=True,
            timeout=LIMIT, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert advice in line


def deployed_commands():
    """Return the arguments of Python in the unit of systemd and in the image of the container."""
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str
    unit.read_string((APP / "deploy" / "depot.service").read_text())
    assert unit["Service"]["Type"] == "notify"
    program, *of_unit = unit["Service"]["ExecStart"].split()
    image = (APP / "deploy" / "Containerfile").read_text()
    python, *of_image = json.loads(re.search(r"^ENTRYPOINT (\[.*\])$", image, re.MULTILINE)[1])
    assert Path(program).name == python == "python"
    return of_unit, of_image


def can_unshare():
    command = ["unshare", "-pf", "--mount-proc", "true"]
    return (
        shutil.which("unshare")
        and subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0
    )


def children_of(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not can_unshare(), reason="no PID namespace can be made here (unshare(1))")
async def test_deployed_it_is_pid_1_reports_to_systemd_restarts_a_worker_and_stops_on_sigterm(
    app, environment, tmp_path
):
    of_unit, of_image = deployed_commands()
    assert [argument.rpartition("/")[2] for argument in of_unit] == [
        argument.rpartition("/")[2] for argument in of_image
    ]
    arguments = [argument.replace("/run/depot", str(app)) for argument in of_unit]
    log = tmp_path / "log"
    site = f"http://{environment['DEPOT_ADDRESS']}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(app / "notify"))
        notify.settimeout(LIMIT)
        environment |= {"NOTIFY_SOCKET": str(app / "notify")}
        with running(["unshare", "-pf", "--mount-proc", sys.executable, *arguments], app, environment, log) as process:
            assert b"READY=1" in notify.recv(4096), log.read_text()
            assert await upload(site) == b"hello " * 100
            (init,) = children_of(process.pid)
            worker = next(
                pid for pid in children_of(init) if b"depot.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
            )
            os.kill(worker, signal.SIGKILL)
            await wait_until(lambda: "restarting in" in log.read_text(), LIMIT)
            assert await upload(site) == b"hello " * 100
            os.kill(init, signal.SIGTERM)
            assert b"STOPPING=1" in notify.recv(4096)
            process.wait(timeout=LIMIT)
    assert process.returncode == 0, log.read_text()
    assert log.read_text().splitlines()[-1] == "stopped"
    with pytest.raises(URLError):
        ask(site)


def test_every_file_of_it_is_shown_in_a_page():
    shown = {
        found
        for page in PAGES
        for found in re.findall(r"^```\{literalinclude\} \.\./examples/app/(\S+)$", page, re.MULTILINE)
    }
    files = {
        str(path.relative_to(APP))
        for path in APP.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and not path.relative_to(APP).parts[0].startswith(".")
    }
    assert shown == files - {"depot/__init__.py"}
