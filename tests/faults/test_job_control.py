"""The terminal as a shell's user knows it: foreground, background, stopped and continued, hung up."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import termios
import time

import pytest
from forked import Forked
from typist import PATIENCE, PROGRAM, Typist, at_a_terminal

EXEC = f"{' '.join(PROGRAM)} exec --"


def in_a_shell():
    return at_a_terminal("bash", "--norc", "-i")


def ready(typist: Typist) -> int:
    typist.wait_for("ready> ")
    return typist.wait_for_group(lambda group: group > 0)


def takes_lines(typist: Typist) -> bool:
    """Return whether the terminal passes on whole lines, as a command expects it, and not each key, as a shell's prompt does."""
    return bool(termios.tcgetattr(typist.master)[3] & termios.ICANON)


# who has the terminal


@pytest.mark.parametrize("command", ["sleep 2; echo do''ne", "cat; echo do''ne", "read x </dev/tty; echo do''ne"])
def test_a_command_that_is_put_into_the_background_leaves_the_terminal_to_the_shell(command: str) -> None:
    with in_a_shell() as typist:
        shell = ready(typist)
        typist.type(f"{EXEC} sh -c 'echo u''p; kill -TSTP 0; {command}'\n")
        typist.wait_for(r"up\r\n")
        typist.wait_for("Stopped")
        typist.wait_for("ready> ")
        typist.wait_for_group(lambda group: group == shell)
        typist.type("bg\n")
        if command.startswith("sleep"):
            typist.wait_for("done")
        else:  # it wants the terminal, and so the job is stopped once more
            typist.wait_for("ready> ")
            time.sleep(0.5)
            typist.type("jobs\n")
            typist.wait_for("Stopped")
        assert os.tcgetpgrp(typist.master) == shell
        typist.type("echo still $((40 + 2))\n")
        typist.wait_for("still 42")
        if not command.startswith("sleep"):
            typist.type("fg\n")
            typist.wait_for_group(lambda group: group != shell)
            deadline = time.monotonic() + PATIENCE
            while not takes_lines(typist):  # before that, a Ctrl-D is a character
                assert time.monotonic() < deadline
                time.sleep(0.02)
            typist.type("\n\x04" if command.startswith("cat") else "\n")
            typist.wait_for("done")
        typist.wait_for_group(lambda group: group == shell)
        typist.type("stty echo; exit 0\n")
        assert typist.end() == 0


@pytest.mark.parametrize("reads", ["read x", "read x </dev/tty", "stty sane; read x"])
def test_a_command_that_was_begun_in_the_background_gets_the_terminal_with_fg(reads: str) -> None:
    with in_a_shell() as typist:
        shell = ready(typist)
        typist.type(f"{EXEC} sh -c '{reads}; echo g''ot-$x' &\n")
        typist.wait_for("ready> ")
        deadline = time.monotonic() + PATIENCE
        while "Stopped" not in typist.seen:  # by SIGTTIN or SIGTTOU, as a shell expects it
            assert time.monotonic() < deadline, typist.seen
            typist.type("jobs\n")
            typist.wait_for("jobs\r\n")
            typist.wait_for("ready> ")
            time.sleep(0.1)
            typist.type("jobs\n")
            select.select([typist.master], [], [], 0.3)
            typist.seen += os.read(typist.master, 65536).decode()
        typist.type("fg\n")
        typist.wait_for_group(lambda group: group != shell)
        typist.type("word\n")
        typist.wait_for("got-word")
        typist.wait_for_group(lambda group: group == shell)


@pytest.mark.parametrize(
    ("command", "echoes"),
    [("stty -echo", False), ("stty -echo; exit 3", False), ("stty -echo; kill -9 $$", True), ("true", True)],
)
def test_settings_stay_as_the_command_left_them_unless_it_was_killed(command: str, echoes: bool) -> None:
    with in_a_shell() as typist:
        ready(typist)
        typist.type(f"{EXEC} sh -c '{command}'; stty -a | tr ' ' '\\n' | grep -x -e 'echo;*' -e '-echo;*'; stty sane\n")
        assert typist.wait_for(r"\r\n(-?)echo;?\r\n")[1] == ("" if echoes else "-")


@pytest.mark.parametrize(
    "line",
    [
        f"echo data | {EXEC} sh -c 'cat; read x </dev/tty; echo g''ot-$x'",
        f"{EXEC} sh -c 'read x </dev/tty; echo g''ot-$x' </dev/null",
        f"{EXEC} sh -c 'read x </dev/tty; echo g''ot-$x' 2>&1 | cat",
        f'echo \'x() {{ {EXEC} "$@"; }}; x sh -c "read x </dev/tty; echo got-\\$x"\' | sh',
    ],
)
def test_a_command_reads_the_terminal_whatever_its_stdin_is(line: str) -> None:
    with in_a_shell() as typist:
        shell = ready(typist)
        typist.type(line + "\n")
        typist.wait_for_group(lambda group: group != shell)
        typist.type("secret\n")
        typist.wait_for("got-secret")
        typist.wait_for("ready> ")
        typist.wait_for_group(lambda group: group == shell)


