"""Every test of this folder starts without a default logger."""

import pytest

from trio_process.exec import set_default_logger


@pytest.fixture(autouse=True)
def _no_default_logger():
    yield
    set_default_logger(None)
