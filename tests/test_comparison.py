"""Distances between diagrams: forms of input, errors, threads, and Wasserstein."""

from concurrent.futures import ThreadPoolExecutor

import mpmath
import numpy as np
import pytest
from gudhi import hera
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.comparison import bottleneck, bottleneck_pairs, wasserstein, wasserstein_pairs
from pipeline.errors import InputError

RNG = np.random.default_rng(3)
SOME = [np.sort(RNG.random((bars, 2)), axis=1) for bars in (7, 0, 1, 12, 3)]
SOME[3][0, 1] = np.inf
SOME[4][2, 1] = np.inf
BOTH = pytest.mark.parametrize("distance", [bottleneck, wasserstein])


def pack(diagrams):
    return np.concatenate(diagrams), np.cumsum([0, *(len(bars) for bars in diagrams)])


@BOTH
def test_one_list_compares_all_with_all(distance):
    D = distance(SOME)
    assert D.shape == (5, 5) and D.dtype == np.float64
    assert (D == D.T).all() and (np.diag(D) == 0).all()
    np.testing.assert_array_equal(distance(SOME[:2], SOME), D[:2])
    np.testing.assert_array_equal(distance(SOME, SOME[2:]), D[:, 2:])


@BOTH
def test_no_diagrams(distance):
    assert distance([]).shape == (0, 0)
    assert distance([], SOME).shape == (0, 5)
    assert distance(SOME, []).shape == (5, 0)


@BOTH
@pytest.mark.parametrize("empty", [[], np.empty((0, 2)), np.empty(0)])
def test_an_empty_diagram_is_half_the_longest_bar_away_or_the_sum_of_halves(distance, empty):
    bars = [[0, 1], [3, 3.5], [2, 2]]
    assert distance([empty], [bars])[0, 0] == (0.5 if distance is bottleneck else 0.75)
    assert distance([empty], [empty])[0, 0] == 0


@BOTH
def test_bars_that_never_end_match_only_each_other_in_order_of_birth(distance):
    inf = np.inf
    a, b = [[1, inf], [-4, inf], [0, 1]], [[-3, inf], [1.25, inf], [0, 1]]
    assert distance([a], [b])[0, 0] == (1 if distance is bottleneck else 1.25)
    assert distance([a], [b[1:]])[0, 0] == inf
    assert distance([a], [[]])[0, 0] == inf


@BOTH
@pytest.mark.parametrize("kind", [np.float32, np.int64, np.uint8, "strided", "read-only", "list"])
def test_other_kinds_of_arrays(distance, kind):
    bars = np.array([[0, 3], [1, 2], [2, 9], [0, 1]], float)
    if kind == "strided":
        given = np.repeat(bars, 2, axis=0)[::2]
    elif kind == "read-only":
        given = bars.copy()
        given.flags.writeable = False
    else:
        given = bars.tolist() if kind == "list" else bars.astype(kind)
    other = [[[1, 7]], SOME[0]]
    np.testing.assert_array_equal(distance([given], other), distance([bars], other))


@BOTH
def test_a_stack_of_diagrams_is_as_good_as_a_list(distance):
    stack = np.sort(np.random.default_rng(4).random((6, 5, 2)), axis=2)
    np.testing.assert_array_equal(distance(stack), distance(list(stack)))
    np.testing.assert_array_equal(distance(stack[:2], stack), distance(list(stack))[:2])


@BOTH
def test_inputs_are_not_changed(distance):
    before = [bars.copy() for bars in SOME]
    distance(SOME)
    for bars, kept in zip(SOME, before, strict=True):
        np.testing.assert_array_equal(bars, kept)


@BOTH
@pytest.mark.parametrize(
    "bar", [[np.nan, 1], [0, np.nan], [-np.inf, 1], [np.inf, np.inf], [0, -np.inf], [2, 1]]
)
def test_an_impossible_bar_is_named(distance, bar):
    with pytest.raises(InputError, match=r"Bar 1 of diagram 2 .*mend the bar or leave it out"):
        distance([SOME[0], [], [[0, 1], bar]])


