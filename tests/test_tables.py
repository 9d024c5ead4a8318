import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from pipeline import comparison, tables
from pipeline.diagrams import Packed
from pipeline.tables import ComparisonSpec

SPEC = ComparisonSpec(metric="bottleneck", order=1.0, text_pairs="group", confidence=0.95)


def columns(values, clusters, confidence=0.95) -> dict[str, list]:
    made = tables.summarise(np.asarray(values, float), np.asarray(clusters), confidence)
    return {name: pa.array(column).to_pylist() for name, column in made.items()}


@pytest.mark.parametrize("size", [1, 2, 3, 39])
def test_a_summary_does_not_depend_on_how_pairs_are_cut(size, monkeypatch):
    random = np.random.default_rng(0)
    values = random.random((40, 300))
    values[random.random(values.shape) < 0.05] = np.nan
    groups = random.integers(0, 100, 300)
    whole = pa.table(tables.summarise(values, groups, 0.95))
    cuts = [values[start : start + size] for start in range(0, 40, size)]
    pieces = [pa.table(tables.summarise(cut, groups, 0.95)) for cut in cuts]
    assert pa.concat_tables(pieces).equals(whole)
    monkeypatch.setattr(tables, "VALUES_AT_ONCE", size * 300)
    assert pa.table(tables.summarise(values, groups, 0.95)).equals(whole)


def test_independent_texts_have_the_usual_interval():
    values = np.random.default_rng(0).random((5, 40))
    found = columns(values, np.arange(40))
    for row in range(5):
        x = values[row]
        low, high = stats.t.interval(0.95, 39, x.mean(), stats.sem(x))
        assert found["mean"][row] == pytest.approx(x.mean(), rel=1e-14)
        assert found["std"][row] == pytest.approx(x.std(ddof=1), rel=1e-13)
        assert (found["min"][row], found["max"][row]) == (x.min(), x.max())
        assert found["median"][row] == np.median(x)
        assert found["ci_low"][row] == pytest.approx(low, rel=1e-12)
        assert found["ci_high"][row] == pytest.approx(high, rel=1e-12)


def test_equal_translations_count_once():
    """Every text six times over: the interval is that of the clusters, not a narrower one."""
    base = np.random.default_rng(1).random((3, 9))
    once = columns(base, np.arange(9))
    often = columns(np.repeat(base, 6, axis=1), np.repeat(np.arange(9), 6))
    assert often["texts"] == [54] * 3
    for name in ("mean", "median", "ci_low", "ci_high"):
        assert often[name] == pytest.approx(once[name], rel=1e-12)


def test_cluster_interval_by_the_formula_written_out():
    random = np.random.default_rng(2)
    x, clusters = random.random(17), random.integers(0, 5, 17)
    sums = [sum(x[i] - x.mean() for i in range(17) if clusters[i] == c) for c in set(clusters)]
    groups = len(sums)
    error = (groups / (groups - 1) * sum(s * s for s in sums)) ** 0.5 / 17
    half = stats.t.ppf(0.975, groups - 1) * error
    found = columns(x[None], clusters)
    assert found["ci_high"][0] == pytest.approx(x.mean() + half, rel=1e-12)
    assert found["ci_low"][0] == pytest.approx(max(x.mean() - half, 0), rel=1e-12)


def test_coverage_of_the_interval():
    """Of the intervals of 2,000 clustered samples of known mean, 95 in 100 hold it."""
    random = np.random.default_rng(3)
    shared = np.repeat(random.normal(size=(2000, 12)), 5, axis=1)
    found = columns(10 + shared + random.normal(size=(2000, 60)), np.repeat(np.arange(12), 5))
    held = np.mean((np.array(found["ci_low"]) <= 10) & (np.array(found["ci_high"]) >= 10))
    assert 0.93 < held < 0.97


def test_missing_texts_are_left_out():
    values = [[0.1, np.nan, 0.3], [np.nan] * 3, [np.nan, 0.5, np.nan]]
    found = columns(values, [0, 1, 2])
    assert found["texts"] == [2, 0, 1]
    assert found["mean"] == [pytest.approx(0.2), None, 0.5]
    assert found["median"] == [pytest.approx(0.2), None, 0.5]
    assert found["std"] == [pytest.approx(np.std([0.1, 0.3], ddof=1)), None, None]
    assert found["ci_high"][1:] == [None, None]
    assert (found["min"][0], found["max"][0]) == (0.1, 0.3)


