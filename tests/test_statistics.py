"""`pipeline.statistics`: tests and intervals over clusters of texts."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline import pairs, statistics
from pipeline.errors import InputError
from pipeline.statistics import by_cluster


def normal(rows: int, texts: int, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (rows, texts))


def of_texts(values: np.ndarray) -> statistics.Sums:
    return by_cluster(values, np.arange(values.shape[1]))


def by_hand(sums: list[float]) -> float:
    """The share of all sign patterns that give a sum as large."""
    observed = abs(sum(sums)) - 1e-12
    patterns = list(itertools.product((1, -1), repeat=len(sums)))
    hits = [
        abs(sum(s * x for s, x in zip(signs, sums, strict=True))) >= observed for signs in patterns
    ]
    return sum(hits) / len(hits)


@given(
    st.integers(1, 8).flatmap(
        lambda n: st.lists(st.floats(-9, 9).map(lambda x: round(x, 3)), min_size=n, max_size=n)
    )
)
def test_p_is_the_share_of_all_sign_patterns(values):
    found = statistics.sign_flip_test(of_texts(np.array([values])), 999, 0).p
    assert found[0] == pytest.approx(by_hand(values), abs=1e-12)


def test_p_is_that_of_scipys_permutation_test():
    values = normal(3, 9, 1, 0.4)
    found = statistics.sign_flip_test(of_texts(values), 9999, 0).p
    for row, p in zip(values, found, strict=True):
        expected = stats.permutation_test(
            (row, np.zeros_like(row)),
            lambda a, b, axis: np.abs((a - b).sum(axis)),
            permutation_type="samples",
            n_resamples=np.inf,
            alternative="greater",
            vectorized=True,
        )
        assert p == pytest.approx(expected.pvalue, abs=1e-12)


def test_p_is_uniform_where_the_null_is_true():
    p = statistics.sign_flip_test(of_texts(normal(1000, 40)), 999, 3).p
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert p.min() >= 1 / 1000


def test_p_is_uniform_where_texts_of_a_cluster_are_alike():
    """As if independent, they would give p below .05 in a quarter of all rows and more."""
    clusters = np.repeat(np.arange(20), 5)
    values = normal(1000, 20)[:, clusters] + 0.1 * normal(1000, 100, 1)
    p = statistics.sign_flip_test(by_cluster(values, clusters), 999, 0).p
    assert stats.kstest(p, "uniform").pvalue > 0.01
    naive = statistics.sign_flip_test(of_texts(values), 999, 0).p
    assert (naive < 0.05).mean() > 0.25


@pytest.mark.parametrize(("shift", "texts"), [(0.5, 30), (0.3, 60)])
def test_a_known_effect_is_found_as_often_as_computed(shift, texts):
    """The power of a t test, which a permutation test of normal values has but for little."""
    p = statistics.sign_flip_test(of_texts(normal(2000, texts, 5, shift)), 999, 0).p
    beyond = stats.t.ppf(0.975, texts - 1)
    expected = stats.nct.sf(beyond, texts - 1, shift * np.sqrt(texts))
    assert (p <= 0.05).mean() == pytest.approx(expected, abs=0.04)


def test_equal_values_and_rounding_are_no_effect():
    values = np.vstack([np.zeros(12), np.tile([1e9, -1e9], 6), [*[1.0] * 6, *[-1.0] * 6]])
    assert statistics.sign_flip_test(of_texts(values), 99, 0).p[[0, 1]] == pytest.approx(1)


def test_pages_and_missing_texts_change_nothing(monkeypatch):
    values = normal(50, 13, 2)
    values[::3, 4] = np.nan
    values[7] = np.nan
    whole = statistics.sign_flip_test(of_texts(values), 999, 0).p
    monkeypatch.setattr(statistics, "AT_ONCE", 1)
    assert np.array_equal(
        whole, statistics.sign_flip_test(of_texts(values), 999, 0).p, equal_nan=True
    )
    assert np.isnan(whole).nonzero()[0].tolist() == [7]
    without = np.delete(values[[0]], 4, axis=1)
    assert whole[0] == pytest.approx(
        statistics.sign_flip_test(of_texts(without), 9999, 0).p[0], abs=0.06
    )


@given(st.lists(st.floats(1e-9, 1), min_size=1, max_size=30))
def test_q_is_by_its_definition(p):
    p = np.array(p)
    order, m = np.argsort(p), len(p)
    harmonic = (1 / np.arange(1, m + 1)).sum()
    for dependent, factor in ((False, 1.0), (True, harmonic)):
        found = statistics.false_discovery(np.append(p, np.nan), dependent)
        assert np.isnan(found[-1])
        steps = np.minimum.accumulate((p[order] * m * factor / np.arange(1, m + 1))[::-1])[::-1]
        expected = np.empty(m)
        expected[order] = np.minimum(steps, 1)
        np.testing.assert_allclose(found[:-1], expected, rtol=1e-12)


def test_the_t_interval_is_that_of_the_distances_between_heads():
    values, clusters = np.abs(normal(40, 12)), np.repeat(np.arange(4), 3)
    values[3, 2] = np.nan
    low, high = statistics.t_interval(by_cluster(values, clusters), 0.9)
    expected = pairs.summarise(values, clusters, 0.9)
    assert high == pytest.approx(expected["ci_high"].to_numpy(zero_copy_only=False))
    assert np.maximum(low, 0) == pytest.approx(expected["ci_low"].to_numpy(zero_copy_only=False))


@pytest.mark.parametrize(("corrected", "method"), [(True, "BCa"), (False, "percentile")])
def test_a_bootstrap_interval_is_that_of_scipy_but_for_the_draws(corrected, method):
    values = np.random.default_rng(4).gamma(1.0, 1.0, (3, 40))
    low, high = statistics.bootstrap_interval(of_texts(values), 0.95, 20000, 1, corrected)
    for row, a, b in zip(values, low, high, strict=True):
        found = stats.bootstrap(
            (row,), np.mean, n_resamples=20000, method=method, rng=np.random.default_rng(2)
        ).confidence_interval
        width = found.high - found.low
        assert (a, b) == pytest.approx((found.low, found.high), abs=0.03 * width)


def test_a_bootstrap_interval_is_of_clusters():
    """Texts copied within their cluster add nothing."""
    values = normal(4, 15, 6)
    clusters = np.arange(15)
    once = statistics.bootstrap_interval(by_cluster(values, clusters), 0.9, 500, 0)
    copied = np.repeat(values, 7, axis=1), np.repeat(clusters, 7)
    often = statistics.bootstrap_interval(by_cluster(*copied), 0.9, 500, 0)
    np.testing.assert_allclose(once, often, atol=1e-12)


@pytest.mark.parametrize("clusters", [0, 1])
def test_below_two_clusters_there_is_no_interval(clusters):
    values = np.full((2, 3), np.nan)
    values[:, : 2 * clusters] = 1.0
    sums = by_cluster(values, np.array([0, 0, 1]))
    for low, high in (
        statistics.t_interval(sums, 0.95),
        statistics.bootstrap_interval(sums, 0.95, 100, 0),
    ):
        assert np.isnan(low).all()
        assert np.isnan(high).all()


@pytest.mark.parametrize("groups", [9, 20, 57])
def test_intervals_cover_as_often_as_they_say(groups):
    """The t interval of normal means does so at every number of clusters."""
    clusters = np.repeat(np.arange(groups), 2)
    values = normal(2000, groups, groups)[:, clusters] + normal(2000, 2 * groups, 1)
    low, high = statistics.t_interval(by_cluster(values, clusters), 0.95)
    assert ((low <= 0) & (high >= 0)).mean() == pytest.approx(0.95, abs=0.015)


def test_clusters_of_other_texts_are_a_sentence():
    with pytest.raises(InputError, match="values are of 3 texts, and clusters of 2"):
        by_cluster(np.zeros((1, 3)), np.zeros(2, np.int64))


def test_what_stands_near_is_what_a_move_may_change():
    """Moved by less than the margin in sum, no p changes by more than is said to be near."""
    values = normal(300, 12, 9, 0.3)
    moved = values + np.random.default_rng(1).uniform(-1e-3, 1e-3, values.shape)
    first, second = (
        statistics.sign_flip_test(of_texts(v), 9999, 0, margin=2 * 12e-3) for v in (values, moved)
    )
    assert (first.p != second.p).any()
    assert (np.abs(first.p - second.p) <= first.near + 1e-12).all()
    assert first.near.mean() < 0.05
