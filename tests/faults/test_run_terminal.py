"""`trio-process run` on terminals: stuck, narrow, typed into, suspended, wanted by a task; and signals as they came."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import forked
import pytest
import trio
from forked import Forked
from support import is_gone, state_of, wait_until
from typist import PATIENCE, PROGRAM, Typist, at_a_terminal

RUN = [*PROGRAM, "run"]
LIVE = ["env", "-u", "CI", "-u", "NO_COLOR", "-u", "COLUMNS", "-u", "LINES", "TERM=xterm"]
SHOW, WRAP = "\x1b[?25h", "\x1b[?7h"


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def pipeline(text: str) -> None:
    Path("trio-process.toml").write_text(text)


def task(shell: str, more: str = "", name: str = "t") -> str:
    return f"[tasks.{name}]\nshell = '''{shell}'''\n{more}\n"


def live_environment() -> dict[str, str]:
    """Return what `LIVE` makes of our environment."""
    without = {"CI", "NO_COLOR", "COLUMNS", "LINES"}
    return {name: value for name, value in os.environ.items() if name not in without} | {"TERM": "xterm"}


def live(*args: str):
    return at_a_terminal(*RUN, *args, environment=live_environment())


def wait_for_file(name: str) -> str:
    deadline = time.monotonic() + PATIENCE
    while not (Path(name).exists() and Path(name).read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return Path(name).read_text()


def echoes(typist: Typist) -> bool:
    return bool(termios.tcgetattr(typist.master)[3] & termios.ECHO)


def results(name: str = "r.json") -> dict[str, dict]:
    return {one["name"]: one for one in json.loads(Path(name).read_text())["results"]}


# tasks that want the terminal


@pytest.mark.parametrize(
    ("shell", "output"),
    [
        ("printf 'Password: ' >/dev/tty; read x </dev/tty; echo got $x", "live"),
        ("printf 'Password: ' >/dev/tty; read x </dev/tty; echo got $x", "prefix"),
        ("stty -echo </dev/tty", "live"),
        (f"{sys.executable} -c 'import getpass; getpass.getpass()'", "live"),
        ("trap 'exit 0' TERM; read x </dev/tty", "prefix"),
        ("trap '' TERM; while :; do read x </dev/tty; done", "live"),
    ],
)
def test_a_task_that_asks_on_the_terminal_fails_at_once_and_says_why(shell: str, output: str) -> None:
    pipeline(task(shell))
    with live("--output", output) as typist:
        assert typist.end() == 1
        seen = re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", typist.seen))
        assert "FAILED t: it wants the terminal after" in seen
        assert (
            "`trio-process exec`, or by a task with `interactive = true`, or give it what it asks for by stdin" in seen
        )
        if output == "live":
            assert "Password: " not in seen.split("FAILED")[0]  # nothing tears the view


SERVICE = """
import sys, trio, trio_process
async def main():
    async with trio_process.Service() as service:
        with trio.fail_after(20):
            try:
                await service.run(*sys.argv[2:], stdin=trio_process.Stdio(sys.argv[1]))
            except trio_process.CommandFailedError as error:
                print(error.result.ok, error.result.reason, error)
