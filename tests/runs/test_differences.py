import numpy as np
import pyarrow as pa
import pytest

from pipeline.runs.differences import FLIPS, TOLERANCE, causes, difference

LISTS = pa.list_(pa.float64())


def heads(**changes) -> pa.Table:
    columns = {
        "model": ["m"] * 4,
        "text_id": ["a", "a", "b", "b"],
        "head": pa.array([0, 1, 0, 1], pa.int32()),
        "entropy": pa.array([[1.0, 2.0], [], None, [3.0]], LISTS),
        "distance_mean": [0.1, 0.2, 0.3, None],
        "clusters": pa.array([2, 3, 4, 5], pa.int32()),
        "token": ["x", "y", "z", "w"],
    }
    return pa.table({**columns, **changes})


def diagrams(births: list[list[float]], deaths: list[list[float]]) -> pa.Table:
    rows = len(births)
    return pa.table(
        {
            "text_id": ["a"] * rows,
            "head": range(rows),
            "birth": pa.array(births, LISTS),
            "death": pa.array(deaths, LISTS),
        }
    )


def test_a_table_equals_itself_in_any_order():
    turned = heads().take([3, 1, 0, 2]).select(heads().column_names[::-1])
    for other in (heads(), turned):
        found = difference(heads(), other)
        assert (found.verdict, found.rows, found.columns, found.worst) == ("equal", 4, [], [])


def test_a_small_move_is_within_and_the_worst_row_is_named():
    found = difference(heads(), heads(distance_mean=[0.1, 0.2 + TOLERANCE / 2, 0.3, None]))
    assert found.verdict == "within"
    (column,) = found.columns
    assert (column.name, column.rows) == ("distance_mean", 1)
    assert column.distance == pytest.approx(TOLERANCE / 2)
    assert found.worst[0].row == {"model": "m", "text_id": "a", "head": 1}
    assert found.worst[0].recorded == 0.2


@pytest.mark.parametrize(
    ("changes", "apart"),
    [
        ({"distance_mean": [0.1, 0.2, 0.31, None]}, 0.01),
        ({"distance_mean": [0.1, 0.2, 0.3, 0.4]}, np.inf),
        ({"entropy": pa.array([[1.0, 2.5], [], None, [3.0]], LISTS)}, 0.5 / 2.5),
        ({"entropy": pa.array([[1.0], [], None, [3.0]], LISTS)}, np.inf),
        ({"entropy": pa.array([[1.0, 2.0], [], [], [3.0]], LISTS)}, np.inf),
        ({"token": ["x", "y", "z", "v"]}, 1),
        ({"clusters": pa.array([2, 3, 4, 6], pa.int32())}, 1),
    ],
)
def test_a_large_move_is_different(changes, apart):
    found = difference(heads(), heads(**changes))
    assert found.verdict == "different"
    assert found.columns[0].name in changes
    assert found.columns[0].distance == pytest.approx(apart)


def test_numbers_above_one_are_compared_by_their_ratio():
    before, after = pa.table({"x": [1000.0]}), pa.table({"x": [1000.0 + 500 * TOLERANCE]})
    assert difference(before, after).columns[0].distance == pytest.approx(TOLERANCE / 2, rel=1e-3)


def test_an_error_is_measured_by_the_size_of_what_it_is_an_error_of():
    def table(*errors: float | None) -> pa.Table:
        floats = pa.float64()
        return pa.table(
            {
                "component": ["block", "model", "map"],
                "error_max": pa.array(errors, floats),
                "scale": pa.array([5000.0, 0.5, None], floats),
            }
        )

    (moved,) = difference(table(0.001, 0.1, None), table(0.0015, 0.1, None)).columns
    assert moved.fits and moved.distance == pytest.approx(0.0005 / 5000)
    (moved,) = difference(table(0.001, 0.1, 0.1), table(0.001, 0.1005, 0.1)).columns
    assert not moved.fits and moved.distance == pytest.approx(0.0005)
    (moved,) = difference(table(0.001, 0.1, 0.1), table(0.001, 0.1, 0.3)).columns
    assert moved.distance == pytest.approx(0.2)


def test_a_relative_error_may_move_as_much_more_as_a_row_is_below_1():
    """As smollm2's layer 21 did between instruction sets: 4.147049 and 4.146498, of 11 tokens."""
    before, after, other = (
        pa.table({"component": ["maps"], "tokens": [11], "relative": [x]})
        for x in (4.147049, 4.146498, 4.1455)
    )
    assert difference(before, after).verdict == "within"
    assert difference(before, other).verdict == "different"


