"""Starting: what a child is given, what it is started as, and what happens where it can't be."""

import errno
import os
import re
import resource
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePath
from types import SimpleNamespace

import pytest
import trio
from forked import run_program
from support import open_descriptors, process_of, python, runtime_of, sh

from trio_process import (
    ActionProcessExited,
    EndReason,
    OptionError,
    ProcessStartError,
    ProgramNotFoundError,
    RunOptions,
    RunSpec,
    Secret,
    Service,
    ServiceOptions,
    Status,
    Stdio,
    UnitSpec,
)
from trio_process._process import LocalBackend


async def run(*command, **options):
    with trio.fail_after(30):
        async with Service() as service:
            return await service.run(*command, **options)


@pytest.mark.parametrize("code", [0, 3, 255])
async def test_exit_codes_are_those_of_the_child(code):
    result = await run(*sh(f"exit {code}"), check=False)
    assert (result.exit_code, result.status, result.reason) == (code, Status.EXITED, EndReason.EXITED)
    assert result.ok is (code == 0)
    assert result.signal_name is None


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGTERM"])
async def test_a_death_by_signal_is_minus_its_number(name):
    number = signal.Signals[name]
    result = await run(*sh(f"ulimit -c 0; kill -{number} $$"), check=False)
    assert (result.exit_code, result.signal_name) == (-number, name)
    assert (result.status, result.reason, result.ok) == (Status.KILLED, EndReason.SIGNALLED, False)


async def test_ok_exit_codes_are_ok():
    assert (await run(*sh("exit 3"), ok_exit_codes=[0, 3])).ok
    result = await run("true", ok_exit_codes=[3], check=False)
    assert (result.exit_code, result.ok) == (0, False)


@pytest.mark.parametrize(
    ("command", "options", "kind", "text"),
    [
        (
            ["no-such-program-anywhere"],
            {},
            ProgramNotFoundError,
            "there is no program 'no-such-program-anywhere' on its PATH",
        ),
        (["echo hello"], {}, ProgramNotFoundError, "the command is one word here, its arguments follow it one by one"),
        (["/no/such/file"], {}, ProgramNotFoundError, "there is no file '/no/such/file'"),
        (["/etc/passwd"], {}, ProcessStartError, "'/etc/passwd' is not executable by this user"),
        (["/tmp"], {}, ProcessStartError, "'/tmp' is not executable by this user"),
        (
            ["true"],
            {"cwd": "/no/such/dir"},
            ProcessStartError,
            "in /no/such/dir: the directory cwd='/no/such/dir' does not exist",
        ),
        (["true"], {"cwd": "/etc/passwd"}, ProcessStartError, "the directory cwd='/etc/passwd' is a file"),
        (["true"], {"env": {"PATH": "/no/such"}}, ProgramNotFoundError, "on its PATH"),
        (["true", "x" * 3_000_000], {}, ProcessStartError, r"too long for this system \(execve\(2\)\)"),
        (["cat"], {"stdin": Path("/no/such/input")}, ProcessStartError, "'/no/such/input': No such file or directory"),
        (
            ["true"],
            {"stdout": Path("/no/such/output")},
            ProcessStartError,
            "'/no/such/output': No such file or directory",
        ),
        (["true"], {"stderr": Path("/")}, ProcessStartError, "'/': Is a directory"),
    ],
)
async def test_a_failed_spawn_says_what_was_wrong(command, options, kind, text):
    with trio.fail_after(30):
        async with Service() as service:
            before = open_descriptors()
            with service.subscribe() as events:
                with pytest.raises(kind, match=text) as caught:
                    await service.start(*command, **options)
                assert isinstance(caught.value.__cause__, OSError)
                assert str(caught.value).startswith("can't start `")
                assert len(str(caught.value)) < 5000
                (record,) = service.list()
                assert (record.status, record.reason) == (Status.FAILED, EndReason.FAILED_TO_START)
                assert (record.pid, record.exit_code, record.is_running, record.output()) == (None, None, False, "")
                with pytest.raises(kind) as again:
                    await record.wait(check=False)
                assert (type(again.value), str(again.value)) == (kind, str(caught.value))
                assert repr(again.value.__cause__) == repr(caught.value.__cause__)
                event = await events.receive()
                assert isinstance(event, ActionProcessExited)
                assert (event.reason, event.id) == (EndReason.FAILED_TO_START, record.id)
                assert (type(event.error), str(event.error)) == (kind, str(caught.value))
                assert events.statistics().buffered == 0  # and no Started
                assert open_descriptors() == before
            assert (service.statistics().failed, service.statistics().started) == (1, 0)


