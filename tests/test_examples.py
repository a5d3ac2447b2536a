"""Nothing stands in the README or the documentation that is not run here, and no name, test or page is missing there.

A page shows a file of docs/examples by `literalinclude`; a program at its end says what it prints, and is run here. What
stands in a page itself is `python` (run), `console` (run by bash, line by line), `toml` (loaded as a pipeline) or `text`.
"""

import ast
import configparser
import doctest
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import forked
import pytest

import trio_process
from trio_process import load_pipeline, wait_for_health, wait_for_ready

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")])
LIMIT = 120

SERVED = {"control.py", "daemon.py", "supervisor.py"}  # these run until they are told to end; below they are
ELSEWHERE = {
    "kubernetes_agents.py"
}  # tests/cluster/test_agent_launchers.py runs these, with stand-ins for what they need
NUMBERED = {"events_json.py"}  # it shows the number of its first process: a fork goes on with ours
TESTS = sorted(path.name for path in EXAMPLES.glob("test_*.py"))
PROGRAMS = sorted({path.name for path in EXAMPLES.glob("*.py")} - SERVED - ELSEWHERE - set(TESTS))

FENCE = re.compile(r"^(?P<ticks>```+)(?P<kind>[^\n]*)\n(?P<text>.*?)^(?P=ticks)$", re.MULTILINE | re.DOTALL)
PLAIN = re.compile(
    r"""trio-process (?P<words>(?:[^][;&|<>(){}$`~*?!#"'\\\n]|'[^']*'|"[^"$`\\]*")*)(?P<status>; echo "status \$\?")?"""
)
DIRECTIVE = re.compile(r"^```+\{(?P<name>[\w-]+)\} *(?P<argument>\S*)")
MENTIONED_TEST = re.compile(r"\btests/(?P<path>[\w/]+\.py)(?:::(?P<name>\w+))?")
HOME = "https://github.com/trio-process/trio-process/blob/main/"  # the package index shows the README, too, and has no other file
LINK = re.compile(r"\]\((?!https?:)(?P<target>[^)#\s]*)(?:#(?P<heading>[^)\s]+))?\)")


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    kind: str
    text: str

    def __str__(self):
        return f"{self.page.relative_to(ROOT)}: {self.text.strip().splitlines()[0] if self.text.strip() else '(empty)'}"


def blocks(*kinds):
    return [
        Block(page, found["kind"].strip(), found["text"])
        for page in PAGES
        for found in FENCE.finditer(page.read_text())
        if not kinds or found["kind"].strip() in kinds
    ]


def anchors(page):
    """Return the headings of a page as links name them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def environment(home):
    """Return an environment in which our scripts are found, and nothing of this user's is touched."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    kept = {name: value for name, value in os.environ.items() if name not in {"NOTIFY_SOCKET", "PYTHONSTARTUP"}}
    # lines of stdout and stderr in the order that a terminal shows them in
    return {**kept, "PATH": path, "HOME": str(home), "NO_COLOR": "1", "COLUMNS": "120", "PYTHONUNBUFFERED": "1"}


def check(want, got):
    """Compare what was printed as doctest does: `...` stands for anything."""
    checker = doctest.OutputChecker()
    want, got = want.strip("\n") + "\n", got.strip("\n") + "\n"
    assert checker.check_output(want, got, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE), (
        f"wanted:\n{want}\ngot:\n{got}"
    )


def run(command, where):
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, cwd=where, env=environment(where), **streams, timeout=LIMIT, check=False)
    return done.returncode, done.stdout


