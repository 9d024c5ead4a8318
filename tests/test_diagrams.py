"""Diagrams from matrices: forms of input, errors, other dimensions and fields, threads."""

from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from pipeline.diagrams import rips, rips_packed
from pipeline.errors import InputError

RNG = np.random.default_rng(9)


def cloud(n, axes=3):
    return squareform(pdist(RNG.normal(size=(n, axes))))


STACK = np.array([cloud(20) for _ in range(3)])


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for bars, wanted in zip(one, other, strict=True):
            assert bars.dtype == np.float64 and bars.shape[1:] == (2,)
            np.testing.assert_array_equal(bars, wanted)


def test_few_points():
    expected = [
        [np.array([[0, np.inf]]), np.empty((0, 2))],
        [np.array([[0, 3.5], [0, np.inf]]), np.empty((0, 2))],
        [np.array([[0, 1], [0, 2], [0, np.inf]]), np.empty((0, 2))],
        [np.array([[0, np.inf]]), np.empty((0, 2))],
    ]
    three = np.array([[0, 1, 2], [1, 0, 3], [2, 3, 0]])
    given = [np.zeros((1, 1)), np.array([[0, 3.5], [3.5, 0]]), three, np.zeros((3, 3))]
    assert_same(rips(given), expected)
    assert_same(rips(given, max_dimension=0), [found[:1] for found in expected])
    wider = rips(given, max_dimension=3)
    assert_same([found[:2] for found in wider], expected)
    assert all(len(found) == 4 and len(found[2]) == len(found[3]) == 0 for found in wider)


@pytest.mark.parametrize("none", [[], np.empty((0, 5, 5))])
@pytest.mark.parametrize("dimension", [0, 1, 2])
def test_no_matrices(none, dimension):
    assert rips(none, dimension) == []


def test_a_list_of_different_sizes():
    mixed = [cloud(n) for n in (30, 1, 70, 2, 5, 64)]
    assert_same(rips(mixed), [rips(D[None])[0] for D in mixed])


@pytest.mark.parametrize(
    "form",
    [
        lambda D: D.astype(np.float32),
        lambda D: (100 * D).astype(np.int64),
        lambda D: (10 * D).astype(np.uint8),
        lambda D: D.astype(">f8"),
        lambda D: np.asfortranarray(D),
        lambda D: np.repeat(D, 2, axis=0)[::2],
        lambda D: np.pad(D, ((0, 0), (1, 2), (3, 4)))[:, 1:-2, 3:-4],
        lambda D: [one.tolist() for one in D],
        lambda D: tuple(D),
    ],
    ids=["float32", "int64", "uint8", "swapped", "fortran", "strided", "window", "lists", "tuple"],
)
def test_other_kinds_of_arrays(form):
    given = form(STACK)
    plain = np.array(given, np.float64, order="C")
    assert_same(rips(given), rips(plain))
    assert_same(rips(given, 0), rips(plain, 0))
    assert_same(rips(given, 2), rips(plain, 2))


def test_read_only_input_is_taken_and_none_is_changed():
    given = STACK.copy()
    given[:, 0, 1] = given[:, 1, 0] = -0.0
    kept = given.tobytes()
    given.flags.writeable = False
    for dimension in (0, 1, 2):
        found = rips(given, dimension)
        assert not any(np.signbit(bars).any() for dims in found for bars in dims)
        assert_same(found, rips(np.abs(given), dimension))
    assert given.tobytes() == kept


@pytest.mark.parametrize("dimension", [0, 1, 2])
@pytest.mark.parametrize(
    ("value", "mirror", "message"),
    [
        (np.nan, np.nan, r"Entry \[3, 7\] of distance matrix 1 is nan, not a number: mend"),
        (1.0, np.nan, r"Entry \[7, 3\] of distance matrix 1 is nan, not a number: mend"),
        (np.inf, 1.0, r"Entry \[3, 7\] of distance matrix 1 is inf, not its mirror's value 1.0"),
        (-1.5, -1.5, r"Entry \[3, 7\] of distance matrix 1 is -1.5, negative: distances start"),
        (
            1.25,
            1.5,
            r"Entry \[3, 7\] of distance matrix 1 is 1.25, not its mirror's .*0.25 apart.*maximum",
        ),
    ],
)
def test_a_wrong_entry_is_named(dimension, value, mirror, message):
    given = STACK.copy()
    given[1, 3, 7], given[1, 7, 3] = value, mirror
    given[2, 0, 1] = np.nan
    for form in (given, list(given)):
        with pytest.raises(InputError, match=message):
            rips(form, dimension)


