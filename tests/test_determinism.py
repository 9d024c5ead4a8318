"""The measure of moves between instruction sets, on a tiny model."""

import argparse

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from benchmarks import determinism, inputs
from pipeline.runs.differences import difference
from tests import tiny


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder of two runs of one setting."""
    spec = vars(tiny.spec(tiny.save("bert", tmp_path / "bert")))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tiny.yaml").write_text(yaml.safe_dump(spec), "utf-8")
    monkeypatch.setattr(inputs, "CONF", tmp_path)
    monkeypatch.setattr(determinism, "SETTINGS", {"one": {}, "other": {}})
    for number in ("0", "1"):
        determinism.work(tmp_path / "runs" / number, ["tiny"], 2)
    return tmp_path / "runs"


def test_one_machine_gives_one_result_and_a_move_is_measured(home):
    for row in determinism._rows(home):
        assert {value for key, value in row.items() if key != "setting"} == {0}
    arrays = dict(np.load(home / "1" / "tiny.npz"))
    arrays["attention"][7] += 0.25
    np.savez(home / "1" / "tiny.npz", **arrays)
    _, other = determinism._rows(home)
    assert other["attention"] == pytest.approx(0.25)
    assert other["distances"] == 0
    page = determinism.markdown([other])
    assert page.splitlines()[0].startswith("| setting | attention | distances | hidden_states")
    assert "| other | 2.5e-01 | 0 | 0" in page


def test_every_setting_names_variables_that_the_run_log_records():
    named = {name for setting in determinism.SETTINGS.values() for name in setting}
    assert named <= set(determinism.machine.CHOSEN)


@pytest.mark.model
def test_the_tables_of_another_processor_are_within_tolerance(tmp_path):
    """minilm on the oldest instructions there are: numbers move, and no verdict is "different"."""
    options = argparse.Namespace(models=["minilm"], texts=3)
    here, there = tmp_path / "here", tmp_path / "there"
    ours = {"NUMBA_CACHE_DIR": ""}  # kernels as they are compiled for every day
    determinism._start(here, ours, options)
    forced = {**determinism.OLD, **determinism.NUMPY, "MKL_CBWR": "COMPATIBLE"}
    determinism._start(there, forced | ours, options)
    found = {
        file.name.removesuffix(".parquet"): difference(
            pq.read_table(file), pq.read_table(there / file.name)
        ).verdict
        for file in sorted(here.glob("*.parquet"))
    }
    assert len(found) == 7
    assert set(found.values()) <= {"within", "equal"}
    assert found["minilm.heads"] == found["minilm.diagrams"] == "within"
