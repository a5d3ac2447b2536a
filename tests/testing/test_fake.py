"""`FakeService`: what the contract with the real one does not say, its own rules and mistakes."""

import os
import re
import signal
import time
from pathlib import Path
from unittest.mock import ANY

import pytest
import trio

from trio_process import (
    Core,
    OptionError,
    OutputLine,
    ProcessStartError,
    ProgramNotFoundError,
    Runner,
    RunSpec,
    Secret,
    Service,
    StopFailedError,
)
from trio_process.testing import Behaviour, Expect, FakeService, Read, ScriptError, UnregisteredCommandError


async def outputs(fake, *commands):
    """Run commands one after another; return what each wrote, None for one that is not registered."""
    found = []
    for command in commands:
        try:
            found.append((await fake.run(*command.split())).output.strip())
        except UnregisteredCommandError:
            found.append(None)
    return found


@pytest.mark.parametrize(
    ("pattern", "matched", "not_matched"),
    [
        (["git"], ["git"], ["git push", "gi", "/usr/bin/git"]),
        (["git", "push"], ["git push"], ["git", "git push x", "git pull"]),
        (["git", "push", ...], ["git push", "git push a b"], ["git", "git pull"]),
        (["git", ...], ["git", "git push a"], ["hg"]),
        (["git", re.compile("pu(sh|ll)"), ...], ["git push", "git pull x"], ["git pushes", "git"]),
        (["git", ANY, "b"], ["git a b"], ["git a", "git a c"]),
        ([re.compile("^git pu")], ["git push", "git pull x"], ["hg git pu", "git"]),
        ([re.compile("origin")], ["git push origin"], ["git push"]),
        ([lambda call: len(call.args) == 2], ["a b c", "git x y"], ["git x"]),
    ],
)
async def test_commands_are_matched(autojump_clock, pattern, matched, not_matched):
    async with FakeService() as fake:
        fake.on(*pattern, lines=["yes"])
        assert await outputs(fake, *matched) == ["yes"] * len(matched)
        assert await outputs(fake, *not_matched) == [None] * len(not_matched)


async def test_the_last_registration_that_matches_counts(autojump_clock):
    async with FakeService() as fake:
        fake.on("git", ..., lines=["any"])
        fake.on("git", "push", lines=["push"])
        assert await outputs(fake, "git push", "git pull") == ["push", "any"]
        fake.on("git", ..., lines=["new"])
        assert await outputs(fake, "git push", "git pull") == ["new", "new"]


async def test_paths_bytes_and_secrets_are_arguments_too(autojump_clock, tmp_path):
    async with FakeService() as fake:
        rule = fake.on(tmp_path / "program", b"bytes", Secret("s"), lines=["yes"])
        await fake.run(str(tmp_path / "program"), "bytes", Secret("s"))
        assert [call.args for call in rule.calls] == [("bytes", "***")]
        with pytest.raises(UnregisteredCommandError) as failure:
            await fake.run(str(tmp_path / "program"), "bytes", Secret("hunter2"))
        assert "hunter2" not in str(failure.value)


async def test_an_unknown_command_names_the_nearest_and_leaves_no_record(autojump_clock):
    async with FakeService() as fake:
        with pytest.raises(
            UnregisteredCommandError, match="`git` is not registered with this fake, and nothing else is"
        ):
            await fake.run("git")
        fake.on("docker", "run", ...)
        fake.on("git", "push", ...)
        with pytest.raises(
            LookupError, match=r"`gti push` .*; did you mean `git push ...`\? Register it with fake.on\('gti', 'push'"
        ):
            await fake.start("gti", "push")
        assert (fake.list(), fake.calls) == ([], [])
        assert fake.statistics().started == fake.statistics().failed == 0
        assert fake.statistics().containment == "scripted"


async def test_one_behaviour_for_each_start(autojump_clock):
    async with FakeService() as fake:
        fake.on("a", exit_code=1, then=[{"exit_code": 2}, Behaviour(exit_code=3)])
        fake.on("b", then=[{"exit_code": 4}, {"exit_code": 5}])
        codes = [(await fake.run(name, check=False)).exit_code for name in "aaaabbb"]
    assert codes == [1, 2, 3, 3, 4, 5, 5]


