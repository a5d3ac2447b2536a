"""A secret shows as `***` wherever a person or a file could see it; only the child gets the value."""

import copy
import json
import logging
import os
import pickle

import pytest
import trio

from trio_process import (
    ActionProcessExited,
    ActionProcessOutput,
    ActionProcessStarted,
    CommandFailedError,
    Core,
    OptionError,
    ProcessStartError,
    Runner,
    RunOptions,
    RunSpec,
    Secret,
    Service,
)
from trio_process._core import Masker, shown_args

VALUE = "hunter2 & co"


def sh(script, *args, **options):
    return RunOptions(command="sh", args=("-c", script, "sh", *args), **options)


def hidden(*things):
    """Return which of these would show the value, as text, as repr or as JSON."""
    texts = [form for thing in things for form in (str(thing), repr(thing), f"{thing}", f"{thing!r}")]
    texts += [json.dumps(thing.to_dict()) for thing in things if hasattr(thing, "to_dict")]
    return [text for text in texts if "hunter2" in text] == []


# the value


def test_only_reveal_tells():
    secret = Secret(VALUE)
    assert secret.reveal() == VALUE
    assert str(secret) == f"{secret}" == f"{secret!s}" == "***"
    assert repr(secret) == "Secret('***')"
    assert logging.LogRecord("n", 10, "", 0, "%s %r", (secret, secret), None).getMessage() == "*** Secret('***')"
    assert hidden(secret, [secret], {"a": secret}, (secret,))


def test_secrets_compare_by_value_and_never_equal_a_str():
    assert Secret("a") == Secret("a") != Secret("b")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


def test_a_secret_is_not_written_anywhere():
    with pytest.raises(TypeError, match="be pickled"):
        pickle.dumps(Secret(VALUE))
    with pytest.raises(TypeError) as caught:
        json.dumps({"password": Secret(VALUE)})
    assert hidden(caught.value)
    with pytest.raises(AttributeError):
        Secret(VALUE).__dict__  # noqa: B018 - asking is the test


@pytest.mark.parametrize("wrong", [b"bytes", 3, None])
def test_a_secret_holds_a_str(wrong):
    with pytest.raises(OptionError, match="holds a str"):
        Secret(wrong)


def test_the_longest_secret_is_masked_first_and_an_empty_one_masks_nothing():
    masker = Masker([Secret("key"), Secret("keyring"), Secret("")])
    assert masker("a keyring, a key") == "a ***, a ***"
    assert not Masker([Secret("")])
    assert Masker([])("text") == "text"
    assert Masker([Secret("a.c")])("abc a.c") == "abc ***"


# options


def test_options_and_their_refusals_do_not_show_it():
    options = sh("true", Secret(VALUE), env={"PASSWORD": Secret(VALUE)})
    assert hidden(options, options.args, options.env, shown_args(options))
    assert shown_args(options) == ("-c", "true", "sh", "***")
    for wrong in (
        lambda: RunOptions(command="true", args=[Secret(VALUE + "\0")]),
        lambda: RunOptions(command="true", env={"A": Secret(VALUE + "\0")}),
        lambda: RunOptions(command=Secret(VALUE)),
        lambda: RunOptions(command="true", args=Secret(VALUE)),
        lambda: RunOptions(command="true", env={Secret(VALUE): "x"}),
        lambda: RunOptions(command="true", cwd=Secret(VALUE)),
        lambda: RunOptions(command="true", name=Secret(VALUE)),
        lambda: RunOptions(command="true", stdin=Secret(VALUE)),
    ):
        with pytest.raises(OptionError) as caught:
            wrong()
        assert hidden(caught.value)


# a run, end to end


async def test_the_child_gets_the_value_as_argument_and_in_its_environment():
    with trio.fail_after(10):
        async with Service() as service:
            result = await service.run("sh", "-c", 'echo "$1|$P"', "sh", Secret(VALUE), env={"P": Secret("in env")})
    assert result.output == f"{VALUE}|in env\n"


async def test_nothing_that_is_told_of_a_run_shows_it():
    with trio.fail_after(20):
        async with Service() as service:
            with service.subscribe(ActionProcessStarted, ActionProcessExited) as events:
                process = await service.start("sh", "-c", "exit 3", Secret(VALUE), env={"P": Secret(VALUE)}, name="n")
                with pytest.raises(CommandFailedError) as caught:
                    await process.wait()
                started, exited = await events.receive(), await events.receive()
            info, result = process.info(), process.result()
            assert hidden(process, process.args, process.env, info, result, started, exited, service, caught.value)
    assert hidden(exited.error, result.describe())
    assert info.args == result.args == started.args == exited.args == ("-c", "exit 3", "***")
    assert caught.value.args[0].args[-1] == "***"
    assert "sh -c 'exit 3' ***`" in str(caught.value)


