"""Output, input and lines: the same on the real service and on the fake."""

import re

import pytest
import trio
from worlds import line, on_its_clock, plain_rest

from trio_process import (
    ActionProcessExited,
    ActionProcessOutput,
    ActionProcessStarted,
    CommandFailedError,
    OutputLine,
    Overflow,
    ProcessNotRunningError,
    ProcessStartError,
    StdinNotAvailableError,
    Stdio,
    Stream,
)
from trio_process.testing import Read

FOREVER = {"exit_code": None}


def cat(call):
    """What cat does, line by line."""
    while text := (yield Read.LINE):
        yield text.encode()


async def lines_of(world, argv, **options):
    async with world.service() as service:
        events = service.subscribe(ActionProcessOutput)
        result = await service.run(*argv, **options)
    return result, await plain_rest(events)


@on_its_clock
async def test_both_streams_arrive_in_order(world):
    argv = world.program(
        "echo 1; read x; echo 2 >&2; read x; echo 3",
        lines=["1", Read.LINE, OutputLine("2", Stream.STDERR), Read.LINE, "3"],
    )
    async with world.service() as service:
        events = service.subscribe(ActionProcessOutput)
        process = await service.start(*argv)
        for text in ("1", "2"):  # each is read before the next is written: two pipes have no order between them
            await process.wait_for_line(text)
            await process.send_input("\n")
        await process.wait()
        result = process.result()
    assert await plain_rest(events) == [line("1"), line("2", "stderr"), line("3")]
    assert (result.output, result.stdout, result.stderr) == ("1\n2\n3\n", "1\n3\n", "2\n")
    assert (result.dropped, result.truncated, result.output_incomplete) == (0, False, False)


@on_its_clock
async def test_streams_can_be_told_apart_each_on_its_own_clock(world):
    argv = world.program(
        "sleep 0.1; echo a; sleep 0.8; echo b >&2; sleep 0.8; echo c",
        lines={"stdout": [(0.1, "a"), (1.6, "c")], "stderr": [(0.9, "b")]},
    )
    result, events = await lines_of(world, argv)
    assert events == [line("a"), line("b", "stderr"), line("c")]
    assert world.takes(result.duration, 1.7)


@pytest.mark.parametrize(
    ("written", "lines"),
    [
        ("no line", [line("no line")]),
        ("a\\nb", [line("a"), line("b")]),
        ("a\\r\\nb\\r\\n", [line("a"), line("b")]),
        ("\\n\\n", [line(""), line("")]),
        ("12345678\\n", [line("12345678")]),
        ("123456789\\n", [line("12345678", partial=True), line("9")]),
        ("12345678123456781", [line("12345678", partial=True), line("12345678", partial=True), line("1")]),
        ("\\303\\244\\377\\n", [line("ä\N{REPLACEMENT CHARACTER}")]),
    ],
)
@on_its_clock
async def test_lines_are_cut_where_they_should(world, written, lines):
    data = written.encode().decode("unicode_escape").encode("latin-1")
    argv = world.program(f"printf '{written}'", lines=[data])
    result, events = await lines_of(world, argv, max_line=8)
    assert events == lines
    assert result.output_bytes == data


@on_its_clock
async def test_a_line_that_comes_in_pieces_is_one(world):
    argv = world.program("printf he; sleep 0.1; printf 'llo\\nx'", lines=[b"he", (0.1, b"llo\nx")])
    _, events = await lines_of(world, argv)
    assert events == [line("hello"), line("x")]


@on_its_clock
async def test_only_the_tail_is_kept(world):
    argv = world.program("echo 12345; echo 6789", lines=[b"12345\n6789\n"])
    result, events = await lines_of(world, argv, buffer_size=6)
    assert (result.output, result.dropped, result.truncated) == ("\n6789\n", 5, True)
    assert events == [line("12345"), line("6789")]
    result, events = await lines_of(world, argv, disable_capture=True)
    assert result.output == ""
    assert events == [line("12345"), line("6789")]


