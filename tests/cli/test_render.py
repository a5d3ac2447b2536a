"""The views and the account at the end, fed with scripted updates and events."""

import errno
import io
import math
import re
import sys

import attrs
import click
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from trio_process._cli.text import Duration, cells, clock, glimpse, listed, logged, typed
from trio_process._cli.views import Board, PlainView, Prefix, account, as_text, summarize
from trio_process._cli.views.plain import MOST_PENDING, Writer
from trio_process._cli.views.render import choose_rows, frame, frame_lines
from trio_process._core import (
    ActionProcessExited,
    ActionProcessOutput,
    AgentLostError,
    Bus,
    CommandResult,
    EndReason,
    ProcessError,
    Status,
    Stream,
)
from trio_process._pipeline import RunAllResult, RunResult, RunSpec, RunUpdate, SpecState

NAMES = [
    "a b",
    'it\'s "q"',
    "two\nlines",
    "..",
    "größe→",
    "\u202edrow",
    "[bold]x[/]",
    ":smile:",
    "\x1b[2Jclear",
    "漢字" * 20,
    "x" * 300,
]


def spec(name, *after, **more):
    return RunSpec(name=name, command=more.pop("command", "true"), after=after, **more)


def result(
    one,
    state=SpecState.PASSED,
    *,
    started=0.0,
    duration=1.0,
    wave=0,
    reason=EndReason.EXITED,
    code=0,
    error=None,
    output="",
    **more,
):
    ran = state is not SpecState.SKIPPED
    ended = CommandResult(
        command="true",
        exit_code=code,
        status=Status.EXITED,
        reason=reason,
        output_bytes=output.encode(),
        duration=duration,
        **more,
    )
    return RunResult(
        spec=one,
        state=state,
        exit_code=code if ran else None,
        error=error,
        wave=wave,
        attempts=1 if ran else 0,
        started=started if ran else None,
        duration=duration if ran else 0.0,
        command_result=ended if ran else None,
    )


def whole(*results, **more):
    return RunAllResult(results=tuple(results), duration=more.pop("duration", 3.0), **more)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Closed(io.StringIO):
    """A terminal that was closed: even a write of nothing fails, if the stream has no buffer."""

    def isatty(self):
        return True

    def write(self, text):
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        ({"code": 255, "host": "node"}, "was lost (agent one: it has ended) after 1 s, on node"),
        ({"code": None, "host": "node"}, "was lost (agent one: it has ended) after 1 s, on node"),
        ({"code": None}, "was not run (agent one: it has ended) after 1 s"),
    ],
)
def test_a_task_that_was_lost_ends_with_the_reason(ended, words):
    lost = "agent one: it has ended\n  srun: error: Node failure on n1"
    one = result(spec("a"), SpecState.FAILED, reason=EndReason.LOST, lost=lost, **ended)
    one = attrs.evolve(one, error=AgentLostError(one.command_result))
    text = as_text(account(whole(one), summarize(whole(one), "a"), 200), 200)
    assert f"FAILED a: {words}\n" in text


def test_a_frame_is_drawn_without_a_write_to_the_terminal_which_may_be_closed():
    console = Console(file=Closed(), width=40, height=10, markup=False, emoji=False, highlight=False)
    lines, cells = frame_lines(Board([spec("a")], Clock()), console)
    assert re.sub(r"\x1b\[[0-9;]*m", "", lines[0]).split() == ["·", "a"]
    assert len(lines) == len(cells)


def drawn(board, width=80, height=24, color_system=None):
    console = Console(
        width=width,
        height=height,
        force_terminal=True,
        color_system=color_system,
        markup=False,
        emoji=False,
        highlight=False,
    )
    with console.capture() as captured:
        console.print(frame(board, console))
    return captured.get().split("\n")[:-1]


def progressed(specs, running=(), passed=(), failed=()):
    clock = Clock()
    board = Board(specs, clock)
    by_name = {one.name: one for one in specs}
    for name in (*running, *passed, *failed):
        board.update(RunUpdate(name, SpecState.RUNNING))
    clock.now += 1.5
    for name in passed:
        board.update(RunUpdate(name, SpecState.PASSED, result(by_name[name])))
    for name in failed:
        board.update(RunUpdate(name, SpecState.FAILED, result(by_name[name], SpecState.FAILED, code=3)))
    return board


