"""The browser of the tests of the page."""

import os

import pytest
from browser import CHROMIUM, browsing


@pytest.fixture(scope="session")
def browse():
    """Give an async function that runs a plain one with a browser; see `browser.browsing`."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on the PATH; install it to test the page (apt-get install chromium)")
    mark = "TRIO_PROCESS_TESTS"  # of tests/conftest.py
    with browsing({name: value for name, value in os.environ.items() if name != mark}) as found:
        yield found