@pytest.mark.local_only
@on_its_clock
async def test_streams_go_where_they_are_told(world, tmp_path):
    argv = world.program("echo out; echo err >&2", lines=["out", OutputLine("err", "stderr")])
    result, events = await lines_of(world, argv, stderr=Stdio.STDOUT)
    assert (events, result.stderr) == ([line("out"), line("err")], "")
    _, events = await lines_of(world, argv, stdout=Stdio.NULL)
    assert events == [line("err", "stderr")]
    _, events = await lines_of(world, argv, stdout=tmp_path / "out", stderr=Stdio.STDOUT)
    assert (events, (tmp_path / "out").read_text()) == ([], "out\nerr\n")
    with (tmp_path / "file").open("wb") as file:
        _, events = await lines_of(world, argv, stdout=file)
    assert (events, (tmp_path / "file").read_text()) == ([line("err", "stderr")], "out\n")
    await lines_of(world, argv, stdout=tmp_path / "both", stderr=trio.Path(tmp_path / "both"))  # opened once
    assert (tmp_path / "both").read_text() == "out\nerr\n"
    async with world.service() as service:
        with pytest.raises(ProcessStartError, match="no/such"):
            await service.run(*argv, stdout=tmp_path / "no" / "such")


@on_its_clock
async def test_a_log_file_gets_everything(world, tmp_path):
    argv = world.program("echo out; echo err >&2", lines=["out", OutputLine("err", "stderr")])
    await lines_of(world, argv, log_file=tmp_path / "log", stderr=Stdio.STDOUT)
    assert (tmp_path / "log").read_text() == "out\nerr\n"


@pytest.mark.local_only
@on_its_clock
async def test_what_is_detached_writes_to_its_log(world, tmp_path):
    argv = world.program(
        "echo out; echo err >&2; sleep 0.3; exit 3",
        lines=["out", OutputLine("err", "stderr")],
        exit_code=3,
        exit_after=0.3,
    )
    async with world.service() as service:
        events = service.subscribe(ActionProcessOutput)
        process = await service.start(*argv, detach=True, log_file=tmp_path / "log")
        await process.wait_for_line("err", timeout=10)
        assert await process.wait(check=False) == 3
    assert (tmp_path / "log").read_text() == "out\nerr\n"
    assert await plain_rest(events) == [line("out"), line("err")]


@on_its_clock
async def test_it_answers_what_it_is_told(world):
    argv = world.command("cat", lines=cat)
    async with world.service() as service:
        process = await service.start(*argv)
        await process.send_input("one\n")
        assert (await process.wait_for_line("one")).text == "one"
        await process.send_input(b"two")
        await trio.sleep(0.05)
        await process.close_stdin()
        assert await process.wait() == 0
        assert process.output() == "one\ntwo"
        with pytest.raises(ProcessNotRunningError):
            await process.send_input("four")


@on_its_clock
async def test_a_stdin_that_is_closed_takes_no_more(world):
    argv = world.program("exec sleep 60", **FOREVER)
    async with world.service() as service:
        process = await service.start(*argv)
        await process.close_stdin()
        await process.close_stdin()
        with pytest.raises(StdinNotAvailableError):
            await process.send_input("more")
        process.kill()
        await process.wait(check=False)
        with pytest.raises(ProcessNotRunningError):
            await process.send_input("more")


@on_its_clock
async def test_input_is_data_a_file_or_nothing(world, tmp_path):
    (tmp_path / "in").write_text("from a file\n")
    argv = world.command("cat", lines=cat)
    for given, text in [("text\n", "text\n"), (b"data", "data"), (tmp_path / "in", "from a file\n"), (None, "")]:
        result, _ = await lines_of(world, argv, stdin=given)
        assert result.output == text
    async with world.service() as service:
        process = await service.start(*world_sleep(world, service))
        await process.stop()
        null = await service.start(*argv, stdin=Stdio.NULL)
        with pytest.raises((StdinNotAvailableError, ProcessNotRunningError)):
            await null.send_input("x")
        with pytest.raises(StdinNotAvailableError):
            await null.close_stdin()
        assert await null.wait() == 0