async def test_a_script_without_its_interpreter_line_says_so(tmp_path):
    script = tmp_path / "script"
    script.write_bytes(b"\x7fnonsense")
    script.chmod(0o755)
    with pytest.raises(ProcessStartError, match="a script needs a first line like #!/bin/sh"):
        await run(script)
    script.write_text("#!/no/such/interpreter\n")
    with pytest.raises(ProgramNotFoundError, match="the interpreter that its first line names"):
        await run(script)


@pytest.mark.parametrize("options", [{}, {"nice": 0}])
async def test_a_program_on_a_file_system_without_execution_says_so(tmp_path, monkeypatch, options):
    program = tmp_path / "program"
    program.touch(0o644)  # which access(2) and execve(2) treat as any file there: EACCES
    monkeypatch.setattr(os, "statvfs", lambda file: SimpleNamespace(f_flag=os.ST_NOEXEC))
    with pytest.raises(ProcessStartError, match="program' is on a file system that is mounted noexec"):
        await run(program, **options)
    with pytest.raises(ProcessStartError, match="program' is on a file system that is mounted noexec"):
        await run("program", env={"PATH": str(tmp_path)}, **options)


@pytest.mark.parametrize("options", [{}, {"nice": 0}])
@pytest.mark.parametrize(
    ("text", "kind", "why"),
    [
        ("#!/no/such/interpreter\n", ProgramNotFoundError, "is there, but the interpreter that its first line names"),
        ("#!/etc/passwd/none\n", ProgramNotFoundError, "is there, but the interpreter that its first line names"),
        ("#!/etc/passwd\n", ProcessStartError, "is executable by this user, but the interpreter"),
        ("", ProcessStartError, "can't be executed: a script needs a first line"),
    ],
)
async def test_what_is_wrong_with_a_program_on_the_path_is_said_as_of_one_with_a_slash(
    tmp_path, text, kind, why, options
):
    script = tmp_path / "greet"
    script.write_text(text)
    script.chmod(0o755)
    commands = [("greet", str(script)), (script, str(script)), ("./greet", "./greet")]
    for command, shown in commands[:1] if options else commands:
        with pytest.raises(kind, match=f"'{re.escape(shown)}' {why}"):
            await run(command, cwd=tmp_path, env={"PATH": f"/usr/bin:{tmp_path}"}, **options)


@pytest.mark.parametrize("options", [{}, {"nice": 0}])
async def test_a_path_below_a_file_is_no_program(options):
    with pytest.raises(ProgramNotFoundError, match="there is no file '/etc/passwd/none'"):
        await run("/etc/passwd/none", **options)


@pytest.mark.parametrize(
    ("command", "options", "text"),
    [
        ([""], {}, "command must not be empty"),
        (["true", "a\0b"], {}, "NUL"),
        (["true"], {"env": {"A=B": "1"}}, "a name must be a non-empty str without '='"),
        (["true", 1], {}, "numbers are not converted"),
        (["true"], {"timout": 3}, "did you mean 'timeout'"),
        (["true", "\ud800"], {}, "can't be encoded"),
        (["cat"], {"stdin": "é", "encoding": "ascii"}, "can't be encoded"),
    ],
)
async def test_a_refused_option_starts_nothing_and_leaves_no_record(command, options, text):
    with trio.fail_after(30):
        async with Service() as service:
            before = open_descriptors()
            for start in (service.start, service.run):
                with pytest.raises(OptionError, match=text):
                    await start(*command, **options)
            with pytest.raises(OptionError, match=text):
                async with service.open(*command, **options):
                    pass
            assert (service.list(), service.running()) == ([], [])
            assert open_descriptors() == before


