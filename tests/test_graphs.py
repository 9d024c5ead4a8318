"""Graphs by hand; clusters by connected components and brute force; simplices by definition."""

from fractions import Fraction
from itertools import combinations

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from pipeline import graphs
from pipeline.attention import encode, for_each_layer
from pipeline.diagrams import rips
from pipeline.errors import InputError
from pipeline.information import jensen_shannon
from pipeline.models import load
from tests import packaged

CAUSAL = np.array([[1.0, 0.0, 0.0], [0.25, 0.75, 0.0], [0.5, 0.125, 0.375]])
BOTH_WAYS = np.array([[0.0, 1.0, 0.0], [0.25, 0.25, 0.5], [0.5, 0.0, 0.5]])
INF = float("inf")

numbers = st.one_of(
    st.integers(0, 3).map(float),  # many ties, and points at distance 0
    st.sampled_from([0.1, 0.2, 0.3, 0.1 + 0.2]),  # sums of floats depend on their order
    st.floats(0, 1),
    st.floats(0, graphs.LONGEST),
)


@st.composite
def matrices(draw):
    n = draw(st.integers(1, 9))
    kind = draw(st.sampled_from([numbers, st.integers(0, 2).map(float)]))
    D = np.zeros((n, n))
    above = np.triu_indices(n, 1)
    D[above] = draw(st.lists(kind, min_size=len(above[0]), max_size=len(above[0])))
    return D + D.T


@st.composite
def matrices_with_scales(draw):
    D = draw(matrices())
    own = st.sampled_from(sorted(set(D.ravel().tolist())))
    return D, draw(st.lists(st.one_of(own, numbers, st.just(INF)), min_size=1, max_size=4))


def components(D, scale):
    """Labels by scipy, numbered by first member."""
    joined = scale >= D
    np.fill_diagonal(joined, True)
    _, found = connected_components(joined, directed=False)
    seen = list(dict.fromkeys(found.tolist()))
    return np.array([seen.index(label) for label in found])


def sums(D, members):
    """How far each member is from all, without rounding."""
    return [sum(Fraction(float(D[i, j])) for j in members) for i in members]


# ---------------------------------------------------------------- graphs


def test_attention_graph_has_an_edge_where_there_is_attention():
    graph = graphs.attention_graph(CAUSAL, ["the", "cat", "the"])
    assert isinstance(graph, networkx.DiGraph)
    assert dict(graph.nodes(data=True)) == {
        0: {"token": "the", "position": 0},
        1: {"token": "cat", "position": 1},
        2: {"token": "the", "position": 2},
    }
    assert set(graph.edges(data="weight")) == {
        (0, 0, 1.0),
        (1, 0, 0.25),
        (1, 1, 0.75),
        (2, 0, 0.5),
        (2, 1, 0.125),
        (2, 2, 0.375),
    }
    assert dict(graph.out_degree(weight="weight")) == {0: 1.0, 1: 1.0, 2: 1.0}


def test_edges_of_less_than_the_threshold_are_left_out():
    graph = graphs.attention_graph(CAUSAL, threshold=0.375)
    assert set(graph.edges) == {(0, 0), (1, 1), (2, 0), (2, 2)}
    assert networkx.get_node_attributes(graph, "token") == {0: "0", 1: "1", 2: "2"}


def test_a_causal_map_takes_above_the_diagonal_what_is_below():
    expected = [[1.0, 0.25, 0.5], [0.25, 0.75, 0.125], [0.5, 0.125, 0.375]]
    before = CAUSAL.copy()
    assert graphs.symmetrised(CAUSAL).tolist() == expected
    assert np.array_equal(before, CAUSAL)
    graph = graphs.symmetrised_graph(CAUSAL, ["a", "b", "c"])
    assert isinstance(graph, networkx.Graph) and not graph.is_directed()
    assert networkx.to_numpy_array(graph).tolist() == expected


def test_elsewhere_the_stronger_direction_counts():
    assert graphs.symmetrised(BOTH_WAYS).tolist() == [[0, 1, 0.5], [1, 0.25, 0.5], [0.5, 0.5, 0.5]]
    assert graphs.symmetrised_graph(BOTH_WAYS).number_of_edges() == 5


@pytest.mark.parametrize(
    ("A", "tokens", "says"),
    [
        (np.ones((2, 3)), None, r"shape \(2, 3\)"),
        (np.ones((1, 2, 2)), None, r"shape \(1, 2, 2\)"),
        ([[0.5, np.nan], [0, 1]], None, r"\[0, 1\] is nan"),
        ([[0.5, 0.5], [-1, 2]], None, r"\[1, 0\] is -1"),
        (CAUSAL, ["one"], "1 tokens came for a map of 3"),
    ],
)
def test_what_is_no_map_is_refused(A, tokens, says):
    with pytest.raises(InputError, match=says):
        graphs.attention_graph(A, tokens)