async def test_calls_tell_what_was_asked_for(autojump_clock):
    async with FakeService() as fake:
        fake.on("wc", lines=[Read.ALL, "1"])
        fake.on("lost", ..., error=ProgramNotFoundError)
        await trio.sleep(5)
        await fake.run("wc", stdin="text\n", cwd="/tmp", env={"A": "1"}, name="count")
        process = await fake.start("wc")
        await process.send_input("more")
        await process.close_stdin()
        await process.wait()
        with pytest.raises(ProgramNotFoundError):
            await fake.run("lost", "x")
        first, second, third = fake.calls
        assert (first.command, first.args, first.at, first.stdin) == ("wc", (), 5.0, b"text\n")
        assert (first.options.cwd, first.options.env, first.options.name) == ("/tmp", {"A": "1"}, "count")
        assert (second.stdin, second.id) == (b"more", process.id)
        assert (str(third), fake.list()[-1].id) == ("lost x", third.id)


async def test_an_hour_takes_no_time_and_exactly_an_hour(autojump_clock):
    began = time.monotonic()
    async with FakeService() as fake:
        fake.on("slow", lines=[(1800, "half"), (1800, "done")], exit_code=None, ignores=["SIGTERM"])
        process = await fake.start("slow")
        await process.wait_for_line("done")
        assert trio.current_time() == 3600
        result = await process.stop(grace_period=30)
        assert (result.duration, result.signal_name) == (3630, "SIGKILL")
    assert time.monotonic() - began < 2


async def test_it_works_on_the_real_clock_too():
    async with FakeService() as fake:
        fake.on("quick", lines=["a", (0.05, "b")], exit_after=0.05)
        result = await fake.run("quick")
        assert result.output == "a\nb\n"
        assert 0.1 <= result.duration < 5


async def test_a_dialogue_can_be_scripted(autojump_clock):
    def login(call):
        yield b"name: "
        name = yield Read.LINE
        yield (0.5, f"hello {name.strip()}")
        yield OutputLine("bye", "stderr")
        return len(name)

    async with FakeService() as fake:
        fake.on("login", lines=login)
        process = await fake.start("login")
        await trio.sleep(1)
        assert process.output() == "name: "
        await process.send_input("joe\n")
        assert await process.wait(check=False) == 4
        assert (process.output(), process.duration) == ("name: hello joe\nbye\n", 1.5)


async def test_expected_input_lets_it_go_on(autojump_clock):
    async with FakeService() as fake:
        fake.on("sudo", expects="secret\n", lines=["ok", Expect("more"), "really ok"])
        process = await fake.start("sudo")
        await process.send_input("sec")
        await process.send_input("ret\n")
        await process.wait_for_line("ok")
        await process.send_input("more")
        assert await process.wait() == 0
        assert (await fake.run("sudo", stdin="secret\nmore")).output == "ok\nreally ok\n"


async def test_what_two_tasks_send_at_once_is_not_mixed(autojump_clock):
    big = 200_000
    with trio.fail_after(60):
        async with FakeService() as fake:
            cat = fake.on("cat", lines=[Read.ALL])
            process = await fake.start("cat")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(process.send_input, "a" * big)
                nursery.start_soon(process.send_input, "b" * big)
            await process.close_stdin()
            await process.wait()
            assert cat.calls[0].stdin in (b"a" * big + b"b" * big, b"b" * big + b"a" * big)


@pytest.mark.parametrize("given", ["yes", "no\n", ""])
async def test_other_input_ends_it_and_fails_the_test(autojump_clock, given):
    with pytest.raises(ScriptError, match=r"`ask` failed: expected b'yes\\n' on stdin, got b'"):
        async with FakeService() as fake:
            fake.on("ask", expects="yes\n", lines=["never"])
            result = await fake.run("ask", stdin=given, check=False)
            assert (result.exit_code, result.stdout) == (1, "")
            assert "expected b'yes\\n'" in result.stderr


