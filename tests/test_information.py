"""Entropy, Kullback-Leibler, Jensen-Shannon: known values, oracles, faults."""

import math
import tracemalloc

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import pdist, squareform
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy

from pipeline import information
from pipeline.errors import InputError
from pipeline.information import entropy, jensen_shannon, kl_divergence, kl_mean, resoftmax
from tests import reference

MEASURES = [entropy, kl_divergence, kl_mean, jensen_shannon, resoftmax]


def dirichlet(concentration, shape, seed=0):
    return np.random.default_rng(seed).dirichlet(np.full(shape[-1], concentration), shape[:-1])


def causal(n, seed=0):
    rows = np.tril(dirichlet(0.5, (n, n), seed))
    rows[0, 0] = 1.0
    return rows / rows.sum(axis=1, keepdims=True)


def normalised(weights):
    weights[..., 0] += weights.sum(axis=-1) == 0.0
    return weights / weights.sum(axis=-1, keepdims=True)


rows_of_any_kind = arrays(
    np.float64,
    st.tuples(st.integers(1, 7), st.integers(1, 12)),
    elements=st.one_of(st.just(0.0), st.floats(1e-9, 1.0)),
).map(normalised)


# Jensen-Shannon


def test_one_hot_rows_are_1_apart_in_bits_and_root_ln_2_in_nats():
    expected = 1.0 - np.eye(16)
    assert np.array_equal(jensen_shannon(np.eye(16)), expected)
    assert np.allclose(
        jensen_shannon(np.eye(16), base=math.e), math.sqrt(math.log(2.0)) * expected, rtol=1e-15
    )


@pytest.mark.parametrize(("n", "expected"), [(16, 0.153), (128, 0.056), (512, 0.028)])
def test_a_second_softmax_squeezes_one_hot_rows(n, expected):
    found = jensen_shannon(resoftmax(np.eye(n)[:2]), base=math.e)[0, 1]
    assert found == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("rows", [dirichlet(0.3, (60, 60)), causal(60), dirichlet(9.0, (31, 77))])
