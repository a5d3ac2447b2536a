"""The pytest plugin under its former name; it is now the package `pytest_trio_process`."""

from pytest_trio_process import (
    fake_processes,
    no_leaks,
    pytest_configure,
    pytest_pyfunc_call,
    pytest_runtest_setup,
)

__all__ = ["fake_processes", "no_leaks", "pytest_configure", "pytest_pyfunc_call", "pytest_runtest_setup"]
