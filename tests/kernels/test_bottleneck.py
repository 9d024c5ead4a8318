"""The bottleneck kernel: brute force, Hera, closed forms, and laws of a distance."""

import os

import numpy as np
import pytest
from gudhi import hera
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.comparison import bottleneck, bottleneck_pairs
from pipeline.kernels import bottleneck as kernel
from tests import reference

# Random pairs against brute force; 100000, which takes a minute, before a change of the kernel.
PAIRS = int(os.environ.get("BOTTLENECK_PAIRS", "4000"))


@st.composite
def diagrams(draw, most=8):
    """Bars with ties and points in common (a coarse grid) or without (floats), some endless."""
    grid = st.integers(0, 6).map(lambda k: k / 4)
    numbers = draw(st.sampled_from([grid, st.floats(-2, 2)]))
    bars = draw(st.lists(st.tuples(numbers, numbers).map(sorted), max_size=most))
    endless = draw(st.lists(numbers, max_size=2))
    return np.array([*bars, *([birth, np.inf] for birth in endless)]).reshape(-1, 2)


def random_diagram(rng, bars, digits):
    return np.sort(np.round(rng.random((bars, 2)), digits), axis=1)


def packed(found):
    return np.concatenate(found), np.cumsum([0, *(len(bars) for bars in found)])


def hera_distance(a, b):
    # Hera is given no bars of length 0: it takes them, but there is nothing to test in them.
    return reference.hera_bottleneck(*(bars[bars[:, 1] > bars[:, 0]] for bars in (a, b)))


@settings(max_examples=400, deadline=None)
@given(diagrams(), diagrams())
def test_equals_brute_force_to_the_bit(a, b):
    assert bottleneck([a], [b])[0, 0] == reference.bottleneck(a, b)