@BOTH
@pytest.mark.parametrize("bars", [[1, 2], [[1, 2, 3]], [["a", "b"]], [[1j, 2]], [[[0, 1]]]])
def test_a_diagram_of_another_form_is_named(distance, bars):
    message = r"Diagram 1 has shape .*give \(bars, 2\)|bars of Diagram 1 hold .*real numbers"
    with pytest.raises(InputError, match=message):
        distance([SOME[0]], [bars])


def test_pairs_are_entries_of_the_table():
    points, offsets = pack(SOME)
    first, second = np.indices((5, 5)).reshape(2, -1)
    table = bottleneck(SOME).ravel()
    np.testing.assert_array_equal(bottleneck_pairs(points, offsets, first, second), table)
    table = wasserstein(SOME, order=2.0).ravel()
    np.testing.assert_array_equal(wasserstein_pairs(points, offsets, first, second, 2.0), table)
    for distance in (bottleneck_pairs, wasserstein_pairs):
        assert distance(points, offsets, [], []).shape == (0,)
        assert distance(np.empty((0, 2)), [0], [], []).shape == (0,)
        assert distance(np.empty((0, 2)), [0, 0], [0], [0]).tolist() == [0]


@pytest.mark.parametrize("distance", [bottleneck_pairs, wasserstein_pairs])
def test_packed_input_is_checked_before_it_is_read(distance):
    points, offsets = pack(SOME)
    for wrong in (offsets[:-1], offsets[1:], offsets[::-1], [], offsets + 0.5, offsets[None]):
        with pytest.raises(InputError, match="offsets"):
            distance(points, wrong, [0], [0])
    for wrong in ([5], [-1], [0, 0], [0.0], [[0]]):
        with pytest.raises(InputError, match="second"):
            distance(points, offsets, [0], wrong)
    points[8, 0] = np.nan
    with pytest.raises(InputError, match="Bar 0 of diagram 3"):
        distance(points, offsets, [0], [0])


@BOTH
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_no_bit(distance, threads):
    rng = np.random.default_rng(11)
    many = [np.sort(rng.random((n, 2)), axis=1) for n in rng.integers(0, 20, 60)]
    np.testing.assert_array_equal(distance(many, threads=threads), distance(many))


@BOTH
def test_several_threads_of_the_caller(distance):
    rng = np.random.default_rng(12)
    many = [np.sort(rng.random((n, 2)), axis=1) for n in rng.integers(0, 20, 80)]
    alone = distance(many)
    with ThreadPoolExecutor(4) as pool:
        for together in pool.map(distance, [many] * 12):
            np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("order", [1.0, 1.5, 2.0, 7.0])
def test_wasserstein_equals_hera(order):
    rng = np.random.default_rng(5)
    many = [np.sort(np.round(rng.random((n, 2)), 2), axis=1) for n in rng.integers(0, 40, 24)]
    many = [bars[bars[:, 1] > bars[:, 0]] for bars in many]
    expected = [
        [hera.wasserstein_distance(a, b, order=order, internal_p=np.inf, delta=1e-9) for b in many]
        for a in many
    ]
    np.testing.assert_allclose(wasserstein(many, order=order), expected, rtol=1e-8, atol=1e-12)


@st.composite
def small(draw):
    number = st.integers(0, 8).map(float)
    return draw(st.lists(st.tuples(number, number).map(sorted), max_size=6))


@given(small(), small())
@settings(deadline=None)
def test_wasserstein_of_a_high_order_nears_bottleneck_and_none_is_below_it(a, b):
    least = bottleneck([a], [b])[0, 0]
    found = [wasserstein([a], [b], order=order)[0, 0] for order in (1.0, 2.0, 8.0, 64.0)]
    assert all(x >= y * (1 - 1e-12) for x, y in zip(found, [*found[1:], least], strict=True))
    # At most 12 moves, none longer than the bottleneck distance in the best of them.
    assert found[-1] <= least * 12 ** (1 / 64) + 1e-12