def test_infinity_equals_infinity_and_nothing_else():
    table = pa.table({"x": [np.inf, 1.0]})
    assert difference(table, table).verdict == "equal"
    assert difference(table, pa.table({"x": [2.0, 1.0]})).columns[0].distance == np.inf


def test_diagrams_are_compared_by_bottleneck_distance():
    """A bar of length 2e, which has no partner, is at distance e from the diagonal."""
    e = TOLERANCE / 2
    before = diagrams([[0.0, 0.0], [0.1]], [[0.5, np.inf], [0.3]])
    after = diagrams([[0.0, 0.0, 0.2], [0.1]], [[0.5, np.inf, 0.2 + 2 * e], [0.3 + e / 2]])
    found = difference(before, after)
    assert found.verdict == "within"
    assert (found.columns[0].kind, found.columns[0].rows) == ("diagram", 2)
    assert found.columns[0].distance == pytest.approx(e)
    assert found.worst[0].found == [[0.0, 0.0, 0.2], [0.5, np.inf, 0.2 + 2 * e]]
    endless = diagrams([[0.0, 0.0], [0.1]], [[np.inf, np.inf], [0.3]])
    assert difference(before, endless).columns[0].distance == np.inf


def test_rows_and_columns_of_one_table_alone_are_counted():
    fewer = heads().slice(0, 3).drop_columns(["token"])
    found = difference(heads(), fewer)
    assert (found.verdict, found.rows, found.lost, found.gained) == ("different", 3, 1, 0)
    assert (found.dropped, found.added) == (["token"], [])
    back = difference(fewer, heads())
    assert (back.lost, back.gained, back.dropped, back.added) == (0, 1, [], ["token"])


def test_a_column_more_is_no_difference_of_values():
    assert difference(heads().drop_columns(["token"]), heads()).verdict == "equal"


def test_rows_of_one_key_are_matched_in_their_order():
    table = pa.table({"head": [0, 0, 1], "clusters": [3, 2, 3]})
    assert difference(table, table).verdict == "equal"
    assert difference(table, table.slice(0, 2)).lost == 1


def test_a_scale_says_what_a_row_of_clusters_is_of():
    table = pa.table({"head": [0, 0, 1], "scale": [0.1, 0.2, 0.1], "clusters": [3, 2, 3]})
    assert difference(table, table.take([2, 1, 0])).verdict == "equal"
    assert difference(table, table.slice(1, 2)).lost == 1
    other = table.set_column(1, "scale", pa.array([0.1, 0.3, 0.1]))
    assert (difference(table, other).lost, difference(table, other).gained) == (1, 1)


def test_a_tolerance_says_what_a_row_of_counts_is_of():
    table = pa.table({"layer": [0, 0], "tolerance": [1e-4, 1e-2], "within_equal": [0, 3]})
    assert difference(table, table.take([1, 0])).verdict == "equal"
    assert difference(table, table.slice(1, 1)).worst == []


NEAR_A_SCALE = {
    "model": ["m", "m"],
    "scale": [0.1, 0.2],
    "clusters": [3, 2],
    "largest": [5, 6],
    "reduction": [3 / 7, 2 / 7],
    "clusters_near": [0, 1],
    "representatives_near": [1, 0],
    "representatives": pa.array([[0, 5, 6], [0, 6]], pa.list_(pa.int32())),
    "sizes": pa.array([[5, 1, 1], [6, 1]], pa.list_(pa.int32())),
}
FLIPPED = {
    "clusters": [3, 1],
    "largest": [5, 7],
    "reduction": [3 / 7, 1 / 7],
    "representatives": pa.array([[1, 5, 6], [0]], pa.list_(pa.int32())),
    "sizes": pa.array([[5, 1, 1], [7]], pa.list_(pa.int32())),
}


def test_clusters_flip_only_where_something_stands_near():
    before, after = (pa.table(NEAR_A_SCALE | changes) for changes in ({}, FLIPPED))
    assert difference(before, after).verdict == "within"
    # As that processor counts what stands near.
    nothing = {"clusters_near": [0, 0], "representatives_near": [0, 0]}
    assert difference(before, pa.table(NEAR_A_SCALE | FLIPPED | nothing)).verdict == "within"
    before = pa.table(NEAR_A_SCALE | nothing)
    for name, values in FLIPPED.items():
        after = pa.table(NEAR_A_SCALE | nothing | {name: values})
        assert difference(before, after).verdict == "different"
    # By one cluster more or fewer, since one merge stands near.
    after = pa.table(NEAR_A_SCALE | {"clusters": [3, 4]})
    assert difference(pa.table(NEAR_A_SCALE), after).verdict == "different"


