import numpy as np
import pandas as pd
import pytest

from pipeline.figures import heads
from tests.report.test_summary import HEADS, D, table


def test_cluster_order_puts_near_heads_side_by_side():
    random = np.random.default_rng(0)
    place = np.concatenate([random.normal(c, 0.1, 5) for c in (0, 10, 20)])
    shuffle = random.permutation(15)
    distances = np.abs(np.subtract.outer(place[shuffle], place[shuffle]))
    groups = (shuffle // 5)[heads.cluster_order(distances)]
    assert (np.diff(groups) != 0).sum() == 2


@pytest.mark.parametrize("count", [1, 2])
def test_cluster_order_of_few_heads(count):
    assert sorted(heads.cluster_order(np.zeros((count, count)))) == list(range(count))


def test_heads_and_square_are_read_back_from_the_rows():
    rows = table(D, HEADS).to_pandas()
    assert heads.heads_of(rows) == HEADS
    assert np.array_equal(heads._square(heads._column(rows, "mean"), 4), D)


def cells(figure):
    return next(trace for trace in figure.data if trace.colorbar.title.text == "mean distance")


def test_matrix_cells_stand_where_the_heads_stand():
    found = cells(heads.head_matrix(table(D, HEADS).to_pandas()))
    place = {f"{m} {layer}.{head}": i for i, (m, layer, head) in enumerate(HEADS)}
    order = [place[name] for name in found.x]
    assert list(found.x) == list(found.y)
    assert np.allclose(found.z, D[np.ix_(order, order)])


def test_an_interval_is_half_its_width_and_a_count_that_never_changes_stands_once():
    found = cells(heads.head_matrix(table(D, HEADS).to_pandas()))
    assert found.customdata.shape == (4, 4, 1)
    assert np.allclose(found.customdata[..., 0], 0.01 * (1 - np.eye(4)))
    assert "<br>4 texts<" in found.hovertemplate


def test_counts_that_differ_are_kept():
    rows = table(D, HEADS).to_pandas()
    rows.loc[rows.model_a != rows.model_b, "texts"] = 2
    found = cells(heads.head_matrix(rows))
    names = list(found.x)
    assert found.customdata[names.index("m 0.0"), names.index("n 1.0"), 1] == 2
    assert found.customdata[names.index("m 0.0"), names.index("m 0.1"), 1] == 4
    assert "%{customdata[1]} texts" in found.hovertemplate


def test_without_intervals_none_is_shown():
    rows = table(D, HEADS).to_pandas().assign(ci_low=None, ci_high=None)
    assert cells(heads.head_matrix(rows)).customdata is None
    assert "±" not in cells(heads.head_matrix(rows)).hovertemplate


def test_distances_that_are_not_known_stay_empty():
    rows = table(D, HEADS).to_pandas()
    rows.loc[rows.model_a != rows.model_b, ["mean", "ci_low", "ci_high"]] = np.nan
    assert np.isnan(cells(heads.head_matrix(rows)).z).sum() == 8


def test_layers_are_means_over_pairs_of_heads():
    found = cells(heads.layer_matrix(table(D, HEADS).to_pandas()))
    names = list(found.x)
    m, n0, n1 = (names.index(name) for name in ("m layer 0", "n layer 0", "n layer 1"))
    assert found.z[m, m] == np.float32(0.1)
    assert found.z[m, n0] == found.z[n0, m] == np.float32((0.5 + 0.3) / 2)
    assert np.isnan(found.z[n1, n1])  # one head: no pair within
    assert found.customdata[m, n0].tolist() == pytest.approx([0.3, 0.5, 2])


def test_words_of_a_model_are_shown_as_they_are():
    rows = table(D, [("<b>", layer, head) for _, layer, head in HEADS]).to_pandas()
    assert all("<b>" not in name for name in cells(heads.head_matrix(rows)).x)
    (found,) = heads.embed(rows)
    for figure in (heads.embedding_by_model(found), heads.embedding_by_layer(found)):
        assert "<b>" not in figure.data[1].name
        assert not any("<b>" in text for text in figure.data[0].text)


def test_a_frame_of_one_pair():
    assert isinstance(table(D[:2, :2], HEADS[:2]).to_pandas(), pd.DataFrame)
    assert heads.heads_of(table(D[:2, :2], HEADS[:2]).to_pandas()) == HEADS[:2]


# ---- the plane ----------------------------------------------------------------------------

PLANE = np.random.default_rng(3).normal(size=(20, 2))
MANY = [("m", i // 4, i % 4) for i in range(12)] + [("n", i // 2, i % 2) for i in range(8)]


def apart(places: np.ndarray) -> np.ndarray:
    return np.linalg.norm(places[:, None] - places[None], axis=-1)


def test_distances_of_a_plane_are_kept():
    (found,) = heads.embed(table(apart(PLANE), MANY).to_pandas())
    assert found.heads == MANY
    assert found.stress < 1e-3
    assert np.allclose(apart(found.places), apart(PLANE), atol=2e-3)


def test_a_turned_and_mirrored_plane_gives_the_same_picture():
    turned = PLANE @ np.array([[0.6, 0.8], [0.8, -0.6]]) + 5
    (one,), (other,) = (heads.embed(table(apart(p), MANY).to_pandas()) for p in (PLANE, turned))
    assert np.array_equal(one.places, other.places)


def test_models_without_a_distance_between_them_are_laid_out_apart():
    D = apart(PLANE)
    D[:12, 12:] = D[12:, :12] = np.nan
    one, other = heads.embed(table(D, MANY).to_pandas())
    assert (one.heads, other.heads) == (MANY[:12], MANY[12:])
    assert np.allclose(apart(other.places), apart(PLANE[12:]), atol=2e-3)


def test_a_model_that_shares_with_one_of_two_joins_the_first():
    heads_ = [("a", 0, 0), ("a", 0, 1), ("b", 0, 0), ("b", 0, 1), ("c", 0, 0), ("c", 0, 1)]
    D = apart(PLANE[:6])
    D[:2, 2:4] = D[2:4, :2] = np.nan
    found = heads.embed(table(D, heads_).to_pandas())
    assert [sorted({m for m, _, _ in e.heads}) for e in found] == [["a", "c"], ["b"]]


def test_a_model_without_texts_is_nowhere():
    D = apart(PLANE)
    D[:12], D[:, :12] = np.nan, np.nan
    (found,) = heads.embed(table(D, MANY).to_pandas())
    assert found.heads == MANY[12:]


def test_heads_that_are_all_alike_are_one_point():
    (found,) = heads.embed(table(np.zeros((20, 20)), MANY).to_pandas())
    assert not found.places.any()
    assert found.stress == 0


def test_stress_is_relative_to_the_distances():
    """Four points all 1 apart, the closest of which a plane shows is the square."""
    four = MANY[:4]
    (found,) = heads.embed(table(1 - np.eye(4), four).to_pandas())
    # A square of side s: 4 (s - 1)^2 + 2 (s sqrt2 - 1)^2 is least at s = (4 + 2 sqrt2) / 8.
    s = (4 + 2 * np.sqrt(2)) / 8
    least = np.sqrt((4 * (s - 1) ** 2 + 2 * (s * np.sqrt(2) - 1) ** 2) / 6)
    assert found.stress == pytest.approx(least, abs=2e-3)


def test_depth_runs_from_first_to_last_layer():
    assert heads.depths([("m", 0, 0), ("m", 2, 0), ("m", 4, 1), ("n", 0, 0)]) == [0, 0.5, 1, 0]


def test_points_say_their_head():
    (found,) = heads.embed(table(apart(PLANE), MANY).to_pandas())
    for figure in (heads.embedding_by_model(found), heads.embedding_by_layer(found)):
        assert list(figure.data[0].text) == [heads.label(*head) for head in MANY]
        assert np.array_equal(np.stack([figure.data[0].x, figure.data[0].y], 1), found.places)
        assert [trace.name for trace in figure.data[1:]] == ["m", "n"]