async def test_without_descriptors_the_error_says_so_and_nothing_leaks():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with trio.fail_after(60):
        async with Service() as service:
            running = await service.start("sleep", "1000")
            before = open_descriptors()
            outcomes = set()
            top = max(int(name) for name in os.listdir("/proc/self/fd")) + 1
            filling = [os.open("/dev/null", os.O_RDONLY) for _ in range(top - before)]  # no number below is free
            try:
                for room in range(12):  # it must fail well at whichever descriptor is the first one too many
                    resource.setrlimit(resource.RLIMIT_NOFILE, (top + room, hard))
                    try:
                        result = await service.run("echo", "hi", stdin=Stdio.PIPE)
                    except ProcessStartError as error:
                        outcomes.add(str(error).split("; ")[0])
                        assert error.__cause__.errno == errno.EMFILE  # noqa: PT017 - it fails only at first
                    else:
                        outcomes.add(result.output)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for descriptor in filling:
                    os.close(descriptor)
            assert outcomes == {
                "can't start `echo hi`: no file descriptors are left (Too many open files)",
                "hi\n",
            }
            assert open_descriptors() == before
            assert running.is_running
            assert service.running() == [running]
            assert (await service.run("echo", "hi")).output == "hi\n"


async def test_the_child_leads_its_own_group_and_inherits_no_descriptor():
    leak = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leak, True)
    try:
        with trio.fail_after(30):
            async with Service() as service:
                process = await service.start(*sh("ls /proc/self/fd; cat"))
                assert process_of(process.pid).group == process.pid
                await process.close_stdin()
                await process.wait()
                # 3 is the directory that ls reads
                assert process.output().split() == ["0", "1", "2", "3"]
    finally:
        os.close(leak)


async def test_signals_are_at_their_defaults_in_the_child():
    result = await run("grep", "-E", "SigBlk|SigIgn", "/proc/self/status")
    blocked, ignored = (int(line.split()[1], 16) for line in result.output.splitlines())
    assert blocked == 0
    # Python itself ignores these two, which a child must not inherit
    assert ignored & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1) == 0


async def test_cwd_and_environment_are_given(tmp_path, monkeypatch):
    monkeypatch.setenv("GIVEN", "parent")
    monkeypatch.setenv("REMOVED", "parent")
    result = await run(
        *sh('pwd; echo "$GIVEN,${REMOVED-none},$NEW,${EMPTY-none}"'),
        cwd=tmp_path,
        env={"GIVEN": "child", "REMOVED": None, "NEW": Secret("new"), "EMPTY": ""},
    )
    assert result.output.splitlines() == [str(tmp_path), "child,none,new,"]
    assert result.cwd == str(tmp_path)


async def test_a_command_is_looked_up_on_the_path_that_the_child_will_have(tmp_path):
    tool = tmp_path / "our-tool"
    tool.write_text("#!/bin/sh\necho found\n")
    tool.chmod(0o755)
    assert (await run("our-tool", env={"PATH": f"{tmp_path}:/usr/bin:/bin"})).output == "found\n"


async def test_odd_arguments_arrive_as_they_are():
    args = ["", " ", "*", "$HOME", "a\nb", "é", b"\xff\xfe", Path("x/y"), Secret("hidden"), "-n", "'", '"']
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start(*python("import os,sys; print(os.fsencode('|'.join(sys.argv[1:])))"), *args)
            await process.wait()
    expected = b"| |*|$HOME|a\nb|\xc3\xa9|\xff\xfe|x/y|hidden|-n|'|\""
    assert process.output() == f"{expected}\n"
    assert "hidden" not in repr(process) + repr(process.info()) + repr(process.args) + repr(process.result())
    assert process.args[-4] == "***"


async def test_what_is_known_of_a_process():
    with trio.fail_after(30):
        async with Service() as service:
            before = datetime.now(UTC)
            process = await service.start(*sh("read x; exit 3"), name="reader", cwd="/", env={"A": "1"})
            assert (process.name, process.command, process.cwd, process.env) == ("reader", "sh", "/", {"A": "1"})
            assert process.args == ("-c", "read x; exit 3", "sh")
            assert (process.status, process.exit_code, process.signal_name) == (Status.RUNNING, None, None)
            assert (process.is_running, process.reason, process.done.is_set()) == (True, None, False)
            assert before <= process.started_at <= datetime.now(UTC)
            assert process.started_at.utcoffset() == timedelta(0)
            info, result = process.info(), process.result()
            assert (info.running, info.status, info.pid, info.exit_code) == (True, "running", process.pid, None)
            assert (result.ok, result.reason, result.status) == (False, None, Status.RUNNING)
            assert process.id in repr(process)
            await process.send_input("x\n")
            assert await process.wait(check=False) == 3
            assert (process.status, process.exit_code, process.reason) == (Status.EXITED, 3, EndReason.EXITED)
            assert info.running  # a snapshot does not change
            duration = process.duration
            await trio.sleep(0.01)
            assert process.duration == duration > 0
            assert process.info().pid == process.pid == info.pid