trio.run(main)
"""


@pytest.mark.parametrize(
    "words",
    [
        ("null", "sh", "-c", "stty -echo </dev/tty"),
        ("null", "sh", "-c", "read x </dev/tty"),
        ("inherit", "cat"),
        ("inherit", "sh", "-c", "trap 'exit 0' TERM; stty -echo"),
    ],
)
def test_a_child_that_wants_the_terminal_fails_at_once_in_the_api(words: tuple[str, ...]) -> None:
    with at_a_terminal(sys.executable, "-c", SERVICE, *words) as typist:
        typist.wait_for("False")
        typist.wait_for("it wants the terminal: run it by `trio-process exec`")
        assert typist.end() == 0


ASK = "printf 'Password: ' >/dev/tty; read x </dev/tty; echo got $x"


@pytest.mark.parametrize("output", ["live", "prefix", "group", "raw"])
def test_an_interactive_task_has_the_terminal_to_itself(output: str) -> None:
    other = task("for i in 1 2 3 4; do echo $i >>beside; echo noise $i; sleep .1; done", name="other")
    ask = task(f"[ ! -e alone ] && touch alone; {ASK}; rm alone", "interactive = true", name="ask")
    pipeline(other + ask + ask.replace("tasks.ask", "tasks.more") + task("echo fin", 'after = ["more"]', "last"))
    with live("--output", output) as typist:
        for _ in range(2):
            typist.wait_for("(?<!')Password: ")
            assert echoes(typist)
            before = Path("beside").read_text() if Path("beside").exists() else ""
            time.sleep(0.4)
            assert (Path("beside").read_text() if Path("beside").exists() else "") == before
            assert not select.select([typist.master], [], [], 0)[0]  # the view rests
            typist.type("secret\n")
            typist.wait_for("got secret")
        assert typist.end() == 0
        assert "4 passed" in typist.seen


@pytest.mark.parametrize(("key", "status", "says"), [("\x03", 130, "Ctrl-C"), ("\x04", 1, "FAILED ask")])
def test_keys_go_to_the_interactive_task_and_ctrl_c_is_meant_for_us_too(key: str, status: int, says: str) -> None:
    pipeline(task("printf 'Name: '; read x", "interactive = true", "ask") + task("sleep 60", 'after = ["ask"]', "last"))
    with live() as typist:
        typist.wait_for("Name: ")
        typist.type(key)
        assert typist.end() == status
        assert says in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", typist.seen)


def test_ctrl_z_in_an_interactive_task_suspends_the_run() -> None:
    pipeline(task("printf 'Name: '; read x; echo got $x", "interactive = true"))
    with at_a_terminal(*LIVE, "bash", "--norc", "-i") as typist:
        typist.wait_for("ready> ")
        typist.type(f"{' '.join(RUN)}\n")
        typist.wait_for("Name: ")
        typist.type("\x1a")
        typist.wait_for("Stopped")
        typist.wait_for("ready> ")
        typist.type("fg\n")
        typist.wait_for("fg\r\n")
        typist.type("word\n")
        typist.wait_for("got word")
        typist.wait_for("1 passed")


def test_an_interactive_task_without_a_terminal_fails_at_once_and_says_why() -> None:
    pipeline(task(ASK, "interactive = true") + task("echo other", name="other"))
    done = forked.run(["run"], stdin=subprocess.DEVNULL, start_new_session=True, timeout=60)
    assert done.returncode == 1
    assert "it wants the terminal (interactive = true), and there is none" in done.stdout
    assert "other | other" in done.stdout


# a terminal that nobody reads, or that is gone


def stuck(*args: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start on a terminal whose buffer is full, and that nobody reads."""
    master, slave = pty.openpty()
    os.set_blocking(slave, False)
    try:
        while True:
            os.write(slave, b"x" * 1000)
    except BlockingIOError:
        os.set_blocking(slave, True)
    process = Forked(["run", *args], env=live_environment(), stdin=slave, stdout=slave, stderr=subprocess.PIPE)
    os.close(slave)
    return process, master


@pytest.mark.parametrize(
    ("output", "exit_code", "status"), [("live", 0, 0), ("live", 3, 1), ("prefix", 3, 1), ("group", 0, 0)]
)
def test_a_terminal_that_takes_nothing_is_given_up(output: str, exit_code: int, status: int) -> None:
    pipeline(task(f"yes | head -n 30000; exit {exit_code}"))
    process, master = stuck("--output", output, "--report", "json=r.json")
    try:
        assert process.wait(PATIENCE) == status
        assert results()["t"]["exitCode"] == exit_code
        assert Path(".trio-process").is_dir()
    finally:
        process.kill()
        process.communicate()
        os.close(master)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_stops_the_tasks_of_a_stuck_terminal(number: int) -> None:
    pipeline(task("echo $$ >pid; sleep 60"))
    process, master = stuck("--report", "json=r.json")
    try:
        pid = int(wait_for_file("pid"))
        process.send_signal(number)
        assert process.wait(PATIENCE) == 128 + number
        assert is_gone(pid)
        assert results()["t"]["commandResult"]["reason"] == "cancelled"
    finally:
        process.kill()
        process.communicate()
        os.close(master)


