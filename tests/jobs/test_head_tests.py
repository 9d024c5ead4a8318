"""`pipeline.jobs.head_tests`: the tables are those of a plain loop over diagrams, cut anywhere."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline import comparison, head_tests, store
from pipeline.jobs import head_tests as job
from pipeline.work import engine

NULL = "rows_shuffled"


@pytest.fixture(scope="module")
def run(small_run):
    folder, settings = small_run
    return replace(settings, root=folder)


@pytest.fixture(scope="module")
def diagrams(run):
    """By model, text, layer, head, dimension: the bars."""
    return {
        (model, row["text_id"], row["layer"], row["head"], row["dimension"]): np.column_stack(
            [row["birth"], row["death"]]
        )
        for model in run.every_model
        for row in store.read(run.path("diagrams", model)).to_pylist()
    }


def texts(run) -> list[str]:
    return store.read(run.path("corpus"))["text_id"].to_pylist()


def test_pairs_are_those_of_a_plain_loop(run, diagrams):
    rows = store.read(run.path("head_tests")).to_pylist()
    of_pairs = [row for row in rows if row["model_b"] is not None]
    heads = sum(
        1 for model in run.models for _ in store.DiagramsFile(run.path("diagrams", model)).heads
    )
    assert len(of_pairs) == heads * (heads - 1) // 2 * 2 * 2
    for row in of_pairs[:: len(of_pairs) // 40]:
        values = []
        for null in ("", f"-{NULL}"):
            sides = [
                [
                    diagrams.get((f"{model}{null}", text, layer, head, row["dimension"]))
                    for text in texts(run)
                ]
                for model, layer, head in (
                    [row[f"{name}_{side}"] for name in ("model", "layer", "head")] for side in "ab"
                )
            ]
            distance = getattr(comparison, row["statistic"])
            values.append(
                [
                    np.nan if a is None or b is None else distance([a], [b])[0, 0]
                    for a, b in zip(*sides, strict=True)
                ]
            )
        observed, null = np.array(values)
        assert row["texts"] == (~np.isnan(observed)).sum()
        assert row["observed"] == pytest.approx(np.nanmean(observed), abs=1e-12)
        assert row["null_mean"] == pytest.approx(np.nanmean(null), abs=1e-12)


def test_heads_are_those_of_a_plain_loop(run, diagrams):
    rows = store.read(run.path("head_tests")).to_pylist()
    trees = [row for row in rows if row["statistic"] == "tree"]
    assert trees
    for row in trees:
        found = []
        for text in texts(run):
            bars = diagrams.get((row["model_a"], text, row["layer_a"], row["head_a"], 0))
            if bars is not None:
                lengths = bars[np.isfinite(bars[:, 1])]
                found.append((lengths[:, 1] - lengths[:, 0]).sum())
        tokens = store.read(run.path("texts", row["model_a"])).to_pylist()
        counts = [text["tokens"] for text in tokens if text["reason"] is None]
        expected = np.mean(np.array(found) / (np.array(counts) - 1))
        assert row["observed"] == pytest.approx(expected, abs=1e-12)
    entropy = [row for row in rows if row["statistic"] == "entropy"]
    assert {row["p"] for row in entropy} == {1.0}  # a shuffle keeps it


def test_a_model_is_the_mean_of_its_heads(run):
    heads = store.read(run.path("head_tests")).to_pandas()
    for row in store.read(run.path("model_tests")).to_pylist():
        mine = heads
        for name in ("statistic", "dimension", "model_a", "model_b"):
            value = row[name]
            mine = mine[mine[name].isna() if value is None else mine[name] == value]
        assert row["rows"] == len(mine)
        # All heads of these models were measured on the same texts.
        assert row["observed"] == pytest.approx(mine.observed.mean(), abs=1e-9)
        assert row["difference"] == pytest.approx(mine.difference.mean(), abs=1e-5)


def test_q_is_over_the_rows_of_a_kind(run):
    heads = store.read(run.path("head_tests")).to_pandas()
    for _, rows in heads.groupby(heads.model_b.isna()):
        ranked = rows.sort_values("p")
        expected = (ranked.p * len(ranked) / np.arange(1, len(ranked) + 1))[::-1].cummin()[::-1]
        assert ranked.q.to_numpy() == pytest.approx(expected.clip(upper=1).to_numpy())
        assert (rows.q_dependent >= rows.q - 1e-12).all()


def test_tables_are_the_same_however_they_are_cut(run, tmp_path, monkeypatch):
    monkeypatch.setenv("ATTENTION_TOPOLOGY_WORK", str(tmp_path / "work"))
    before = ("head_tests", "model_tests")
    small = replace(run, engine=replace(run.engine, part_pairs=30))
    found = job.job(small)
    assert len(found.parts) > len(job.job(run).parts)
    found = replace(found, outputs={name: tmp_path / f"{name}.parquet" for name in before})
    engine.run(found.trained, *found.nulls.values(), found, spec=small.engine)
    for name in before:
        again, whole = store.read(tmp_path / f"{name}.parquet"), store.read(run.path(name))
        assert again.select(["p", "q", "statistic"]).equals(whole.select(["p", "q", "statistic"]))
        assert np.allclose(again["observed"], whole["observed"], rtol=0, atol=1e-12)


def test_without_nulls_there_are_tables_without_rows(run, tmp_path, monkeypatch):
    monkeypatch.setenv("ATTENTION_TOPOLOGY_WORK", str(tmp_path / "work"))
    found = job.job(replace(run, nulls={}))
    found = replace(found, outputs={name: tmp_path / f"{name}.parquet" for name in found.outputs})
    assert engine.run(found.trained, found, spec=run.engine)["head_tests"] == 0
    assert store.read(tmp_path / "model_tests.parquet").num_rows == 0
    assert head_tests.DISTANCES == ("bottleneck", "wasserstein")