def world_sleep(world, service):
    """Return a command that sleeps, registered late: a fake takes registrations at any time."""
    if world.fake:
        service.on("sleep", "60", exit_code=None)
    return ("sleep", "60")


@on_its_clock
async def test_a_full_pipe_makes_the_writer_wait_and_nobody_else(world):
    argv = world.program("echo up; exec sleep 60", lines=["up"], **FOREVER)
    failures = []

    async def write(process):
        try:
            await process.send_input(b"x" * 300_000)
        except (ProcessNotRunningError, StdinNotAvailableError) as error:
            failures.append(error)

    async with world.service() as service, trio.open_nursery() as nursery:
        process = await service.start(*argv)
        nursery.start_soon(write, process)
        await process.wait_for_line("up")
        await trio.sleep(0.1)
        assert not failures
        assert (await process.stop()).signal_name == "SIGTERM"
    assert [type(failure) for failure in failures] == [ProcessNotRunningError]


@on_its_clock
async def test_a_large_input_arrives_whole(world):
    def count(call):
        text = yield Read.ALL
        yield str(len(text))

    argv = world.command("wc", "-c", lines=count)
    async with world.service() as service:
        process = await service.start(*argv)
        await process.send_input(b"x" * 500_000)
        await process.close_stdin()
        await process.wait()
        assert process.output().strip() == "500000"


@on_its_clock
async def test_lines_are_those_captured_and_then_the_live_ones(world):
    argv = world.program(
        "echo a; echo b >&2; read x; echo c; printf d",
        lines=["a", OutputLine("b", Stream.STDERR), Read.LINE, "c", b"d"],
    )
    async with world.service() as service:
        process = await service.start(*argv, stderr=Stdio.PIPE)
        await process.wait_for_line("b")
        early = process.lines()
        await process.send_input("\n")
        assert sorted([item.text async for item in early]) == ["a", "b", "c", "d"]
        assert [item async for item in process.lines("stdout")] == [
            OutputLine(text, Stream.STDOUT) for text in ("a", "c", "d")
        ]
        assert [item.text async for item in process.lines("stderr")] == ["b"]
        assert process.lines().missed == 0


@on_its_clock
async def test_a_line_can_be_waited_for(world):
    argv = world.program("echo begin; sleep 0.1; echo 'port 4711' >&2; exec sleep 60",
                         lines=["begin", (0.1, OutputLine("port 4711", "stderr"))], **FOREVER)  # fmt: skip
    async with world.service() as service:
        process = await service.start(*argv)
        found = await process.wait_for_line(re.compile(r"port (\d+)"))
        assert found == OutputLine("port 4711", Stream.STDERR)
        assert (await process.wait_for_line("begin")).text == "begin"
        with pytest.raises(TimeoutError) as failure:
            await process.wait_for_line("never", timeout=0.2)
        assert str(failure.value) == "sh wrote no line with 'never' within 0.2 s; its last lines:\n  begin\n  port 4711"


@on_its_clock
async def test_a_line_that_never_comes_ends_with_the_process(world):
    argv = world.program("echo other; exit 0", lines=["other"])
    async with world.service() as service:
        process = await service.start(*argv)
        for timeout in (None, 0, 0.0, 60):  # from the second time on it has ended, and that is known at once
            with pytest.raises(CommandFailedError, match="no line with 'never' came before the end") as failure:
                await process.wait_for_line("never", timeout=timeout)
            assert failure.value.result.exit_code == 0
            assert "  other" in str(failure.value)
            assert (await process.wait_for_line("other", timeout=timeout)).text == "other"


# subscriptions


