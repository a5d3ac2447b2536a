"""The pytest plugin, in a pytest of its own for each test."""

import re
from importlib.metadata import entry_points

import pytest

from trio_process.testing import leaks

pytest_plugins = ["pytester"]


@pytest.fixture
def run(pytester, monkeypatch):
    """Return a function that runs a test file in a pytest of its own, with no other plugins than these."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    options = "--strict-markers -p no:cacheprovider -p trio -p trio_process"
    pytester.makeini(f"[pytest]\ntrio_mode = true\naddopts = {options}\n")

    def run(text, *args):
        pytester.makepyfile(text)
        return pytester.runpytest_inprocess(*args)

    return run


def test_the_marker_is_described(run):
    run("").stdout.no_fnmatch_line("*no_real_processes*")
    result = run("", "--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.no_real_processes: *"])


def test_scripts_run_in_a_test_s_service_in_a_core_and_in_any_other_service(run):
    run(
        """
        import trio
        from trio_process import Core, Program, Service
        from trio_process.exec import Command

        async def test_the_fixture_is_a_service(fake_processes, autojump_clock):
            fake_processes.on("git", "push", ..., lines=[(3600, "done")])
            result = await fake_processes.run("git", "push", "origin")
            assert (result.output, result.duration) == ("done\\n", 3600)

        async def test_every_other_service_runs_the_scripts_too(fake_processes, autojump_clock):
            fake_processes.on("git", ..., lines=["v1"])
            async with Service() as service, Core(Service) as core:
                assert (await service.run("git", "describe")).output == "v1\\n"
                assert await core.process.run("git", "status") == "v1\\n"
            assert await Command("git", "log").output() in ("v1", "v1\\n")
            assert [str(call) for call in fake_processes.calls] == ["git describe", "git status", "git log"]

        async def test_afterwards_services_are_real_again():
            async with Service() as service:
                assert (await service.run("echo", "real")).output == "real\\n"
        """
    ).assert_outcomes(passed=3)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("await t.Program('sleep').run('60')", "*sleep 60`, by trio_process.spawn at *test_*.py:*"),
        ("await serve('sleep', '60')", "*`sleep 60`, by trio_process.spawn at *test_*.py:*"),
        ("await trio.lowlevel.open_process(['sleep', '60'])", "*`sleep 60`, by subprocess.Popen*"),
        ("await trio.run_process(['sleep', '60'])", "*`sleep 60`, by subprocess.Popen*"),
        ("subprocess.run(['sleep', '60'])", "*`sleep 60`, by subprocess.Popen at *test_*.py:*"),
        ("os.system('sleep 60')", "*sleep 60*, by os.system at *test_*.py:*"),
    ],
)
@pytest.mark.parametrize("caught", [False, True])
def test_a_real_process_fails_the_test_that_forbids_it(run, call, told, caught):
    result = run(
        f"""
        import contextlib, os, subprocess, pytest, trio
        import trio_process as t

        async def serve(*argv):
            async with t.Service() as service:
                await service.run(*argv)

        @pytest.mark.no_real_processes
        async def test_it():
            with contextlib.suppress({"Exception" if caught else "()"}):
                {call}

        async def test_another_may():
            await trio.run_process(["true"])
            await t.Program("true").run()
        """
    )
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines([told])


def test_a_fake_is_no_real_process(run):
    run(
        """
        import pytest
        pytestmark = pytest.mark.no_real_processes

        async def test_it(fake_processes):
            fake_processes.on("x")
            await fake_processes.run("x")

        def test_nothing():
            pass
        """
    ).assert_outcomes(passed=2)


def test_what_is_left_behind_fails_the_test(run, pytester):
    pytester.makepyfile(
        """
        import os, subprocess, threading, time, warnings
        import trio
        warnings.simplefilter("ignore")

        async def test_leaks(no_leaks):
            global child
            child = subprocess.Popen(["sleep", "60"])
            os.posix_spawnp("true", ["true"], os.environ)
            os.open("/etc/passwd", os.O_RDONLY)
            threading.Thread(target=time.sleep, args=(60,), name="sleeper", daemon=True).start()
            trio.lowlevel.spawn_system_task(trio.sleep, 60, name="forgotten")

        async def test_says_nothing_of_others(no_leaks):
            await trio.to_thread.run_sync(int)

        def test_is_not_asked():
            child.kill()
            child.wait()
        """
    )
    pytester.makeconftest("from trio_process.testing import leaks\nleaks._TIMEOUT = 0.2")
    result = pytester.runpytest_subprocess(timeout=60)  # in a process of its own, which takes all that with it
    result.assert_outcomes(failed=1, passed=2)
    told = str(result.stdout)
    assert "left something behind:" in told
    for pattern in (
        r"process \d+ \(sleep, state S\)",
        r"process \d+ \(true, state Z\)",
        r"descriptor \d+: /etc/passwd",
        "thread 'sleeper'",
        "task 'forgotten'",
    ):
        assert re.search(pattern, told), told


def test_a_sync_test_can_leak_too_and_its_own_failure_goes_first(run, monkeypatch):
    monkeypatch.setattr(leaks, "_TIMEOUT", 0.2)
    result = run(
        """
        import os
        opened = []

        def test_leaks(no_leaks):
            opened.append(os.open("/etc/passwd", os.O_RDONLY))

        def test_fails(no_leaks):
            opened.append(os.open("/etc/passwd", os.O_RDONLY))
            assert 1 == 2

        def test_closes():
            for descriptor in opened:
                os.close(descriptor)
        """
    )
    result.assert_outcomes(failed=2, passed=1)
    result.stdout.fnmatch_lines_random(["*assert 1 == 2", "  descriptor *: /etc/passwd"])


def test_a_test_with_services_leaks_nothing(run):
    run(
        """
        from trio_process import Service
        from trio_process.testing import FakeService

        async def test_real(no_leaks):
            async with Service() as service:
                await service.start("sleep", "60")
                await service.run("sh", "-c", "setsid sleep 60 & echo x")

        async def test_fake(no_leaks, autojump_clock, fake_processes):
            fake_processes.on("sleep", "60", exit_code=None)
            await fake_processes.start("sleep", "60")
        """
    ).assert_outcomes(passed=2)


HEAVY = "[name for name in ('trio', 'trio_process', 'attrs', 'quart', 'rich') if name in sys.modules]"


def test_loading_the_plugin_imports_neither_trio_nor_the_package(pytester):
    script = pytester.makepyfile(f"import sys; import pytest; import pytest_trio_process; print({HEAVY})")
    assert pytester.runpython(script).outlines == ["[]"]


@pytest.mark.parametrize(
    "text", ["def test_nothing(): pass", "", "import pytest\ndef test_marks(): pytest.mark.no_real_processes"]
)
def test_a_run_of_pytest_with_the_plugin_imports_neither(pytester, monkeypatch, text):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeconftest(f"import sys\ndef pytest_unconfigure():\n    print('found', {HEAVY})")
    pytester.makepyfile(text)
    done = pytester.runpytest_subprocess("-p", "pytest_trio_process", "-s")
    done.stdout.fnmatch_lines(["*found []*"])


def test_without_pytest_trio_the_fixture_names_it(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(
        """
        async def test_async(fake_processes):
            pass

        def test_sync(fake_processes):
            pass

        def test_without(no_leaks):
            pass
        """
    )
    done = pytester.runpytest_subprocess("-p", "pytest_trio_process")
    done.assert_outcomes(errors=2, passed=1)
    done.stdout.fnmatch_lines(["*the fixture fake_processes needs pytest-trio: pip install pytest-trio*"])


def test_with_pytest_trio_an_async_test_that_it_does_not_run_names_the_setting(run, pytester):
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider -p trio -p trio_process\n")
    done = run(
        """
        import pytest

        async def test_unmarked(fake_processes):
            pass

        @pytest.mark.trio
        async def test_marked(fake_processes):
            pass
        """
    )
    done.assert_outcomes(errors=1, passed=1)
    done.stdout.fnmatch_lines(["*fake_processes needs a test that pytest-trio runs: set trio_mode = true in*"])


def test_the_plugin_is_what_the_distribution_announces():
    (found,) = [point for point in entry_points(group="pytest11") if point.name == "trio_process"]
    assert found.load().fake_processes