def run_python(arguments, where):
    """Run what Python runs, without another start of it."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = forked.run_program([sys.executable, *arguments], cwd=where, env=environment(where), **streams, timeout=LIMIT)
    return done.returncode, done.stdout


def run_typed(command, where):
    """Run what is typed at a prompt; a plain `trio-process`, with words and nothing else, without another start of Python."""
    plain = PLAIN.fullmatch(command)
    if not plain:
        return run(["bash", "-c", command], where)[1]
    status, output = run_python(["-m", "trio_process", *shlex.split(plain["words"])], where)
    return output + (f"status {status}\n" if plain["status"] else "")


@contextmanager
def server(arguments, where, **extra):
    command = [sys.executable, "-W", "error", *arguments]
    process = subprocess.Popen(
        command,
        cwd=where,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **forked.program(command, {**environment(where), **extra}),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=LIMIT)


def announced_output(program):
    """Return what the comment at the end of a program says that it prints; anything, if it says nothing."""
    _, found, comment = program.read_text().partition("\n# Prints:\n#\n")
    if not found:
        return "..."
    return "\n".join(line.removeprefix("#").removeprefix("   ") for line in comment.splitlines())


# programs


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_example_prints_what_it_says(name, tmp_path):
    arguments = ["-W", "error", str(EXAMPLES / name)]
    code, output = run([sys.executable, *arguments], tmp_path) if name in NUMBERED else run_python(arguments, tmp_path)
    assert code == 0, output
    check(announced_output(EXAMPLES / name), output)


def test_the_examples_of_tests_pass(tmp_path):
    files = [str(EXAMPLES / name) for name in TESTS]
    code, output = run([sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *files], tmp_path)
    assert code == 0, output
    assert all(re.search(rf"{re.escape(name)}::\w+ PASSED", output) for name in TESTS), output


async def test_the_daemon_becomes_ready_and_ends_when_it_is_told_to(tmp_path):
    with server([str(EXAMPLES / "daemon.py"), "myapp.pid", "127.0.0.1:0"], tmp_path) as process:
        addr = re.search(r"healthy at (\S+),", process.stdout.readline())[1]
        assert await wait_for_ready(addr, 60)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=LIMIT)
    assert output.splitlines()[-1] == "stopping"
    assert process.returncode == 0
    assert not (tmp_path / "myapp.pid").exists()


async def test_the_supervisor_builds_serves_restarts_and_stops(tmp_path):
    with server([str(EXAMPLES / "supervisor.py"), "shop.pid", "127.0.0.1:0"], tmp_path) as process:
        addr = process.stdout.readline().split()[-1]
        assert process.stdout.readline() == "built\n"
        assert process.stdout.readline() == "ready\n"
        assert await wait_for_ready(addr, 60)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        served = [pid for pid in children if b"serving" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(served) == 1
        os.kill(int(served[0]), signal.SIGKILL)
        # the log's account of the failure comes first
        assert [line for line in iter(process.stdout.readline, "ready\n") if line == "built\n"] == ["built\n"]
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=LIMIT)
    assert output.splitlines()[-1] == "stopped"
    assert process.returncode == 0


def test_the_control_server_answers_a_script_and_ends_when_it_is_told_to(tmp_path):
    with server([str(EXAMPLES / "control.py"), "unix:app.sock"], tmp_path) as process:
        assert process.stdout.readline().startswith("http+unix://")
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(LIMIT)
            client.connect(str(tmp_path / "app.sock"))
            client.sendall(b"GET /api/process/services HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert b'"success":true' in answer.replace(b" ", b"")
        assert b'"web.2"' in answer
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LIMIT)
    assert process.returncode == 0


async def test_the_unit_of_systemd_starts_a_program_that_tells_it_so(tmp_path):
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str
    unit.read_string((EXAMPLES / "myapp.service").read_text())
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert service["Environment"] == f"HOME=/var/lib/{service['StateDirectory']}"  # a system user has no home
    program, script, *arguments = service["ExecStart"].split()
    assert Path(program).name == "python"
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(path))
        notify.settimeout(LIMIT)
        arguments = [argument.replace("/run/myapp", str(tmp_path)) for argument in arguments[:-1]] + ["127.0.0.1:0"]
        with server([str(EXAMPLES / Path(script).name), *arguments], tmp_path, NOTIFY_SOCKET=str(path)) as process:
            assert b"READY=1" in notify.recv(4096)
            command, sent, pid = service["ExecReload"].split()
            assert (command, pid) == ("kill", "$MAINPID")
            process.send_signal(getattr(signal, f"SIG{sent.removeprefix('-')}"))
            assert b"RELOADING=1" in notify.recv(4096)
            done = notify.recv(4096)
            assert b"READY=1" in done
            assert b"failed" not in done
            assert "reloaded\n" in iter(process.stdout.readline, "")
            process.send_signal(getattr(signal, service.get("KillSignal", "SIGTERM")))
            assert b"STOPPING=1" in notify.recv(4096)
            process.communicate(timeout=LIMIT)
    assert process.returncode == 0


async def test_the_probes_of_kubernetes_ask_for_what_the_daemon_serves(tmp_path):
    manifest = (EXAMPLES / "probes.yaml").read_text()
    asked = re.findall(r"path: (\S+)", manifest)
    assert asked == ["/health", "/ready"]
    port = re.search(r"containerPort: (\d+)", manifest)[1]
    assert f'"0.0.0.0:{port}"' in manifest
    with server([str(EXAMPLES / "daemon.py"), "myapp.pid", "127.0.0.1:0"], tmp_path) as process:
        addr = re.search(r"healthy at (\S+),", process.stdout.readline())[1]
        assert await wait_for_health(addr, 60)
        assert await wait_for_ready(addr, 60)


# pages


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_a_program_in_a_page_runs(block, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(block.text)
    code, output = run_python(["-W", "error", str(program)], tmp_path)
    assert code == 0, output
    following = block.page.read_text().partition(block.text)[2].removeprefix("```").lstrip("\n")
    shown = FENCE.match(following)
    check(shown["text"] if shown and shown["kind"] == "text" else "", output)


def test_what_is_typed_in_a_page_answers_as_shown(tmp_path):
    """All blocks of a page run in one directory, one after the other, beside copies of the examples."""
    for page, sessions in groupby(blocks("console"), lambda block: block.page):
        where = tmp_path / str(page.relative_to(ROOT))
        shutil.copytree(EXAMPLES, where)
        for block in sessions:
            for typed in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                command, _, want = typed.partition("\n")
                check(want, run_typed(command, where))


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_a_pipeline_file_in_a_page_loads(block, tmp_path):
    path = tmp_path / "trio-process.toml"
    path.write_text(block.text)
    assert load_pipeline(path)


def test_a_page_holds_no_code_that_is_not_run():
    run_here = {"python", "console", "toml", "text"}
    for block in blocks():
        directive = DIRECTIVE.match(f"```{block.kind}")
        if block.page.name == "README.md" and block.kind == "sh":
            continue  # the test of the README's commands
        if block.page.name == "CONTRIBUTING.md" and block.kind == "sh":
            continue
        assert directive or block.kind in run_here, f"{block}: a block of kind {block.kind!r} is not run by any test"
        if directive and directive["name"] == "literalinclude":
            shown = (block.page.parent / directive["argument"]).resolve()
            assert shown.is_file(), block
            assert EXAMPLES in shown.parents, block


def test_every_example_is_shown_in_a_page():
    pages = "\n".join(page.read_text() for page in PAGES)
    for path in EXAMPLES.iterdir():
        if path.is_file():
            assert f"examples/{path.name}" in pages, f"no page shows {path.name}"


def test_the_commands_of_the_readme_are_sessions_and_run_in_ci():
    readme = [
        line.strip() for block in blocks("sh") if block.page.name == "README.md" for line in block.text.splitlines()
    ]
    noxfile = ast.parse((ROOT / "noxfile.py").read_text())
    sessions = {node.name for node in noxfile.body if isinstance(node, ast.FunctionDef) and node.decorator_list}
    asked = [line.split()[2] for line in readme if line.startswith("nox -s ")]
    assert asked == ["tests", "demo"]
    assert set(asked) <= sessions
    ci = (ROOT / ".ci" / "run").read_text()
    assert '"$nox" -s tests' in ci
    assert "pip install --quiet nox" in ci
    assert any("pip install nox" in line for line in readme)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_only_tests_and_pages_that_are_there(page):
    text = page.read_text()
    for found in MENTIONED_TEST.finditer(text):
        path = next(
            (
                root / "tests" / found["path"]
                for root in (ROOT, EXAMPLES / "app")
                if (root / "tests" / found["path"]).is_file()
            ),
            ROOT / "tests" / found["path"],
        )
        assert path.is_file(), f"{page.name} names {found[0]}, which is not there"
        if found["name"]:
            assert re.search(rf"^ *(async )?def {found['name']}\(", path.read_text(), re.MULTILINE), (
                f"{page.name} names {found[0]}, which is not there"
            )
    if page.parent == ROOT:
        for found in LINK.finditer(text.replace(HOME, "")):
            target = ROOT / (found["target"] or page.name)
            assert target.exists(), f"{page.name} links to {found['target']}, which is not there"
            assert not found["heading"] or found["heading"] in anchors(target), (
                f"{target.name} has no {found['heading']}"
            )


def test_the_reference_lists_no_members_by_hand():
    """`docs/members.py` shows what is public, and `docs/check_reference.py` compares it with the built pages."""
    for page in (DOCS / "reference").glob("*.md"):
        assert not re.search(r":(?:exclude-members|members|special-members|inherited-members):", page.read_text()), (
            page.name
        )


@pytest.mark.parametrize(
    "module", ["trio_process", "trio_process.cluster", "trio_process.exec", "trio_process.testing"]
)
def test_the_reference_describes_every_public_name(module):
    reference = "\n".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    described = set(re.findall(r"(?:auto(?:class|function|exception|data|protocol)?|py:data):: (\S+)", reference))
    imported = sys.modules[module] if module in sys.modules else __import__(module, fromlist=["__all__"])
    missing = {name for name in imported.__all__ if f"{module}.{name}" not in described}
    assert not missing


def test_the_version_of_the_package_is_the_one_of_the_project():
    assert f'version = "{trio_process.__version__}"' in (ROOT / "pyproject.toml").read_text()