class TestFrame:
    def test_it_has_a_line_per_task_with_state_time_and_last_line_and_a_bar(self):
        specs = [spec("late", "lint", "test"), spec("lint"), spec("test"), spec("bad")]
        board = progressed(specs, running=["test"], passed=["lint"], failed=["bad"])
        board.line("test", ["first", "collecting \x1b[32m12\x1b[0m items", "  "])
        lines = drawn(board)
        assert re.fullmatch(r"✓ lint +1\.0 s", lines[0].rstrip())
        assert re.fullmatch(r"\S test +1\.5 s  collecting 12 items", lines[1].rstrip())
        assert re.fullmatch(r"✗ bad +1\.0 s  exited with code 3", lines[2].rstrip())
        assert re.fullmatch(r"· late +waits for test", lines[3].rstrip())
        assert lines[5].rstrip().endswith("2/4  1 running  1 failed  1.5 s")

    @pytest.mark.parametrize("width", [20, 30, 59, 60, 80, 200])
    @pytest.mark.parametrize("height", [4, 8, 24])
    def test_it_fits_the_terminal_whatever_names_and_lines_are(self, width, height):
        board = progressed([spec(name) for name in NAMES], running=NAMES[:4], failed=NAMES[4:6])
        for name in NAMES:
            board.line(name, ["漢字" * 200, "\t\x1b]0;title\x07x\r\x1b[2Jy" * 50])
        lines = drawn(board, width, height)
        assert len(lines) <= max(height - 1, 4)
        assert max(cell_len(line) for line in lines) <= width
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", "".join(lines))

    def test_markup_and_emoji_codes_are_shown_as_they_are(self):
        text = "\n".join(drawn(progressed([spec("[bold]x[/]"), spec(":smile:")])))
        assert "[bold]x[/]" in text
        assert ":smile:" in text

    def test_of_many_tasks_those_that_run_and_fail_are_shown_and_the_others_counted(self):
        specs = [spec(f"t{n:05}") for n in range(10_000)]
        board = progressed(
            specs, running=["t00007", "t09000"], passed=[one.name for one in specs[5000:6000]], failed=["t09999"]
        )
        rows, folded = choose_rows(board, 10)
        shown = [row.spec.name for row in rows]
        assert len(shown) == 10
        assert {"t00007", "t09000", "t09999", "t00000"} <= set(shown)
        assert shown == sorted(shown)
        assert folded.plain == "  and 8990 pending, 1000 passed"

    def test_a_retry_and_an_interruption_are_told(self):
        board = progressed([spec("flaky", retries=2)], running=["flaky"])
        board.update(RunUpdate("flaky", SpecState.RETRYING))
        assert "failed; attempt 2 of 3 follows" in drawn(board)[0]
        board.interrupted = "Ctrl-C"
        assert "Ctrl-C: stopping 1; once more to kill" in drawn(board)[-1]

    @pytest.mark.parametrize(("allowed", "colour"), [(False, "31"), (True, "33")])
    def test_a_failure_is_red_unless_it_is_allowed(self, allowed, colour):
        board = progressed([spec("t", allow_failure=allowed)], failed=["t"])
        lines = drawn(board, color_system="standard")
        codes = re.findall(r"\x1b\[([0-9;]+)m", lines[0])
        assert {code.split(";")[-1] for code in codes} == {"0", "2", colour}  # 2: the time, dim

    def test_the_bar_leaves_room_for_its_words(self):
        specs = [spec(name, allow_failure=name == "may") for name in ("a", "b", "c", "may", "bad")]
        lines = drawn(progressed(specs, running=["a"], passed=["b", "c"], failed=["may", "bad"]), width=66)
        assert lines[-1].endswith("4/5  1 running  1 failed  1 failed as allowed  1.5 s")

    def test_a_pipeline_of_nothing_has_a_frame(self):
        assert drawn(Board([], Clock()))