def test_a_part_holds_or_not_only_where_its_error_is_near_the_tolerance():
    def table(holds: list[bool | None], near: list[bool | None]) -> pa.Table:
        return pa.table({"component": ["block", "model"], "holds": holds, "near": near})

    nothing = table([True, None], [False, None])
    assert difference(nothing, nothing).verdict == "equal"
    assert difference(nothing, table([False, None], [False, None])).verdict == "different"
    assert difference(nothing, table([False, None], [True, None])).verdict == "within"
    assert difference(nothing, table([True, True], [False, False])).verdict == "different"


def test_what_a_threshold_decides_may_flip_in_few_rows():
    rows = round(2 / FLIPS)
    before = pa.table({"head": range(rows), "clusters": [3] * rows})
    for flips, verdict in ((1, "within"), (2, "within"), (3, "different")):
        after = pa.table({"head": range(rows), "clusters": [4] * flips + [3] * (rows - flips)})
        assert difference(before, after).verdict == verdict


def test_what_does_not_fit_is_worst():
    found = difference(
        heads(), heads(distance_mean=[0.1, 0.2, 0.31, None], entropy=[[9.0, 2.0], [], None, [3.0]])
    )
    assert [move.column for move in found.worst] == ["entropy", "distance_mean"]


def test_empty_tables_are_equal():
    assert difference(heads().slice(0, 0), heads().slice(0, 0)).verdict == "equal"


MADE = {
    "code": "0" * 64,
    "config": {"homology": {"max_dimension": 1}, "scales": [0.1]},
    "corpus": "a" * 64,
    "weights": {"tiny": {"weights_sha256": "b" * 64, "tokenizer_sha256": "c" * 64}},
    "libraries": {"numpy": "2.4.6"},
}


def test_nothing_changed_has_no_cause():
    assert causes(MADE, MADE) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"code": "1" * 64}, "other code: 000000000000... -> 111111111111..."),
        (
            {"config": {"homology": {"max_dimension": 0}, "scales": [0.1]}},
            "other configuration homology.max_dimension: 1 -> 0",
        ),
        ({"corpus": "b" * 64}, "other corpus: aaaaaaaaaaaa... -> bbbbbbbbbbbb..."),
        ({"libraries": {"numpy": "2.4.5"}}, "other version of a library numpy: 2.4.6 -> 2.4.5"),
        (
            {"weights": {"tiny": {"weights_sha256": "d" * 64, "tokenizer_sha256": "c" * 64}}},
            "other weights of tiny: bbbbbbbbbbbb... -> dddddddddddd...",
        ),
        (
            {"weights": {"tiny": {"weights_sha256": "b" * 64, "tokenizer_sha256": "d" * 64}}},
            "other tokenizer of tiny: cccccccccccc... -> dddddddddddd...",
        ),
        ({"seed": 3}, "other seed: none -> 3"),
    ],
)
def test_a_change_is_named(change, says):
    assert causes(MADE, {**MADE, **change}) == [says]


def test_a_cause_further_up_is_named_with_its_place():
    before = {"made_from": {"tiny": MADE}}
    after = {"made_from": {"tiny": {**MADE, "code": "1" * 64}}}
    (line,) = causes(before, after)
    assert line.startswith("other code: ")
    assert line.endswith("(in what it was made from: tiny)")


def counted(equal: int, near: int) -> pa.Table:
    return pa.table({"layer": [0, 1], "within_equal": [0, equal], "within_near": [0, near]})


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ((2, 0), (2, 0), "equal"),
        ((2, 0), (0, 0), "different"),  # as where the same bits are what makes vectors equal
        ((2, 1), (1, 0), "within"),
        ((2, 1), (3, 1), "within"),
        ((2, 1), (4, 1), "different"),
        ((2, 1), (2, 0), "within"),
    ],
)
def test_a_count_moves_by_no_more_than_stands_near_its_threshold(before, after, verdict):
    assert difference(counted(*before), counted(*after)).verdict == verdict
