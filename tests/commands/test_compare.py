"""Runs side by side: revisions, experiments of DVC and folders, by the command."""

import sys

import pandas as pd
import pytest

from commands import compare
from pipeline import store
from pipeline.errors import InputError
from pipeline.runs.lineup import Lineup
from stages.repository import tables

TABLE = store.path("head_distances")

pytestmark = pytest.mark.integration


def test_each_table_of_a_lineup_can_be_asked_for():
    assert tuple(compare.TITLES) == Lineup._fields


def test_what_is_called_what(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "multirun" / "distance=notebook").mkdir(parents=True)
    words = ["HEAD~1", "b=v1.0", "multirun/distance=notebook/"]
    assert compare.named(words) == {
        "HEAD~1": "HEAD~1",
        "b": "v1.0",
        "distance=notebook": "multirun/distance=notebook/",
    }
    with pytest.raises(InputError, match="called the same"):
        compare.named(["a=HEAD", "a=HEAD~1"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["HEAD"], "One run is no comparison"),
        (["a", "b", "--clusters", "0"], "at least 1"),
        (["a", "b", "--to", "x.txt"], "ends in .csv, .parquet or .html"),
        (["a", "b", "--wrong"], "see python -m commands.compare --help"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_a_sentence(words, says):
    with pytest.raises(InputError, match=says):
        compare.parse(words)


def test_a_revision_is_read_out_of_the_cache(ran, monkeypatch, tmp_path):
    monkeypatch.chdir(ran.folder)
    there = tables.found(ran.head, TABLE, "comparison")
    assert store.sha256(there) == store.sha256(ran.folder / TABLE)
    with pytest.raises(InputError, match="is not in DVC's cache here"):
        tables.cached(ran.folder, "HEAD", TABLE, "0" * 32)
    with pytest.raises(InputError, match="is no revision here"):
        tables.found("nowhere", TABLE, "comparison")
    with pytest.raises(InputError, match="records no outputs/tables/head_distances"):
        tables.found(f"{ran.head}~1", TABLE, "comparison")  # before dvc.lock was committed


def test_experiments_that_were_queued_are_lined_up(ran, tmp_path):
    """As the guide has it: a sweep by DVC's queue, then one table of all."""
    ran.run("dvc", "exp", "run", "--queue", "-S", "distance=notebook,jensen_shannon")
    try:
        ran.run("dvc", "queue", "start")
        ran.run("dvc", "queue", "logs", names(ran)[0], "-f")
        ran.run("dvc", "queue", "logs", names(ran)[1], "-f")
        file = tmp_path / "runs.parquet"
        ran.run(
            *(sys.executable, "-m", "commands.compare", "here=.", *names(ran)),
            *("--clusters", "3", "--of", "runs", "--to", str(file)),
        )
    finally:
        ran.run("dvc", "queue", "stop")
        ran.run("dvc", "exp", "remove", "-A")
    rows = pd.read_parquet(file)
    assert set(rows.dimension) == {0, 1}
    # One of the two is what is here; the other has another distance.
    same = rows[(rows.run_x == "here") & (rows.dimension == 0)].sort_values("spearman")
    assert same.spearman.iloc[1] == pytest.approx(1)
    assert same.spearman.iloc[0] < 1 - 1e-6


def names(clone) -> list[str]:
    return [line.split()[1] for line in clone.run("dvc", "queue", "status").splitlines()[1:3]]
