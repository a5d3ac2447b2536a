"""Where a program was found is remembered, and the exec itself corrects what is remembered."""

import pytest

from trio_process import ProcessStartError, ProgramNotFoundError, RunOptions, Service


def install(directory, says, mode=0o755):
    """Write a script called `greet` into a directory."""
    directory.mkdir(exist_ok=True)
    program = directory / "greet"
    program.write_text(f"#!/bin/sh\necho {says}\n")
    program.chmod(mode)
    return program


@pytest.fixture
def path(tmp_path):
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
    install(tmp_path / "second", "second")
    return tmp_path


def search(path, *names):
    return ":".join([*(str(path / name) for name in names), "/usr/bin", "/bin"])


async def greeting(service, path, *names, **options):
    names = names or ("first", "second", "third")
    return (await service.run("greet", env={"PATH": search(path, *names)}, **options)).output.strip()


async def test_a_program_that_appears_in_an_earlier_directory_is_run_from_then_on(path):
    async with Service() as service:
        assert await greeting(service, path) == "second"
        assert await greeting(service, path) == "second"
        install(path / "first", "first")
        assert await greeting(service, path) == "first"


@pytest.mark.parametrize("change", ["unlinked", "mode lost", "a directory now"])
async def test_a_program_that_is_no_longer_there_is_looked_up_again(path, change):
    async with Service() as service:
        assert await greeting(service, path) == "second"
        install(path / "third", "third")
        program = path / "second" / "greet"
        program.unlink()
        if change == "mode lost":
            install(path / "second", "second", mode=0o644)
        elif change == "a directory now":
            program.mkdir()
        assert await greeting(service, path) == "third"
        assert await greeting(service, path) == "third"


async def test_the_error_of_a_program_that_has_gone_is_that_of_one_that_never_was(path):
    async with Service() as service:
        assert await greeting(service, path) == "second"
        (path / "second" / "greet").unlink()
        for _ in range(2):
            with pytest.raises(ProgramNotFoundError, match="there is no program 'greet' on its PATH"):
                await greeting(service, path)
        install(path / "second", "second", mode=0o644)
        with pytest.raises(ProcessStartError, match="second/greet' is not executable"):
            await greeting(service, path)


async def test_a_changed_path_leads_to_another_program(path):
    install(path / "third", "third")
    async with Service() as service:
        assert await greeting(service, path) == "second"
        assert await greeting(service, path, "third", "second") == "third"
        assert await greeting(service, path) == "second"


async def test_a_relative_directory_of_the_path_is_relative_to_the_childs_own(path):
    install(path / "third", "third")
    async with Service() as service:
        for directory in ("second", "third", "second"):
            options = RunOptions(command="greet", cwd=path / directory, env={"PATH": ".:/usr/bin:/bin"})
            assert (await service.run_with_options(options)).output.strip() == directory
        (path / "second" / "greet").unlink()
        with pytest.raises(ProgramNotFoundError):
            await service.run_with_options(RunOptions(command="greet", cwd=path / "second", env={"PATH": ".:/usr/bin"}))


async def test_a_program_that_needs_a_launcher_is_found_where_it_is_now(path):
    async with Service() as service:
        assert await greeting(service, path) == "second"
        (path / "second" / "greet").unlink()
        install(path / "third", "third")
        assert await greeting(service, path, nice=1) == "third"
