"""Makes `docs/_static/live-view.svg`, the README's picture, from a real run: `python docs/make_picture.py`.

It runs the pipeline below as `trio-process run` does, looks at the live view ten times a second, and keeps the frame in which
there is the most to see.
"""

import math
import sys
import tempfile
from collections import Counter
from io import StringIO
from pathlib import Path
from xml.sax.saxutils import escape

import trio
from rich.console import Console, RenderableType
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from trio_process._cli.text import cells, without_sequences
from trio_process._cli.views.board import Board
from trio_process._cli.views.render import frame
from trio_process._core import ActionProcessOutput, Subscription
from trio_process._pipeline import Runner, RunUpdate, SpecState, read_pipeline
from trio_process._process import Service

PICTURE = Path(__file__).parent / "_static" / "live-view.svg"
COMMAND = "trio-process run"
WIDTH = 76
JOBS = 5

PIPELINE = """
[tasks.lint]
shell = "sleep 0.3; echo 'all checks passed'"

[tasks.types]
shell = "sleep 0.8; echo 'no issues found in 142 source files'"

[tasks.schema]
shell = "sleep 0.2; echo 'pipeline.schema.json: valid'"

[tasks.spelling]
shell = "sleep 0.4; echo 'guide.md:12: recieve'; exit 1"
allow-failure = true

[tasks.test]
shell = 'for i in 1 3 5 7 8; do echo "${matrix.python}: ${i}4 of 96 tests passed"; sleep 0.5; done'
after = ["lint"]
matrix = { python = ["3.11", "3.12", "3.13"] }

[tasks.docs]
shell = "sleep 0.4; echo 'writing output: 61 %  reference/events'; sleep 2; echo 'build succeeded'"
after = ["schema"]

[tasks.wheel]
shell = "sleep 0.2; echo 'built trio_process-py3-none-any.whl'"
after = ["types"]

[tasks.download]
shell = "sleep 0.3; test -e again || { touch again; echo 'connection reset by peer'; exit 1; }; echo '12 files'"
after = ["schema"]
retries = 2
retry-delay = "1s"

[tasks.install]
shell = "sleep 0.2; echo 'no room left in the image'; exit 1"
after = ["wheel"]

[tasks.smoke-test]
run = "true"
after = ["install"]

[tasks.preview]
run = "true"
after = ["docs"]

[tasks.publish]
run = "true"
after = ["test", "docs", "smoke-test"]
"""

# the dark colours of GitHub's own pages: background, foreground, the eight normal ones, the eight bright ones
THEME = TerminalTheme(
    (13, 17, 23),
    (230, 237, 243),
    [(72, 79, 88), (255, 123, 114), (63, 185, 80), (210, 153, 34), (88, 166, 255), (188, 140, 255), (57, 197, 207), (177, 186, 196)],
    [(110, 118, 129), (255, 161, 152), (86, 211, 100), (227, 179, 65), (121, 192, 255), (210, 168, 255), (86, 212, 221), (255, 255, 255)],
)  # fmt: skip

# rich's own format fetches its font from a server: a picture should need none, and a README may not fetch anything
FORMAT = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<title>TITLE</title>
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width;
}}
.{unique_id}-title {{ font-family: system-ui, "Segoe UI", "DejaVu Sans", sans-serif; font-size: 16px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def console(width: int = WIDTH) -> Console:
    """Return a terminal that exists in memory only."""
    return Console(
        file=StringIO(), record=True, width=width, height=30, force_terminal=True, color_system="truecolor",
        markup=False, emoji=False, highlight=False, legacy_windows=False, _environ={},
    )  # fmt: skip


def worth(board: Board) -> tuple[int, int]:
    """Return how much there is to see: the number of different states, then how much of it moves."""
    states = Counter(row.state for row in board.rows.values())
    return len(states), states[SpecState.RUNNING]


async def film(board: Board, best: list[tuple[tuple[int, int], RenderableType]]) -> None:
    """Keep the best frame of a run, of equal ones the latest."""
    seen = console()
    while True:
        if not best or worth(board) >= best[0][0]:
            best[:] = [(worth(board), frame(board, seen))]
        await trio.sleep(0.1)


async def run(directory: Path) -> RenderableType:
    """Run the pipeline, and return its best frame."""
    path = directory / "trio-process.toml"
    path.write_text(PIPELINE, encoding="utf-8")
    specs = [task.spec for task in read_pipeline(path).tasks]
    board = Board(specs, trio.current_time)
    best: list[tuple[tuple[int, int], RenderableType]] = []
    async with Service() as service, trio.open_nursery() as nursery:
        nursery.start_soon(film, board, best)
        updates, received = trio.open_memory_channel[RunUpdate](math.inf)
        nursery.start_soon(follow, board, received)
        nursery.start_soon(read, board, service.subscribe(ActionProcessOutput))
        await Runner(service, max_parallel=JOBS).run_all(specs, schedule="eager", updates=updates)
        nursery.cancel_scope.cancel()
    return best[0][1]


async def follow(board: Board, updates: trio.MemoryReceiveChannel[RunUpdate]) -> None:
    """Take in what happens to the tasks."""
    async for update in updates:
        board.update(update)


async def read(board: Board, output: Subscription[ActionProcessOutput]) -> None:
    """Take in what the tasks write."""
    with output:
        async for event in output:
            board.line(event.name, [event.line])


def measured(picture: RenderableType) -> int:
    """Return how many columns a picture takes: it should have no empty room on its right side."""
    seen = console()
    with seen.capture() as captured:
        seen.print(picture)
    return max(cells(without_sequences(line).rstrip()) for line in captured.get().split("\n"))


def main(picture: Path) -> None:
    """Make the picture."""
    with tempfile.TemporaryDirectory() as directory:
        best = trio.run(run, Path(directory))
    canvas = console(measured(best))
    canvas.print(Text.assemble(("$ ", "dim"), COMMAND))
    canvas.print(best)
    title = f"{COMMAND}: a line per task, with its state, its time and its last line, and a bar for the whole"
    svg = canvas.export_svg(
        title=COMMAND, theme=THEME, code_format=FORMAT.replace("TITLE", escape(title)), unique_id="live-view"
    )
    picture.write_text("\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else PICTURE)