@given(arrays(float, (3, 7), elements=st.floats(0, 1)))
def test_median_and_order_never_depend_on_the_order_of_texts(values):
    clusters = np.array([0, 0, 1, 1, 2, 3, 4])
    order = np.array([6, 2, 0, 5, 1, 3, 4])
    one, other = columns(values, clusters), columns(values[:, order], clusters[order])
    for name in ("min", "median", "max", "texts"):
        assert one[name] == other[name]
    assert one["ci_high"] == pytest.approx(other["ci_high"], rel=1e-9, abs=1e-12)


def test_clusters_number_groups():
    assert tables.clusters(["a", None, "b", "a", None]).tolist() == [0, 1, 2, 0, 3]
    # A group may be called like the place of a text that has none.
    assert len(set(tables.clusters(["1", None, "0"]).tolist())) == 3


def records(groups: list[str | None]) -> pa.Table:
    ids = [f"t{i}" for i in range(len(groups))]
    return pa.table({"text_id": ids, "group": pa.array(groups, pa.string())})


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("group", [("t0", "t2"), ("t0", "t4"), ("t1", "t3"), ("t2", "t4")]),
        ("none", []),
    ],
)
def test_pairs_of_texts(rule, expected):
    spec = ComparisonSpec("bottleneck", 1.0, rule, 0.95)
    assert tables.text_pairs(records(["a", "b", "a", "b", "a", None]), spec) == expected


def test_all_pairs_of_texts():
    spec = ComparisonSpec("bottleneck", 1.0, "all", 0.95)
    assert len(tables.text_pairs(records(["a", None, "b", None]), spec)) == 6


def random_diagrams(random, count: int) -> list[np.ndarray]:
    found = []
    for _ in range(count):
        birth = random.random(random.integers(0, 5))
        found.append(np.column_stack([birth, birth + random.random(len(birth)) + 0.01]))
    return found


def packed(diagrams: list[np.ndarray]) -> Packed:
    ends = np.cumsum([0, *(len(bars) for bars in diagrams)])
    return Packed(np.concatenate([np.empty((0, 2)), *diagrams]), ends)


def test_pack_and_join_keep_every_bar():
    random = np.random.default_rng(4)
    first, second = random_diagrams(random, 6), random_diagrams(random, 4)
    table = pa.table(
        {
            "birth": [bars[:, 0] for bars in first],
            "death": [bars[:, 1] for bars in first],
        },
    )
    whole = tables.pack(table.slice(1, 5))
    expected = packed(first[1:])
    assert np.array_equal(whole.points, expected.points)
    assert np.array_equal(whole.offsets, expected.offsets)
    both = tables.join([expected, packed(second)])
    assert np.array_equal(both.offsets, packed(first[1:] + second).offsets)
    assert np.array_equal(both.points, packed(first[1:] + second).points)


def test_distances_over_texts_are_those_of_each_pair():
    """Two models of 2 and 3 heads, three texts; the second model lacks the second text."""
    random = np.random.default_rng(5)
    shapes = [[random_diagrams(random, 2), random_diagrams(random, 3)] for _ in range(3)]
    texts = [[packed(a), packed(b)] for a, b in shapes]
    texts[1][1] = None
    first, second = np.array([[0, 0], [0, 1], [1, 0]]), np.array([[0, 1], [1, 2], [1, 1]])
    found = tables.distances_over_texts(texts, first, second, SPEC)
    assert found.shape == (3, 3)
    for text in range(3):
        for pair in range(3):
            (m, a), (k, b) = first[pair], second[pair]
            if text == 1 and 1 in (m, k):
                assert np.isnan(found[pair, text])
            else:
                exact = comparison.bottleneck([shapes[text][m][a]], [shapes[text][k][b]])[0, 0]
                assert found[pair, text] == exact


def test_no_text_gives_no_column():
    none = np.empty((0, 2), int)
    assert tables.distances_over_texts([], none, none, SPEC).shape == (0, 0)