class TestSummary:
    def test_what_fell_with_a_failure_is_folded_under_it(self):
        specs = [spec("bad"), spec("needs", "bad"), spec("deep", "needs"), spec("ran"), spec("later")]
        found = summarize(
            whole(
                result(specs[0], SpecState.FAILED, code=1),
                result(specs[1], SpecState.SKIPPED, wave=1),
                result(specs[2], SpecState.SKIPPED, wave=2),
                result(specs[3], SpecState.FAILED, reason=EndReason.STOPPED, error=ProcessError("x")),
                result(specs[4], SpecState.SKIPPED),
            ),
            "bad",
        )
        assert [(c.result.name, c.stopped, c.skipped) for c in found.causes] == [
            ("bad", ("ran",), ("needs", "deep", "later"))
        ]

    def test_what_stands_behind_a_stop_is_the_first_failure_whoever_in_our_code_asked_for_it(self):
        specs = [spec("a"), spec("b"), spec("c")]
        found = summarize(
            whole(
                result(specs[0], SpecState.FAILED, code=1),
                result(specs[1], SpecState.FAILED, code=1),
                result(specs[2], SpecState.FAILED, reason=EndReason.STOPPED, requested_by="Run._stop"),
            ),
            "b",
        )
        assert [(c.result.name, c.stopped) for c in found.causes] == [("a", ()), ("b", ("c",))]

    def test_allowed_failures_come_last_and_skip_nobody(self):
        specs = [spec("may", allow_failure=True), spec("after", "may"), spec("bad")]
        found = summarize(
            whole(
                result(specs[0], SpecState.FAILED, code=1),
                result(specs[1], wave=1),
                result(specs[2], SpecState.FAILED, code=1),
            ),
            "bad",
        )
        assert [(c.result.name, c.skipped) for c in found.causes] == [("bad", ()), ("may", ())]

    def test_after_an_interruption_what_was_cancelled_is_no_failure(self):
        cut = RunResult(
            spec=spec("cut"),
            state=SpecState.FAILED,
            error=ProcessError("cancelled"),
            wave=0,
            attempts=1,
            started=0.0,
            duration=1.0,
        )
        found = summarize(
            whole(result(spec("bad"), SpecState.FAILED, code=1), cut, result(spec("never"), SpecState.SKIPPED)),
            None,
            interrupted=True,
        )
        assert [cause.result.name for cause in found.causes] == ["bad"]
        assert found.interrupted == ("cut",)

    def test_a_chain_of_two_thousand_is_no_recursion(self):
        specs = [spec("t0"), *[spec(f"t{n}", f"t{n - 1}") for n in range(1, 2000)]]
        results = [result(specs[0], SpecState.FAILED, code=1)]
        results += [result(one, SpecState.SKIPPED, wave=n) for n, one in enumerate(specs[1:], 1)]
        [cause] = summarize(whole(*results), "t0").causes
        assert len(cause.skipped) == 1999