async def test_a_life_is_counted_from_the_spawn_and_not_from_when_we_go_on(monkeypatch):
    spawn = LocalBackend.spawn

    def held_up(*args):
        handle = spawn(*args)
        time.sleep(0.5)  # another program has the processor; the child has another one
        return handle

    monkeypatch.setattr(LocalBackend, "spawn", held_up)
    result = await run("sleep", "0.2")
    assert result.duration >= 0.2
    assert result.started_at <= datetime.now(UTC) - timedelta(seconds=0.5)


async def test_usage_tells_what_the_child_used():
    burn = "import time\nwhile time.process_time() < 0.1: pass"
    result = await run(*python(burn))
    assert 0.05 < result.usage.user + result.usage.system < 10
    assert result.usage.oom_killed in (None, False)
    assert result.usage.core_dumped is False


class OwnPath:
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return os.fsencode(self.path)


@pytest.mark.parametrize("kind", [trio.Path, PurePath, OwnPath])
async def test_any_path_like_object_is_a_path_for_a_standard_stream(kind, tmp_path):
    (tmp_path / "in").write_text("from a file")
    files = {"stdin": kind(tmp_path / "in"), "stdout": kind(tmp_path / "out"), "stderr": kind(tmp_path / "err")}
    await run(*sh("cat; echo err >&2"), **files)
    assert ((tmp_path / "out").read_text(), (tmp_path / "err").read_text()) == ("from a file", "err\n")
    spec = RunSpec(name="a", command="cat", stdin=files["stdin"])
    assert (spec.stdin, spec.options.stdin) == (tmp_path / "in", tmp_path / "in")
    assert UnitSpec(name="a", command="cat", **files).stdout == tmp_path / "out"


@pytest.mark.parametrize("detach", [False, True])
async def test_a_file_that_both_outputs_name_loses_nothing(detach, tmp_path):
    both = tmp_path / "both"
    await run(*sh("echo first; echo second >&2; echo third"), stdout=both, stderr=Path(str(both)), detach=detach)
    assert both.read_text() == "first\nsecond\nthird\n"


async def test_standard_streams_go_where_they_are_told(tmp_path):
    source, out, err = tmp_path / "in", tmp_path / "out", tmp_path / "err"
    source.write_text("from a file")
    out.write_text("what was there before is truncated")
    script = sh("cat; echo err >&2")
    result = await run(*script, stdin=source, stdout=out, stderr=err)
    assert (out.read_text(), err.read_text()) == ("from a file", "err\n")
    assert (result.output, result.stdout, result.stderr) == ("", "", "")
    result = await run(*script, stdin=b"data\0\xff", stderr=Stdio.STDOUT)
    assert (result.stdout_bytes, result.stderr_bytes) == (b"data\0\xfferr\n", b"")
    result = await run(*script, stdin=source, stdout=Stdio.NULL, stderr=Stdio.PIPE)
    assert (result.stdout, result.stderr) == ("", "err\n")
    with open(tmp_path / "both", "wb") as both, open(source, "rb") as file:
        result = await run(*script, stdin=file, stdout=both, stderr=Stdio.STDOUT)
        assert not both.closed
    assert (tmp_path / "both").read_text() == "from a fileerr\n"


def test_inherited_streams_are_ours(tmp_path):
    program = """
import trio
from trio_process import Service, Stdio
async def main():
    async with Service() as service:
        result = await service.run("sh", "-c", "cat; echo err >&2", stdin=Stdio.INHERIT, stdout=Stdio.INHERIT, stderr=Stdio.STDOUT)
        assert result.output == ""
trio.run(main)
"""
    done = run_program([sys.executable, "-c", program], given="typed\n", timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "typed\nerr\n", "")


async def test_run_has_no_stdin_and_start_has_a_pipe():
    assert (await run("cat")).output == ""
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start("cat")
            await process.send_input("typed")
            await process.close_stdin()
            await process.wait()
            assert process.output() == "typed"


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 5_000_000])
async def test_data_for_stdin_of_any_size_is_given_whole(size):
    data = os.urandom(size)
    result = await run("cat", stdin=data, buffer_size=10_000_000)
    assert result.stdout_bytes == data


