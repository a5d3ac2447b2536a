"""Recordings of real commands, and their replay."""

import json
import sys

import pytest
import trio
import trio.testing

from trio_process import (
    CommandFailedError,
    EndReason,
    OptionError,
    ProcessError,
    ProcessStartError,
    ProgramNotFoundError,
    Secret,
    StdinNotAvailableError,
)
from trio_process.testing import FakeService, UnregisteredCommandError

SCRIPT = "echo out; sleep 0.2; echo err >&2; printf '\\303'; sleep 0.1; printf '\\244\\377'; exit 3"


async def record(path, *commands, **options):
    with trio.fail_after(30):
        async with FakeService() as fake:
            with fake.record(path):
                for command in commands:
                    try:
                        await fake.run(*command, check=False, **options)
                    except ProcessStartError:
                        pass
            assert len(fake.calls) == len(commands)


def replayed(main):
    """Run an async function on virtual time."""

    async def bounded():
        with trio.fail_after(3_600_000):
            await main()

    trio.run(bounded, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_what_was_recorded_happens_again(tmp_path):
    path = tmp_path / "recording.jsonl"
    await record(path, ("sh", "-c", SCRIPT), ("no-such-program-anywhere",), ("sh", "-c", "kill -9 $$"))

    async def main():
        async with FakeService() as fake:
            fake.replay(path)
            result = await fake.run("sh", "-c", SCRIPT, check=False)
            assert (result.exit_code, result.stderr, result.stdout_bytes) == (3, "err\n", b"out\n\xc3\xa4\xff")
            assert 0.28 <= result.duration < 3  # it was recorded from the spawn on, when the child was already running
            with pytest.raises(ProgramNotFoundError):
                await fake.run("no-such-program-anywhere")
            assert (await fake.run("sh", "-c", "kill -9 $$", check=False)).signal_name == "SIGKILL"

    await trio.to_thread.run_sync(replayed, main)


async def test_the_file_can_be_read_and_edited(tmp_path):
    path = tmp_path / "recording.jsonl"
    await record(path, ("echo", "grün"), ("false",))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line.pop("at", None)
    assert lines == [
        {"recording": "trio-process", "version": 1},
        {"command": "echo", "args": ["grün"]},
        {"stdout": "grün\n"},
        {"exit": 0},
        {"command": "false", "args": []},
        {"exit": 1},
    ]
    assert "grün" in path.read_text()


async def test_secrets_and_surroundings_are_not_in_it(tmp_path):
    path = tmp_path / "recording.jsonl"
    secret = Secret("hunter2")
    script = (
        'echo "$1 $TOKEN"; echo $MORE | cut -c1-3; printf hun; sleep 0.1; printf ter2; read x; echo "$PWD" >/dev/null'
    )
    with trio.fail_after(30):
        async with FakeService() as fake:
            fake.record(path)
            process = await fake.start(
                "sh", "-c", script, "sh", secret, env={"TOKEN": Secret("t0ken"), "PLAIN": "visible"}, cwd=tmp_path
            )
            await process.wait_for_line("hunter2")
            await process.send_input("passphrase\n")
            await process.wait()
            assert "hunter2 t0ken" in process.output()
    text = path.read_text()
    for word in ("hunter2", "hun", "t0ken", 'TOKEN"', "PLAIN", "visible", "passphrase", str(tmp_path)):
        assert word not in text.replace(json.dumps(script), "").replace("printf hun", ""), word
    assert '"***"]' in text

    async def main():
        async with FakeService() as fake:
            fake.replay(path)
            again = await fake.start("sh", "-c", script, "sh", Secret("another"))
            await again.wait_for_line("*** ***")
            await trio.sleep(100)
            assert again.is_running
            await again.send_input("something11")
            assert await again.wait() == 0

    await trio.to_thread.run_sync(replayed, main)


async def test_signals_are_reacted_to_as_they_were(tmp_path):
    path = tmp_path / "recording.jsonl"
    script = "trap 'echo bye; exit 5' TERM; trap '' HUP; echo up; read x"
    with trio.fail_after(30):
        async with FakeService() as fake:
            fake.record(path)
            process = await fake.start("sh", "-c", script)
            await process.wait_for_line("up")
            process.signal("SIGHUP")
            await trio.sleep(0.1)
            await process.stop()
            plain = await fake.start("sleep", "60")
            await plain.stop()

    async def main():
        async with FakeService() as fake:
            fake.replay(path)
            process = await fake.start("sh", "-c", script)
            await process.wait_for_line("up")
            process.signal("SIGHUP")
            await trio.sleep(1000)
            result = await process.stop()
            assert (result.output, result.exit_code, result.reason) == ("up\nbye\n", 5, EndReason.STOPPED)
            result = await fake.run("sleep", "60", timeout=10, check=False)
            assert (result.signal_name, result.duration) == ("SIGTERM", 10)

    await trio.to_thread.run_sync(replayed, main)


async def test_a_replay_is_strict(tmp_path):
    path = tmp_path / "recording.jsonl"
    await record(path, ("echo", "a"), ("sh", "-c", "exit 1"), ("sh", "-c", "exit 1"))

    async def main():
        async with FakeService() as fake:
            fake.replay(path)
            assert (await fake.run("echo", "a")).output == "a\n"
            with pytest.raises(UnregisteredCommandError, match=r"`echo b` is not registered.*did you mean `echo a`"):
                await fake.run("echo", "b")
            with pytest.raises(
                UnregisteredCommandError,
                match=r"`echo a` is started more often than in the recording, which has it 1 time",
            ):
                await fake.run("echo", "a")
            for _ in range(2):
                with pytest.raises(CommandFailedError):
                    await fake.run("sh", "-c", "exit 1")
            assert len(fake.calls) == 3

    await trio.to_thread.run_sync(replayed, main)


async def test_scripts_and_recorded_commands_go_together(tmp_path):
    path = tmp_path / "recording.jsonl"
    with trio.fail_after(30):
        async with FakeService() as fake:
            fake.on("deploy", lines=["scripted"])
            fake.record(path)
            assert (await fake.run("deploy")).output == "scripted\n"
            assert (await fake.run("echo", "real")).output == "real\n"
            with pytest.raises(ProcessError, match="already recording"):
                fake.record(path)
    assert "deploy" not in path.read_text()


async def test_after_the_block_nothing_real_is_run(tmp_path):
    async with FakeService() as fake:
        with fake.record(tmp_path / "a"):
            await fake.run("true")
        with pytest.raises(UnregisteredCommandError):
            await fake.run("true")
        with fake.record(tmp_path / "b"):
            await fake.run("true")
    assert (tmp_path / "a").exists()
    assert (tmp_path / "b").exists()


async def test_a_failed_recording_leaves_the_old_one(tmp_path):
    path = tmp_path / "recording.jsonl"
    path.write_text("old")
    with pytest.raises(KeyError):
        async with FakeService() as fake:
            fake.record(path)
            await fake.run("true")
            raise KeyError
    async with FakeService() as fake:
        with pytest.raises(KeyError), fake.record(path):
            raise KeyError
    assert path.read_text() == "old"


async def test_a_clock_that_jumps_is_refused(autojump_clock, tmp_path):
    async with FakeService() as fake:
        fake.record(tmp_path / "x")
        with pytest.raises(ProcessError, match="needs the real clock"):
            await fake.run("true")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1"),
        ("{}", "line 1"),
        ("nonsense", "line 1"),
        ('{"recording": "trio-process", "version": 2}', "line 1"),
        ('HEAD\n{"at": 1, "exit": 0}', "line 2"),
        ('HEAD\n{"command": "x"}', "line 2"),
        ('HEAD\n{"command": "x", "args": []}\n{"at": 1, "exti": 0}', "line 3.*exti"),
        ('HEAD\n{"command": "x", "args": []}\n{"exit": 0}', "line 3.*at"),
        ('HEAD\n{"command": "x", "args": []}\n{"error": "ENOPE"}', "line 3.*errno"),
        ('HEAD\n{"command": "x", "args": []}\n{"at": 0, "signal": "SIGNOPE"}', "line 3"),
        ('HEAD\n{"command": "x", "args": []}\n{"at": 0, "exit": "zero"}', "line 3"),
        ('HEAD\n{"command": "x", "args": []}\n[1]', "line 3"),
        ('HEAD\n{"command": "x", "args": []}\n{"at": 0, "stdout_base64": "?"}', "line 3"),
    ],
)
def test_a_file_that_is_no_recording_is_refused_with_the_line(tmp_path, text, told):
    path = tmp_path / "recording.jsonl"
    path.write_text(text.replace("HEAD", '{"recording": "trio-process", "version": 1}'))
    with pytest.raises(OptionError, match=f"recording.jsonl, {told}"):
        FakeService().replay(path)