class TestAccount:
    def told(self, whole, culprit=None, width=100, **more):
        return as_text(
            account(whole, summarize(whole, culprit, interrupted=bool(more.get("interrupted"))), width, **more), width
        )

    def test_a_failure_is_told_with_its_command_its_last_lines_and_what_fell_with_it(self):
        specs = [spec("test", command="py test", args=["-k", "a b"]), spec("ship", "test")]
        output = "".join(f"line {n}\n" for n in range(50)) + "\x1b[31mE  boom\x1b[0m\n"
        text = self.told(
            whole(
                result(specs[0], SpecState.FAILED, code=1, output=output), result(specs[1], SpecState.SKIPPED, wave=1)
            ),
            "test",
        )
        assert text.startswith("FAILED test: exited with code 1 after 1 s\n  $ 'py test' -k 'a b'\n  | line 31\n")
        assert "  | E  boom\n  not run because of it: ship\n" in text
        assert text.endswith("1 failed, 1 not run in 3 s\n")

    def test_the_slowest_and_the_critical_path_are_told(self):
        specs = [spec("a"), spec("b", "a"), spec("c")]
        text = self.told(
            whole(
                result(specs[0], duration=1),
                result(specs[1], duration=1.5, wave=1, started=1.0),
                result(specs[2], duration=2),
            )
        )
        assert [line.split()[0] for line in text.split("\n")[2:5]] == ["c", "b", "a"]
        assert "critical path  a → b  2.5 s of 3.0 s" in text
        assert text.endswith("3 passed in 3 s\n")

    @pytest.mark.parametrize("width", [20, 40, 80, 200])
    def test_nothing_in_it_moves_the_cursor(self, width):
        results = [
            result(spec(name, command="x\x1b[2J\n\u202e"), SpecState.FAILED, code=1, output="\x1b[2J\x07\rz\n" + name)
            for name in NAMES
        ]
        text = self.told(whole(*results), width=width)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", text)

    def test_secrets_are_masked(self):
        from trio_process._core import Secret

        one = spec("t", command="login", args=[Secret("hunter2")])
        text = self.told(whole(result(one, SpecState.FAILED, code=1, output="bad password hunter2\n")))
        assert "hunter2" not in text
        assert "  $ login ***\n  | bad password ***\n" in text

    def test_thousands_of_failures_are_cut_to_what_one_can_read(self):
        text = self.told(whole(*[result(spec(f"t{n}"), SpecState.FAILED, code=1) for n in range(3000)]))
        assert len(text.split("\n")) < 150
        assert "more failed: t25, t26" in text
        assert "3000 failed in 3 s" in text

    def test_a_timeout_of_the_whole_is_told(self):
        assert self.told(whole(result(spec("a")), timed_out=True)).endswith("1 passed in 3 s; the --timeout ran out\n")

    def test_a_run_of_nothing_is_told(self):
        assert self.told(whole()) == "nothing to run, in 3 s\n"


class Updates:
    """What a runner sends, by way of the board."""

    def __init__(self, board, changes):
        self.board = board
        self.changes = changes

    async def send(self, update):
        await self.changes.send(self.board.update(update))


def appending(written):
    async def write(text):
        await trio.lowlevel.checkpoint()
        written.append(text)

    return write