@pytest.mark.parametrize("order", [0.5, -1, np.inf, np.nan])
def test_wasserstein_of_an_impossible_order(order):
    with pytest.raises(InputError, match="give a number from 1 up"):
        wasserstein(SOME, order=order)


def exactly(a, b, order: int) -> float:
    """Wasserstein by all matchings, in numbers of 2,000 digits."""
    with mpmath.workdps(2000):
        x, y = ([tuple(map(mpmath.mpf, bar)) for bar in bars] for bars in (a, b))

        def least(one, other):
            if not one:
                return sum((((d - c) / 2) ** order for c, d in other), mpmath.mpf(0))
            (c, d), rest = one[0], one[1:]
            found = [((d - c) / 2) ** order + least(rest, other)]
            for k, (e, f) in enumerate(other):
                move = max(abs(c - e), abs(d - f)) ** order
                found.append(move + least(rest, other[:k] + other[k + 1 :]))
            return min(found)

        return float(mpmath.root(least(x, y), order))


EXTREME = [
    ([[0.1, 0.1003], [0.2, 0.2001]], [[0.1, 0.1004], [0.2, 0.2005]], 100),
    ([[0.0, 3e-160]], [[8e-162, 7e-161]], 3),
    ([[0.0, 10.0], [0.0, 20.0]], [[0.0, 11.0]], 1000),
    ([[0.0, 1e200], [0.0, 1.0]], [[0.0, 1e200]], 5),
    ([[0.0, 1e-200], [0.0, 3e-200]], [[0.0, 2e-200]], 2),
]


@pytest.mark.parametrize(("a", "b", "order"), EXTREME)
def test_wasserstein_where_powers_leave_the_doubles(a, b, order):
    expected = exactly(a, b, order)
    assert wasserstein([a], [b], order=order)[0, 0] == pytest.approx(expected, rel=1e-13)


def test_the_first_of_them_is_as_known():
    a, b, order = EXTREME[0]
    assert wasserstein([a], [b], order=order)[0, 0] == pytest.approx(2.5e-4, rel=1e-3)
    assert wasserstein([EXTREME[2][0]], [EXTREME[2][1]], order=1e300)[0, 0] == 9.0


SMALL = st.lists(
    st.tuples(st.floats(0, 1), st.floats(1e-9, 1)).map(lambda bar: (bar[0], sum(bar))), max_size=4
)


@settings(max_examples=100, deadline=None)
@given(a=SMALL, b=SMALL, order=st.sampled_from([1, 2, 7, 60, 900]), scale=st.integers(-280, 280))
def test_wasserstein_at_any_scale_and_order(a, b, order, scale):
    a, b = ([(c * 10.0**scale, d * 10.0**scale) for c, d in bars] for bars in (a, b))
    found = wasserstein([a], [b], order=order)[0, 0]
    assert found == pytest.approx(exactly(a, b, order), rel=1e-12, abs=0)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), order=st.sampled_from([1.0, 1.5, 3.0]))
def test_wasserstein_is_the_same_to_the_bit_from_either_side(data, order):
    values = st.integers(0, 5).map(lambda n: n / 10)
    bars = st.lists(st.tuples(values, values).map(sorted), max_size=7)
    a, b = data.draw(bars), data.draw(bars)
    there = wasserstein([a], [b], order=order)[0, 0]
    assert wasserstein([b], [a], order=order)[0, 0] == there
    assert wasserstein([a[::-1]], [b], order=order)[0, 0] == there


def test_a_bar_longer_than_the_largest_double():
    long = [[-1.5e308, 1.5e308]]
    for distance in (bottleneck, wasserstein):
        assert distance([long], [[]])[0, 0] == 1.5e308
        assert distance([long], [[[-1.5e308, 1.4e308]]])[0, 0] == pytest.approx(1e307, rel=1e-10)
