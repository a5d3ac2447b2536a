import os
import sys
from pathlib import Path

import pytest
import trio

from trio_process import CommandFailedError, OptionError, Program, ProgramNotFoundError, Service
from trio_process._process.runtime import process_id


async def test_a_program_runs_and_gives_its_text_trimmed():
    with trio.fail_after(30):
        assert (await Program("git").run("--version")).startswith("git version")
        assert (
            await Program("sh").run("-c", "echo '  out'; echo err >&2; echo; echo ' '", stderr="stdout") == "  out\nerr"
        )


async def test_it_runs_in_a_directory(tmp_path):
    with trio.fail_after(30):
        assert await Program("pwd").run_dir(tmp_path) == str(tmp_path)
        assert await Program("pwd").run_dir(str(tmp_path)) == str(tmp_path)


async def test_a_failure_has_the_output():
    with trio.fail_after(30):
        with pytest.raises(CommandFailedError) as caught:
            await Program("sh").run("-c", "echo out; exit 3")
    assert (caught.value.result.output, caught.value.result.exit_code) == ("out", 3)


async def test_its_text_is_whole():
    with trio.fail_after(60):
        assert len(await Program("head").run("-c", "5000000", "/dev/zero")) == 5_000_000


def test_it_is_found_on_the_path(tmp_path, monkeypatch):
    tool = tmp_path / "our-tool"
    tool.write_text("#!/bin/sh\necho found\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    with pytest.raises(ProgramNotFoundError, match="there is no executable 'our-tool' on the PATH"):
        Program("our-tool").find()  # not executable yet
    tool.chmod(0o755)
    assert Program("our-tool").find() == tool
    assert Program("sh").find().is_absolute()
    monkeypatch.chdir(tmp_path)
    assert Program("./our-tool").find() == tool
    monkeypatch.setenv("PATH", "")
    assert Program(str(tool)).find() == tool


def test_a_set_path_wins(tmp_path):
    program = Program("git", path="/bin/sh")
    assert program.find() == Path("/bin/sh")
    program.path = tmp_path
    with pytest.raises(ProgramNotFoundError):
        program.find()  # a directory is no program
    assert Program("no-such", path=os.path.relpath("/bin/sh")).find().is_absolute()


async def test_what_is_not_there_is_not_found():
    with trio.fail_after(30):
        with pytest.raises(ProgramNotFoundError, match="no-such-program"):
            await Program("no-such-program").run()


@pytest.mark.parametrize("name", ["", "a\0b", 3])
def test_a_name_is_a_text(name):
    with pytest.raises(OptionError):
        Program(name)


async def test_the_path_that_was_found_is_kept_and_only_trailing_white_space_is_trimmed():
    with trio.fail_after(30):
        program = Program("sh")
        assert program.path is None
        assert program.find() == program.path
        assert program.path.is_absolute()
        for text, expected in [("  a  ", "  a"), ("\\n\\n b c\\t\\n", "\n\n b c"), ("", "")]:
            assert await program.run("-c", f"printf '{text}'") == expected
            with pytest.raises(CommandFailedError) as caught:
                await program.run_dir("/", "-c", f"printf '{text}'; exit 3")
            assert caught.value.result.output == expected
            assert caught.value.result.exit_code == 3


async def test_ids_are_unique_across_programs_and_sort_in_the_order_of_the_starts():
    code = """
import trio, trio_process
async def main():
    async with trio_process.Service() as service:
        ids = [(await service.start("true")).id for _ in range(12)]
        print(*ids)
trio.run(main)
"""
    with trio.fail_after(60):
        async with Service() as service:
            first, second = [(await service.run(sys.executable, "-c", code)).output.split() for _ in range(2)]
            assert [process.id for process in service.list()] == sorted(process.id for process in service.list())
    for ids in (first, second):
        assert ids == sorted(ids)
        assert ids[0].startswith("proc-1-")
    assert not set(first) & set(second)


@pytest.mark.parametrize("count", [10, 100, 9_100])
def test_ids_sort_as_text_however_many_there_are(count):
    ids = [process_id(number) for number in range(1, count)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