def test_agrees_with_scipy_where_scipy_is_good(rows):
    expected = squareform(pdist(rows, "jensenshannon"))
    assert np.allclose(jensen_shannon(rows, base=math.e), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("base", [2.0, math.e, 10.0])
def test_agrees_with_exact_arithmetic_to_any_base(base):
    rows = resoftmax(causal(12))
    found = jensen_shannon(rows, base=base)
    for i in range(12):
        for j in range(i):
            expected = reference.jensen_shannon(rows[i], rows[j], base)
            assert abs(found[i, j] / float(expected) - 1.0) < 1e-12


def one_hot(k, rest=0.0):
    row = np.full(k, rest)
    row[k // 3] = 1.0 - (k - 1) * rest
    return row


def sparse(k):
    return normalised(dirichlet(1.0, (k,), k) * (np.arange(k) % 7 == 3))


EXTREMES = {
    "even": lambda k: np.full(k, 1.0 / k),
    "peaked": lambda k: dirichlet(0.02, (k,), k),
    "flat": lambda k: dirichlet(30.0, (k,), k),
    "mostly zeros": sparse,
    "one-hot": one_hot,
    "one-hot but for subnormal numbers": lambda k: one_hot(k, 5e-324),
    "nearly one-hot": lambda k: one_hot(k, 1e-16),
    "one-hot but for 1e-12": lambda k: one_hot(k, 1e-12),
    "down to 1e-304": lambda k: normalised(np.exp(-np.linspace(0.0, 700.0, k))),
    "down to 5e-324": lambda k: normalised(np.exp(-np.linspace(0.0, 744.4, k))),
    "sum above 1": lambda k: np.full(k, 1.0 / k) * (1.0 + 5e-7),
}


def one_ulp(row, place):
    there = row.copy()
    there[place] = np.nextafter(row[place], row.dtype.type(2))
    return there


def halfway(row):
    there = row / row.dtype.type(2)
    there[-1] += row.dtype.type(0.5)
    return there


MOVES = {
    "one ulp of the largest": lambda row: one_ulp(row, np.argmax(row)),
    "one ulp of the least": lambda row: one_ulp(row, np.argmin(row)),
    "one ulp of all but 0": lambda row: np.where(row > 0, one_ulp(row, slice(None)), row),
    "scaled": lambda row: row * row.dtype.type(1 - 2**-21),
    "a subnormal number for each 0": lambda row: np.where(
        row > 0, row, np.finfo(row.dtype).smallest_subnormal
    ),
    "rolled": lambda row: np.roll(row, 1),
    "halfway to one-hot": halfway,
}


def check_distance(p, q):
    """The bound that is stated: 1e-12 of the distance from 1e-16 on, and 1e-22 below."""
    found, expected = jensen_shannon([p, q])[0, 1], reference.jensen_shannon(p, q)
    bound = 1e-12 * expected if expected >= 1e-16 else 1e-22
    assert abs(found - expected) <= bound


@pytest.mark.parametrize("kind", EXTREMES)
@pytest.mark.parametrize("move", MOVES)
def test_within_its_bound_at_the_extremes(kind, move):
    for k in (2, 9, 64):
        for dtype in (np.float64, np.float32):
            row = EXTREMES[kind](k).astype(dtype)
            check_distance(row, MOVES[move](row))


@pytest.mark.parametrize("kind", ["one-hot but for 1e-12", "mostly zeros", "flat"])
@pytest.mark.parametrize("move", ["one ulp of the least", "scaled", "rolled"])
def test_within_its_bound_on_long_rows(kind, move):
    row = EXTREMES[kind](4096)
    check_distance(row, MOVES[move](row))


def test_a_distance_below_the_bound_may_be_wrong_altogether():
    """Where "1e-12 of itself however close" would be a promise larger than the truth."""
    row = one_hot(4096, 1e-12)
    close = row * (1 + 2.0**-30)
    found, expected = jensen_shannon([row, close])[0, 1], reference.jensen_shannon(row, close)
    assert 1e-22 < expected < 1e-21
    assert abs(found / expected - 1) > 1e-6


numbers = st.one_of(
    st.sampled_from([0.0, 5e-324, 1e-320, 2.3e-308, 1.0]),
    st.floats(0.0, 1.0),
    st.floats(0.0, 300.0).map(lambda power: 10.0**-power),
)


@st.composite
def extreme_pairs(draw):
    """Two rows of numbers of any size, the second a few ulps, or anything, from the first."""
    k = draw(st.integers(1, 12))
    row = normalised(np.array(draw(st.lists(numbers, min_size=k, max_size=k))))
    moves = draw(st.lists(st.sampled_from([0, 0, 1, -1, 3, None]), min_size=k, max_size=k))
    there = row.copy()
    for place, ulps in enumerate(moves):
        if ulps is None:
            there[place] = draw(numbers)
        for _ in range(abs(ulps or 0)):
            there[place] = max(np.nextafter(there[place], math.copysign(2.0, ulps)), 0.0)
    there = there if abs(there.sum() - 1.0) < 9e-7 else normalised(there)
    return np.stack([row, there])


@settings(deadline=None, max_examples=300)
@given(extreme_pairs())
def test_within_its_bound_between_rows_of_any_kind(pair):
    check_distance(*pair)


@settings(deadline=None)
@given(rows_of_any_kind)
def test_is_a_metric_in_0_to_1(rows):
    d = jensen_shannon(rows)
    assert np.all((d >= 0.0) & (d <= 1.0))
    assert np.array_equal(d, d.T)
    assert not np.diagonal(d).any()
    assert np.all(d[:, None, :] <= d[:, :, None] + d[None, :, :] + 1e-12)


@settings(deadline=None)
@given(rows_of_any_kind, st.randoms(use_true_random=False))
def test_relabelling_tokens_changes_nothing(rows, random):
    order = random.sample(range(rows.shape[1]), rows.shape[1])
    assert np.allclose(
        jensen_shannon(rows[:, order]), jensen_shannon(rows), rtol=1e-12, atol=1e-150
    )


# Kullback-Leibler


@settings(deadline=None)
@given(rows_of_any_kind)
def test_kl_agrees_with_exact_arithmetic(rows):
    found = kl_divergence(rows, base=math.e)
    for i, p in enumerate(rows):
        for j, q in enumerate(rows):
            expected = float(reference.kl_divergence(p, q, math.e))
            assert found[i, j] == pytest.approx(expected, rel=1e-12, abs=1e-300)


def test_kl_is_infinite_without_support_and_0_on_the_diagonal():
    found = kl_divergence([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.25, 0.75, 0.0]])
    assert found[1, 0] == pytest.approx(1.0, rel=1e-15)
    assert found[0, 1] == math.inf
    assert not np.diagonal(found).any()


@pytest.mark.parametrize("n", [1, 5, 14])
def test_kl_with_an_epsilon_is_the_formula_of_the_notebook(n):
    rows = resoftmax(causal(n))
    found = kl_divergence(np.stack([rows, rows[::-1]]), epsilon=1e-9)
    assert found.shape == (2, n, n)
    for i in range(n):
        for j in range(n):
            expected = sum(
                p * (math.log2(p + 1e-9) - math.log2(q + 1e-9))
                for p, q in zip(rows[i], rows[j], strict=True)
            )
            assert found[0, i, j] == pytest.approx(expected, abs=1e-14)
            assert found[1, n - 1 - i, n - 1 - j] == found[0, i, j]


def test_kl_with_an_epsilon_is_finite_without_support():
    found = kl_divergence(np.eye(2), epsilon=1e-9)
    assert found[0, 1] == pytest.approx(math.log2((1.0 + 1e-9) / 1e-9), rel=1e-14)
    assert found[0, 0] == 0.0


@pytest.mark.parametrize("epsilon", [-1e-9, math.nan, math.inf])
def test_kl_refuses_an_epsilon_that_is_not_one(epsilon):
    with pytest.raises(InputError, match=r"epsilon is .*; expected a small number >= 0"):
        kl_divergence(np.eye(2), epsilon=epsilon)


# Entropy and softmax


@pytest.mark.parametrize("base", [2.0, math.e])
def test_entropy_agrees_with_scipy(base):
    rows = np.stack([dirichlet(0.2, (20, 9)), np.tile(np.eye(9), (3, 1))[:20]])
    assert np.allclose(entropy(rows, base), scipy_entropy(rows, base=base, axis=-1), rtol=1e-14)


def entropy_bound(k):
    return (4 + k / 8) * 1e-15


@pytest.mark.parametrize("kind", EXTREMES)
@pytest.mark.parametrize("k", [1, 2, 9, 64, 512])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_entropy_within_its_bound_at_the_extremes(kind, k, dtype):
    row = EXTREMES[kind](k).astype(dtype)
    assert abs(entropy(row[None])[0] - reference.entropy(row)) < entropy_bound(k)


@pytest.mark.parametrize("rest", [1e-15, 1e-16, 3e-17, 5e-324])
@pytest.mark.parametrize("k", [4096, 32768])
def test_entropy_within_its_bound_on_long_rows(k, rest):
    row = np.full(k, rest)
    row[3] = 1.0 - (k - 1) * rest
    assert abs(entropy(row[None])[0] - reference.entropy(row)) < entropy_bound(k)


def test_an_entropy_of_long_rows_is_no_nearer_than_its_bound_says():
    """Where the bound would be a promise larger than the truth, were it 4e-15 for every k."""
    row = np.full(4096, 1e-16)
    row[0] = 1.0 - 4095e-16
    error = abs(entropy(row[None])[0] - reference.entropy(row))
    assert 2e-13 < error < entropy_bound(4096)


@settings(deadline=None, max_examples=200)
@given(extreme_pairs())
def test_entropy_within_its_bound_on_rows_of_any_kind(pair):
    found = entropy(pair)
    for row, bits in zip(pair, found, strict=True):
        assert abs(bits - reference.entropy(row)) < entropy_bound(len(row))


@pytest.mark.parametrize("epsilon", [1e-9, 1e-3])
@pytest.mark.parametrize(("k", "n"), [(8, 5), (64, 8), (512, 4)])
def test_kl_mean_within_its_bound_at_the_extremes(k, n, epsilon):
    nearly = EXTREMES["nearly one-hot"](k)
    kinds = [EXTREMES[kind](k) for kind in (*EXTREMES, *EXTREMES)][:n]
    for rows in (kinds, [np.roll(nearly, i) for i in range(n)], np.eye(k)[:n]):
        error = abs(kl_mean(rows, epsilon=epsilon) - reference.kl_mean(rows, epsilon))
        assert error < (100 + 4 * k) * 1e-15


def test_entropy_agrees_with_exact_arithmetic():
    rows = np.concatenate([dirichlet(0.05, (20, 33)), causal(33), resoftmax(causal(33))])
    found = entropy(rows)
    for row, bits in zip(rows, found, strict=True):
        assert abs(bits - float(reference.entropy(row))) < 4e-15


def test_entropy_of_batches_is_that_of_each_map():
    maps = dirichlet(0.4, (3, 2, 9, 14))
    found = entropy(maps)
    assert found.shape == (3, 2, 9)
    assert np.array_equal(found[2, 1], entropy(maps[2, 1]))


@pytest.mark.parametrize("rows", [dirichlet(0.3, (9, 20)), causal(20), np.eye(7)])
@pytest.mark.parametrize("base", [2.0, math.e])
def test_kl_mean_is_the_mean_over_pairs(rows, base):
    n = len(rows)
    expected = kl_divergence(rows, base, epsilon=1e-9).sum() / (n * (n - 1))
    found = kl_mean(np.stack([rows, rows]), base, epsilon=1e-9)
    assert found == pytest.approx([expected] * 2, rel=1e-12, abs=1e-13)


def test_kl_mean_of_equal_rows_and_of_one_row_is_0():
    assert kl_mean(np.full((5, 4), 0.25)) == pytest.approx(0.0, abs=1e-13)
    assert kl_mean(np.array([[0.5, 0.5]])) == pytest.approx(0.0, abs=1e-13)


def test_kl_mean_has_its_oracle_in_a_double_loop():
    rows = dirichlet(0.5, (6, 5))
    pairs = [
        sum(p * math.log2((p + 1e-3) / (q + 1e-3)) for p, q in zip(rows[i], rows[j], strict=True))
        for i in range(6)
        for j in range(6)
        if i != j
    ]
    assert kl_mean(rows, epsilon=1e-3) == pytest.approx(np.mean(pairs), rel=1e-12)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan, math.inf])
