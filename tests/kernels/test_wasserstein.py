"""The Wasserstein kernel: brute force, assignment, Hera, closed forms, and laws of a distance."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.comparison import bottleneck, wasserstein, wasserstein_pairs
from pipeline.kernels import wasserstein as kernel
from tests import reference

# Random pairs against an assignment; 100000, which takes a minute, before a change of the kernel.
PAIRS = int(os.environ.get("WASSERSTEIN_PAIRS", "2000"))
ORDERS = [1.0, 1.5, 2.0, 3.0, 100.0]
ANY_ORDER = pytest.mark.parametrize("order", ORDERS)
SMALLEST = 5e-324


@st.composite
def diagrams(draw, most=7, endless=2):
    """Bars with ties and points in common (a coarse grid) or without, all born at 0 or not."""
    grid = st.integers(0, 6).map(lambda k: k / 4)
    numbers = draw(st.sampled_from([grid, st.floats(0, 2)]))
    births = draw(st.sampled_from([st.just(0.0), numbers]))
    bars = draw(st.lists(st.tuples(births, numbers).map(sorted), max_size=most))
    never = draw(st.lists(births, max_size=endless))
    return np.array([*bars, *([birth, np.inf] for birth in never)]).reshape(-1, 2)


def random_diagram(rng, bars, digits, at_zero=False):
    found = np.sort(np.round(rng.random((bars, 2)), digits), axis=1)
    return found * [0, 1] if at_zero else found


def packed(found):
    return np.concatenate(found), np.cumsum([0, *map(len, found)])


def one(a, b, order=1.0):
    return wasserstein([a], [b], order)[0, 0]


@settings(max_examples=300, deadline=None)
@given(a=diagrams(4, 0), b=diagrams(4, 0), order=st.sampled_from([1.0, 1.5, 2.0, 7.0]))
def test_equals_the_least_over_all_matchings(a, b, order):
    expected = reference.wasserstein_of_all(a, b, order)
    # Powers of small moves underflow in the brute force, not in ours.
    assert one(a, b, order) == pytest.approx(expected, rel=1e-13, abs=1e-40)


@settings(max_examples=300, deadline=None)
@given(a=diagrams(), b=diagrams(), order=st.sampled_from(ORDERS))
def test_equals_an_assignment(a, b, order):
    expected = reference.wasserstein(a, b, order)
    assert one(a, b, order) == pytest.approx(expected, rel=1e-12, abs=1e-300)


@ANY_ORDER
def test_many_random_pairs_equal_an_assignment(order):
    rng = np.random.default_rng(7)
    found = [
        random_diagram(rng, rng.integers(0, 14), rng.integers(1, 8), k % 2) for k in range(400)
    ]
    found[::5] = [np.concatenate([bars[:4], bars]) for bars in found[::5]]
    first, second = rng.integers(0, len(found), (2, PAIRS // len(ORDERS)))
    values = wasserstein_pairs(*packed(found), first, second, order)
    expected = [
        reference.wasserstein(found[i], found[j], order) for i, j in zip(first, second, strict=True)
    ]
    np.testing.assert_allclose(values, expected, rtol=1e-13, atol=0)


@ANY_ORDER
@pytest.mark.parametrize("at_zero", [False, True])
@pytest.mark.parametrize("digits", [1, 12])
def test_equals_an_assignment_of_up_to_100_bars(order, at_zero, digits):
    rng = np.random.default_rng([digits, at_zero])
    found = [random_diagram(rng, n, digits, at_zero) for n in rng.integers(0, 101, 12)]
    # Near copies: the bars of one in another order and slightly moved.
    moved = [
        rng.permutation(bars) + rng.normal(0, 0.01, bars.shape) * [not at_zero, 1] for bars in found
    ]
    found += [np.sort(np.abs(bars)) for bars in moved]
    first, second = np.arange(12), rng.permutation(24)[:12]
    first, second = np.append(first, first), np.append(second, first + 12)
    values = wasserstein_pairs(*packed(found), first, second, order)
    expected = [
        reference.wasserstein(found[i], found[j], order) for i, j in zip(first, second, strict=True)
    ]
    np.testing.assert_allclose(values, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("order", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("at_zero", [False, True])
@pytest.mark.parametrize("size", [1.0, 1e-12, 1e-200, 1e200])
def test_equals_hera_at_any_scale(order, at_zero, size):
    # With delta 0 Hera's Wasserstein distance does not end.
    rng = np.random.default_rng(5)
    for n in (1, 2, 5, 20, 60):
        a, b = (random_diagram(rng, k, 12, at_zero) * size for k in (n, n + 3))
        expected = reference.hera_wasserstein(a, b, order, 1e-12)
        assert one(a, b, order) == pytest.approx(expected, rel=1e-11, abs=0)


@ANY_ORDER
@pytest.mark.parametrize("birth", [0.0, 0.25])
def test_closed_forms(order, birth):
    bar, other = [[birth, birth + 3.0]], [[birth, birth + 2.5]]
    assert one(bar, [], order) == one([], bar, order) == 1.5
    assert one(bar, bar, order) == 0
    assert one(bar, other, order) == 0.5
    # Farther apart than both halves: both are left.
    assert one([[birth, birth + 8.0]], [[birth, birth + 1.0]], order) == pytest.approx(
        (4.0**order + 0.5**order) ** (1 / order), rel=1e-15
    )
    # A point of the diagonal is nothing.
    assert one([*bar, [birth, birth], [7.0, 7.0]], other, order) == 0.5


@ANY_ORDER
def test_a_translation_moves_each_bar_by_as_much(order):
    rng = np.random.default_rng(2)
    births = np.arange(40.0)
    bars = np.column_stack([births, births + 100 + rng.integers(0, 5, 40)])
    assert one(bars, bars + 0.25, order) == pytest.approx(0.25 * 40 ** (1 / order), rel=1e-14)


@ANY_ORDER
def test_bars_left_are_no_beginning_and_no_end_of_their_order(order):
    # The longest of a is left, the rest match in pairs.
    a, b = [[0.0, 100.0], [0.0, 1.0], [0.0, 0.5]], [[0.0, 1.0], [0.0, 0.5]]
    assert one(a, b, order) == 50
    # 10 and 6 match 10.5 and 6.5; 8, between them, is left.
    a, b = [[0.0, 10.0], [0.0, 8.0], [0.0, 6.0]], [[0.0, 10.5], [0.0, 6.5]]
    expected = reference.wasserstein_of_all(a, b, order)
    assert one(a, b, order) == pytest.approx(expected, rel=1e-14)


@ANY_ORDER
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_is_the_same_to_the_bit_from_either_side_and_in_any_order(order, data):
    some = [data.draw(diagrams()) for _ in range(4)]
    D = wasserstein(some, some, order)
    np.testing.assert_array_equal(D, D.T)
    np.testing.assert_array_equal(wasserstein(some, order=order), D)
    shuffled = [data.draw(st.permutations(bars.tolist())) for bars in some]
    np.testing.assert_array_equal(wasserstein(some, shuffled, order), D)
    assert (np.diag(D) == 0).all()


@ANY_ORDER
@settings(max_examples=100, deadline=None)
@given(some=st.lists(diagrams(5), min_size=3, max_size=3))
def test_is_a_distance_that_bottleneck_is_not_above(order, some):
    D = wasserstein(some, order=order)
    assert D[0, 2] <= (D[0, 1] + D[1, 2]) * (1 + 1e-12)
    assert (bottleneck(some) * (1 - 1e-12) <= D).all()


@ANY_ORDER
@pytest.mark.parametrize("at_zero", [False, True])
def test_neighbours_in_a_block_and_threads_change_no_bit(order, at_zero):
    rng = np.random.default_rng(11)
    # Few bars beside many, so that pairs done side by side are filled up, each in a wider band.
    found = [
        random_diagram(rng, n, d, at_zero)
        for n, d in zip(rng.integers(0, 30, 60), rng.integers(1, 9, 60), strict=True)
    ]
    first, second = rng.integers(0, len(found), (2, 9000))
    values = wasserstein_pairs(*packed(found), first, second, order, threads=1)
    again = wasserstein_pairs(*packed(found), second, first, order, threads=2)
    np.testing.assert_array_equal(values, again)
    for k in range(0, 9000, 300):
        assert one(found[first[k]], found[second[k]], order) == values[k]


@ANY_ORDER
def test_the_smallest_and_the_largest_numbers(order):
    assert one([[0, 6 * SMALLEST]], [[0, 4 * SMALLEST]], order) == 2 * SMALLEST
    assert one([[0, 6 * SMALLEST]], [], order) == 3 * SMALLEST
    assert one([[SMALLEST, 7 * SMALLEST]], [[SMALLEST, 5 * SMALLEST]], order) == 2 * SMALLEST
    assert one([[0, 1.5e308]], [[0, 1e308]], order) == pytest.approx(5e307, rel=1e-15)
    assert one([[1, 1.5e308]], [[1, 1e308]], order) == pytest.approx(5e307, rel=1e-15)
    assert one([[0, 1.5e308], [0, 1e-300]], [[0, 1.5e308]], order) == 5e-301
    assert one([[0, 1.5e308]] * 20, [[0, 1.2e308]] * 20, order) == pytest.approx(
        np.inf if order == 1 else 3e307 * 20 ** (1 / order), rel=1e-14
    )


@pytest.mark.parametrize("birth", [0.0, 1.0])
def test_a_long_bar_does_not_hide_a_short_move(birth):
    # Long bars that differ in the last place, and short ones: bars of both kinds are matched.
    long = birth + 1e6
    a = [[birth, long], [birth, birth + 1e-9]]
    b = [[birth, np.nextafter(long, 2e6)], [birth, birth + 1.25e-9]]
    for order in ORDERS:
        expected = reference.wasserstein(a, b, order)
        assert one(a, b, order) == pytest.approx(expected, rel=1e-13, abs=0)


@ANY_ORDER
def test_bars_that_never_end_add_their_moves(order):
    inf = np.inf
    for rest in ([[0.0, 2.0]], [[0.5, 2.5]]):
        a, b = [[0.0, inf], [-4.0, inf], *rest], [[-3.0, inf], [0.5, inf]]
        expected = (1.0 + 0.5**order + 1.0) ** (1 / order)
        assert one(a, b, order) == one(b, a, order) == pytest.approx(expected, rel=1e-14)
        assert one(a, b[1:], order) == inf
        assert one(a[:2], b[:1], order) == inf
    assert one([[-1.5e308, inf]], [[1.5e308, inf]], order) == inf


@ANY_ORDER
def test_empty_diagrams(order):
    assert wasserstein([[], []], order=order).tolist() == [[0, 0], [0, 0]]
    none = np.empty((0, 2))
    values = wasserstein_pairs(none, [0] * 20, np.arange(19), np.arange(19)[::-1], order)
    assert values.tolist() == [0] * 19


def test_settle_puts_bars_of_one_length_in_one_order():
    births, deaths = np.array([1.0, 3.0, 2.0, 0.0, 5.0]), np.array([3.0, 5.0, 4.0, 0.5, 5.5])
    halves = (deaths - births) / 2
    kernel.settle(np.array([0, 5]), births, deaths, halves, np.array([5]))
    assert births.tolist() == [3, 2, 1, 5, 0]
    assert deaths.tolist() == [5, 4, 3, 5.5, 0.5]
    assert halves.tolist() == [1, 1, 1, 0.25, 0.25]