class TestPlainView:
    async def shown(self, specs, script, **options):
        """Return what the view writes while `script` sends updates and publishes events."""
        written = []
        board = Board(specs, trio.current_time)
        events = Bus()
        send, receive = trio.open_memory_channel(1000)
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                output = events.subscribe(ActionProcessOutput, ActionProcessExited)
                view = PlainView(board, appending(written), Prefix(board.rows), **options)
                nursery.start_soon(view.show, receive, output)
                with send:
                    await script(Updates(board, send), events)
                await trio.testing.wait_all_tasks_blocked()
                events.close()
        assert all(text.endswith("\n") for text in written)
        return "".join(written).splitlines()

    @staticmethod
    def exited(name):
        return ActionProcessExited(name, name, "true", (), 0, 1.0, None, EndReason.EXITED)

    async def test_lines_have_the_name_in_front_and_the_end_comes_after_the_last_of_them(self):
        specs = [spec("a", command="make"), spec("long name")]

        async def script(send, events):
            await send.send(RunUpdate("a", SpecState.RUNNING))
            await trio.testing.wait_all_tasks_blocked()
            # the runner's word is faster than the output here
            await send.send(RunUpdate("a", SpecState.PASSED, result(specs[0])))
            await trio.testing.wait_all_tasks_blocked()
            events.publish(ActionProcessOutput("1", "a", "one", Stream.STDOUT))
            events.publish(ActionProcessOutput("1", "a", "\x1b[31mtwo\x1b[2J\x1b[0m\r", Stream.STDERR))
            events.publish(ActionProcessOutput("9", "stranger", "no", Stream.STDERR))
            events.publish(self.exited("a"))

        assert await self.shown(specs, script) == [
            "a         $ make",
            "a         | one",
            "a         | \x1b[31mtwo\\x1b[2J\x1b[0m",
            "a         = passed in 1 s",
        ]

    async def test_that_every_task_has_a_result_is_said_after_all_of_them(self):
        specs = [spec("a"), spec("b", "a")]
        skipped = ProcessError("skipped: it needs 'a', which failed")

        async def script(send, events):
            for _ in range(2):
                await send.send(RunUpdate("a", SpecState.RUNNING))
                await trio.testing.wait_all_tasks_blocked()
                events.publish(self.exited("a"))
                await trio.testing.wait_all_tasks_blocked()
                # the board has both results before the view is told of the first
                for update in (
                    RunUpdate("a", SpecState.PASSED, result(specs[0])),
                    RunUpdate("b", SpecState.SKIPPED, result(specs[1], SpecState.SKIPPED, started=None, error=skipped)),
                ):
                    await send.send(update)
                await trio.testing.wait_all_tasks_blocked()
                for one in specs:
                    await send.send(RunUpdate(one.name, SpecState.PENDING))
                await trio.testing.wait_all_tasks_blocked()

        one = ["a $ true", "a = passed in 1 s", "b = skipped: it needs 'a', which failed", "at rest"]
        assert await self.shown(specs, script, at_rest=lambda: "at rest\n") == [*one, *one]

    async def test_each_attempt_is_announced_before_its_lines_and_what_never_ran_is_told(self):
        specs = [spec("flaky", retries=1), spec("never", "flaky")]
        skipped = ProcessError("skipped: it needs 'flaky', which failed")

        async def script(send, events):
            for update in (
                RunUpdate("flaky", SpecState.RUNNING),
                RunUpdate("flaky", SpecState.RETRYING),
                RunUpdate("flaky", SpecState.RUNNING),
                RunUpdate("flaky", SpecState.FAILED, result(specs[0], SpecState.FAILED, code=1)),
                RunUpdate("never", SpecState.SKIPPED, result(specs[1], SpecState.SKIPPED, error=skipped)),
            ):
                await send.send(update)
            for attempt in ("1", "2"):
                events.publish(ActionProcessOutput(attempt, "flaky", f"try {attempt}", Stream.STDOUT))
                events.publish(self.exited("flaky"))

        lines = await self.shown(specs, script)
        assert [line for line in lines if line.startswith("flaky")] == [
            "flaky $ true",
            "flaky | try 1",
            "flaky = failed; attempt 2 of 2 follows",
            "flaky $ true",
            "flaky | try 2",
            "flaky = exited with code 1 after 1 s",
        ]
        assert "never = skipped: it needs 'flaky', which failed" in lines

    async def test_what_has_no_exit_event_is_told_at_the_end(self):
        one = spec("cut")

        async def script(send, events):
            await send.send(RunUpdate("cut", SpecState.RUNNING))
            await send.send(
                RunUpdate(
                    "cut", SpecState.FAILED, result(one, SpecState.FAILED, error=ProcessError("the service is closed"))
                )
            )

        assert (await self.shown([one], script)) == ["cut $ true", "cut = the service is closed after 1 s"]

    async def test_a_slow_reader_pauses_reading_and_loses_nothing(self):
        gate = trio.Event()
        written = []

        async def slow(text):
            await gate.wait()
            written.append(text)

        writer = Writer(slow)
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(writer.run)
                writer.put(["a\n"])
                await writer.room()
                await trio.testing.wait_all_tasks_blocked()
                writer.put(["b" * MOST_PENDING + "\n"])
                with trio.move_on_after(0.05) as waited:
                    await writer.room()
                assert waited.cancelled_caught
                gate.set()
                await writer.room()
                await writer.close()
        assert "".join(written) == "a\n" + "b" * MOST_PENDING + "\n"

    async def test_an_error_of_the_output_ends_the_view(self):
        async def broken(text):
            raise BrokenPipeError

        events, board = Bus(), Board([spec("a")], trio.current_time)
        send, receive = trio.open_memory_channel(10)
        await Updates(board, send).send(RunUpdate("a", SpecState.RUNNING))
        with trio.fail_after(20), pytest.raises(BrokenPipeError):
            await PlainView(board, broken, Prefix(board.rows)).show(receive, events.subscribe())


