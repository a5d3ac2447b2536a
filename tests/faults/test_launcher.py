"""Starts that need a launcher, odd standard streams, and what a fork of this program holds."""

import os
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import trio
from forked import program_of_trio
from harness import needs_cgroups, program, read_line, running
from support import is_gone, wait_gone

from trio_process import (
    ProcessStartError,
    ProgramNotFoundError,
    Service,
    ServiceOptions,
)
from trio_process.exec import Command

ROOT = Path(__file__).parents[2]
SIGNALS = "grep -E '^Sig(Ign|Blk)' /proc/self/status"
LAUNCHED = [{"nice": 1}, {"limits": {"nofile": 64}}, {"user": os.geteuid()}, {"umask": 0o77, "nice": 0}]


@pytest.mark.parametrize("options", LAUNCHED)
async def test_signals_are_the_same_for_every_way_to_start(options):
    async with Service() as service:
        plain = (await service.run("sh", "-c", SIGNALS)).output
        assert (await service.run("sh", "-c", SIGNALS, **options)).output == plain
        ignored = int(plain.splitlines()[1].split()[1], 16)  # what this program was started with may be in it, too
        assert not ignored >> (signal.SIGPIPE - 1) & 1
        assert not ignored >> (signal.SIGXFSZ - 1) & 1


@needs_cgroups
async def test_signals_are_the_same_in_a_cgroup():
    async with Service() as service, Service(options=ServiceOptions(containment="cgroup")) as grouped:
        plain = (await service.run("sh", "-c", SIGNALS)).output
        assert (await grouped.run("sh", "-c", SIGNALS)).output == plain


async def test_signals_are_the_same_for_the_fallback_and_a_detached_process(monkeypatch, tmp_path):
    async with Service() as service:
        plain = (await service.run("sh", "-c", SIGNALS)).output
        detached = await service.start("sh", "-c", SIGNALS, detach=True, log_file=tmp_path / "log")
        await detached.wait()
        assert (tmp_path / "log").read_text() == plain
        monkeypatch.setattr("trio_process._process.local.fork_exec._fork_exec", None)
        assert (await service.run("sh", "-c", SIGNALS)).output == plain


@pytest.mark.parametrize("options", LAUNCHED)
async def test_a_pipeline_under_a_launcher_ends_with_its_reader(options):
    with trio.fail_after(30):
        async with Service() as service:
            done = await service.run(
                "bash", "-c", "while :; do echo x; done 2>/dev/null | head -n 1", timeout=20, **options
            )
            assert done.output == "x\n"
        both = Command("yes").with_options(**options) | Command("head", "-n", "2")
        assert await both.with_timeout(20).output() == "y\ny\n"


async def test_a_file_size_limit_ends_a_program_by_its_signal(tmp_path):
    async with Service() as service:
        result = await service.run(
            "sh",
            "-c",
            "exec dd if=/dev/zero of=big bs=4096 count=10",
            cwd=tmp_path,
            limits={"fsize": 8192},
            check=False,
        )
    assert result.signal_name == "SIGXFSZ"


@pytest.mark.parametrize("option", [{"nice": 1}, {"limits": {"nofile": 64}}, {"user": os.geteuid()}])
@pytest.mark.parametrize("python", ["/bin/true", "/bin/false", "/bin/cat", "/nonexistent/python", ""])
async def test_a_launcher_that_never_ran_the_command_is_never_a_result(monkeypatch, python, option):
    monkeypatch.setattr(sys, "executable", python)
    monkeypatch.setenv("PATH", "/nonexistent" if not python else os.environ["PATH"])
    with trio.fail_after(30):
        async with Service() as service:
            with pytest.raises(ProcessStartError) as info:
                await service.run("/bin/echo", "hi", **option)
    assert not isinstance(info.value, ProgramNotFoundError)
    assert "sys.executable" in str(info.value)
    assert f"{next(iter(option))}=" in str(info.value)


async def test_a_frozen_program_runs_its_launcher_by_a_python_of_the_path(monkeypatch, tmp_path):
    (tmp_path / "python3").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", "/bin/true")
    async with Service() as service:
        assert (await service.run("echo", "hi", nice=1)).output == "hi\n"


async def test_a_library_path_that_breaks_the_launcher_is_a_failed_start(tmp_path):
    linked = subprocess.run(["ldd", sys.executable], capture_output=True, text=True, check=False, timeout=30).stdout
    names = [line.split()[0] for line in linked.splitlines() if "libpython" in line]
    if not names:
        pytest.skip("this Python is linked statically: no LD_LIBRARY_PATH can break it")
    name = Path(names[0]).name
    (tmp_path / name).write_bytes(b"no library")
    async with Service() as service:
        with pytest.raises(ProcessStartError, match=r"sys\.executable"):
            await service.run("/bin/echo", "hi", nice=1, env={"LD_LIBRARY_PATH": str(tmp_path)})


