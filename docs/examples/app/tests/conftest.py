"""The fixtures of all tests of the depot."""

import pytest
from depot.store import Store, migrate


@pytest.fixture
def store(tmp_path):
    migrate(tmp_path)
    store = Store(tmp_path)
    yield store
    store.close()