async def test_errors_mask_it_in_the_output_that_they_quote():
    with trio.fail_after(20):
        async with Service() as service:
            with pytest.raises(CommandFailedError) as caught:
                await service.run_with_options(
                    sh('echo "no: $1, $P" >&2; exit 1', Secret(VALUE), env={"P": Secret("p")})
                )
            assert str(caught.value).endswith("\n  no: ***, ***")
            assert hidden(caught.value)
            assert json.dumps(caught.value.result.to_dict()["stderr"]) == '"no: ***, ***\\n"'
            assert caught.value.result.stderr == f"no: {VALUE}, p\n"  # as it came: redact was not asked for
            process = await service.start_with_options(sh("echo $1; exec sleep 100", Secret(VALUE)))
            with pytest.raises(TimeoutError) as late:
                await process.wait_for_line("never", timeout=0.3)
            assert "***" in str(late.value)
            assert hidden(late.value)


async def test_a_start_that_fails_does_not_show_it(tmp_path):
    with trio.fail_after(20):
        async with Service() as service:
            with service.subscribe(ActionProcessExited) as events:
                for options in (
                    RunOptions(command="no-such-program-anywhere", args=[Secret(VALUE)]),
                    RunOptions(command="true", args=[Secret(VALUE)], cwd=tmp_path / "missing"),
                    RunOptions(command="true", args=[Secret(VALUE * 15_000)]),  # above MAX_ARG_STRLEN (execve(2))
                ):
                    with pytest.raises(ProcessStartError) as caught:
                        await service.start_with_options(options)
                    event = await events.receive()
                    assert hidden(caught.value, event, event.error)
                    assert "***" in str(caught.value)


async def test_a_path_does_not_show_it_in_errors_events_and_results(tmp_path):
    missing = tmp_path / VALUE / "missing"
    wrong = [
        {"cwd": missing},
        {"cwd": os.fsencode(missing), "nice": 1},
        {"stdin": missing},
        {"stdout": missing},
        {"log_file": missing},
    ]
    with trio.fail_after(20):
        async with Service() as service:
            with service.subscribe(ActionProcessExited) as events:
                for options in wrong:
                    with pytest.raises(ProcessStartError, match=r"\*\*\*") as caught:
                        await service.start("true", env={"P": Secret(VALUE)}, **options)
                    event = await events.receive()
                    assert hidden(caught.value, event, event.error)
            (tmp_path / VALUE).mkdir()
            process = await service.start("pwd", cwd=tmp_path / VALUE, env={"P": Secret(VALUE)})
            await process.wait()
            assert process.output() == f"{tmp_path / VALUE}\n"
            assert process.cwd == process.result().cwd == f"{tmp_path}/***"


async def test_actions_of_a_core_and_their_errors_do_not_show_it():
    with trio.fail_after(20):
        async with Core(Service) as core:
            assert await core.process.run("echo", Secret(VALUE)) == f"{VALUE}\n"
            key = await core.process.start("sleep", "100", Secret(VALUE))
            assert hidden(await core.process.get(key))
            with pytest.raises(CommandFailedError) as caught:
                await core.process.run("sh", "-c", "echo $1; exit 1", "sh", Secret(VALUE))
            assert hidden(caught.value)


async def test_log_records_do_not_show_it(caplog):
    with caplog.at_level(logging.DEBUG), trio.fail_after(20):
        async with Service() as service:
            process = await service.start("sh", "-c", "exit 3", Secret(VALUE))
            await process.wait(check=False)
            with pytest.raises(ProcessStartError):
                await service.start("no-such-program-anywhere", Secret(VALUE))
    assert "hunter2" not in caplog.text


async def test_reports_of_a_pipeline_do_not_show_it():
    specs = [
        RunSpec(
            name="leaks", command="sh", args=["-c", "echo $1 $P; exit 1", "sh", Secret(VALUE)], env={"P": Secret("pq")}
        ),
        RunSpec(name="lost", command="no-such-program-anywhere", args=[Secret(VALUE)]),
        RunSpec(name="hangs", command="sh", args=["-c", "echo $1; exec sleep 100", "sh", Secret(VALUE)], timeout=0.3),
    ]
    with trio.fail_after(30):
        async with Service() as service:
            result = await Runner(service).run_all(specs)
    reports = [
        json.dumps(result.to_dict()),
        result.to_junit(),
        json.dumps(result.to_chrome_trace()),
        result.to_mermaid(),
    ]
    reports += [str(one.error) for one in result.results] + [repr(spec) for spec in specs]
    assert [report for report in reports if "hunter2" in report] == []


