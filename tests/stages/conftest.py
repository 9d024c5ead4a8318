"""What tests of stages share."""

import pytest

from tests.clone import Clone, small


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A small clone that ran once, its dvc.lock committed; leave it as you found it."""
    clone = small(tmp_path_factory.mktemp("small"))
    clone.run("dvc", "repro")
    clone.head = clone.commit("dvc.lock of the first run")
    return clone
