"""What a run will take, told before it is paid for, on a corpus whose run is there."""

import sys

import pytest

from commands import plan
from pipeline.errors import InputError
from pipeline.jobs import diagrams

pytestmark = pytest.mark.integration


def test_parts_and_bytes_are_those_of_the_run(ran):
    told = ran.run(sys.executable, "-m", "commands.plan", "--texts", "2", "--nodes", "3")
    assert "context tiny" in told
    [row] = [line.split() for line in told.splitlines() if line.startswith("diagrams tiny")]
    parts, minutes, tables = int(row[-5]), float(row[-4]), float(row[-1])
    assert parts == 1
    assert 0 < minutes < 5
    # The pilot's corpus is the whole one here.
    made = (ran.folder / f"outputs/diagrams/tiny/{name}.parquet" for name in diagrams.TABLES)
    assert tables == pytest.approx(sum(file.stat().st_size for file in made) / 1e6, rel=0.25)
    assert "this machine, engine.workers=1:" in told
    assert "3 nodes like it" in told
    assert not list((ran.folder.parent / "work").glob(".pilot-*"))


@pytest.mark.parametrize("words", [["--nodes", "0"], ["--texts", "1"]])
def test_a_number_that_makes_no_sense_is_a_sentence(words):
    with pytest.raises(InputError, match="--nodes 1 or more, and --texts 2 or more"):
        plan.parse(words)
