"""What stands in each figure, against the numbers that went in."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.distance import pdist, squareform

from pipeline import graphs
from pipeline.errors import InputError
from pipeline.figures import text

A = np.array([[0.7, 0.3, 0.0], [0.2, 0.0, 0.8], [0.25, 0.25, 0.5]])
LABELS = ["0 the", "1 cat", "2 the"]
DIAGRAMS = [np.array([[0, 0.1], [0, 0.1], [0, 0.3], [0, np.inf]]), np.array([[0.2, 0.25]])]


def points(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 3))


def distances(n, seed=0):
    return squareform(pdist(points(n, seed)))


def labels(n):
    return [f"{i} t{i}" for i in range(n)]


def notes(figure):
    return [note.text for note in figure.layout.annotations]


# ---------------------------------------------------------------- matrices


def test_a_heatmap_has_queries_from_the_top_and_keys_from_the_left():
    figure = text.heatmap(A, LABELS, LABELS)
    [cells] = figure.data
    assert np.array_equal(cells.z, A.astype(np.float32))
    assert list(cells.y) == list(cells.x) == LABELS
    assert figure.layout.yaxis.autorange == "reversed"
    assert figure.layout.yaxis.scaleanchor == "x"
    assert (cells.zmin, cells.zmax) == (0, pytest.approx(0.8))


def test_infinite_values_are_apart():
    figure = text.heatmap(np.array([[0.0, np.inf], [-0.5, 2.0]]), ["a", "b"], ["a", "b"])
    finite, infinite = (trace for trace in figure.data if trace.type == "heatmap")
    assert np.array_equal(np.isnan(finite.z), [[False, True], [False, False]])
    assert np.array_equal(infinite.z == 1, np.isnan(finite.z))
    assert (finite.zmin, finite.zmax) == (-0.5, 2)
    assert "inf" in infinite.hovertemplate


def test_all_infinite_is_still_drawn():
    figure = text.heatmap(np.full((1, 1), np.inf), ["a"], ["a"], bounds=None)
    assert (figure.data[0].zmin, figure.data[0].zmax) == (0, 1)


def test_equal_labels_are_cells_of_their_own():
    [cells] = text.heatmap(A, ["the", "cat", "the"], ["the", "cat", "the"]).data
    assert len({*cells.x}) == 3
    assert [label.split()[-1] for label in cells.x] == ["the", "cat", "the"]


@pytest.mark.parametrize(("n", "shown"), [(3, 3), (40, 40), (41, 21), (512, 40)])
def test_labels_are_thinned_before_they_touch(n, shown):
    figure = text.heatmap(np.eye(n), labels(n), labels(n))
    assert len(figure.layout.xaxis.ticktext) == len(figure.layout.yaxis.ticktext) == shown
    assert len(figure.data[0].x) == n


def test_long_tokens_are_cut_at_the_axis_and_whole_in_the_hover():
    long = f"0 {'x' * 50}"
    figure = text.heatmap(np.eye(1), [long], [long])
    assert figure.layout.xaxis.ticktext[0] == f"0 {'x' * (text.LONG_LABEL - 1)}…"
    assert figure.data[0].x[0] == long


def test_512_tokens_are_typed_arrays():
    figure = text.heatmap(np.random.default_rng(0).random((512, 512)), labels(512), labels(512))
    assert '"z":{"dtype":"f4",' in figure.to_json()
    assert len(figure.to_json()) < 2_000_000


def test_a_matrix_of_another_shape_is_a_sentence():
    with pytest.raises(InputError, match=r"shape \(3, 3\), with 2 labels of rows and 3"):
        text.heatmap(A, LABELS[:2], LABELS)


# ---------------------------------------------------------------- graphs


def edges_of(figure):
    [found] = (trace for trace in figure.data if trace.mode == "markers+text")
    return dict(zip(found.hovertext, found.customdata, strict=True)), found


def test_a_graph_has_an_edge_for_each_weight_and_direction():
    edges, written = edges_of(text.graph(A, LABELS))
    i, j = np.nonzero(A)
    assert edges == {f"{LABELS[a]} → {LABELS[b]}": A[a, b] for a, b in zip(i, j, strict=True)}
    assert {*filter(None, written.text)} <= {f"{weight:.2f}" for weight in A[A > 0]}


def test_a_graph_leaves_out_what_is_below_the_threshold():
    edges, _ = edges_of(text.graph(A, LABELS, threshold=0.25))
    assert sorted(edges.values()) == sorted(A[A >= 0.25])


def test_a_symmetrised_graph_has_the_larger_of_both():
    edges, _ = edges_of(text.graph(A, LABELS, symmetrised=True))
    W = np.maximum(A, A.T)
    i, j = np.nonzero(np.triu(W))
    assert edges == {f"{LABELS[a]} — {LABELS[b]}": W[a, b] for a, b in zip(i, j, strict=True)}


def test_only_a_directed_graph_has_arrowheads():
    filled = [trace for trace in text.graph(A, LABELS).data if trace.fill == "toself"]
    assert filled
    plain = text.graph(A, LABELS, symmetrised=True).data
    assert not [trace for trace in plain if trace.fill == "toself"]


def test_an_edge_runs_from_its_query_to_its_key_and_a_loop_stays_outside():
    places = text._circle(3)
    line = text._curve(places, 0, 1, directed=True)
    assert np.linalg.norm(line[0] - places[0]) < 0.2 > np.linalg.norm(line[-1] - places[1])
    loop = text._curve(places, 0, 0, directed=True)
    assert (np.linalg.norm(loop, axis=1) > 1).all()
    back = text._curve(places, 1, 0, directed=True)
    assert np.linalg.norm(line[8] - back[8]) > 0.1


def test_what_a_graph_leaves_out_is_said():
    n = 100
    weights = np.random.default_rng(0).dirichlet(np.ones(n), n)
    figure = text.graph(weights, labels(n))
    edges, _ = edges_of(figure)
    assert sorted(edges.values()) == sorted(np.sort(weights.ravel())[-text.EDGES :])
    assert f"the {text.EDGES:,} heaviest of 10,000 edges" in notes(figure)[-1]
    assert "1 token in 2 written" in notes(figure)[-1]


def test_a_graph_without_edges_and_of_one_token():
    assert edges_of(text.graph(A, LABELS, threshold=2))[0] == {}
    assert edges_of(text.graph(np.ones((1, 1)), ["0 a"]))[0] == {"0 a → 0 a": 1.0}


# ---------------------------------------------------------------- diagrams


def test_a_diagram_counts_equal_points_and_puts_what_never_dies_on_its_line():
    figure = text.diagram(DIAGRAMS, 0.5)
    zero, one = (trace for trace in figure.data if trace.mode == "markers")
    assert list(zip(zero.x, zero.customdata, strict=True)) == [(0, 2), (0, 1), (0, 1)]
    never = figure.layout.shapes[0].y0
    assert never > 0.5
    assert list(zero.y) == [0.1, 0.3, never]
    assert list(zero.hovertext) == ["0.1", "0.3", "never"]
    assert (one.x[0], one.y[0]) == (0.2, 0.25)
    assert zero.marker.color != one.marker.color and zero.marker.symbol != one.marker.symbol


def test_a_barcode_has_its_bars_in_order():
    figure = text.barcode(DIAGRAMS[::-1], 0.5)
    one, zero = figure.data
    assert np.allclose(one.base, 0.2) and np.allclose(one.x, 0.05)
    assert np.allclose(zero.x[:3], [0.1, 0.1, 0.3]) and zero.x[3] > 0.5
    assert list(zero.customdata) == ["0.1", "0.1", "0.3", "never"]
    assert min(zero.y) > max(one.y)


def test_an_empty_diagram_is_drawn():
    empty = [DIAGRAMS[0], np.empty((0, 2))]
    assert len(text.barcode(empty, 0.5).data) == 2
    assert len(text.diagram(empty, 0.0).data) == 3


# ---------------------------------------------------------------- the complex


def test_positions_keep_distances_that_fit_into_space():
    D = distances(20)
    assert np.allclose(squareform(pdist(text.complex_of(D).positions)), D)


def test_positions_are_the_same_for_the_same_distances_however_the_signs_fall():
    made = text.complex_of(distances(9)).positions
    tops = made[np.abs(made).argmax(0), range(3)]
    assert (tops > 0).all()


@pytest.mark.parametrize("n", [2, 3, 12])
def test_a_small_complex_is_that_of_gudhi(n):
    D = distances(n)
    made, found = text.complex_of(D), graphs.simplices(D)
    assert np.array_equal(made.edges, found.edges) and np.allclose(made.lengths, found.lengths)
    assert {*map(tuple, made.triangles)} == {*map(tuple, found.triangles)}
    assert np.allclose(made.scales, found.scales)
    assert made.diameter == D.max()


def test_of_a_large_complex_the_shortest_are_kept():
    D = distances(120)
    made, found = text.complex_of(D), graphs.simplices(D, np.quantile(D, 0.2))
    assert len(made.edges) == text.COMPLEX_EDGES and len(made.triangles) == text.COMPLEX_TRIANGLES
    assert np.allclose(made.lengths, np.sort(pdist(points(120)))[: text.COMPLEX_EDGES])
    assert np.allclose(made.scales, found.scales[: text.COMPLEX_TRIANGLES])


def test_a_complex_at_a_scale():
    D = distances(15)
    made = text.complex_of(D)
    scale = float(np.median(made.lengths))
    figure = text.complex(made, labels(15), scale)
    [mesh] = (trace for trace in figure.data if trace.type == "mesh3d")
    assert len(mesh.i) == (made.scales <= scale).sum()
    [lines] = figure.select_traces({"type": "scatter3d", "mode": "lines"})
    assert len(lines.x) == 3 * (made.lengths <= scale).sum()
    assert [note.text for note in figure.layout.scene.annotations] == labels(15)
    assert notes(figure) == []


def test_at_scale_0_all_are_lone_and_at_the_diameter_one_cluster():
    made = text.complex_of(distances(6))
    assert text.cluster_colours(made.tree, 0) == [text.QUIET] * 6
    assert text.cluster_colours(made.tree, made.diameter) == [text.PALETTE[0]] * 6
    assert [trace.name for trace in text.complex(made, labels(6), 0).data] == ["6 lone tokens"]


def test_the_largest_cluster_has_the_first_colour():
    places = np.array([0, 10, 10.1, 10.2, 20, 20.1])
    tree = text.complex_of(np.abs(np.subtract.outer(places, places))).tree
    first, second = text.PALETTE[:2]
    assert text.cluster_colours(tree, 1) == [text.QUIET, first, first, first, second, second]


def test_what_a_complex_leaves_out_is_said():
    made = text.complex_of(distances(120))
    assert notes(text.complex(made, labels(120), 0.1)) == []
    [said] = notes(text.complex(made, labels(120), made.diameter))
    assert "first 4,000 of 7,140 edges" in said and "first 2,000 of 280,840 triangles" in said


# ---------------------------------------------------------------- images


def test_a_sphere_has_the_heaviest_edges():
    figure = text.sphere(A, LABELS, threshold=0.5)
    [lines] = (trace for trace in figure.data if trace.mode == "lines")
    assert set(np.unique(lines.line.color)) == {np.float32(0.8)}
    n = 100
    figure = text.sphere(np.full((n, n), 1 / n), labels(n))
    assert notes(figure) == [f"the {text.SPHERE_EDGES:,} heaviest of 4,950 edges"]


def test_patches_lie_over_the_image_row_after_row():
    pixels = np.zeros((3, 8, 12), np.float32)
    pixels[:, :4, 4:8] = 1  # the patch 0,1 is white
    names = [f"{row},{column}" for row in range(2) for column in range(3)]
    figure = text.patches(pixels, (2, 3), np.arange(6) / 10, names)
    [cells] = figure.data
    assert np.allclose(cells.z, [[0, 0.1, 0.2], [0.3, 0.4, 0.5]])
    assert cells.customdata[1].tolist() == ["1,0", "1,1", "1,2"]
    [shown] = figure.layout.images
    drawn = np.array(Image.open(io.BytesIO(base64.b64decode(shown.source.split(",")[1]))))
    assert drawn.shape == (8, 12)
    assert np.array_equal(drawn == 255, pixels[0] == 1)
    assert (shown.sizex, shown.sizey) == (3, 2)


# ---------------------------------------------------------------- contexts, two texts


def test_cosines_are_told_apart_without_colour():
    figure = text.cosines([0, 1], {"<b>": [1, 0.5], "b": [1, 0.6], "c": [1, 0.7]})
    assert [trace.name for trace in figure.data] == ["&lt;b&gt;", "b", "c"]
    marks = {(trace.line.dash, trace.marker.symbol) for trace in figure.data}
    assert len(marks) == 3
    assert list(figure.data[1].y) == [1, 0.6]


def test_reductions_fall_in_steps():
    figure = text.reductions({"a": ([0, 0.2, 0.5], [3, 2, 1])})
    assert figure.data[0].line.shape == "hv"
    assert list(figure.data[0].y) == [3, 2, 1]


def test_two_texts_stand_beside_each_other():
    half = text.heatmap(A[:2], LABELS[:2], LABELS, bounds=(0, 1))
    whole = text.beside([text.heatmap(A, LABELS, LABELS, bounds=(0, 1)), half], ["<a>", "b"])
    first, second = whole.data
    assert (first.xaxis, first.yaxis, second.xaxis, second.yaxis) == ("x", "y", "x2", "y2")
    assert (first.showscale, second.showscale) == (False, None)
    assert whole.layout.yaxis2.scaleanchor == "x2"
    assert whole.layout.xaxis.domain[1] < whole.layout.xaxis2.domain[0]
    assert notes(whole) == ["&lt;a&gt;", "b"]


def test_diagrams_beside_each_other_share_a_legend_and_keep_their_lines():
    whole = text.beside([text.diagram(DIAGRAMS, 0.5)] * 2, ["a", "b"])
    shown = [trace.name for trace in whole.data if trace.showlegend]
    assert len(shown) == 2 == len({*shown})
    assert [shape.xref for shape in whole.layout.shapes] == ["x domain", "x2 domain"]
    assert [shape.yref for shape in whole.layout.shapes] == ["y", "y2"]
    assert notes(whole).count("never dies") == 2