async def test_a_command_that_floods_is_recorded_whole(tmp_path):
    path = tmp_path / "recording.jsonl"
    argv = (sys.executable, "-c", "print('x' * 300_000)")
    await record(path, argv)

    async def main():
        async with FakeService() as fake:
            fake.replay(path)
            assert (await fake.run(*argv)).output == "x" * 300_000 + "\n"

    await trio.to_thread.run_sync(replayed, main)


@pytest.mark.parametrize(
    "script",
    [
        "exec 0<&-; echo ready; sleep 60",
        "read line; echo $line; exec 0<&-; echo ready; sleep 60",
        "exec 0<&-; echo ready >&2; sleep 60",
    ],
)
async def test_a_write_to_a_child_that_closed_its_stdin_fails_again(tmp_path, script):
    async def use(service):
        async with service.open("sh", "-c", script) as process:
            if script.startswith("read"):
                await process.send_input("first\n")
            await process.wait_for_line("ready")
            for _ in range(2):
                with pytest.raises(StdinNotAvailableError):
                    await process.send_input("x" * 100_000)

    with trio.fail_after(60):
        async with FakeService() as fake:
            fake.record(tmp_path / "recording")
            await use(fake)
        async with FakeService() as fake:
            fake.replay(tmp_path / "recording")
            await use(fake)