def test_kl_mean_needs_an_epsilon(epsilon):
    with pytest.raises(InputError, match="expected a small number > 0"):
        kl_mean(np.eye(3), epsilon=epsilon)


def test_entropy_of_certainty_and_of_ignorance():
    assert np.array_equal(entropy(np.eye(3)), np.zeros(3))
    assert not np.signbit(entropy(np.eye(3))).any()
    assert entropy(np.full((1, 64), 1.0 / 64.0)) == 6.0


def test_resoftmax_agrees_with_scipy():
    rows = np.stack([causal(17), dirichlet(0.1, (17, 17))])
    assert np.allclose(resoftmax(rows), softmax(rows, axis=-1), rtol=1e-14)
    assert resoftmax(rows.astype(np.float32)).dtype == np.float64


# All of them


@pytest.mark.parametrize("measure", [kl_divergence, jensen_shannon])
def test_bits_do_not_depend_on_threads_or_groups(measure, monkeypatch):
    maps = np.stack([dirichlet(0.3, (40, 40)), causal(40), resoftmax(causal(40))] * 4)
    expected = measure(maps)
    before = numba.get_num_threads()
    monkeypatch.setattr(information, "_SMALL", 0)
    try:
        for threads in range(1, numba.config.NUMBA_NUM_THREADS + 1):
            numba.set_num_threads(threads)
            for workspace in (1, 200_000, 2**30):
                monkeypatch.setattr(information, "_WORKSPACE", workspace)
                assert np.array_equal(measure(maps), expected)
    finally:
        numba.set_num_threads(before)
    for m, one in enumerate(maps):
        assert np.array_equal(measure(one), expected[m])