async def test_text_for_stdin_is_data_even_if_it_reads_null():
    for word in ("null", "pipe", "inherit"):
        assert (await run("cat", stdin=word)).output == word
    assert (await run("cat", stdin="é", encoding="latin-1")).output_bytes == b"\xe9"


async def test_many_start_at_once():
    with trio.fail_after(60):
        async with Service() as service:
            results = []

            async def one(number):
                results.append((await service.run("echo", str(number))).output)

            async with trio.open_nursery() as nursery:
                for number in range(100):
                    nursery.start_soon(one, number)
            assert sorted(results, key=int) == [f"{number}\n" for number in range(100)]


async def test_options_can_be_made_before():
    options = RunOptions(command="echo", args=["hi"], timeout=30)
    with trio.fail_after(30):
        async with Service() as service:
            assert (await service.run_with_options(options)).output == "hi\n"
            process = await service.start_with_options(options)
            assert await process.wait() == 0
            with pytest.raises(OptionError, match="takes a RunOptions"):
                await service.run_process({"command": "echo"})


async def test_the_umask_is_the_child_s(tmp_path):
    await run(*sh("> made"), cwd=tmp_path, umask=0o077)
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o600


@pytest.mark.bound(100)
async def test_a_thousand_short_runs_leave_nothing():
    with trio.fail_after(100):
        async with Service(options=ServiceOptions(retain=10)) as service:
            limit = trio.CapacityLimiter(50)

            async def one():
                async with limit:
                    await service.run("true", timeout=3600)

            await one()
            before = (open_descriptors(), trio.lowlevel.current_statistics().tasks_living)
            async with trio.open_nursery() as nursery:
                for _ in range(1000):
                    nursery.start_soon(one)
            assert (open_descriptors(), trio.lowlevel.current_statistics().tasks_living) == before
            assert len(service.list()) == 10
            assert service.statistics().started == 1001
            assert len(runtime_of(service).reactor._timers) < 1000  # the timers of what has ended are forgotten


@pytest.mark.parametrize("wrong", [5, "true", None, ServiceOptions()])
async def test_what_is_no_run_options_is_refused(wrong):
    async with Service() as service:
        with pytest.raises(OptionError, match="takes a RunOptions"):
            await service.start_with_options(wrong)
        with pytest.raises(OptionError, match="takes a RunOptions"):
            await service.run_with_options(wrong)


@pytest.mark.parametrize("extra", [{}, {"nice": 1}])
@pytest.mark.parametrize("path", ["bin", "", "./bin:/usr/bin:/bin", "/nowhere::/usr/bin:/bin"])
async def test_a_relative_directory_of_the_path_is_one_of_the_childs_own_directory(tmp_path, monkeypatch, path, extra):
    for place in ("here", "there"):
        for tool in (tmp_path / place / "tool", tmp_path / place / "bin" / "tool"):
            tool.parent.mkdir(parents=True, exist_ok=True)
            tool.write_text(f"#!/bin/sh\necho {place}\n")
            tool.chmod(0o755)
    monkeypatch.chdir(tmp_path / "here")
    with trio.fail_after(30):
        async with Service() as service:
            found = [
                (await service.run("tool", env={"PATH": path}, cwd=cwd, **extra)).output
                for cwd in (tmp_path / "there", None, tmp_path / "there", "../there")
            ]
            assert found == ["there\n", "here\n", "there\n", "there\n"]
            monkeypatch.chdir(tmp_path / "there")
            assert (await service.run("tool", env={"PATH": path})).output == "there\n"


async def test_what_is_missing_in_the_childs_own_directory_is_not_said_to_be_there(tmp_path, monkeypatch):
    (tmp_path / "tool").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProgramNotFoundError, match=r"there is no file '\./tool'"):
        await run("./tool", cwd="/")


async def test_a_program_that_comes_into_an_earlier_directory_is_the_one_from_then_on(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()

    def put(directory):
        tool = tmp_path / directory / "tool"
        tool.write_text(f"#!/bin/sh\necho {directory}\n")
        tool.chmod(0o755)
        return tool

    path = f"{tmp_path}/first:{tmp_path}/second:/usr/bin:/bin"
    with trio.fail_after(20):
        async with Service() as service:

            async def which():
                return (await service.run("tool", env={"PATH": path})).output.strip()

            put("second")
            assert await which() == "second"
            tool = put("first")
            assert await which() == "first"
            tool.unlink()
            tool.mkdir()  # a directory of that name is passed over
            assert await which() == "second"