async def test_a_generator_that_raises_fails_the_test(autojump_clock):
    def broken(call):
        yield "begun"
        raise ZeroDivisionError("my mistake")

    with pytest.raises(ScriptError, match="ZeroDivisionError: my mistake") as failure:
        async with FakeService() as fake:
            fake.on("x", lines=broken)
            result = await fake.run("x", check=False)
            assert (result.exit_code, result.stdout) == (1, "begun\n")
    assert isinstance(failure.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("end", [pytest.fail.Exception("my verdict"), KeyboardInterrupt("my verdict")])
async def test_a_generator_can_fail_the_test_itself(autojump_clock, end):
    def judge(call):
        yield "begun"
        raise end

    with pytest.raises(type(end), match="my verdict"), trio.fail_after(60):
        async with FakeService() as fake:
            fake.on("x", lines=judge)
            result = await fake.run("x", check=False)
            assert (result.exit_code, result.stdout) == (1, "begun\n")


@pytest.mark.parametrize("code", ["abc", 1000, -65, True, 1.5])
async def test_a_generator_that_returns_no_exit_code_fails_the_test(autojump_clock, code):
    def broken(call):
        yield "begun"
        return code

    with pytest.raises(ScriptError, match="exit_code"), trio.fail_after(60):
        async with FakeService() as fake:
            fake.on("x", lines=broken)
            assert (await fake.run("x", check=False)).exit_code == 1


@pytest.mark.parametrize("end", [ZeroDivisionError("at the end"), pytest.fail.Exception("at the end")])
async def test_a_generator_that_raises_while_it_is_closed_fails_the_test(autojump_clock, end):
    def broken(call):
        try:
            yield "begun"
            yield Read.LINE
        finally:
            raise end

    with pytest.raises((ScriptError, type(end)), match="at the end"), trio.fail_after(60):
        async with FakeService() as fake:
            fake.on("x", lines=broken)
            async with fake.open("x") as process:
                await process.wait_for_line("begun")


async def test_a_reaction_that_is_no_generator_fails_the_test(autojump_clock):
    with pytest.raises(ScriptError, match="must be a generator"), trio.fail_after(60):
        async with FakeService() as fake:
            fake.on("x", exit_code=None, reacts={"TERM": Behaviour(lines=lambda _: ["x"])})
            process = await fake.start("x")
            await process.stop()
            assert process.exit_code == 1


async def test_a_line_that_can_t_be_encoded_fails_the_test(autojump_clock):
    with pytest.raises(ScriptError, match="UnicodeEncodeError"), trio.fail_after(60):
        async with FakeService() as fake:
            fake.on("x", lines=["é"])
            assert (await fake.run("x", encoding="ascii", check=False)).exit_code == 1


async def test_a_full_disk_ends_a_script_that_writes_to_it_and_one_that_fails(autojump_clock):
    full = Path("/dev/full")
    with pytest.raises(ScriptError, match="expected b'yes'"), trio.fail_after(60):
        async with FakeService() as fake:
            fake.on("writes", lines=["a"])
            fake.on("fails", expects="yes")
            assert (await fake.run("writes", stdout=full, check=False)).exit_code == 1
            assert (await fake.run("fails", stdin="no", stderr=full, check=False)).exit_code == 1


async def test_a_script_gets_sigpipe_where_nobody_reads_what_it_writes(autojump_clock):
    reader, writer = os.pipe()
    os.close(reader)
    with trio.fail_after(60), open(writer, "wb") as stdout:
        async with FakeService() as fake:
            fake.on("x", lines=["a", "b"])
            assert (await fake.run("x", stdout=stdout, check=False)).exit_code == -signal.SIGPIPE


async def test_a_recording_that_can_t_be_written_does_not_hide_what_a_script_met(tmp_path):
    with pytest.raises(ExceptionGroup) as failure, trio.fail_after(60):
        async with FakeService() as fake:
            fake.record(tmp_path / "missing" / "x.jsonl")
            fake.on("x", expects="yes")
            await fake.run("x", stdin="no", check=False)
    assert [type(error) for error in failure.value.exceptions] == [ScriptError, FileNotFoundError]


async def test_an_error_of_the_test_goes_before_that_of_a_script(autojump_clock):
    with pytest.raises(KeyError, match="mine"):
        async with FakeService() as fake:
            fake.on("ask", expects="yes\n")
            await fake.run("ask", stdin="no", check=False)
            raise KeyError("mine")


async def test_a_generator_is_closed_with_its_process(autojump_clock):
    closed = []

    def watched(call):
        try:
            while True:
                yield (1, "tick")
        finally:
            closed.append(call.id)

    async with FakeService() as fake:
        fake.on("tick", lines=watched)
        process = await fake.start("tick")
        await process.wait_for_line("tick")
    assert closed == [process.id]


async def test_a_signal_can_be_reacted_to_and_the_process_go_on(autojump_clock):
    async with FakeService() as fake:
        reload = Behaviour(lines=[(1, "reloaded")], exit_code=None)
        fake.on("server", lines=[(5, "a"), (5, "b")], reacts={"SIGHUP": reload})
        process = await fake.start("server")
        await trio.sleep(6)
        process.signal("SIGHUP")
        await process.wait()
        assert (process.output(), process.duration) == ("a\nreloaded\nb\n", 10)


async def test_what_hangs_in_the_kernel_is_named(autojump_clock):
    process = None
    with pytest.raises(StopFailedError, match="did not die of SIGKILL"):
        async with FakeService() as fake:
            fake.on("nfs", exit_code=None, ignores=["SIGTERM", "SIGKILL"])
            process = await fake.start("nfs")
            with pytest.raises(StopFailedError):
                await process.stop(grace_period=1)
            assert trio.current_time() == 6
    assert process.is_running


async def test_it_is_a_service_wherever_one_is_wanted(autojump_clock):
    async with Core(FakeService) as core:
        fake = core.service(FakeService)
        assert core.service(Service) is fake
        fake.on("build", lines=[(60, "built")], exit_code=0)
        fake.on("test", exit_code=1, then=[{"exit_code": 0, "exit_after": 600}])
        assert await core.process.run("build") == "built\n"
        specs = [
            RunSpec(name="test", command="test", retries=1, retry_delay=30),
            RunSpec(name="x", command="build", after=["test"]),
        ]
        result = await Runner(fake).run_all(specs)
        assert (result.success, result.duration) == (True, 690)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"exit_cod": 1}, "did you mean 'exit_code'"),
        ({"exit_code": 256}, "exit_code must be 0 to 255"),
        ({"exit_code": "1"}, "exit_code"),
        ({"lines": "text"}, "lines must be a list"),
        ({"lines": [1]}, "lines takes texts"),
        ({"lines": [(-1, "x")]}, "delay"),
        ({"lines": {"stdwrong": []}}, "'stdout'"),
        ({"lines": {"stdout": [Read.ALL]}}, "can't read input"),
        ({"ignores": "SIGTERM"}, "ignores must be a list"),
        ({"ignores": ["SIGSTOP"]}, "can't be ignored"),
        ({"ignores": ["SIGNOPE"]}, "ignores must be a signal"),
        ({"reacts": ["SIGTERM"]}, "reacts must map"),
        ({"expects": 1}, "expects must be"),
        ({"error": ValueError}, "error must be"),
        ({"exit_after": -1}, "exit_after"),
        ({"then": "abc"}, "then must be a list"),
        ({"then": [1]}, "then takes Behaviour"),
        ({"then": [{1: "x"}]}, "then takes Behaviour"),
    ],
)
def test_a_behaviour_that_can_t_be_is_refused(how, told):
    with pytest.raises(OptionError, match=told):
        FakeService().on("x", **how)