@pytest.mark.parametrize("dimension", [0, 1, 2])
def test_a_diagonal_that_is_not_zero_is_named(dimension):
    given = STACK + np.eye(20) * 1e-3
    with pytest.raises(InputError, match=r"Entry \[0, 0\] .*diagonal.*set the diagonal to 0"):
        rips(given, dimension)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (STACK[0], r"shape \(20, 20\).*distances\[None\]"),
        (STACK[:, 1:], r"shape \(3, 19, 20\); give \(matrices, points, points\)"),
        ([STACK[0], STACK[1][1:]], r"matrix 1 has shape \(19, 20\); give it as"),
        ([STACK[0], [1.0, 2.0]], r"matrix 1 has shape \(2,\)"),
        ([[[0, 1], [1]]], r"matrix 0 is ragged"),
        ([STACK[0], np.empty((0, 0))], r"matrix 1 has 0 points"),
        (np.empty((2, 0, 0)), r"matrix 0 has 0 points"),
        (STACK.astype(complex), "hold complex128; give real numbers"),
        ([[["0", "1"], ["1", "0"]]], "matrix 0 hold.*; give real numbers"),
    ],
)
@pytest.mark.parametrize("dimension", [0, 1, 2])
def test_a_wrong_form_is_told(given, message, dimension):
    with pytest.raises(InputError, match=message):
        rips(given, dimension)


@pytest.mark.parametrize(("dimension", "field"), [(-1, 2), (1.5, 2), (1, 4), (1, 1), (2, 1 << 17)])
def test_a_wrong_dimension_or_field_is_told(dimension, field):
    with pytest.raises(InputError, match=r"max_dimension|coefficient_field"):
        rips(STACK, dimension, field)


def test_the_octahedron_is_a_sphere():
    D = np.ones((6, 6)) - np.eye(6)
    D[[0, 1, 2, 3, 4, 5], [3, 4, 5, 0, 1, 2]] = 2
    found = rips([D], max_dimension=2)[0]
    assert [len(bars) for bars in found] == [6, 0, 1]
    np.testing.assert_array_equal(found[2], [[1, 2]])


def test_higher_dimensions_agree_with_ours_below_them():
    assert_same([found[:2] for found in rips(STACK, 2)], rips(STACK))


def test_the_field_shows_the_torsion_of_the_projective_plane():
    # Six points, ten triangles, filled at 1; subdivided, so that the triangles are the cliques.
    faces = ["012", "023", "034", "045", "051", "134", "245", "351", "412", "523"]
    triangles = [frozenset(int(v) for v in face) for face in faces]
    simplices = sorted(
        {frozenset(part) for t in triangles for k in (1, 2, 3) for part in combinations(t, k)},
        key=lambda part: (len(part), sorted(part)),
    )
    D = np.array([[1.0 if a < b or b < a else 2.0 for b in simplices] for a in simplices])
    np.fill_diagonal(D, 0)
    for field, loops in ((2, 1), (3, 0), (11, 0)):
        found = rips([D], coefficient_field=field)[0]
        assert len(found[0]) == len(simplices)
        np.testing.assert_array_equal(found[1], np.array([[1.0, 2.0]])[:loops])


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_threads_change_no_bit(threads):
    many = [cloud(n, 2) for n in RNG.integers(1, 90, 120)]
    for dimension in (0, 1):
        assert_same(rips(many, dimension, threads=threads), rips(many, dimension, threads=1))


def test_several_threads_of_the_caller():
    many = np.array([cloud(48, 2) for _ in range(40)])
    alone = rips(many, threads=1)
    with ThreadPoolExecutor(4) as pool:
        for together in pool.map(rips, [many] * 8):
            assert_same(together, alone)


def test_packed_diagrams_are_the_same():
    given = [cloud(n) for n in (12, 1, 33, 64)]
    packed = rips_packed(given)
    assert [len(dimension.offsets) for dimension in packed] == [5, 5]
    unpacked = [dimension.unpack() for dimension in packed]
    assert_same(list(zip(*unpacked, strict=True)), rips(given))
    assert rips_packed([])[1].points.shape == (0, 2)
    with pytest.raises(InputError, match="give 0 or 1, or call rips"):
        rips_packed(given, 2)