def test_graphml_is_read_back(tmp_path):
    path = tmp_path / "head.graphml"
    for made in (graphs.attention_graph(CAUSAL / 3), graphs.symmetrised_graph(CAUSAL / 3)):
        graphs.write_graphml(made, path)
        read = networkx.read_graphml(path, node_type=int)
        assert read.is_directed() == made.is_directed()
        assert dict(read.nodes(data=True)) == dict(made.nodes(data=True))
        assert dict(read.edges) == dict(made.edges)
    assert [file.name for file in tmp_path.iterdir()] == ["head.graphml"]


@pytest.mark.parametrize(
    ("token", "read"),
    [
        ("<a & 'b' \"c\">", "<a & 'b' \"c\">"),
        ("שלום 🙂 \t\n", "שלום 🙂 \t\n"),
        ("\x1b[31m\x00", r"\x1b[31m\x00"),
        ("\r\x0b\x7f\x85", "\\r\\x0b\x7f\x85"),
        ("\ud800\ufffe\uffff\U0010ffff", "\\ud800\\ufffe\\uffff\U0010ffff"),
    ],
)
def test_graphml_holds_any_token(token, read, tmp_path):
    made = graphs.attention_graph(np.eye(1), [token])
    graphs.write_graphml(made, tmp_path / "x.graphml")
    back = networkx.read_graphml(tmp_path / "x.graphml", node_type=int)
    assert back.nodes[0]["token"] == read
    assert made.nodes[0]["token"] == token


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "x.graphml"
    path.write_text("before")
    with pytest.raises(networkx.NetworkXError):
        graphs.write_graphml(networkx.Graph([(0, 1, {"weight": [1]})]), path)
    assert path.read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


# ---------------------------------------------------------------- clusters


@settings(deadline=None)
@given(matrices_with_scales())
def test_labels_are_connected_components(case):
    D, scales = case
    tree = graphs.merge_tree(D)
    assert tree.shape == (len(D) - 1, 4)
    for scale in scales:
        labels = graphs.cluster_labels(tree, scale)
        assert labels.tolist() == components(D, scale).tolist()
        assert graphs.reduction(labels) == len(set(labels.tolist())) / len(D)


@settings(deadline=None)
@given(matrices())
def test_the_curve_is_the_diagram_of_dimension_0(D):
    tree = graphs.merge_tree(D)
    scales, counts = graphs.cluster_curve(tree)
    for scale, count in zip(scales, counts, strict=True):
        assert count == components(D, scale).max() + 1
    assert scales[0] == 0 and counts[-1] == 1
    assert (np.diff(scales) > 0).all() and (np.diff(counts) < 0).all()
    deaths = rips(D[None], max_dimension=0)[0][0][:-1, 1]
    assert np.array_equal(deaths, np.sort(tree[tree[:, 2] > 0, 2]))
    assert np.array_equal(np.unique(deaths), scales[1:])
    assert len(D) - counts[0] == (tree[:, 2] == 0).sum() == len(D) - 1 - len(deaths)


@settings(deadline=None)
@given(matrices_with_scales())
def test_in_bulk_as_one_by_one(case):
    D, scales = case
    stack = np.stack([D, D[::-1, ::-1]])
    found = graphs.clusters(stack, scales)
    for head, lengths in enumerate(stack):
        for at, scale in enumerate(scales):
            labels = components(lengths, scale)
            medoids, sizes = found.of(head, at)
            assert sizes.tolist() == np.bincount(labels).tolist()
            assert medoids.tolist() == graphs.representatives(lengths, labels).tolist()
            assert found.number[head, at] == len(sizes)
            assert found.largest[head, at] == max(sizes)


@settings(deadline=None)
@given(matrices_with_scales())
def test_a_representative_is_nearest_to_all_members(case):
    D, scales = case
    labels = components(D, scales[0])
    slack = len(D) * Fraction(D.max()) / 2**45
    tie = Fraction(graphs.TIE) * Fraction(D.max())
    for label, medoid in enumerate(graphs.representatives(D, labels)):
        members = np.flatnonzero(labels == label).tolist()
        assert medoid in members
        total = sums(D, members)
        most = min(total) + slack + tie * (len(members) - 1)
        assert total[members.index(medoid)] <= most
        assert all(one > most - 2 * slack for one in total[: members.index(medoid)])


@settings(deadline=None)
@given(matrices())
def test_of_equally_near_members_the_first_represents(D):
    D = np.minimum(D, 5).round()  # so that sums are exact, however made
    labels = components(D, 1.0)
    for label, medoid in enumerate(graphs.representatives(D, labels)):
        members = np.flatnonzero(labels == label).tolist()
        total = sums(D, members)
        assert medoid == members[total.index(min(total))]


