"""The examples of exec run as they are, and say what they promise."""

import sys
from pathlib import Path

import pytest
from forked import run_program

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "exec_commands",
            ["['a', 'b', 'c']", "curl -u *** https://example.org", "failed: disk is full", "hello from a"],
        ),
        ("exec_pipes", ["3 the", "y\ny\n", "failed in stage 1 of 2", "found: False [0, 1]"]),
        ("exec_lines", ["tick 3", "! careful", "got 3", "DEBUG executing command cmd='false'", "that was logged"]),
    ],
)
def test_an_example_runs(name, says):
    done = run_program([sys.executable, "-W", "error", EXAMPLES / f"{name}.py"], timeout=60)
    assert done.returncode == 0, done
    text = done.stdout
    assert [line for line in says if line not in text] == []
    assert "hunter2" not in text
