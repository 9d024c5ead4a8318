"""`stages.repository.moves`: why git has changes after a run that changed nothing."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline import store
from stages.repository import moves
from tests.clone import git

FILE = store.SAMPLES / "texts" / "tables" / "text_distances.parquet"


def write(distances, code="a", diagrams="a") -> None:
    schema = store.SCHEMAS["text_distances"]
    rows = len(distances)
    values = {
        name: [name] * rows if pa.types.is_string(schema.field(name).type) else range(rows)
        for name in schema.names
    }
    table = pa.table(values | {"distance": np.asarray(distances, float)}).cast(schema)
    store.write(FILE, "text_distances", [table], {"code": code, "diagrams": {"m": diagrams}})


@pytest.fixture(autouse=True)
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write([0.25, 0.5])
    (tmp_path / "dvc.lock").write_text("a")
    (tmp_path / "params.yaml").write_text("a")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "-c", "user.name=A", "-c", "user.email=a@example.invalid", "commit", "-qm", "A")
    return tmp_path


def test_nothing_is_said_where_nothing_changed():
    assert moves.explanation() == ""


def test_rounding_is_told_with_its_largest_move(repository):
    # What rounding moves, it moves in the table's inputs too.
    write([0.25, 0.5 + 2e-7], diagrams="b")
    (repository / "dvc.lock").write_text("b")
    said = moves.explanation()
    assert "dvc.lock and 1 samples are changed by rounding alone, at most 2.0e-07" in said
    git(repository, "checkout", "dvc.lock", str(store.SAMPLES))
    assert moves.explanation() == ""


@pytest.mark.parametrize("distances", [[0.25, 0.6], [0.25], [np.nan, 0.5]])
def test_values_that_moved_are_not_called_rounding(distances):
    write(distances)
    assert "1 samples are not as the last commit has them, beyond rounding" in moves.explanation()


def test_a_damaged_sample_is_not_called_rounding():
    FILE.write_bytes(FILE.read_bytes()[:-9])
    assert "beyond rounding" in moves.explanation()


def test_another_change_explains_itself(repository):
    write([0.25, 0.6])
    (repository / "params.yaml").write_text("b")
    assert moves.explanation() == ""


def test_other_code_is_not_called_rounding(repository):
    write([0.25, 0.5], code="b")
    (repository / "dvc.lock").write_text("b")
    said = moves.explanation()
    assert "say that other code made them than the last commit's (values moved by 0.0e+00" in said