def test_ties_hold_whatever_the_order_of_summing():
    # Sums of the same three numbers, which floats add to 0.6 or to 0.6000000000000001.
    D = np.zeros((4, 4))
    D[np.triu_indices(4, 1)] = 0.1, 0.2, 0.3, 0.3, 0.2, 0.1
    D += D.T
    assert len({float(sum(row[row > 0])) for row in D}) == 2
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]):
        shuffled = D[np.ix_(order, order)]
        assert graphs.representatives(shuffled, np.zeros(4, int)).tolist() == [0]
        assert graphs.clusters(shuffled[None], [1.0]).representatives.tolist() == [0]


moves = st.one_of(
    st.integers(-5, 5).map(lambda k: k * graphs.MOVE / 2),  # at the bounds, and beyond them
    st.floats(-2 * graphs.MOVE, 2 * graphs.MOVE),
)


@st.composite
def matrices_that_move(draw):
    """Distances near a scale of 1, or equal but for little; and what another processor makes."""
    n = draw(st.integers(2, 9))
    above = np.triu_indices(n, 1)
    few = st.sampled_from([0.0, 0.5, 1.0, 1.0 + 2 * graphs.TIE, 3.0])

    def entries(kind):
        return draw(st.lists(kind, min_size=len(above[0]), max_size=len(above[0])))

    D, moved = np.zeros((n, n)), np.zeros((n, n))
    D[above] = np.abs(np.add(entries(few), entries(moves)))
    # A little less than MOVE, since the longest distance moves too.
    moved[above] = np.clip(entries(moves), -graphs.MOVE, graphs.MOVE) * 0.99 * D.max()
    return D + D.T, np.maximum(D + D.T + moved + moved.T, 0.0)


@settings(deadline=None, max_examples=300)
@given(matrices_that_move())
def test_what_rounding_may_change_is_counted(case):
    """Where nothing stands near, clusters and medoids are the same on another processor."""
    scales = [0.0, 0.5, 1.0]
    here, there = (graphs.clusters(D[None], scales) for D in case)
    for at in range(len(scales)):
        near = max(here.near[0, at], there.near[0, at])
        assert abs(here.number[0, at] - there.number[0, at]) <= near
        (medoids, sizes), (others, other_sizes) = here.of(0, at), there.of(0, at)
        if near == 0:
            assert sizes.tolist() == other_sizes.tolist()
            changed = sum(medoids != others)
            assert changed <= max(here.unsure[0, at], there.unsure[0, at])


def test_what_is_as_near_but_for_rounding_is_told_by_the_first():
    D = np.array([[0.0, 0.4, 0.5], [0.4, 0.0, 0.4], [0.5, 0.4, 0.0]])
    assert graphs.representatives(D, [0, 0, 0]).tolist() == [1]
    assert graphs.clusters(D[None], [0.4]).unsure.tolist() == [[0]]
    sure = (0.0, 0, 0), (5e-5, 0, 0), (1e-2, 1, 0)
    for less, chosen, unsure in (*sure, (1.2e-4, 0, 1), (2e-4, 1, 1)):
        D[0, 2] = D[2, 0] = 0.4 + less
        found = graphs.clusters(D[None], [1.0])
        assert graphs.representatives(D, [0, 0, 0]).tolist() == [chosen]
        assert found.representatives.tolist() == [chosen]
        assert found.unsure.tolist() == [[unsure]]


def test_merges_near_a_scale_are_counted():
    at = np.array([0.0, 1.0, 2.0 + 1e-5, 10.0])
    found = graphs.clusters(np.abs(at[:, None] - at)[None], [0.0, 1.0, 2.0, 8.0])
    assert found.number.tolist() == [[4, 3, 2, 1]]
    assert found.near.tolist() == [[0, 2, 0, 1]]
    assert graphs.clusters(np.zeros((1, 3, 3)), [0.0]).near.tolist() == [[2]]


def test_clusters_of_a_line():
    at = np.array([0.0, 1.0, 2.0, 10.0, 11.0, 30.0])
    D = np.abs(at[:, None] - at)
    found = graphs.clusters(D[None], [0.5, 1.0, 8.0, 100.0])
    assert found.number.tolist() == [[6, 3, 2, 1]]
    assert found.largest.tolist() == [[1, 3, 5, 6]]
    assert [part.tolist() for part in found.of(0, 1)] == [[1, 3, 5], [3, 2, 1]]
    assert [part.tolist() for part in found.of(0, 2)] == [[2, 5], [5, 1]]
    scales, counts = graphs.cluster_curve(graphs.merge_tree(D))
    assert scales.tolist() == [0, 1, 8, 19] and counts.tolist() == [6, 3, 2, 1]


