"""Following the logs and states of a running instance: by cursor, so that no line is lost or shown twice."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import trio

from ..._control import ControlClient, ControlError
from ..._core import OptionError, ProcessError, open_scope
from ..._pipeline import parse_duration
from ..output import print_error, write
from .instance import NotRunningError, segment
from .view import Lines, wants_colour

_PAGE: Final = 5000
_LOOK: Final = 0.25  # seconds; an event of output comes sooner
_OLDER: Final = 1000


def parse_since(text: str) -> float:
    """Return the moment that a text names, in seconds since the epoch: a duration ago, or a time.

    Raises:
        OptionError: It is neither.
    """
    ago = float(text) if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) else parse_duration(text)
    if ago is not None:
        return datetime.now(UTC).timestamp() - ago
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise OptionError(
            f"--since takes a duration (90s, 10m, 2h) or a time (2026-11-29T12:00:00), got {text!r}"
        ) from None
    return moment.timestamp()  # a time without a zone is local


async def follow_logs(
    client: ControlClient,
    names: Sequence[str],
    lines: int,
    since: float,
    grep: str,
    follow: bool,  # noqa: FBT001 - an option of the command line
) -> None:
    """Print the last lines of services, and those that come.

    Args:
        client: A client of the instance.
        names: The services, none for all.
        lines: How many at first.
        since: Only lines from this moment on, in seconds since the epoch.
        grep: Only lines with this text.
        follow: Whether to go on until the instance ends.
    """
    known = [row["name"] for row in await client.get("/services")]
    unknown = [name for name in names if name not in {base for row in known for base in (row, row.partition(".")[0])}]
    if unknown:
        raise OptionError(f"there is no service {unknown[0]!r}; there are {', '.join(known)}")
    shown = Lines(list(names) or known, colour=wants_colour())
    reader = _Reader(client, names, grep)
    found = await reader.last(lines, since)
    write("".join([shown.output(_name(row), row["line"]) for row in found]))
    while follow:
        write("".join([shown.output(_name(row), row["line"]) for row in await reader.more()]))


def _name(row: dict[str, Any]) -> str:
    return row["service"] if row["replica"] == 1 else f"{row['service']}.{row['replica']}"


class _Reader:
    """Reads lines from the log of an instance, by its cursor."""

    def __init__(self, client: ControlClient, names: Sequence[str], grep: str) -> None:
        self._client = client
        self._query = {"service": ",".join(names) or None, "grep": grep or None}
        self._after = 0

    async def last(self, count: int, since: float) -> list[dict[str, Any]]:
        """Return the last lines, oldest first."""
        answer = await self._client.get("/logs", limit=max(1, min(count, _PAGE)), **self._query)
        rows = answer["lines"]
        self._after = answer["last"] or 0
        while len(rows) < count and answer["more"] and rows:
            answer = await self._client.get("/logs", limit=_PAGE, before=rows[0]["cursor"], **self._query)
            rows = answer["lines"] + rows
        return [row for row in rows[-count:] if _moment(row) >= since] if count else []

    async def more(self) -> list[dict[str, Any]]:
        """Return what has come since; waits a moment where there is nothing."""
        try:
            answer = await self._client.get("/logs", after=self._after, limit=_PAGE, **self._query)
        except OSError as error:
            raise NotRunningError("the instance has ended") from error
        rows: list[dict[str, Any]] = answer["lines"]
        if rows:
            self._after = rows[-1]["cursor"]
        if len(rows) < _PAGE:
            await trio.sleep(_LOOK)
        return rows


def _moment(row: dict[str, Any]) -> float:
    return datetime.fromisoformat(row["at"]).timestamp()


async def attach_to(client: ControlClient, name: str | None) -> None:
    """Show lines and states of the services until the instance ends; with a service, pass on lines that are typed."""
    rows = await client.get("/services")
    if name is not None and name not in [row["name"] for row in rows]:
        raise OptionError(f"there is no service {name!r}; there are {', '.join(row['name'] for row in rows)}")
    shown = Lines([row["name"] for row in rows], colour=wants_colour())
    for row in rows:
        write(shown.change(row["name"], row["state"], row["error"] or ""))
    async with open_scope() as nursery:
        if name is not None:
            nursery.start_soon(_type_into, client, name)
        query: dict[str, Any] = {"service": name, "batch": True, "channels": "process.output,service.changed"}
        try:
            async with client.events(**query) as events:
                async for event in events:
                    _show(shown, event, name)
        except OSError as error:
            raise NotRunningError("the instance has ended") from error
        nursery.cancel_scope.cancel()


def _show(shown: Lines, event: dict[str, Any], name: str | None) -> None:
    data = event.get("data") or {}
    match event.get("channel"):
        case "process.output":
            lines = data.get("lines") or [data.get("line", "")]
            label = data.get("name") or data.get("service") or name or ""
            write("".join([shown.output(label, line) for line in lines]))
        case "service.changed":
            write(shown.change(data["name"], data["new"], data.get("reason") or ""))
        case _ if event.get("type") == "gap":
            print_error(
                f"trio-process: {data.get('missed', event.get('missed', '?'))} lines were not shown: the terminal was too slow"
            )


async def _type_into(client: ControlClient, name: str) -> None:
    """Pass lines that are typed on to the stdin of a service, and the end of the file as its end."""
    reading = trio.lowlevel.FdStream(os.dup(sys.stdin.fileno()))
    async with reading:
        async for chunk in reading:
            process = (await client.get(f"/services/{segment(name)}"))["processId"]
            if process is None:
                raise ProcessError(f"{name} is not running, so it takes no input")
            try:
                await client.post(f"/processes/{segment(process)}/input", {"input": chunk.decode(errors="replace")})
            except ControlError as error:
                raise ProcessError(f"{name} takes no input: {error}") from error
