"""Chromium of the distribution, driven by playwright in a thread; no browser is downloaded."""

import os
import shutil
import time
from contextlib import contextmanager

import pytest
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
]
PATIENCE = 60_000  # milliseconds: the machine may be busy

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium on the PATH; install it to test the page (apt-get install chromium)"
)


@contextmanager
def chromium(*arguments):
    """Start a browser, and give it; it must be used in the same thread."""
    from playwright.sync_api import sync_playwright

    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, *root, *arguments])
        try:
            yield browser
        finally:
            browser.close()


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


async def in_browser(use, *args, arguments=()):
    """Run a plain function with a browser, in a thread."""

    def run():
        with chromium(*arguments) as browser:
            return use(browser, *args)

    with trio.fail_after(240):
        return await trio.to_thread.run_sync(run)
