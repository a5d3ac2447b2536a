"""Writing to a child."""

import pytest
import trio
import trio.testing
from support import python, sh

from trio_process import OptionError, ProcessNotRunningError, Service, StdinNotAvailableError, Stdio

BIG = b"x" * 10_000_000


async def test_what_is_sent_arrives_in_order():
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start("cat")
            await process.send_input("one ")
            await process.send_input(b"two ")
            await process.send_input(bytearray(b"three "))
            await process.send_input("vier: ü")
            await process.close_stdin()
            await process.close_stdin()
            assert await process.wait() == 0
            assert process.output() == "one two three vier: ü"


async def test_text_is_encoded_as_the_run_was_told():
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start("cat", encoding="latin-1")
            await process.send_input("ü")
            with pytest.raises(OptionError, match="can't be encoded"):
                await process.send_input("€")
            await process.close_stdin()
            await process.wait()
            assert process.output_bytes() == b"\xfc"


async def test_a_large_input_to_one_that_reads_arrives_whole():
    with trio.fail_after(60):
        async with Service() as service:
            process = await service.start("wc", "-c")
            await process.send_input(BIG)
            await process.close_stdin()
            await process.wait()
            assert int(process.output()) == len(BIG)


async def test_one_that_does_not_read_blocks_only_its_writer():
    with trio.fail_after(30):
        async with Service() as service:
            stuck = await service.start("sleep", "1000")
            ended = []

            async def send():
                with pytest.raises((ProcessNotRunningError, StdinNotAvailableError)):
                    await stuck.send_input(BIG)
                ended.append(1)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                nursery.start_soon(send)
                await trio.testing.wait_all_tasks_blocked(0.05)
                assert stuck.info().running
                assert (await service.run("echo", "hi")).output == "hi\n"
                other = await service.start("cat")
                await other.send_input("x\n")
                await other.wait_for_line("x")
                with trio.move_on_after(0.05) as scope:
                    await stuck.send_input("behind those")
                assert scope.cancelled_caught
                await stuck.stop()
            assert len(ended) == 2


@pytest.mark.parametrize("how", ["kill", "leave", "close"])
async def test_a_blocked_writer_is_let_go(how):
    errors = []

    async def send(process):
        try:
            await process.send_input(BIG)
        except (ProcessNotRunningError, StdinNotAvailableError) as error:
            errors.append(type(error))

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            async with Service() as service:
                process = await service.start("sleep", "1000")
                nursery.start_soon(send, process)
                await trio.testing.wait_all_tasks_blocked(0.05)
                if how == "kill":
                    process.kill()
                    await process.wait(check=False)
                elif how == "close":
                    await process.close_stdin()
                    await trio.testing.wait_all_tasks_blocked()
                    assert errors == [StdinNotAvailableError]
    assert len(errors) == 1


async def test_a_child_that_closes_its_stdin_is_told_of():
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start(*sh("exec 0<&-; echo closed; sleep 1000"))
            await process.wait_for_line("closed")
            for _ in range(2):
                with pytest.raises(StdinNotAvailableError):
                    await process.send_input("x")
            blocked = await service.start(*sh("read x; exec 0<&-; sleep 1000"))
            with pytest.raises(StdinNotAvailableError, match="closed"):
                await blocked.send_input(b"\n" + BIG)
            assert blocked.is_running


async def test_where_there_is_no_stdin_that_is_said():
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start("sleep", "1000", stdin=Stdio.NULL)
            for data in ("x", ""):
                with pytest.raises(StdinNotAvailableError, match="without a stdin to write to; use stdin=Stdio"):
                    await process.send_input(data)
            with pytest.raises(StdinNotAvailableError, match="without a stdin"):
                await process.close_stdin()
            other = await service.start("cat")
            await other.close_stdin()
            with pytest.raises((StdinNotAvailableError, ProcessNotRunningError)):
                await other.send_input("x")
            await other.wait()
            with pytest.raises(ProcessNotRunningError, match="takes no input: it is exited"):
                await other.send_input("x")
            await other.close_stdin()


async def test_what_can_t_be_sent_is_refused():
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start("cat")
            for data in (None, 1, ["x"]):
                with pytest.raises(OptionError, match="send_input takes str or bytes"):
                    await process.send_input(data)


async def test_sending_is_a_checkpoint():
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start("cat")
            with trio.testing.assert_checkpoints():
                await process.send_input("x")
            with trio.testing.assert_checkpoints():
                await process.close_stdin()


async def test_a_conversation():
    script = "import sys\nfor line in sys.stdin: print(int(line) ** 2, flush=True)"
    with trio.fail_after(30):
        async with Service() as service:
            async with service.open(*python(script)) as process:
                lines = process.lines()
                for number in range(100):
                    await process.send_input(f"{number}\n")
                    assert (await anext(lines)).text == str(number**2)
