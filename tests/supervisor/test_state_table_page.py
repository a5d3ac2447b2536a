"""The page on the supervisor shows the table of the code; `python tests/supervisor/test_state_table_page.py` writes it there."""

from pathlib import Path

from trio_process._supervisor import TABLE

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "supervisor.md"
BEGIN, END = "<!-- table of the states: tests/supervisor/test_state_table_page.py -->\n", "<!-- end of the table -->\n"


def table():
    """Return the table of the states as Markdown, and as a diagram that a browser or an editor can draw."""
    rows = ["", "| state | event → next |", "| --- | --- |"]
    arrows = ["```{code-block} text", ":caption: The same as a diagram (Mermaid)", "", "stateDiagram-v2"]
    for state, events in TABLE.items():
        rows.append(
            f"| `{state.name}` | " + " · ".join(f"{event} → `{new.name}`" for event, new in events.items()) + " |"
        )
        arrows += [f"    {state.name} --> {new.name}: {event.replace('`', '')}" for event, new in events.items()]
    return "\n".join([*rows, "", *arrows, "```", "", ""])


def with_table(text):
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table() + END + after


def test_the_page_shows_the_table_of_the_code():
    text = PAGE.read_text()
    assert BEGIN in text
    assert END in text
    assert text == with_table(text), "run `python tests/supervisor/test_state_table_page.py`"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
