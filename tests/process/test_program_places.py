"""Where a program was found is remembered, and the exec itself corrects what is remembered."""

import errno
import subprocess
from contextlib import contextmanager

import pytest

from trio_process import ProcessStartError, ProgramNotFoundError, RunOptions, Service
from trio_process._process.local import fork_exec


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


INTERPRETER = "is there, but the interpreter that its first line names"
DAMAGES = {
    "interpreter missing": ("#!/no/such/interpreter\n", INTERPRETER),
    "interpreter not executable": ("#!/etc/passwd\n", "is executable by this user, but the interpreter"),
    "interpreter not a file": ("#!/etc/passwd/sh\n", "is there, but the interpreter that its first line names"),
    "its own interpreter": ("#!{program}\n", "Too many levels of symbolic links"),
    "no first line": ("echo damaged\n", "can't be executed: a script needs a first line"),
    "empty": ("", "can't be executed: a script needs a first line"),
    "truncated": ("\x7fELF\x02\x01\x01", "can't be executed: a script needs a first line"),
    "busy": ("#!/bin/sh\necho damaged\n", "is open for writing"),
}
WAYS = [(way, kind) for way in ("plain", "fallback") for kind in DAMAGES]


@pytest.fixture
def use_fallback(monkeypatch):
    """Return a function that lets `subprocess.Popen` start the children, if that is the way."""
    return lambda way: (
        way == "fallback" and monkeypatch.setattr("trio_process._process.local.fork_exec._fork_exec", None)
    )


@contextmanager
def damaged(directory, kind):
    """Have a program that can't be executed, although it has the mode, in a directory."""
    program = install(directory, "damaged")
    program.write_text(DAMAGES[kind][0].format(program=program))
    with program.open("a") if kind == "busy" else program.open() as file:
        yield file
    program.unlink()


@pytest.mark.parametrize(("way", "kind"), WAYS)
async def test_a_program_that_cannot_be_executed_is_passed_over_whatever_is_remembered(path, use_fallback, way, kind):
    use_fallback(way)
    async with Service() as service:
        with damaged(path / "first", kind):
            assert [await greeting(service, path) for _ in range(2)] == ["second"] * 2  # from the start
        assert await greeting(service, path) == "second"
        with damaged(path / "first", kind):
            assert await greeting(service, path) == "second"  # new, in front of the remembered one
        (path / "second" / "greet").unlink()
        install(path / "third", "third")
        with damaged(path / "second", kind):
            assert [await greeting(service, path) for _ in range(2)] == ["third"] * 2  # in its place
        install(path / "first", "first")
        assert await greeting(service, path) == "first"


@pytest.mark.parametrize("kind", ["interpreter missing", "no first line", "busy"])
async def test_a_launcher_passes_over_the_same_programs_and_names_the_first_of_them(path, kind):
    async with Service() as service:
        with damaged(path / "first", kind):
            assert await greeting(service, path, nice=1) == "second"
            with pytest.raises(ProcessStartError, match=f"first/greet'.*{DAMAGES[kind][1]}"):
                await greeting(service, path, "first", nice=1)


@pytest.mark.parametrize("kind", [kind for kind in DAMAGES if kind != "busy"])
async def test_the_program_that_runs_is_that_of_subprocess(path, kind):
    with damaged(path / "first", kind):
        environment = {"PATH": search(path, "first", "second")}
        theirs = subprocess.run(["greet"], env=environment, capture_output=True, text=True, check=True, timeout=30)
        async with Service() as service:
            assert await greeting(service, path, "first", "second") == theirs.stdout.strip()


@pytest.mark.parametrize(("way", "kind"), WAYS)
async def test_the_error_names_the_first_program_that_cannot_be_executed(path, use_fallback, way, kind):
    use_fallback(way)
    why = DAMAGES[kind][1]
    async with Service() as service:
        assert await greeting(service, path) == "second"
        (path / "second" / "greet").unlink()
        install(path / "third", "third", mode=0o644)
        with damaged(path / "first", kind), damaged(path / "second", "no first line"):
            for _ in range(2):
                with pytest.raises(ProcessStartError, match=f"first/greet'.*{why}"):
                    await greeting(service, path)
            with pytest.raises(ProcessStartError, match=f"second/greet'.*{DAMAGES['no first line'][1]}"):
                await greeting(service, path, "third", "second")
        with pytest.raises(ProcessStartError, match="third/greet' is not executable"):
            await greeting(service, path)


async def test_a_fork_that_fails_starts_no_other_program(path, monkeypatch):
    install(path / "first", "first")
    forks = []

    def fork_exec(argv, executables, *rest):
        forks.append(executables)
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    async with Service() as service:
        for remembered in (False, True):
            if remembered:
                assert await greeting(service, path) == "first"
            with monkeypatch.context() as patch, pytest.raises(ProcessStartError, match="the limit on processes"):
                patch.setattr("trio_process._process.local.fork_exec._fork_exec", fork_exec)
                await greeting(service, path)
        assert len(forks) == 2
        assert await greeting(service, path) == "first"


async def test_a_directory_that_cannot_be_entered_starts_no_other_program(path, monkeypatch):
    install(path / "first", "first")
    forks = []

    def counted(image):
        forks.append(image)
        return start(image)

    async with Service() as service:
        start = fork_exec.start
        monkeypatch.setattr(fork_exec, "start", counted)
        for _ in range(2):
            forks.clear()
            options = RunOptions(command="greet", cwd=path / "none", env={"PATH": search(path, "first", "second")})
            with pytest.raises(ProcessStartError, match="the directory cwd="):
                await service.run_with_options(options)
            assert len(forks) == 1
            assert await greeting(service, path) == "first"
