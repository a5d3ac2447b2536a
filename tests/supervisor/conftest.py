"""What holds for every test of the supervisor: it is bounded, in real time, as most are on a virtual clock."""

import signal

import pytest


@pytest.fixture(autouse=True)
def bounded():
    """Fail a test that hangs."""

    def expired(*_):
        raise TimeoutError("this test hangs")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
