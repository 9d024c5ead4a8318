import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipeline.report import measures
from tests.report import small


@pytest.fixture(scope="module")
def found() -> pd.DataFrame:
    table = measures.of_layers(small.run())
    return table.set_index(["model", "measure", "layer"])


def test_total_persistence_is_the_sum_of_the_finite_bars():
    lists = pa.list_(pa.float64())
    rows = pa.table(
        {
            "birth": pa.array([[9.0], [0.0, 0.0, 0.25], [], [0.0]], lists),
            "death": pa.array([[9.5], [1.0, small.INF, 0.75], [], [small.INF]], lists),
        }
    )
    assert measures.total_persistence(rows).tolist() == [0.5, 1.5, 0, 0]
    # A text's rows are a slice of a row group.
    assert measures.total_persistence(rows.slice(1, 2)).tolist() == [1.5, 0]
    assert measures.total_persistence(rows.slice(2, 1)).dtype == np.float64


@pytest.mark.parametrize(("model", "layer"), [("m", 1), ("n", 2)])
def test_mean_and_band_are_over_texts_of_means_over_heads(found, model, layer):
    over_heads = [np.mean([small.entropy(t, layer, h) for h in (0, 1)]) for t in range(4)]
    row = found.loc[model, "entropy", layer]
    assert row["texts"] == 4
    assert row["mean"] == pytest.approx(np.mean(over_heads))
    assert row["low"] == pytest.approx(np.quantile(over_heads, 0.1))
    assert row["high"] == pytest.approx(np.quantile(over_heads, 0.9))
    assert found.loc[model, "distance between tokens", layer]["mean"] == pytest.approx(
        np.mean(over_heads) / 100
    )


@pytest.mark.parametrize("dimension", [0, 1])
def test_persistence_is_told_apart_by_dimension(found, dimension):
    totals = [1 + np.mean([small.length(t, 2, h, dimension) for h in (0, 1)]) for t in range(4)]
    row = found.loc["n", f"total persistence, dimension {dimension}", 2]
    assert row["mean"] == pytest.approx(np.mean(totals))
    assert row["high"] == pytest.approx(np.quantile(totals, 0.9))


def test_a_text_skipped_counts_nowhere():
    def without(table):
        return small.Kept(table.filter(pc.not_equal(table["text_id"], "t3")))

    heads, diagrams = without(small._heads("m")), without(small._diagrams("m"))
    changed = small.run(heads={"m": heads}, diagrams={"m": diagrams})
    assert set(measures.of_layers(changed)["texts"]) == {3}


def test_a_model_that_used_no_text_has_no_rows():
    heads, diagrams = (
        small.Kept(table.slice(0, 0)) for table in (small._heads("m"), small._diagrams("m"))
    )
    run = small.run()
    changed = small.run(heads={**run.heads, "m": heads}, diagrams={**run.diagrams, "m": diagrams})
    assert set(measures.of_layers(changed)["model"]) == {"n"}


def test_hidden_states_have_no_entropy():
    table = small._heads("m")
    place = table.schema.get_field_index("entropy_mean")
    unknown = pa.nulls(len(table), pa.float64())
    heads = small.Kept(table.set_column(place, "entropy_mean", unknown))
    found = measures.of_layers(small.run(heads={"m": heads}))
    assert "entropy" not in set(found["measure"])
    assert "distance between tokens" in set(found["measure"])


def test_no_model_no_rows():
    assert measures.of_layers(small.run(heads={})).empty