@pytest.mark.parametrize(
    "pattern", [["a", ..., "b"], [...], [re.compile("a"), "b"], ["a", 1], [None], [lambda call: True, "x"]]
)
def test_a_pattern_that_can_t_be_is_refused(pattern):
    with pytest.raises(OptionError):
        FakeService().on(*pattern)


async def test_a_function_that_is_no_generator_is_refused_when_it_is_needed(autojump_clock):
    async with FakeService() as fake:
        fake.on("x", lines=lambda call: ["a"])
        with pytest.raises(OptionError, match="must be a generator"):
            await fake.run("x")


async def test_start_errors_are_those_of_the_real_one(autojump_clock):
    async with FakeService() as fake:
        fake.on("a", error=PermissionError)
        fake.on("b", error=OSError(7, "Argument list too long"))
        own = ProcessStartError("mine")
        fake.on("c", error=own)
        with pytest.raises(ProcessStartError, match="not executable"):
            await fake.run("a")
        with pytest.raises(ProcessStartError, match="too long for this system"):
            await fake.run("b")
        with pytest.raises(ProcessStartError) as failure:
            await fake.run("c")
        assert failure.value is own


async def test_no_one_is_adopted():
    from datetime import UTC, datetime

    from trio_process import ProcessNotFoundError

    async with FakeService() as fake:
        fake.on("x", exit_code=None)
        process = await fake.start("x")
        assert process.pid > 2**22
        with pytest.raises(ProcessNotFoundError):
            fake.adopt(process.pid, datetime.now(UTC))


async def test_what_is_detached_is_left_to_itself(tmp_path, autojump_clock):
    async with FakeService() as fake:
        fake.on("server", lines=["up", (10, "still up")], exit_code=None)
        process = await fake.start("server", detach=True, log_file=tmp_path / "log")
        await process.wait_for_line("up")
    assert process.is_running
    assert (tmp_path / "log").read_text() == "up\n"
    assert trio.current_time() < 10


async def test_a_refused_start_leaves_no_file_open(tmp_path, autojump_clock):
    async with FakeService() as fake:
        fake.on("x", lines=lambda call: [])
        for options in ({"stderr": tmp_path / "no" / "such"}, {}):
            with pytest.raises((OptionError, ProcessStartError)):
                await fake.run("x", stdout=tmp_path / "out", **options)