def test_nothing_in_bulk():
    assert graphs.clusters(np.zeros((0, 3, 3)), [1.0]).number.shape == (0, 1)
    assert graphs.clusters(np.zeros((2, 3, 3)), []).number.shape == (2, 0)


ONE = np.array([[0.0, 1.0], [1.0, 0.0]])


@pytest.mark.parametrize(
    ("D", "says"),
    [
        ([[0, np.nan], [np.nan, 0]], r"\[0, 1\] of .* is nan"),
        ([[0, np.inf], [np.inf, 0]], r"\[0, 1\] of .* is inf"),
        ([[0, 1e300], [1e300, 0]], r"\[0, 1\] of .* is 1e\+300"),
        ([[0, -1], [-1, 0]], r"\[0, 1\] of .* is -1"),
        ([[0, 1], [2, 0]], r"\[0, 1\] of .* is 1.0, not its mirror's value 2.0"),
        ([[0, 1], [1, 0.5]], r"\[1, 1\] of .* is 0.5"),
    ],
)
def test_what_is_no_distance_matrix_is_refused(D, says):
    for compute in (graphs.merge_tree, graphs.simplices):
        with pytest.raises(InputError, match=says):
            compute(D)
    with pytest.raises(InputError, match=says):
        graphs.representatives(D, [0, 0])
    with pytest.raises(InputError, match="distance matrix 1"):
        graphs.clusters(np.stack([ONE, D]), [1.0])


@pytest.mark.parametrize("shape", [(0, 0), (2, 3), (4,)])
def test_a_wrong_shape_is_refused(shape):
    with pytest.raises(InputError, match="has shape"):
        graphs.merge_tree(np.zeros(shape))
    with pytest.raises(InputError, match="have shape"):
        graphs.clusters(np.zeros((1, *shape)), [1.0])


@pytest.mark.parametrize("scale", [-0.1, float("nan")])
def test_a_scale_is_a_distance(scale):
    for compute in (
        lambda: graphs.cluster_labels(graphs.merge_tree(ONE), scale),
        lambda: graphs.clusters(ONE[None], [1.0, scale]),
        lambda: graphs.simplices(ONE, scale),
    ):
        with pytest.raises(InputError, match=r"The scale is (-0\.1|nan)"):
            compute()


# ---------------------------------------------------------------- simplices


@settings(deadline=None)
@given(matrices_with_scales())
def test_simplices_by_definition(case):
    D, scales = case
    for most in (scales[0], INF):
        found = graphs.simplices(D, most)
        assert found.vertices.tolist() == list(range(len(D)))
        expected = {
            k: sorted(
                (float(max(D[i, j] for i, j in combinations(members, 2))), *members)
                for members in combinations(range(len(D)), k)
            )
            for k in (2, 3)
        }
        for k, members, at in ((2, found.edges, found.lengths), (3, found.triangles, found.scales)):
            assert members.shape == (len(at), k)
            rows = [(scale, *row) for scale, row in zip(at.tolist(), members.tolist(), strict=True)]
            assert rows == [row for row in expected[k] if row[0] <= most]


# ---------------------------------------------------------------- real heads


@pytest.mark.model
def test_clusters_of_real_heads():
    model = load("minilm", packaged.spec("minilm"))
    maps = []
    text = "The cat sat on the mat, and the dog sat on the cat until the cat bit the dog."
    for_each_layer(model, encode(model, text), lambda layer, A: maps.append(A))
    D = jensen_shannon(np.concatenate(maps))
    scales = [0.1, 0.2, 0.3, 0.4, 0.5]
    found = graphs.clusters(D, scales)
    assert 1 < found.number[:, 2].mean() < D.shape[1]
    for head, lengths in enumerate(D):
        tree = graphs.merge_tree(lengths)
        for at, scale in enumerate(scales):
            labels = components(lengths, scale)
            assert np.array_equal(labels, graphs.cluster_labels(tree, scale))
            medoids, sizes = found.of(head, at)
            assert np.array_equal(sizes, np.bincount(labels))
            for label, medoid in enumerate(medoids.tolist()):
                members = np.flatnonzero(labels == label).tolist()
                total = sums(lengths, members)
                most = min(total) + Fraction(graphs.TIE * lengths.max()) * len(members)
                assert total[members.index(medoid)] <= most


def test_a_missing_edge_is_named_with_its_cure():
    D = np.array([[0, 1, np.inf], [1, 0, np.inf], [np.inf, np.inf, 0]])
    for call in (graphs.merge_tree, lambda D: graphs.clusters(D[None], [0.5])):
        with pytest.raises(InputError, match=r"inf: a missing edge, .* length above all others"):
            call(D)
