"""One SLURM for all tests of it, and clones whose commands talk to it."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Slurm, lacking


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """A SLURM of two nodes, ended whatever happens."""
    if (why := lacking()) is not None:
        pytest.skip(f"no SLURM here: {why}")
    # Not pytest's own folder: the name of a socket may have a hundred letters.
    with tempfile.TemporaryDirectory(prefix="slurm") as home:
        cluster = Slurm(Path(home), array_size=3)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
            shutil.rmtree(home, ignore_errors=True)
