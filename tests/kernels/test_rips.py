"""The Rips kernel: the textbook reduction, GUDHI, ripser, known shapes, stability."""

import warnings

import numpy as np
import pytest
from gudhi.sklearn import RipsPersistence
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform

from pipeline.comparison import bottleneck
from pipeline.diagrams import rips
from pipeline.kernels import rips as kernel
from tests import reference

KINDS = ("any", "ties", "plane", "circle", "grid", "clusters", "copies", "scales")


def matrix(rng, kind, n):
    """A symmetric matrix of n points, of a kind that is hard in its own way."""
    if kind in ("plane", "circle", "copies"):
        points = rng.normal(size=(n, 2))
        if kind == "circle":
            points /= np.linalg.norm(points, axis=1, keepdims=True)
        if kind == "copies":
            points = points[rng.integers(0, n // 2 + 1, n)]
        return squareform(pdist(points))
    if kind == "grid":
        return squareform(pdist(rng.integers(0, 4, (n, 2)).astype(float), "cityblock"))
    upper = {
        "any": lambda: rng.random((n, n)),
        "ties": lambda: rng.integers(0, 5, (n, n)) / 4,
        # Lengths that agree in their leading bits, and lengths of very different size.
        "clusters": lambda: 0.7 + 2.0**-45 * rng.integers(0, 9, (n, n)),
        "scales": lambda: np.exp(-700 * rng.random((n, n))),
    }[kind]()
    upper = np.triu(upper, 1)
    return upper + upper.T


def by_gudhi(matrices):
    engine = RipsPersistence(
        homology_dimensions=[0, 1], input_type="full distance matrix", homology_coeff_field=2
    )
    return [[tidy(bars) for bars in found] for found in engine.fit_transform(matrices)]


def tidy(bars):
    bars = bars[bars[:, 0] < bars[:, 1]]
    return bars[np.lexsort(bars.T[::-1])]


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for bars, wanted in zip(one, other, strict=True):
            np.testing.assert_array_equal(bars, wanted)


@st.composite
def matrices(draw, most=8):
    n = draw(st.integers(1, most))
    lengths = st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0]) | st.floats(0, 1e300)
    entries = draw(st.lists(lengths, min_size=n * (n - 1) // 2, max_size=n * (n - 1) // 2))
    D = np.zeros((n, n))
    D[np.triu_indices(n, 1)] = entries
    return D + D.T


@settings(max_examples=300, deadline=None)
@given(matrices())
def test_equals_the_textbook_reduction_to_the_bit(D):
    assert_same(rips([D]), [reference.rips(D)])
    assert_same(rips([D], max_dimension=0), [reference.rips(D)[:1]])


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_textbook_and_gudhi_to_the_bit(kind):
    rng = np.random.default_rng(KINDS.index(kind))
    small = [matrix(rng, kind, n) for n in range(1, 15)]
    assert_same(rips(small), [reference.rips(D) for D in small])
    large = [matrix(rng, kind, n) for n in [*rng.integers(1, 40, 60), 63, 64, 65, 127, 128, 129]]
    expected = by_gudhi(large)
    assert_same(rips(large), expected)
    assert_same(rips(large, max_dimension=0), [found[:1] for found in expected])


def test_equals_ripser_in_its_precision():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what ripser and scikit-learn say on import
        from ripser import ripser
    rng = np.random.default_rng(1)
    for kind in ("any", "plane", "circle"):
        D = matrix(rng, kind, 60).astype(np.float32)
        expected = ripser(D, maxdim=1, distance_matrix=True)["dgms"]
        assert_same(rips([D]), [[tidy(bars.astype(float)) for bars in expected]])


def test_the_4_cycle():
    D = np.array([[0, 1, 2, 1], [1, 0, 1, 2], [2, 1, 0, 1], [1, 2, 1, 0]])
    assert_same(rips(D[None]), [[np.array([[0, 1]] * 3 + [[0, np.inf]]), np.array([[1, 2]])]])


@pytest.mark.parametrize(("a", "b"), [(2, 2), (5, 9), (60, 60)])
def test_two_sides_far_apart_in_themselves_close_many_loops_at_once(a, b):
    # The complete bipartite graph has ab - (a + b) + 1 loops; the 60 x 60 overfill the pool.
    side = np.arange(a + b) < a
    D = np.where(side[:, None] == side, 2.0, 1.0)
    np.fill_diagonal(D, 0)
    found = rips([D])[0]
    assert len(found[0]) == a + b
    np.testing.assert_array_equal(found[1], [[1.0, 2.0]] * ((a - 1) * (b - 1)))


@pytest.mark.parametrize("n", [4, 5, 12, 100])
def test_the_cycle_of_n_points(n):
    # Steps round the cycle: the loop is filled when three steps of a third go round it.
    steps = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    D = np.minimum(steps, n - steps)
    np.testing.assert_array_equal(rips([D])[0][1], [[1, -(-n // 3)]])


@given(matrices())
@settings(deadline=None)
def test_deaths_of_components_sum_to_the_spanning_tree(D):
    # Kruskal by hand: graph libraries take a length of 0 for a missing edge.
    parts = [{v} for v in range(len(D))]
    weight = []
    for i, j in sorted(np.argwhere(np.triu(np.ones_like(D), 1)).tolist(), key=lambda e: D[*e]):
        one, other = (next(part for part in parts if v in part) for v in (i, j))
        if one is not other:
            parts = [p for p in parts if p is not one and p is not other] + [one | other]
            weight.append(D[i, j])
    deaths = rips([D], max_dimension=0)[0][0][:, 1]
    np.testing.assert_array_equal(deaths, [*sorted(x for x in weight if x > 0), np.inf])


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_points_do_not_count(kind):
    rng = np.random.default_rng(30)
    D = matrix(rng, kind, 40)
    order = rng.permutation(40)
    assert_same(rips([D[order][:, order]]), rips([D]))


@pytest.mark.parametrize("kind", ["any", "plane", "circle"])
def test_close_matrices_have_close_diagrams(kind):
    rng = np.random.default_rng(40)
    for size in (1e-6, 1e-2, 0.3):
        D = matrix(rng, kind, 30)
        noise = np.triu(rng.uniform(0, size, D.shape), 1)
        moved = D + noise + noise.T
        for before, after in zip(*rips([D, moved]), strict=True):
            assert bottleneck([before], [after])[0, 0] <= np.abs(D - moved).max()


def test_bars_are_entries_of_the_matrix_and_sorted():
    rng = np.random.default_rng(50)
    for kind in KINDS:
        D = matrix(rng, kind, 50)
        for bars in rips([D])[0]:
            assert np.isin(bars[np.isfinite(bars)], D).all()
            assert (bars[:, 1] > bars[:, 0]).all()
            assert (np.lexsort(bars.T[::-1]) == np.arange(len(bars))).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [2, 40, 150])
def test_edges_are_sorted_by_length_and_then_by_number(kind, n):
    D = matrix(np.random.default_rng(n), kind, n)
    i, j = np.triu_indices(n, 1)
    edges = i << 16 | j
    spare, tally = np.empty_like(edges), np.empty((2, kernel.DIGITS), np.uint32)
    expected = edges[np.lexsort((edges, D[i, j]))]
    kernel.sort_edges(D.view(np.int64), edges, spare, tally)
    np.testing.assert_array_equal(edges, expected)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 64, 65])
def test_every_wrong_entry_is_found(n):
    D = matrix(np.random.default_rng(n), "any", n)
    assert kernel.sound(D.view(np.int64))
    for i in range(n):
        for j in range(n):
            for value in (np.nan, np.inf, -1.0, -0.0, 5.0):
                wrong = D.copy()
                wrong[i, j] = value
                assert not kernel.sound(wrong.view(np.int64))
                wrong[j, i] = value
                assert kernel.sound(wrong.view(np.int64)) == (value == 5 and i != j)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 17, 24])
def test_any_entry_that_is_not_its_mirrors_is_found(n):
    D = matrix(np.random.default_rng(n), KINDS[0], n)
    assert kernel.sound(D.view(np.int64))
    for i in range(n):
        for j in range(n):
            wrong = D.copy()
            wrong[i, j] = np.nextafter(wrong[i, j], np.inf)
            assert not kernel.sound(wrong.view(np.int64))
