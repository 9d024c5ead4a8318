import numpy as np
import pyarrow as pa
import pytest

from pipeline.report import summary


def table(distances: np.ndarray, heads: list[tuple[str, int, int]], dimension: int = 0):
    """A head_distances table with these mean distances."""
    first, second = np.triu_indices(len(heads), 1)
    rows = {
        "corpus": ["c"] * len(first),
        "dimension": np.full(len(first), dimension),
        "mean": distances[first, second],
        "ci_low": distances[first, second] - 0.01,
        "ci_high": distances[first, second] + 0.01,
        "texts": np.full(len(first), 4),
    }
    for side, which in (("a", first), ("b", second)):
        for place, name in enumerate(("model", "layer", "head")):
            rows[f"{name}_{side}"] = [heads[i][place] for i in which]
    return pa.table(rows)


HEADS = [("m", 0, 0), ("m", 0, 1), ("n", 0, 0), ("n", 1, 0)]
D = np.array([[0, 0.1, 0.5, 0.6], [0.1, 0, 0.3, 0.4], [0.5, 0.3, 0, 0.2], [0.6, 0.4, 0.2, 0]])


def test_means_within_and_between_models():
    means = summary.between_models(table(D, HEADS).to_pandas())
    assert means == {"m": 0.1, "m to n": pytest.approx(0.45), "n": 0.2}


def test_extremes():
    rows = table(D, HEADS).to_pandas()
    (closest, second), near = summary.extremes(rows, 2)
    assert near == 0
    assert (closest.a, closest.b, closest.mean) == ("m 0.0", "m 0.1", 0.1)
    assert str(second) == "n 0.0 and n 1.0: 0.2000 [0.1900, 0.2100]"
    assert summary.extremes(rows, 1, farthest=True).pairs[0].b == "n 1.0"


def test_extremes_leave_out_what_is_not_known():
    rows = table(D, HEADS).to_pandas()
    rows.loc[0, "mean"] = np.nan
    assert summary.extremes(rows, 1).pairs[0].mean == 0.2


def test_what_rounding_may_put_in_the_place_of_the_last_is_counted():
    near = summary.ROUNDING * np.array([0.0, 0.9, -0.9, 1.1])
    for size in (0.25, 1000.0):
        rows = table(np.zeros((2, 2)), HEADS[:2]).to_pandas()
        rows = rows.loc[rows.index.repeat(4)].assign(mean=size + max(size, 1.0) * near)
        assert [summary.extremes(rows, shown).near for shown in (1, 2, 3, 4)] == [1, 1, 1, 0]
    assert summary.extremes(rows, 0).near == 0
    words = summary.text(pa.Table.from_pandas(rows.assign(model_b="n"), preserve_index=False))
    assert words.splitlines()[-1].endswith("; 1 more as close but for rounding")


def test_text_gives_three_numbers_a_dimension():
    assert summary.text(table(D, HEADS)).splitlines()[1:] == [
        "  two heads of one model    0.1500",
        "  heads of different models 0.4500",
        "  closest across models: m 0.1 and n 0.0: 0.3000 [0.2900, 0.3100]",
    ]


def test_text_of_one_model():
    lines = summary.text(table(D[:2, :2], HEADS[:2])).splitlines()
    assert lines[2:] == ["  closest of all: m 0.0 and m 0.1: 0.1000 [0.0900, 0.1100]"]


def test_text_where_two_models_share_no_text():
    apart = np.where(D > 0.2, np.nan, D)
    assert summary.text(table(apart, HEADS)).splitlines()[1:] == [
        "  two heads of one model    0.1500",
        "  heads of different models nan",
    ]