@pytest.mark.parametrize("measure", MEASURES)
def test_memory_layout_and_type_change_nothing(measure):
    rows = causal(18)
    expected = measure(rows)
    read_only = rows.copy()
    read_only.setflags(write=False)
    spread = np.zeros((18, 36))
    spread[:, ::2] = rows
    forms = [read_only, spread[:, ::2], np.asfortranarray(rows), rows.astype(">f8"), rows.tolist()]
    for form in forms:
        assert np.array_equal(measure(form), expected)
    reversed_rows = rows[::-1, ::-1]
    assert np.array_equal(measure(reversed_rows), measure(reversed_rows.copy()))
    single = rows.astype(np.float32)
    assert np.allclose(measure(single), measure(single.astype(np.float64)), rtol=1e-14)
    assert np.array_equal(read_only, rows)


@pytest.mark.parametrize("measure", MEASURES)
def test_integers_are_probabilities(measure):
    whole = np.eye(4, dtype=np.int64)[[0, 1, 1, 3]]
    for form in (whole, whole.astype(bool), whole.astype(np.uint8)):
        assert np.array_equal(measure(form), measure(whole.astype(np.float64)))


@pytest.mark.parametrize("measure", MEASURES)
def test_input_is_not_changed(measure):
    rows = dirichlet(0.5, (2, 9, 9)) * (1.0 + 5e-7)
    before = rows.copy()
    measure(rows)
    assert np.array_equal(rows, before)