# redact


async def test_redact_masks_it_in_all_that_is_captured_and_delivered():
    # written in two halves, with a pause between, so that a chunk ends in the middle of the secret
    script = 'printf "a hunt"; sleep 0.1; printf "er2 & co b\\n"; printf "%s\\n" "$1" >&2; printf "%s" "$1"'
    with trio.fail_after(20):
        async with Service() as service:
            with service.subscribe(ActionProcessOutput) as events:
                process = await service.start_with_options(sh(script, Secret(VALUE), redact=True))
                lines = [line.text async for line in process.lines()]
                await process.wait()
                delivered = [await events.receive() for _ in range(3)]
            result = process.result()
    assert result.stdout == "a *** b\n***"
    assert result.stderr == "***\n"
    assert sorted(lines) == sorted(event.line for event in delivered) == ["***", "***", "a *** b"]
    assert hidden(result, process, *delivered, result.output, process.output(), process.output_bytes())
    assert copy.copy(result).stdout == result.stdout


async def test_redact_masks_the_value_of_an_environment_variable_too():
    with trio.fail_after(10):
        async with Service() as service:
            result = await service.run("sh", "-c", "echo $P", env={"P": Secret(VALUE)}, redact=True)
            bare = await service.run("sh", "-c", "echo plain", redact=True)
    assert (result.output, bare.output) == ("***\n", "plain\n")


async def test_redact_masks_it_in_the_log_file_too(tmp_path):
    log = tmp_path / "log"
    script = 'printf "a hunt"; sleep 0.1; printf "er2 & co b\\n"; printf "%s" "$1"'
    with trio.fail_after(20):
        async with Service() as service:
            await service.run_with_options(sh(script, Secret(VALUE), redact=True, log_file=log))
    assert "a *** b\n" in log.read_text()
    assert "hunter2" not in log.read_text()


async def test_redact_with_an_encoding_that_can_not_write_the_secret():
    with trio.fail_after(10):
        async with Service() as service:
            result = await service.run("printf", "%s", Secret("pä$$"), redact=True, encoding="ascii")
    assert result.output == "***"


def test_a_secret_can_be_copied_with_what_holds_it_and_formatted():
    options = sh("true", Secret(VALUE), env={"P": Secret(VALUE)})
    assert copy.deepcopy(options) == copy.copy(options) == options
    assert copy.deepcopy(options).args[-1].reveal() == VALUE
    assert f"{Secret(VALUE):>5}" == "  ***"


async def test_a_result_travels_without_the_secrets_and_its_error_still_shows_none():
    async with Service() as service:
        secrets = {"A": Secret(VALUE), "B": Secret("never printed")}
        result = await service.run("sh", "-c", 'printf "é\\377 %s" "$A" >&2; exit 1', env=secrets, check=False)
    assert VALUE in result.stderr
    assert copy.copy(result).stderr_bytes == copy.deepcopy(result).stderr_bytes == result.stderr_bytes
    travelled = pickle.dumps(CommandFailedError(result))
    assert VALUE.encode() not in travelled
    assert b"never printed" not in travelled
    error = pickle.loads(travelled)
    assert str(error) == str(CommandFailedError(result))
    assert (error.result.exit_code, error.result.duration) == (1, result.duration)
    with pytest.raises(TypeError, match="be pickled"):
        pickle.dumps(Masker([Secret(VALUE)]))


async def test_a_result_without_secrets_travels_byte_for_byte():
    async with Service() as service:
        result = await service.run("printf", "\\377 x")
    assert pickle.loads(pickle.dumps(result)) == result


@pytest.mark.parametrize("kept", range(1, len(VALUE) + 3))
async def test_what_is_left_of_a_secret_that_the_capture_cut_through_is_masked_too(kept):
    async with Service() as service:
        result = await service.run(
            "sh", "-c", 'printf "%s:" "$A"; exit 1', env={"A": Secret(VALUE)}, buffer_size=kept, check=False
        )
    assert result.output == f"{VALUE}:"[-kept:]
    shown = ":" if kept == 1 else "***:"
    assert str(CommandFailedError(result)).endswith(f"last lines of output:\n  {shown}")
    assert result.to_dict()["output"] == shown


def test_only_a_text_that_was_cut_is_looked_at_for_the_end_of_a_secret():
    masker = Masker([Secret("hunter2"), Secret("2x")])
    assert masker("er2 hunter2 2x") == "er2 *** ***"
    assert masker("er2 hunter2 2x", cut=True) == "*** *** ***"
    assert masker("", cut=True) == ""
    assert Masker([])("er2", cut=True) == "er2"
