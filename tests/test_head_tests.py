"""`pipeline.head_tests`: statistics of diagrams, and heads against their nulls."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import head_tests
from pipeline.diagrams import Packed
from pipeline.errors import InputError
from pipeline.head_tests import Measured, TestsSpec

SPEC = TestsSpec(permutations=999, seed=0, confidence=0.95, interval="t", resamples=200)
BARS = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0.01, 1)).map(lambda bar: (bar[0], bar[0] + bar[1])),
    max_size=6,
)


def packed(diagrams) -> Packed:
    ends = np.cumsum([0, *map(len, diagrams)])
    bars = [np.array(bars, float).reshape(-1, 2) for bars in diagrams]
    return Packed(np.concatenate([np.empty((0, 2)), *bars]), ends)


@given(st.lists(BARS, min_size=1, max_size=4), st.integers(0, 1), st.booleans())
def test_statistics_are_those_of_a_plain_loop(diagrams, dimension, endless):
    whole = [[*bars, *([(0.0, np.inf)] * endless)] for bars in diagrams]
    tokens = np.arange(3, 3 + len(diagrams))
    found = dict(head_tests.of_diagrams(packed(whole), dimension, tokens))
    for at, bars in enumerate(diagrams):
        lengths = np.array([death - birth for birth, death in bars])
        total = lengths.sum()
        shares = lengths / total if len(bars) else lengths
        assert found["total_persistence"][at] == pytest.approx(total)
        expected = -(shares * np.log2(shares)).sum()
        assert found["persistence_entropy"][at] == pytest.approx(expected, abs=1e-9)
        if dimension:
            assert found["bars"][at] == pytest.approx(len(bars))
            assert found["longest"][at] == pytest.approx(lengths.max(initial=0))
        else:
            assert found["tree"][at] == pytest.approx(total / (tokens[at] - 1))


def test_a_loop_of_nearly_no_length_is_not_counted():
    bars = [(0.1, 0.1 + 1e-9), (0.1, 0.3), (0.1, 0.1005)]
    found = dict(head_tests.of_diagrams(packed([bars]), 1, np.array([5])))
    assert found["bars"].tolist() == pytest.approx([1.5], abs=1e-5)


def row_of(observed, null, clusters=None, spec=SPEC):
    observed, null = np.atleast_2d(observed), np.atleast_2d(null)
    clusters = np.arange(observed.shape[1]) if clusters is None else clusters
    columns = head_tests.tested(Measured("x", 1, observed, null), clusters, spec)
    return {name: np.asarray(values).tolist()[0] for name, values in columns.items()}


def test_columns_say_what_they_mean():
    observed, null = [1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 1.0, 2.0]
    row = row_of(observed, null)
    assert (row["statistic"], row["dimension"], row["texts"], row["clusters"]) == ("x", 1, 4, 4)
    assert (row["observed"], row["null_mean"], row["difference"]) == (2.5, 1.0, 1.5)
    assert row["null_std"] == pytest.approx(np.std(null, ddof=1))
    assert row["p"] == 2 / 16
    assert row["ci_low"] < 1.5 < row["ci_high"]


@pytest.mark.parametrize("interval", ["percentile", "bca"])
def test_another_interval_may_be_chosen(interval):
    values = np.random.default_rng(0).gamma(1, 1, 30)
    spec = TestsSpec(99, 0, 0.9, interval, 500)
    row, of_t = row_of(values, np.zeros(30), None, spec), row_of(values, np.zeros(30))
    assert row["ci_low"] < row["difference"] < row["ci_high"]
    assert row["ci_high"] - row["ci_low"] < of_t["ci_high"] - of_t["ci_low"]


def test_rounding_is_no_difference():
    """An entropy that a null keeps differs by the last bits, alike on all texts."""
    observed = np.random.default_rng(1).random(12)
    row = row_of(observed, observed + 3e-10)
    assert (row["difference"], row["p"]) == (0.0, 1.0)


def test_a_text_that_either_skipped_counts_nowhere():
    row = row_of([1.0, np.nan, 3.0, 9.0], [0.0, 5.0, 1.0, np.nan])
    assert (row["texts"], row["observed"], row["null_mean"]) == (2, 2.0, 0.5)


def test_one_cluster_has_no_interval_and_constants_no_effect():
    row = row_of([1.0, 2.0], [0.0, 0.0], np.zeros(2, np.int64))
    assert np.isnan(row["ci_low"] if row["ci_low"] is not None else np.nan)
    assert row["p"] == 1.0
    assert row["null_std"] == 0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"permutations": 9}, "permutations is 9; it must be at least 99"),
        ({"confidence": 1.0}, "confidence is 1.0; it must lie between 0 and 1"),
        ({"resamples": 1}, "resamples is 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        TestsSpec(**{**vars(SPEC), **changes})
