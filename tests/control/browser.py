"""Chromium of the distribution, driven by playwright; no browser is downloaded.

One browser serves all tests of a worker: its start and end take three seconds, more than most of the tests. It runs in a
thread of its own, as playwright wants it, and without the mark by which the leak check knows the children of a test.
"""

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import trio

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP attacker.example 127.0.0.1",  # DNS rebinding
]
PATIENCE = 60_000  # milliseconds: the machine may be busy


@contextmanager
def browsing(unmarked):
    """Start a browser, and give an async function that runs a plain one with it, `await browse(use, *args)`.

    Args:
        unmarked: The environment that the browser gets.
    """
    from playwright.sync_api import sync_playwright

    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with ThreadPoolExecutor(1, "browser") as pool:
        playwright = pool.submit(sync_playwright().start).result()
        try:
            launch = partial(
                playwright.chromium.launch, executable_path=CHROMIUM, args=[*ARGUMENTS, *root], env=unmarked
            )
            browser = pool.submit(launch).result()
            yield partial(_browse, pool, browser)
            pool.submit(browser.close).result()
        finally:
            pool.submit(playwright.stop).result()


async def _browse(pool, browser, use, *args):
    def run():
        try:
            return use(browser, *args)
        except Exception as error:
            for page in [page for context in browser.contexts for page in context.pages]:
                error.add_note(f"{page.url} showed:\n{page.inner_text('body')}")
            raise
        finally:
            for context in browser.contexts:
                context.close()

    with trio.fail_after(240):
        return await trio.to_thread.run_sync(lambda: pool.submit(run).result())


class Tab:
    """A page, and everything that it complained about."""

    def __init__(self, browser, **options):
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.complaints = []
        self.page.on(
            "console", lambda message: message.type in ("error", "warning") and self.complaints.append(message.text)
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def log_in(self, control):
        self.page.goto(control.login_url.reveal())
        self.page.get_by_role("navigation", name="Views").get_by_text("Overview").wait_for()
        return self

    def go(self, where):
        self.page.evaluate("where => { location.hash = where }", where)


def until(page, expression):
    """Wait until an expression is true; playwright's own way needs `eval`, which the page's policy forbids."""
    end = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(50)
