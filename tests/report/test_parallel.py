import numpy as np
import pytest

from pipeline.report import parallel
from pipeline.store import SCHEMAS
from tests.report import small

PAIRS = [(0, 1), (0, 2), (1, 2)]


@pytest.fixture(scope="module")
def values():
    return parallel.build(small.run())


def test_only_texts_of_one_group_are_parallel(values):
    assert values["pairs"] == 3
    assert values["groups"] == 1
    assert values["languages"] == ["en", "he"]
    assert values["alike"] == 1


def test_a_cell_is_the_mean_over_pairs(values):
    second = values["dimensions"][1]
    assert second.number == 1
    m, n = second.by_head.data
    assert m.z.shape == (2, 2)
    assert n.z.shape == (3, 2)
    expected = np.mean([small.text_distance(1, 2, 1, pair) for pair in PAIRS])
    assert n.z[2, 1] == pytest.approx(expected)
    assert (n.customdata == 3).all()


def test_languages_whatever_the_order_of_the_pair(values):
    tile = values["dimensions"][0].by_language.data[0]
    over_heads = lambda pair: np.mean(  # noqa: E731
        [small.text_distance(0, layer, head, pair) for layer in (0, 1) for head in (0, 1)]
    )
    assert list(tile.x) == ["en", "he"]
    assert tile.z[0, 0] == pytest.approx(over_heads((0, 2)))
    # en-he is t0-t1, and t2-t1, which the table holds as t1, t2.
    assert tile.z[0, 1] == tile.z[1, 0]
    assert tile.z[0, 1] == pytest.approx(np.mean([over_heads((0, 1)), over_heads((1, 2))]))
    assert np.isnan(tile.z[1, 1])
    assert tile.customdata.tolist() == [[4, 8], [8, 0]]


def test_most_alike_and_most_different(values):
    lists = values["dimensions"][0].lists
    assert lists["Most alike"].heads[0].head == "m 0.0"
    assert lists["Most different"].heads[0].head == "n 2.1"
    assert lists["Most different"].heads[0].pairs == 3


def test_without_parallel_texts_there_is_no_section():
    records = small.run().records
    assert parallel.build(small.run(records=records.assign(group=None))) is None
    assert parallel.build(small.run(text_distances=[])) is None
    assert (
        parallel.build(small.run(text_distances=[SCHEMAS["text_distances"].empty_table()])) is None
    )


def test_languages_that_are_not_stated_are_left_out():
    records = small.run().records.assign(language=None)
    values = parallel.build(small.run(records=records))
    assert values["languages"] == []
    assert values["dimensions"][0].by_language is None
    assert values["dimensions"][0].by_head.data[0].customdata.tolist() == [[3, 3], [3, 3]]