def test_a_pager_behind_us_has_the_terminal_when_it_asks_for_it() -> None:
    with in_a_shell() as typist:
        shell = ready(typist)
        typist.type(f"{EXEC} sh -c 'echo data; sleep 2' | sh -c 'read line; read key </dev/tty; echo $line-$key'\n")
        typist.wait_for_group(lambda group: group != shell)
        typist.type("space\n")
        typist.wait_for("data-space")
        typist.wait_for("ready> ")


def test_ctrl_z_stops_a_script_that_runs_us_too(tmp_path) -> None:
    (tmp_path / "script").write_text(f"{EXEC} sh -c 'echo u''p; exec cat'\necho script goes on\n")
    with in_a_shell() as typist:
        shell = ready(typist)
        typist.type(f"sh {shlex.quote(str(tmp_path / 'script'))}\n")
        typist.wait_for(r"up\r\n")
        typist.type("\x1a")
        typist.wait_for("Stopped")
        typist.wait_for("ready> ")
        typist.wait_for_group(lambda group: group == shell)
        typist.type("fg\n")
        typist.wait_for_group(lambda group: group != shell)
        typist.type("one\n")
        typist.wait_for("one\r\none\r\n")
        typist.type("\x04")
        typist.wait_for("script goes on")


def test_a_timeout_does_not_run_while_we_are_suspended() -> None:
    with in_a_shell() as typist:
        ready(typist)
        typist.type(f"{' '.join(PROGRAM)} exec --timeout 5 -- sh -c 'echo u''p; read x; echo g''ot-$x'\n")
        typist.wait_for(r"up\r\n")
        typist.type("\x1a")
        typist.wait_for("Stopped")
        time.sleep(5.5)
        typist.type("fg\n")
        typist.wait_for("fg\r\n")
        time.sleep(0.5)
        typist.type("word\n")
        typist.wait_for("got-word")


# what the caller wants ignored


def test_signals_that_the_caller_ignores_stay_ignored() -> None:
    names = ["HUP", "INT", "TERM", "QUIT", "USR1", "USR2"]
    command = "grep SigIgn /proc/self/status; echo up; read x; echo finished"
    with subprocess.Popen(
        ["sh", "-c", f"trap '' {' '.join(names)}; exec {EXEC} sh -c '{command}'"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdin
        assert process.stdout
        ignored = int(process.stdout.readline().split()[1], 16)
        numbers = [signal.Signals[f"SIG{name}"] for name in names]
        assert [number for number in numbers if not ignored & 1 << (number - 1)] == []
        assert process.stdout.readline() == "up\n"
        for number in numbers:
            process.send_signal(number)
        time.sleep(0.3)
        process.stdin.write("go on\n")
        process.stdin.close()
        assert process.stdout.read() == "finished\n"
    assert process.returncode == 0


# what is shown at once


@pytest.mark.parametrize(
    ("script", "pieces"),
    [
        ("for i in 1 2 3; do printf '\\r%s0%%' $i; read x; done", [b"\r10%", b"\r20%", b"\r30%"]),
        ("printf 'Continue? '; read x; echo yes", [b"Continue? ", b"yes\n"]),
        ("printf 'a\\nb'; read x; printf c", [b"a\nb", b"c"]),
    ],
)
def test_a_line_without_its_end_is_passed_on_at_once(script: str, pieces: list[bytes]) -> None:
    with Forked(
        ["exec", "--", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdin
        assert process.stdout
        for piece in pieces:
            seen = b""
            while seen != piece:
                assert select.select([process.stdout], [], [], PATIENCE)[0], seen
                seen += process.stdout.read(100)
            with contextlib.suppress(BrokenPipeError):  # after the last piece it ends, with or without this line
                process.stdin.write(b"\n")
        # closed any sooner, it would have been left by its reader, and end by SIGPIPE
        assert process.stdout.read() == b""
    assert process.returncode == 0


# a reader that leaves


def a_socket():
    ours, theirs = socket.socketpair()
    ours.close()
    return theirs.detach()


def a_connection():
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        server.accept()[0].close()
        return client.detach()


def a_terminal():
    master, slave = pty.openpty()
    os.close(master)
    return slave


def a_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize("left", [a_socket, a_connection, a_terminal, a_pipe])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_leaves_stops_the_command_whatever_it_read_from(left, stream: str) -> None:
    descriptor = left()
    script = f"while :; do echo x {'' if stream == 'stdout' else '>&2'}; sleep .05; done"
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: descriptor}
    process = Forked(["exec", "--", "sh", "-c", script], **streams)
    os.close(descriptor)
    with process:
        said, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 141, (said, errors)


def test_a_reader_that_only_writes_no_more_has_not_left() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.shutdown(socket.SHUT_WR)
        with Forked(["exec", "--", "sh", "-c", "sleep .3; echo up"], stdout=theirs) as process:
            assert process.wait(PATIENCE) == 0
        assert ours.recv(100) == b"up\n"


# the environment


@pytest.mark.parametrize("more", [{}, {"LC_CTYPE": "C"}, {"LANG": "C", "A": "b"}, {"LC_ALL": "POSIX"}])
def test_the_commands_environment_is_ours_as_we_got_it(more: dict[str, str]) -> None:
    given = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), **more}
    done = subprocess.run(
        [*PROGRAM, "exec", "--", "env"], env=given, capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert re.search("TRIO_PROCESS", " ".join(seen))
    assert {name: value for name, value in seen.items() if not name.startswith("TRIO_PROCESS")} == given
