import numpy as np
import pandas as pd

from pipeline.figures import heads as figures
from pipeline.report import heads, page
from tests.report import small


def test_both_dimensions_with_matrix_map_and_lists():
    first, second = heads.build(small.run())["dimensions"]
    assert (first.number, second.number) == (0, 1)
    assert first.heads == len(small.HEADS)
    assert len(first.planes) == 1
    assert first.planes[0].models == ["m", "n"]
    assert first.planes[0].stress < 0.01  # the distances are of a plane
    assert list(first.lists) == ["Most alike", "Most alike across models", "Most different"]


def test_models_that_share_no_text_have_maps_of_their_own():
    rows = small.run().head_distances
    apart = rows.model_a != rows.model_b
    rows.loc[apart, ["mean", "ci_low", "ci_high"]] = np.nan
    run = small.run(head_distances=rows)
    first = heads.build(run)["dimensions"][0]
    assert [plane.models for plane in first.planes] == [["m"], ["n"]]
    assert "Most alike across models" not in first.lists
    assert "no text in common" in page.build(run)


def test_no_text_in_common_at_all():
    rows = small.run().head_distances.assign(mean=np.nan, ci_low=np.nan, ci_high=np.nan)
    run = small.run(head_distances=rows)
    first = heads.build(run)["dimensions"][0]
    assert first.matrix is None
    assert first.planes == []
    assert "there is no distance to draw" in page.build(run)


def test_too_many_heads_are_drawn_by_layer(monkeypatch):
    monkeypatch.setattr(figures, "MATRIX_HEADS", 9)
    run = small.run()
    first = heads.build(run)["dimensions"][0]
    assert first.by_layer
    assert max(len(trace.x) for trace in first.matrix.data) == 5
    assert "a matrix of more than 9 heads is too large" in page.build(run)


def test_far_too_many_have_no_map(monkeypatch):
    monkeypatch.setattr(figures, "EMBEDDED_HEADS", 9)
    run = small.run()
    assert heads.build(run)["dimensions"][0].planes == []
    assert "10 heads are more than the 9 that are laid out" in page.build(run)


def test_one_head_alone_leaves_no_section():
    assert heads.build(small.run(head_distances=pd.DataFrame())) is None
    assert heads.build(small.run(head_distances=small.run().head_distances[:0])) is None


def test_the_confidence_is_the_one_of_the_table():
    assert "90 % interval" in page.build(small.run())