@pytest.mark.parametrize("measure", [kl_divergence, jensen_shannon])
def test_memory_is_bounded(measure):
    maps = dirichlet(0.5, (2, 160, 160))
    measure(maps)
    tracemalloc.start()
    try:
        measure(maps)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * maps.nbytes


@pytest.mark.parametrize("measure", [entropy, kl_divergence, kl_mean, jensen_shannon])
@pytest.mark.parametrize("near", [1, 32 * 70 * 70 * 3, 2**40])
@pytest.mark.parametrize("workspace", [1, 2**40])
def test_the_bits_do_not_depend_on_how_maps_are_shared_out(measure, near, workspace, monkeypatch):
    maps = np.concatenate(
        [dirichlet(0.2, (4, 70, 70)), causal(70)[None], resoftmax(causal(70))[None]]
    )
    alone = np.stack([measure(one) for one in maps])
    monkeypatch.setattr(information, "_NEAR", near)
    monkeypatch.setattr(information, "_WORKSPACE", workspace)
    assert np.array_equal(measure(maps), alone)


@pytest.mark.parametrize("measure", [kl_divergence, jensen_shannon])
@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 5), (3, 1), (0, 4), (0, 6, 6), (2, 0, 3), (2, 3, 1, 4), (2, 3, 4, 5)]
)
def test_small_and_empty_shapes(measure, shape):
    rows = np.full(shape, 1.0 / shape[-1])
    found = measure(rows)
    assert found.shape == (*shape[:-1], shape[-2])
    assert not found.any()


@pytest.mark.parametrize("shape", [(1, 1), (0, 4), (2, 0, 3), (2, 3, 4, 5)])
def test_small_and_empty_shapes_by_row(shape):
    rows = np.full(shape, 1.0 / shape[-1])
    assert entropy(rows).shape == shape[:-1]
    assert np.array_equal(resoftmax(rows), rows)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -0.25])
def test_the_first_entry_that_is_no_probability_is_named(measure, bad):
    maps = np.stack([causal(10)] * 3)
    maps[1, 4, 2] = maps[1, 4, 9] = maps[2, 0, 0] = bad
    with pytest.raises(InputError, match=rf"\[1, 4, 2\] is {bad}; expected a finite number >= 0"):
        measure(maps)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("factor", [1.0 + 2e-6, 1.0 - 2e-6, 0.5, 0.0])
def test_the_first_row_that_does_not_sum_to_1_is_named(measure, factor):
    maps = np.stack([dirichlet(1.0, (10, 6))] * 2)
    maps[1, 3] *= factor
    maps[1, 7] *= 0.9
    message = rf"row \[1, 3\] sums to {factor:.9g}; expected 1 within 1e-06: divide each row"
    with pytest.raises(InputError, match=message):
        measure(maps)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("p", [0.5, [1.0], np.zeros((3, 0))])
def test_a_wrong_shape_is_refused(measure, p):
    with pytest.raises(InputError, match=r"of shape .* came; expected \(\.\.\., n, k\)"):
        measure(p)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("p", [np.eye(2) * 1j, [["a"]], [[None]]])
def test_what_is_not_real_is_refused(measure, p):
    with pytest.raises(InputError, match=r"probabilities hold .*; give real numbers"):
        measure(p)


@pytest.mark.parametrize("measure", [entropy, kl_divergence, jensen_shannon])
@pytest.mark.parametrize("base", [1.0, 0.5, 0.0, -2.0, math.nan, math.inf])
def test_a_base_that_is_none_is_refused(measure, base):
    with pytest.raises(InputError, match=r"base is .*; expected a number > 1"):
        measure(np.eye(2), base=base)
