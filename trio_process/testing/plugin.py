"""The pytest plugin under the name that it had; it is in the package `pytest_trio_process`."""

from pytest_trio_process import (
    fake_processes,
    no_leaks,
    pytest_configure,
    pytest_pyfunc_call,
    pytest_runtest_setup,
)

__all__ = ["fake_processes", "no_leaks", "pytest_configure", "pytest_pyfunc_call", "pytest_runtest_setup"]