def test_worker_processes_give_the_same_diagrams(monkeypatch):
    random = np.random.default_rng(8)
    places = random.random((6, 14, 3))
    D = np.sqrt(((places[:, :, None] - places[:, None]) ** 2).sum(-1))
    alone = rips(D, max_dimension=2)
    monkeypatch.setattr("pipeline.diagrams.WORTH_WORKERS", 0)
    for found, expected in zip(rips(D, max_dimension=2, threads=2), alone, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert sum(len(bars[2]) for bars in alone) > 0


# ---------------------------------------------------------------- matrices of other libraries


@pytest.mark.parametrize("dimension", [0, 1, 2])
def test_symmetric_but_for_rounding(dimension):
    """As torch.cdist gives them: off the mirror and off 0 by rounding."""
    import torch

    points = torch.from_numpy(RNG.normal(size=(30, 40)))
    D = torch.cdist(points, points, compute_mode="use_mm_for_euclid_dist").numpy().copy()
    D[3, 7] += 2e-8
    assert (D != D.T).any() and np.diag(D).any()
    mean = (D + D.T) / 2
    np.fill_diagonal(mean, 0)
    before = D.copy()
    for bars, wanted in zip(
        rips(D[None], dimension)[0], rips(mean[None], dimension)[0], strict=True
    ):
        np.testing.assert_allclose(bars, wanted, rtol=0, atol=1e-15)
    assert D.tobytes() == before.tobytes()
    with pytest.raises(InputError, match=r"it must be but for|apart, and .* is allowed"):
        rips(D[None], dimension, rounding=0.0)
    D[3, 7] += 0.1
    with pytest.raises(InputError, match=r"they are 0.1 apart, and \S+e-05 is allowed"):
        rips(D[None], dimension)


def test_scikit_learns_distances_in_float32_are_taken():
    from sklearn.metrics import pairwise_distances

    D = pairwise_distances(RNG.normal(size=(40, 3)).astype(np.float32))
    assert len(rips(D[None])[0][0]) == 40


def with_missing(n: int, share: float, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    D = cloud(n, 2)
    missing = np.triu(random.random((n, n)) < share, 1)
    D[missing | missing.T] = np.inf
    return D


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95, 1.0])
def test_missing_edges_are_as_gudhi_and_ripser_take_them(share, seed):
    import gudhi
    import scipy.sparse
    from ripser import ripser

    D = with_missing(14, share, seed)
    found = rips([D, cloud(5)], 1)[0]
    tree = gudhi.SimplexTree()
    for i in range(14):
        tree.insert([i], 0.0)
    for i, j in combinations(range(14), 2):
        if np.isfinite(D[i, j]):
            tree.insert([i, j], D[i, j])
    tree.expansion(2)
    tree.compute_persistence(homology_coeff_field=2, persistence_dim_max=True)
    graph = scipy.sparse.coo_matrix(np.where(np.isfinite(D), D, 0.0))
    other = ripser(graph, distance_matrix=True, maxdim=1)["dgms"]
    for dimension in (0, 1):
        wanted = tree.persistence_intervals_in_dimension(dimension).reshape(-1, 2)
        np.testing.assert_array_equal(found[dimension], in_order(wanted))
        np.testing.assert_allclose(found[dimension], in_order(other[dimension]), rtol=1e-6)


def in_order(bars: np.ndarray) -> np.ndarray:
    kept = bars[bars[:, 1] > bars[:, 0]]
    return kept[np.lexsort((kept[:, 1], kept[:, 0]))]


def test_missing_edges_by_hand():
    inf = np.inf
    two = np.full((4, 4), inf)
    np.fill_diagonal(two, 0)
    two[0, 1] = two[1, 0] = 1.0
    square = np.array([[0, 1, inf, 1], [1, 0, 1, inf], [inf, 1, 0, 1], [1, inf, 1, 0]])
    nothing = np.where(np.eye(3), 0.0, inf)
    for dimension in (1, 2):
        found = rips([two, square, nothing], dimension)
        np.testing.assert_array_equal(found[0][0], [[0, 1], [0, inf], [0, inf], [0, inf]])
        np.testing.assert_array_equal(found[1][0], [[0, 1]] * 3 + [[0, inf]])
        np.testing.assert_array_equal(found[1][1], [[1, inf]])
        np.testing.assert_array_equal(found[2][0], [[0, inf]] * 3)
    assert len(rips_packed([two, square], 0)[0].points) == 8