class TestWords:
    @given(st.text())
    def test_no_line_of_a_task_moves_the_cursor(self, line):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\n]", glimpse(line))
        assert not re.search("[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202e]", logged(line.replace("\n", "")))
        assert not re.sub(r"\x1b\[[0-9;:]*m", "", logged(line)).count("\x1b")

    def test_a_glimpse_is_what_a_terminal_would_show(self):
        assert glimpse("10%\r50%\r") == "50%"
        assert glimpse("\x1b[1;32mok\x1b[0m\tdone") == "ok  done"
        assert glimpse("\x1b]8;;http://x\x07link\x1b]8;;\x07") == "link"

    @settings(max_examples=200)
    @given(st.floats(0, 1e7))
    def test_a_time_is_short(self, seconds):
        assert len(clock(seconds)) <= (7 if seconds < 36_000 else 10)

    def test_times_are_as_people_say_them(self):
        assert [clock(t) for t in (0, 0.004, 0.5, 59.94, 59.96, 61, 3599.6, 3723)] == [
            "0 ms",
            "4 ms",
            "0.5 s",
            "59.9 s",
            "1:00",
            "1:01",
            "1:00:00",
            "1:02:03",
        ]

    def test_a_script_is_shown_as_one_would_type_it(self):
        assert typed(RunSpec(name="t", command="sh", args=("-c", "a | b\nc\n"))) == "a | b\\nc"
        assert typed(RunSpec(name="t", command="sh", args=("x y",))) == "sh 'x y'"

    def test_many_names_are_counted(self):
        assert listed(["a\nb"]) == "a\\nb"
        assert listed(map(str, range(10)), most=2) == "0, 1 and 8 more"


class TestHosts:
    def board(self, host):
        board = Board([spec("here"), spec("there"), spec("waits", "there")], Clock())
        for name in ("here", "there"):
            board.update(RunUpdate(name, SpecState.RUNNING))
        board.progress = lambda: [("here", None, ""), ("there", host, "half a line"), (None, host, ""), ("x", host, "")]
        board.look()
        return board

    def test_a_row_names_the_machine_its_task_runs_on(self):
        here, there, waits, *_ = drawn(self.board("node1"))
        assert re.search(r"there +0 ms  node1  half a line", there)
        assert "node1" not in here + waits
        assert re.search(r"waits {17,}waits for there", waits)  # in the column of the notes

    def test_it_still_does_so_after_the_end(self):
        board = self.board("node1")
        failed = result(board.rows["there"].spec, SpecState.FAILED, code=3, host="node2")
        board.update(RunUpdate("there", SpecState.FAILED, failed))
        board.look()
        assert re.search(r"there +1.0 s  node2  exited with code 3", drawn(board)[1])
        outcome = whole(failed)
        text = as_text(account(outcome, summarize(outcome, None), 80), 80)
        assert "FAILED there: exited with code 3 after 1 s, on node2" in text

    @pytest.mark.parametrize("host", ["x" * 300, "two\nlines", "\x1b[2Jclear", "漢字" * 20])
    @pytest.mark.parametrize("width", [30, 61, 80])
    def test_whatever_a_host_is_called_a_row_is_one_line_that_fits(self, host, width):
        lines = drawn(self.board(host), width)
        assert len(lines) == 5
        assert all(cell_len(line) <= width and "\x1b" not in line for line in lines)

    def test_without_a_cluster_there_is_no_such_column(self):
        assert re.search(r"there +0 ms  half a line", drawn(self.board(None))[1])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(".3", 0.3), ("3", 3), ("2.", 2), (".5m", 30), ("1e-3", 0.001), ("1h30m", 5400), ("inf", math.inf), (5.0, 5)],
)
def test_a_duration_is_read_in_every_usual_notation(text, seconds):
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", ".", "nan", "-1", "-1s", "10x", "soon", "1_0", "\u0661", "1_0s"])
def test_what_is_no_duration_gets_a_hint(text):
    with pytest.raises(click.UsageError, match="expected seconds, or a text such as 90s or 10m; got"):
        Duration().convert(text, None, None)


@pytest.mark.parametrize("text", ["plain", "日本語", "größe→", "cafe\u0301", "●○ ready", "\x1b"])
def test_columns_are_counted_without_rich_too(monkeypatch, text):
    """`up` shows a table of services, and needs nothing else of rich."""
    expected = cells(text)
    monkeypatch.setitem(sys.modules, "rich.cells", None)
    assert cells(text) == expected