def test_it_works_from_a_zip(tmp_path):
    archive = tmp_path / "package.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in (ROOT / "trio_process").rglob("*"):
            if path.suffix in (".py", ".json"):
                file.write(path, path.relative_to(ROOT))
    script = (
        "import sys, trio; sys.path.insert(0, sys.argv[1])\n"
        "import trio_process; assert '.zip' in trio_process.__file__\n"
        "async def main():\n"
        "    async with trio_process.Service() as service:\n"
        "        print((await service.run('sh', '-c', 'nice', nice=3)).output, end='')\n"
        "trio.run(main)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, archive], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert (done.stdout, done.stderr) == ("3\n", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
async def test_a_child_starts_with_its_stop_signal_unblocked(number):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number, signal.SIGUSR2})
    try:
        with trio.fail_after(30):
            async with Service() as service:
                process = await service.start(
                    "sh", "-c", "echo ready; exec sleep 60", stop_signal=number, grace_period=50
                )
                await process.wait_for_line("ready")
                result = await process.stop()
                assert result.exit_code == -number
                blocked = await service.run("grep", "SigBlk", "/proc/self/status", stop_signal=number)
                assert int(blocked.output.split()[1], 16) == 1 << signal.SIGUSR2 - 1  # as for every child of a program
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.mark.parametrize("size", [0, 65536, 65537, 3_000_000])
@pytest.mark.parametrize("as_text", [False, True])
async def test_data_for_stdin_need_no_directory(monkeypatch, size, as_text):
    monkeypatch.setenv("TMPDIR", "/nonexistent")
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    data = b"x" * size
    async with Service() as service:
        result = await service.run("wc", "-c", stdin=data.decode() if as_text else data)
    assert int(result.output) == size


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ({"stdin": Path("/nonexistent/in")}, "'/nonexistent/in': No such file"),
        ({"stdout": Path("/nonexistent/out")}, "'/nonexistent/out': No such file"),
        ({"stderr": Path("/")}, "'/': Is a directory"),
        ({"log_file": "/nonexistent/log"}, "/nonexistent/log"),
        ({"stdout": Path("/dev/fd/987")}, "'/dev/fd/987': Bad file descriptor"),
    ],
)
async def test_a_stream_that_can_not_be_opened_is_never_blamed_on_the_program(option, why):
    async with Service() as service:
        with pytest.raises(ProcessStartError) as info:
            await service.run("true", **option)
    assert not isinstance(info.value, ProgramNotFoundError)
    assert why in str(info.value)
    assert "PosixPath" not in str(info.value)


NAMES = """
import json, socket, subprocess
kind = sys.argv[1]
async with Service() as service:
    for number in (1, 2):
        for path in (f"/dev/{'std' + ('out' if number == 1 else 'err')}", f"/dev/fd/{number}", f"/proc/self/fd/{number}"):
            await service.run("sh", "-c", f"echo {path}", stdout=Path(path))
            await service.run("sh", "-c", f"echo log {path}", log_file=path)
    result = await service.run("cat", stdin=Path("/dev/stdin"))
    os.write(1, f"stdin {result.output}\\n".encode())
"""


@pytest.mark.parametrize("kind", ["pipe", "socket", "file", "null"])
async def test_the_names_of_our_own_descriptors_are_duplicated(kind, tmp_path):
    ours, theirs = socket.socketpair()
    with trio.fail_after(60), ours, theirs, open(tmp_path / "file", "w+b") as file:
        target = {"pipe": subprocess.PIPE, "socket": theirs, "file": file, "null": file}[kind]
        command = program("from pathlib import Path\n" + NAMES, kind)
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.PIPE, stdout=target, stderr=subprocess.STDOUT, **program_of_trio(command)
        )
        async with process.stdin as stdin:
            await stdin.send_all(b"data")
        if kind == "pipe":
            data = b"".join([chunk async for chunk in process.stdout])
            await process.stdout.aclose()
        assert await process.wait() == 0
        theirs.close()
        if kind == "socket":
            data = b""
            while chunk := ours.recv(65536):
                data += chunk
        elif kind != "pipe":
            file.seek(0)
            data = file.read()
    lines = data.decode().split("\n")
    paths = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"]
    assert lines == [line for path in paths for line in (path, f"log {path}")] + ["stdin data", ""]


GUARDED = """
import concurrent.futures, multiprocessing, time
fork = multiprocessing.get_context("fork")
async with Service(options=ServiceOptions(guardian=True)) as service:
    child = await service.start("sleep", "60")
    if sys.argv[1] == "process":
        fork.Process(target=time.sleep, args=(60,)).start()
        worker = multiprocessing.active_children()[0].pid
    elif sys.argv[1] == "pool":
        pool = concurrent.futures.ProcessPoolExecutor(1, mp_context=fork)
        pool.submit(time.sleep, 60)
        [worker] = pool._processes
    else:
        worker = os.fork()
        if not worker:
            time.sleep(60)
            os._exit(0)
    print(child.pid, worker, flush=True)
    await trio.sleep_forever()
"""


@pytest.mark.parametrize("kind", ["process", "pool", "os.fork"])
async def test_with_a_guardian_nothing_survives_although_a_forked_worker_lives(kind):
    with trio.fail_after(60):
        async with running(program(GUARDED, kind)) as owner:
            child, worker = map(int, (await read_line(owner)).split())
            try:
                owner.kill()
                await owner.wait()
                await wait_gone(child)
                assert not is_gone(worker)
            finally:
                os.kill(worker, signal.SIGKILL)


async def test_a_forked_worker_holds_no_stdin_of_a_child_open():
    with trio.fail_after(60):
        worker = 0
        try:
            async with Service() as service:
                process = await service.start("sh", "-c", "cat; echo end", grace_period=50)
                worker = os.fork()
                if not worker:
                    signal.pause()
                    os._exit(0)
                await process.send_input("x\n")
                await process.close_stdin()
                assert await process.wait() == 0
                assert process.output() == "x\nend\n"
                assert not is_gone(worker)
        finally:
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)