def test_many_random_pairs_equal_brute_force_to_the_bit():
    rng = np.random.default_rng(7)
    found = [random_diagram(rng, rng.integers(0, 9), rng.integers(1, 8)) for _ in range(2000)]
    found[::5] = [np.concatenate([bars[:4], bars]) for bars in found[::5]]
    first, second = rng.integers(0, len(found), (2, PAIRS))
    values = bottleneck_pairs(*packed(found), first, second)
    expected = [
        reference.bottleneck(found[i], found[j]) for i, j in zip(first, second, strict=True)
    ]
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("digits", [1, 2, 12])
@pytest.mark.parametrize("seed", range(max(PAIRS // 4000, 1)))
def test_equals_hera_up_to_200_bars(digits, seed):
    rng = np.random.default_rng([digits, seed])
    found = [random_diagram(rng, rng.integers(0, 201), digits) for _ in range(60)]
    # Near copies: the bars of one in another order and slightly moved.
    found += [np.sort(rng.permutation(bars) + rng.normal(0, 0.01, bars.shape)) for bars in found]
    first, second = np.arange(60), rng.permutation(120)[:60]
    first, second = np.append(first, first), np.append(second, first + 60)
    values = bottleneck_pairs(*packed(found), first, second)
    expected = [hera_distance(found[i], found[j]) for i, j in zip(first, second, strict=True)]
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("distance", [1e-9, 9e-11, 1e-11, 1e-14, 2.0**-52])
def test_hera_sees_nothing_below_1e_10_unless_it_is_scaled_up(distance):
    a, b = [[0.0, 1.0], [0.5, 0.75]], [[0.0, 1.0 + distance], [0.5, 0.75]]
    apart = (1.0 + distance) - 1.0
    assert hera.bottleneck_distance(a, b, 0.0) == pytest.approx(apart if apart > 1e-10 else 0.0)
    assert reference.hera_bottleneck(a, b) == pytest.approx(apart, rel=1e-9)
    assert bottleneck([a], [b])[0, 0] == apart


@pytest.mark.parametrize("size", [1.0, 1e-12, 1e-200, 1e200])
def test_equals_hera_at_any_scale(size):
    rng = np.random.default_rng(7)
    for bars in (random_diagram(rng, n, 12) for n in range(1, 40)):
        moved = bars + rng.random(bars.shape) * [0, 1e-13]
        for other in (moved, random_diagram(rng, 20, 12)):
            found = bottleneck([bars * size], [other * size])[0, 0]
            assert found == pytest.approx(hera_distance(bars * size, other * size), rel=1e-12)


def test_where_gudhi_is_wrong():
    a = [[0.28, 0.33], [0.19, 0.26], [0.35, 0.37], [0.39, 0.47]]
    b = [[0.42, 0.51], [0.10, 0.14], [0.50, 0.55]]
    assert reference.bottleneck(a, b) == pytest.approx(0.04, abs=1e-15)
    assert reference.hera_bottleneck(a, b) == pytest.approx(0.04, abs=1e-15)
    assert bottleneck([a], [b])[0, 0] == reference.bottleneck(a, b)


@given(
    arrays(np.int64, st.integers(0, 40), elements=st.integers(0, 1 << 20)),
    arrays(np.int64, st.integers(0, 40), elements=st.integers(0, 1 << 20)),
)
@settings(deadline=None)
def test_deaths_alone_decide_where_births_are_zero(a, b):
    # Moved by a power of 2, the same bars take the general way, without rounding.
    born_at = {birth: [np.column_stack([0 * x, x]) + birth for x in (a, b)] for birth in (0, 64)}
    short, general = (bottleneck(born_at[birth])[0, 1] for birth in (0, 64))
    assert short == general
    padded = [np.sort(np.pad(x, (0, 40 - len(x))))[::-1] for x in (a, b)]
    one_by_one = np.minimum(abs(padded[0] - padded[1]), np.maximum(*padded) / 2)
    assert short == one_by_one.max()


@given(st.lists(diagrams(5), min_size=3, max_size=3))
@settings(deadline=None)
def test_is_a_distance(found):
    D = bottleneck(found)
    np.testing.assert_array_equal(D, D.T)
    assert (np.diag(D) == 0).all()
    np.testing.assert_array_equal(bottleneck(found, found), D)
    assert D[0, 2] <= D[0, 1] + D[1, 2] + 1e-15


@given(diagrams(), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_order_of_bars_and_bars_of_no_length_do_not_count(bars, random):
    shuffled = [*bars.tolist(), [0.5, 0.5], [-3.0, -3.0]]
    random.shuffle(shuffled)
    others = [[[0.0, 1.0]], [[-1.0, 0.25], [0.0, np.inf]]]
    np.testing.assert_array_equal(bottleneck([bars], others), bottleneck([shuffled], others))
    assert bottleneck([bars], [shuffled])[0, 0] == 0


def test_a_long_chain_of_matches_is_found():
    # Each bar of a fits the same place of b or the next; only the last of b is free.
    n = 200
    a = np.column_stack([np.arange(n), np.arange(n) + 1000.0])
    b = a + 0.5
    b[0] = [-0.5, 999.5]
    b[1:] = a[1:] - 0.5
    assert bottleneck([a], [b])[0, 0] == 0.5
    assert bottleneck([a[:-1]], [b])[0, 0] == 500.0


def test_prepare_puts_long_bars_first_and_endless_births_last():
    points = np.array([[0, 1], [2, np.inf], [1, 4], [5, 5], [3, np.inf], [0, 0.5]])
    births, deaths, halves = np.empty((3, 6))
    finite, endless = np.zeros((2, 2), np.int64)
    at_zero = np.zeros(2, bool)
    layout = (births, deaths, halves, finite, endless, at_zero)
    assert kernel.prepare(points, np.array([0, 5, 6]), *layout, 0, 2) == -1
    assert births[:2].tolist() == [1, 0]
    assert halves[:2].tolist() == [1.5, 0.5]
    assert births[3:5].tolist() == [3, 2]
    assert (finite.tolist(), endless.tolist()) == ([2, 1], [2, 0])
    assert at_zero.tolist() == [False, True]
