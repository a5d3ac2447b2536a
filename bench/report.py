"""What was measured, as a table for people and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, Final

from .harness import OURS, Figure, Outcome, cpu_key

_PEERS: Final = (
    "trio",
    "anyio",
    "shellous",
    "plumbum",
    "sh",
    "processkit-py",
    "doit",
    "go-task-bin",
    "hypercorn",
    "quart-trio",
    "supervisor",
    "circus",
)


def summarize(outcome: Outcome) -> dict[str, Any]:
    """Return one benchmark's results, ready for JSON: medians, ranges, ratios to ours, goals, noise."""
    benchmark = outcome.benchmark
    figures = []
    for figure in benchmark.figures:
        rows = []
        for contender in benchmark.contenders:
            values = outcome.values(contender.name, figure.key)
            if values:
                rows.append(
                    {
                        "name": contender.name,
                        "median": median(values),
                        "min": min(values),
                        "max": max(values),
                        "ours_to_this": outcome.ratio(contender.name, figure.key),
                        **(_processor_time(outcome, contender.name, figure) if figure.work else {}),
                    }
                )
        figures.append(
            {
                "key": figure.key,
                "title": figure.title,
                "unit": figure.unit,
                "more_is_better": figure.more_is_better,
                "work": figure.work,
                "contenders": rows,
            }
        )
    goals = []
    for goal in benchmark.goals:
        value = goal.reached(outcome.rounds)
        goals.append({"text": goal.text, "value": value, "met": None if value is None else goal.met(value)})
    return {
        "name": benchmark.name,
        "title": benchmark.title,
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "rounds": len(outcome.rounds),
        "scale": outcome.scale,
        "machine": machine(),
        "noise": {
            "load_average": [round(min(outcome.loads), 2), round(max(outcome.loads), 2)],
            "spin_ms": [round(min(outcome.spins), 1), round(max(outcome.spins), 1)],
        },
        "figures": figures,
        "goals": goals,
        "skipped": outcome.skipped,
    }


def _processor_time(outcome: Outcome, contender: str, figure: Figure) -> dict[str, float | None]:
    """Return a contender's own processor time for a unit of work, and the ratio of ours to it."""
    key = cpu_key(figure.key)
    values = outcome.values(contender, key)
    if not values:
        return {"cpu": None, "cpu_ours_to_this": None}
    return {"cpu": median(values), "cpu_ours_to_this": outcome.ratio(contender, key)}


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    versions = {}
    for name in _PEERS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}",
        "processors": os.cpu_count(),
        "versions": versions,
    }


def merge(path: Path, row: dict[str, Any], order: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of the file with this one in its place; a file that can't be read is replaced."""
    try:
        known = {one["name"]: one for one in json.loads(path.read_text("utf-8"))}
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        known = {}
    known[row["name"]] = row
    return [known[name] for name in order if name in known]


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """Return all results as tables for the documentation."""
    lines = []
    for row in results:
        load, spin = row["noise"]["load_average"], row["noise"]["spin_ms"]
        lines += [f"### {row['title']}", ""]
        for figure in row["figures"]:
            work = figure.get("work")
            processor = f" own processor time a {work}, µs | ours to this |" if work else ""
            lines += [
                f"| {_heading(figure)} | median | range | ours to this |{processor}",
                "| --- | --: | --: | --: |" + (" --: | --: |" if work else ""),
            ]
            for one in figure["contenders"]:
                name = one["name"].replace("|", "\\|")
                spread = f"{number(one['min'])} to {number(one['max'])}"
                row_text = f"| {name} | {number(one['median'])} | {spread} | {_to_this(one, 'ours_to_this')} |"
                if work:
                    used = "" if one["cpu"] is None else number(one["cpu"])
                    row_text += f" {used} | {_to_this(one, 'cpu_ours_to_this')} |"
                lines.append(row_text)
            lines.append("")
        for goal in row["goals"]:
            state = {True: "met", False: "missed", None: "not measured"}[goal["met"]]
            value = "" if goal["value"] is None else f" {number(goal['value'])},"
            lines.append(f"* Goal: {goal['text']}:{value} {state}.")
        lines += [f"* Left out: {name}: {why}." for name, why in row["skipped"].items()]
        machine = row["machine"]
        lines += [
            (
                f"* {row['rounds']} rounds{at_scale(row)} on {row['measured'][:10]}, Python {machine['python']}, {machine['system']}, "
                f"{machine['processors']} processors; load average {load[0]} to {load[1]}, and the same loop of plain Python took "
                f"{spin[0]} to {spin[1]} ms."
            ),
            "",
        ]
    return "\n".join(lines)


def _to_this(one: dict[str, Any], key: str) -> str:
    return "" if one[key] is None or one["name"] == OURS else number(one[key])


def _heading(figure: dict[str, Any]) -> str:
    unit = f", {figure['unit']}" if figure["unit"] else ""
    return f"{figure['title']}{unit} ({'more' if figure['more_is_better'] else 'less'} is better)"


def at_scale(row: dict[str, Any]) -> str:
    """Say if the work was less than its full size."""
    return "" if row["scale"] == 1 else f" with {row['scale']:g} of the work"


def number(value: float) -> str:
    """Write a figure with three digits that matter."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(row: dict[str, Any]) -> str:
    """Return the table of one benchmark."""
    lines = ["", f"{row['name']}: {row['title']}"]
    for figure in row["figures"]:
        lines.append(f"  {_heading(figure)}")
        for one in figure["contenders"]:
            ratio = one["ours_to_this"]
            against = "" if ratio is None or one["name"] == OURS else f"   ours is {ratio:.2f} x this"
            spread = f"{number(one['min'])} to {number(one['max'])}"
            if one.get("cpu") is not None:
                against += f"; own CPU {number(one['cpu'])} µs a {figure['work']}"
                if one["cpu_ours_to_this"] is not None and one["name"] != OURS:
                    against += f", ours is {one['cpu_ours_to_this']:.2f} x"
            lines.append(f"    {one['name']:<34}{number(one['median']):>10}   ({spread}){against}")
    for goal in row["goals"]:
        state = {True: "met", False: "MISSED", None: "not measured"}[goal["met"]]
        value = "" if goal["value"] is None else f": {number(goal['value'])}"
        lines.append(f"  goal, {goal['text']}{value}, {state}")
    lines += [f"  skipped: {name}: {why}" for name, why in row["skipped"].items()]
    load, spin = row["noise"]["load_average"], row["noise"]["spin_ms"]
    lines.append(
        f"  {row['rounds']} rounds{at_scale(row)}; load average {load[0]} to {load[1]}; "
        f"the same loop took {spin[0]} to {spin[1]} ms of this machine"
    )
    return "\n".join(lines)
