"""Follow the logs and states of a running instance, by cursor, so that no line is lost or shown twice."""

from __future__ import annotations

import codecs
import errno
import os
import re
import select
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

import trio

from ..._control import ControlClient, ControlError
from ..._core import OptionError, ProcessError, open_scope
from ..._pipeline import parse_duration
from ..instance import NotRunningError, segment
from ..output import OutputLost, print_error, write
from .view import Lines, wants_colour

_PAGE: Final = 5000
_LOOK: Final = 0.25  # seconds; an output event arrives sooner


def parse_since(text: str) -> float:
    """Parse a duration ago or a time; return it in seconds since the epoch.

    Raises:
        OptionError: The text is neither.
    """
    ago = float(text) if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) else parse_duration(text)
    if ago is not None:
        return datetime.now(UTC).timestamp() - ago
    try:
        return datetime.fromisoformat(text).timestamp()  # a time without a zone is local
    except (ValueError, OverflowError):  # also a time that is out of range in another zone
        raise OptionError(
            f"--since takes a duration (90s, 10m, 2h) or a time (2026-11-29T12:00:00), got {text!r}"
        ) from None


async def follow_logs(
    client: ControlClient,
    names: Sequence[str],
    lines: int,
    since: float,
    grep: str,
    follow: bool,  # noqa: FBT001 - an option of the command line
) -> None:
    """Print the last lines of services, and new lines.

    Args:
        client: A client of the instance.
        names: The services; empty for all.
        lines: How many of the last lines to print first.
        since: The time from which to print lines, in seconds since the epoch.
        grep: Text that printed lines must contain.
        follow: Whether to print new lines until the instance ends.
    """
    rows = await client.get("/services")
    known = [row["name"] for row in rows]
    services = {row["name"]: row["service"] for row in rows}
    unknown = [name for name in names if name not in services]
    if unknown:
        raise OptionError(f"there is no service {unknown[0]!r}; there are {', '.join(known)}")
    chosen = [name for name in known if not names or name in names or services[name] in names]
    shown = Lines(chosen, colour=wants_colour())
    reader = _Reader(client, [(name, services[name]) for name in names], grep)
    found = await reader.last(lines, since)
    write("".join([shown.output(_name(row), row["line"]) for row in found]))
    async with until_reader_leaves() as nursery:
        while follow:
            write("".join([shown.output(_name(row), row["line"]) for row in await reader.more()]))
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def until_reader_leaves() -> AsyncIterator[trio.Nursery]:
    """End the block when our reader leaves (``| head -1``), without needing another line to detect that.

    Raises:
        OutputLost: The reader has left.
    """
    async with open_scope() as nursery:
        nursery.start_soon(_watch_reader)
        yield nursery


async def _watch_reader() -> None:
    reader = select.poll()
    reader.register(sys.stdout.fileno(), 0)  # only its errors: POLLERR when the last reader has left
    while not reader.poll(0):  # noqa: ASYNC110 - the kernel sets no event of ours
        await trio.sleep(_LOOK)
    raise OutputLost from BrokenPipeError(errno.EPIPE, "the reader has left")


def _name(row: dict[str, Any]) -> str:
    return row["service"] if row["replica"] == 1 else f"{row['service']}.{row['replica']}"


class _Reader:
    """Reader of lines from the log of an instance, by cursor."""

    def __init__(self, client: ControlClient, names: Sequence[tuple[str, str]], grep: str) -> None:
        self._client = client
        self._query = {"service": ",".join([service for _, service in names]) or None, "grep": grep or None}
        self._services = {service for name, service in names if name == service}
        self._replicas = {name for name, service in names if name != service}
        self._after = 0

    def _wanted(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Drop replicas that were not requested; the server selects whole services."""
        if not self._replicas:
            return rows
        return [row for row in rows if row["service"] in self._services or _name(row) in self._replicas]

    async def last(self, count: int, since: float) -> list[dict[str, Any]]:
        """Return the last lines, oldest first."""
        answer = await self._client.get("/logs", limit=max(1, min(count, _PAGE)), **self._query)
        self._after = answer["last"] or 0
        rows = self._wanted(answer["lines"])
        while len(rows) < count and answer["more"] and answer["lines"]:
            before = answer["lines"][0]["cursor"]
            answer = await self._client.get("/logs", limit=_PAGE, before=before, **self._query)
            rows = self._wanted(answer["lines"]) + rows
        return [row for row in rows[-count:] if _moment(row) >= since] if count else []

    async def more(self) -> list[dict[str, Any]]:
        """Return new lines; wait briefly if there are none."""
        try:
            answer = await self._client.get("/logs", after=self._after, limit=_PAGE, **self._query)
        except OSError as error:
            raise NotRunningError("the instance has ended") from error
        rows: list[dict[str, Any]] = answer["lines"]
        if rows:
            self._after = rows[-1]["cursor"]
        if len(rows) < _PAGE:
            await trio.sleep(_LOOK)
        return self._wanted(rows)


def _moment(row: dict[str, Any]) -> float:
    return datetime.fromisoformat(row["at"]).timestamp()


async def attach_to(client: ControlClient, name: str | None) -> None:
    """Show lines and states of the services until the instance ends; of one only, and with typed lines passed on to it, if named."""
    rows = await client.get("/services")
    if name is not None and name not in [row["name"] for row in rows]:
        raise OptionError(f"there is no service {name!r}; there are {', '.join(row['name'] for row in rows)}")
    shown = Lines([row["name"] for row in rows], colour=wants_colour())
    for row in rows:
        if name in (None, row["name"]):
            write(shown.change(row["name"], row["state"], row["error"] or ""))
    async with until_reader_leaves() as nursery:
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
            write(shown.output(label, *lines))
        case "service.changed":
            write(shown.change(data["name"], data["new"], data.get("reason") or ""))
        case _ if event.get("type") == "gap":
            print_error(
                f"trio-process: {data.get('missed', event.get('missed', '?'))} lines were not shown: the terminal was too slow"
            )


async def _type_into(client: ControlClient, name: str) -> None:
    """Pass typed lines on to the stdin of a service, which stays open at the end of our input."""
    reading = trio.lowlevel.FdStream(os.dup(sys.stdin.fileno()))
    decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a chunk may end within a character
    async with reading:
        async for chunk in reading:
            text = decoder.decode(chunk)
            process = (await client.get(f"/services/{segment(name)}"))["processId"]
            if process is None:
                raise ProcessError(f"{name} is not running, so it takes no input")
            try:
                await client.post(f"/processes/{segment(process)}/input", {"input": text})
            except ControlError as error:
                raise ProcessError(f"{name} takes no input: {error}") from error