@on_its_clock
async def test_subscriptions_get_what_they_asked_for(world):
    argv = world.program("echo line", lines=["line"])
    async with world.service() as service:
        by_type = service.subscribe(ActionProcessStarted, ActionProcessExited)
        by_name = service.subscribe(name="two")
        for name in ("one", "two"):
            await (await service.start(*argv, name=name)).wait()
        sleeper = await service.start(*world_sleep(world, service))
        by_id = service.subscribe(id=sleeper.id)
        sleeper.kill()
        assert await plain_rest(by_id) == [("killed", "SIGKILL"), ("exited", -9, "killed", "CommandFailedError")]
        late = service.subscribe(id=sleeper.id)
        assert await plain_rest(late) == []
    assert [kind for kind, *_ in await plain_rest(by_type)] == ["started", "exited"] * 3
    assert await plain_rest(by_name) == [
        ("started", "sh", argv[1:], "two"),
        line("line"),
        ("exited", 0, "exited", None),
    ]


def numbers(count):
    return [f"{number}" for number in range(1, count + 1)]


@pytest.mark.parametrize(
    ("overflow", "kept"), [(Overflow.DROP_OLDEST, ["19", "20"]), (Overflow.DROP_NEWEST, ["1", "2"])]
)
@on_its_clock
async def test_who_drops_does_so_by_its_policy_and_keeps_beginning_and_end(world, overflow, kept):
    argv = world.program(
        "for i in $(seq 20); do echo $i; done", lines=[b"".join(f"{n}\n".encode() for n in numbers(20))]
    )
    async with world.service() as service:
        lines = service.subscribe(ActionProcessOutput, buffer=2, overflow=overflow)
        ends = service.subscribe(ActionProcessStarted, ActionProcessExited, buffer=1, overflow=overflow)
        result = await service.run(*argv)
        assert result.output.split() == numbers(20)
    assert [event[1] for event in await plain_rest(lines)] == kept
    assert lines.dropped == 18
    assert [kind for kind, *_ in await plain_rest(ends)] == ["started", "exited"]


@on_its_clock
async def test_who_waits_holds_the_child_up_and_loses_nothing(world):
    # 4 MB: more than the pipes hold, so that a child which waits can be seen
    text = "x" * 999
    argv = world.program(
        f"i=0; while [ $i -lt 4000 ]; do echo {text}; i=$((i+1)); done; echo done >&2",
        lines=[*[text] * 4000, OutputLine("done", "stderr")],
    )
    async with world.service() as service:
        events = service.subscribe(ActionProcessOutput, buffer=10)
        process = await service.start(*argv)
        await trio.sleep(0.5)
        assert process.is_running
        assert events.statistics().buffered < 1000
        assert "done" not in process.output()
        seen = 0
        async with events:
            async for event in events:
                seen += event.stream is Stream.STDOUT
                if event.line == "done":
                    break
        await process.wait()
        assert seen >= 3900  # stderr may overtake what is still in the other pipe
        assert process.result().stdout.count("x") >= 999_000


@on_its_clock
async def test_a_stop_does_not_wait_for_a_reader_that_sleeps(world):
    argv = world.program("while :; do echo 0123456789; done", lines=endless, **FOREVER)
    async with world.service() as service:
        events = service.subscribe(ActionProcessOutput, buffer=5)
        process = await service.start(*argv)
        while events.statistics().buffered < 5:
            await trio.sleep(0.01)
        result = await process.stop()
        assert result.signal_name == "SIGTERM"
        assert "0123456789\n0123456789\n" in result.stdout  # of which the last MiB is kept
    count = 0
    async for event in events:
        assert event.line in ("0123456789", "") or "0123456789".startswith(event.line)
        count += 1
    assert count >= result.stdout.count("\n") - 1


@pytest.mark.parametrize("group", [True, False])
@on_its_clock
async def test_a_kill_does_not_wait_for_a_reader_that_sleeps(world, group):
    argv = world.program("while :; do echo 0123456789; done", lines=endless, **FOREVER)
    async with world.service() as service:
        with service.subscribe(ActionProcessOutput, buffer=5) as events:
            process = await service.start(*argv, kill_group=group)
            while events.statistics().buffered < 5:
                await trio.sleep(0.01)
            process.kill()
            assert await process.wait(check=False) == -9


def endless(call):
    """Write for ever; only a full pipe holds it up."""
    while True:
        yield "0123456789"
