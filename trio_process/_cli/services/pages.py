"""``trio-process ui``: open the page in a browser, without exposing the token."""

from __future__ import annotations

import html
import os
import tempfile
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio

from ..._control import ControlServer
from ..._daemon import Daemon, default_registry
from ..instance import Instance
from ..output import report

_LOOPBACK: Final = "127.0.0.1:0"
_KEPT: Final = 10.0  # seconds within which a browser reads the file


async def open_page(instance: Instance | None, no_browser: bool) -> None:  # noqa: FBT001 - an option of the command line
    """Open the page of an instance; without an instance, serve a page of the daemons until a signal arrives."""
    if instance is not None and instance.pid():
        url = (await (await instance.reach()).post("/ui"))["url"]
        async with Daemon() as daemon:  # a signal, too, leaves no file behind
            await daemon.run(_show, url, no_browser)
        return
    async with Daemon() as daemon, ControlServer(_LOOPBACK, registry=default_registry()) as control:
        await daemon.run(_show_until_signal, control.login_url.reveal(), no_browser)


async def _show_until_signal(url: str, no_browser: bool) -> None:  # noqa: FBT001 - as above
    report("Ctrl-C ends the page")
    await _show(url, no_browser)
    await trio.sleep_forever()


async def _show(url: str, no_browser: bool) -> None:  # noqa: FBT001 - as above
    """Open a URL through a file that redirects to it, so that the token is not in an argument vector."""
    page, _, _ = url.partition("#")
    if no_browser:
        report(url)
        return
    with _redirection(url) as file:
        opened = await trio.to_thread.run_sync(webbrowser.open, file.as_uri(), abandon_on_cancel=True)
        report(f"the page is at {page}" if opened else f"no browser was found; the page is at {url}")
        if opened:
            await trio.sleep(_KEPT)


@contextmanager
def _redirection(url: str) -> Iterator[Path]:
    """Write a file that redirects to a URL, and remove it when the block is left: the URL has the token in it."""
    descriptor, name = tempfile.mkstemp(prefix="trio-process-", suffix=".html")  # 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            target = html.escape(url, quote=True)
            file.write(
                f'<!doctype html><meta http-equiv="refresh" content="0; url={target}"><title>trio-process</title>\n'
            )
        yield Path(name)
    finally:
        os.unlink(name)
