"""Every test of this folder leaves nothing behind: no child, no descriptor, no default logger."""

import os

import pytest
from support import descendants

from trio_process.exec import set_default_logger


@pytest.fixture(autouse=True)
def nothing_left():
    before = sorted(os.listdir("/proc/self/fd"))
    yield
    set_default_logger(None)
    assert descendants() == []
    assert sorted(os.listdir("/proc/self/fd")) == before
