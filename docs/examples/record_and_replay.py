"""Record a real command, and replay it on a clock that jumps."""

import tempfile
from pathlib import Path

import trio
import trio.testing

from trio_process import Secret
from trio_process.testing import FakeService, UnregisteredCommandError

RECORDING = Path(tempfile.gettempdir()) / "greeting.jsonl"
SCRIPT = 'echo "hello $1"; sleep 0.5; echo "your key is $2"'


async def record() -> None:
    async with FakeService() as fake:
        fake.record(RECORDING)  # commands that are not registered are run for real, and recorded
        await fake.run("sh", "-c", SCRIPT, "sh", "joe", Secret("hunter2"))


async def replay() -> None:
    async with FakeService() as fake:
        fake.replay(RECORDING)
        result = await fake.run("sh", "-c", SCRIPT, "sh", "joe", Secret("another"))
        print(result.output, end="")
        try:
            await fake.run("sh", "-c", SCRIPT, "sh", "jane", Secret("another"))
        except UnregisteredCommandError as error:
            print(type(error).__name__)


trio.run(record)
trio.run(replay, clock=trio.testing.MockClock(autojump_threshold=0))
RECORDING.unlink()

# Prints:
#
#   hello joe
#   your key is ***
#   UnregisteredCommandError