def test_the_third_signal_ends_a_stuck_run_at_once() -> None:
    pipeline(task("trap '' INT TERM HUP; echo $$ >pid; while :; do sleep 1; done", "grace-period = '60s'"))
    process, master = stuck()
    try:
        pid = int(wait_for_file("pid"))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process.send_signal(number)
            time.sleep(0.05)
        assert process.wait(PATIENCE) in {129, 130, 143, -signal.SIGHUP}  # the last as the run has ended before it
        deadline = time.monotonic() + PATIENCE
        while not is_gone(pid):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
        process.communicate()
        os.close(master)


@pytest.mark.parametrize(("to", "status"), [("| head -1", 141), (">/dev/full", 1), ("| true", 141)])
def test_reports_and_memory_are_written_whatever_became_of_stdout(to: str, status: int) -> None:
    pipeline(task("echo up; exit 3") + task("while :; do echo more; sleep .05; done", name="u"))
    words = f"{' '.join(RUN)} --report junit=r/j.xml,json=r/x.json {to}"
    done = subprocess.run(
        ["bash", "-c", f"{words}; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == status, done
    assert "Traceback" not in done.stderr
    assert Path("r/j.xml").exists()
    assert results("r/x.json")["u"]["commandResult"]["reason"] == "cancelled"
    again = forked.run(["run", "--only-failed", "--dry-run"], timeout=60)
    assert re.findall(r"^  (\w)  ", again.stdout, re.MULTILINE)[-1] == "u"


def test_reports_are_written_when_the_terminal_is_closed() -> None:
    pipeline(task("echo $$ >pid; sleep 60"))
    with live("--report", "json=r.json") as typist:
        wait_for_file("pid")
        os.close(typist.master)
        typist.master = os.open(os.devnull, os.O_RDONLY)
        deadline = time.monotonic() + PATIENCE
        while not (found := os.waitpid(typist.pid, os.WNOHANG))[0]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        typist.pid = 0
        assert os.waitstatus_to_exitcode(found[1]) in {129, 1}
    assert results()["t"]["commandResult"]["reason"] == "cancelled"


# signals


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP"])
def test_the_signal_that_came_is_what_the_tasks_get(name: str) -> None:
    traps = "; ".join(f'trap "echo got {each} >>got; exit 0" {each}' for each in ("INT", "TERM", "HUP"))
    shell = f"{traps}; echo up; while :; do sleep .02; done"
    script = "import time\nopen('ready', 'w').write('x')\ntry: time.sleep(60)\nfinally: open('cleaned', 'w').write('x')"
    Path("script.py").write_text(script)
    pipeline(task(shell) + f'[tasks.python]\nrun = ["{sys.executable}", "script.py"]\n')
    with Forked(["run"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        while "| up" not in process.stdout.readline():
            pass
        wait_for_file("ready")
        process.send_signal(signal.Signals[f"SIG{name}"])
        process.stdout.read()
    assert process.returncode == 128 + signal.Signals[f"SIG{name}"]
    assert Path("got").read_text() == f"got {name}\n"
    assert Path("cleaned").exists() is (name == "INT")


@pytest.mark.parametrize(
    ("place", "way"), [("task", "signal"), ("task", "timeout"), ("task", "kill"), ("defaults", "signal")]
)
def test_a_stop_signal_of_its_own_goes_before_the_signal_that_came(place: str, way: str) -> None:
    traps = "; ".join(f'trap "echo got {each} >>got; exit 0" {each}' for each in ("INT", "TERM", "HUP", "USR1"))
    own = 'stop-signal = "USR1"'
    more = ("timeout = '1s'\n" if way == "timeout" else "") + (own if place == "task" else "")
    bad = task("until [ -e up ]; do sleep .02; done; exit 1", name="bad") if way == "kill" else ""
    head = f"[defaults]\n{own}\n" if place == "defaults" else ""
    pipeline(head + task(f"{traps}; echo x >up; while :; do sleep .02; done", more) + bad)
    with Forked(["run", "--on-failure", "kill"], stdout=subprocess.PIPE) as process:
        wait_for_file("up")
        if way == "signal":
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    assert Path("got").read_text() == "got USR1\n"


def test_ctrl_c_on_a_terminal_reaches_a_python_program_as_a_keyboard_interrupt() -> None:
    script = "import time\nopen('ready', 'w').write('x')\ntry: time.sleep(60)\nfinally: open('cleaned', 'w').write('x')"
    Path("script.py").write_text(script)
    pipeline(f'[tasks.python]\nrun = ["{sys.executable}", "script.py"]\n')
    with live() as typist:
        wait_for_file("ready")
        typist.type("\x03")
        assert typist.end() == 130
    assert Path("cleaned").exists()


@pytest.mark.parametrize("key", ["\x1c", "\x03", "\x03\x03"])
def test_every_end_shows_the_cursor_and_turns_echo_and_wrapping_on(key: str) -> None:
    pipeline(task("echo $$ >pid; echo it is up; exec sleep 60"))
    with live() as typist:
        typist.wait_for("it is up")
        pid = int(wait_for_file("pid"))
        assert not echoes(typist)
        typist.type(key)
        assert typist.end() == (131 if key == "\x1c" else 130)
        assert echoes(typist)
        assert "\x1b[?25l" not in typist.seen[typist.seen.rfind(SHOW) :]
        assert typist.seen.rfind("\x1b[?7l") < typist.seen.rfind(WRAP)
    deadline = time.monotonic() + PATIENCE
    while not is_gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ctrl_z_stops_the_tasks_and_us_and_the_time_stands_still() -> None:
    pipeline(
        task("echo $$ >pid; for i in 1 2 3 4 5; do echo $i >>count; echo step $i; sleep .5; done", "timeout = '5s'")
    )
    with at_a_terminal(*LIVE, "bash", "--norc", "-i") as typist:
        typist.wait_for("ready> ")
        typist.type(f"{' '.join(RUN)}\n")
        typist.wait_for("step 2")
        pid = int(wait_for_file("pid"))
        typist.type("\x1a")
        typist.wait_for(re.escape(SHOW))
        typist.wait_for("Stopped")
        typist.wait_for("ready> ")
        trio.run(wait_until, lambda: state_of(pid) == "T")  # a signal sent is not yet one delivered
        before = Path("count").read_text()
        time.sleep(4)
        assert Path("count").read_text() == before
        typist.type("stty -a | tr ' ' '\\n' | grep -x echo; fg\n")
        typist.wait_for(r"\recho\r\n")
        typist.wait_for("step 5")
        typist.wait_for("1 passed")
        typist.wait_for("ready> ")


# what the view leaves on the screen


class Tmux:
    """A terminal whose screen and history can be looked at."""

    def __init__(self, socket: Path, columns: int, rows: int) -> None:
        self._command = ["tmux", "-f", os.devnull, "-S", str(socket)]
        self(
            "new-session", "-d", "-x", str(columns), "-y", str(rows), *LIVE[:-1], "PS1=ready> ", "bash", "--norc", "-i"
        )

    def __call__(self, *words: str) -> str:
        return subprocess.run(
            [*self._command, *words], capture_output=True, text=True, timeout=PATIENCE, check=True
        ).stdout

    def screen(self) -> str:
        return self("capture-pane", "-p", "-S", "-", "-J")

    def wait_for(self, text: str, count: int = 1) -> str:
        deadline = time.monotonic() + PATIENCE
        while (screen := self.screen()).count(text) < count:
            assert time.monotonic() < deadline, screen
            time.sleep(0.05)
        return screen


@pytest.fixture
def tmux(tmp_path: Path):
    if shutil.which("tmux") is None:
        pytest.skip("there is no tmux")
    terminals = []

    def start(columns: int = 80, rows: int = 24) -> Tmux:
        terminal = Tmux(tmp_path / f"tmux{len(terminals)}", columns, rows)
        terminals.append(terminal)
        terminal.wait_for("ready> ")
        return terminal

    yield start
    for terminal in terminals:
        terminal("kill-server")


def run_in(terminal: Tmux) -> None:
    terminal("send-keys", f"clear; {' '.join(RUN)}", "Enter")


TEXTS = [
    "a\u200db" * 60,
    "\U0001f44d\U0001f3fd" * 60,
    "x" * 300,
    "日本語" * 60,
    "e\u0301\u200b" * 80,
    "\u2764\ufe0f" * 70,
]


def test_no_character_makes_the_view_leave_lines_behind(tmux) -> None:
    for number, text in enumerate(TEXTS):
        Path(f"line{number}").write_text(text + "\n")
    again = "for i in 1 2 3 4 5 6 7 8; do cat line{}; sleep .2; done; echo done"
    pipeline("".join(task(again.format(number), name=f"t{number}") for number in range(len(TEXTS))))
    terminal = tmux()
    run_in(terminal)
    screen = terminal.wait_for("6 passed")
    live_part = screen.split("slowest")[0]
    for number in range(len(TEXTS)):
        assert len(re.findall(f"^. t{number} ", live_part, re.MULTILINE)) == 1, screen
    assert live_part.count("/6") == 1, screen
    assert "6/6" in live_part


@pytest.mark.parametrize(
    "text",
    ["x" * 70, "\U0001f44d\U0001f3fd" * 20, "\u2764\ufe0f" * 45, "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 15],
    ids=["letters", "skin tones", "variations", "families"],
)
def test_a_window_that_is_made_narrower_and_wider_leaves_no_lines_behind(tmux, text: str) -> None:
    Path("line").write_text(text)
    lines = "for i in $(seq 20); do cat line; echo $i; sleep .1; done"
    pipeline("".join(task(lines, name=f"t{number}") for number in range(4)))
    for _ in range(5):  # what was written for the old width, and is drawn after the change, stays; not five times
        terminal = tmux(columns=100)
        # lines above the view: they, and not the view, go into the history, out of reach, when the window folds rows
        terminal("send-keys", f"clear; seq 12; {' '.join(RUN)}", "Enter")
        terminal.wait_for(text[0])
        for columns in (70, 61, 90, 65):
            time.sleep(0.35)
            terminal("resize-window", "-x", str(columns))
        terminal.wait_for("4 passed")
        screen = terminal("capture-pane", "-p", "-S", "-")
        live_part = screen.split("slowest")[0]
        if (len(re.findall("t[0-9]  ", live_part)), live_part.count("/4")) == (4, 1):
            return
    pytest.fail(screen)


def test_lines_of_services_scroll_past_a_table_at_the_top_of_the_screen(tmux) -> None:
    Path("trio-process.toml").write_text(
        '[services.a]\nshell = "for i in 1 2 3; do echo line $i; sleep .3; done; exec sleep 60"\n'
    )
    terminal = tmux()
    terminal("send-keys", f"clear; {' '.join(PROGRAM)} up", "Enter")
    terminal.wait_for("line 3")
    terminal("send-keys", "C-c")
    screen = terminal.wait_for("ready> ")  # the last table stays
    assert screen.count("SERVICE") == 1, screen


def test_typing_into_the_view_leaves_nothing_and_goes_to_the_shell_afterwards(tmux) -> None:
    pipeline(task("sleep 2; echo done"))
    terminal = tmux()
    run_in(terminal)
    terminal.wait_for("0/1")
    terminal("send-keys", "echo typed-$((40 + 2))", "Enter")
    screen = terminal.wait_for("1 passed")
    live_part = screen.split("1 passed")[0]
    assert "typed" not in live_part, screen
    assert len(re.findall("^. t ", live_part, re.MULTILINE)) == 1, screen
    terminal.wait_for("typed-42")


# what waits


def test_a_task_that_waits_for_a_slot_says_so() -> None:
    pipeline(task("sleep 1") + task("true", name="u"))
    with live("-j", "1") as typist:
        typist.wait_for("waits for a free slot")
        assert typist.end() == 0


def test_the_view_rests_in_the_background_and_leaves_the_shell_its_terminal() -> None:
    pipeline(task("for i in 1 2 3; do echo step $i; sleep .5; done"))
    with at_a_terminal(*LIVE, "bash", "--norc", "-i") as typist:
        typist.wait_for("ready> ")
        typist.type(f"{' '.join(RUN)}\n")
        typist.wait_for("step 1")
        typist.type("\x1a")
        typist.wait_for("Stopped")
        typist.wait_for("ready> ")
        typist.type("bg\n")
        typist.wait_for("&\r\n")
        time.sleep(0.5)
        seen = os.read(typist.master, 65536).decode() if select.select([typist.master], [], [], 0)[0] else ""
        assert "\x1b[?25l" not in seen
        assert "step" not in seen
        typist.type("wait; exit 0\n")
        assert typist.end() == 0
