import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from pipeline import comparison, pairs
from pipeline.diagrams import Packed
from pipeline.pairs import ComparisonSpec

SPEC = ComparisonSpec(metric="bottleneck", order=1.0, text_pairs="group", confidence=0.95)


def columns(values, clusters, confidence=0.95) -> dict[str, list]:
    made = pairs.summarise(np.asarray(values, float), np.asarray(clusters), confidence)
    return {name: pa.array(column).to_pylist() for name, column in made.items()}


@pytest.mark.parametrize("size", [1, 2, 3, 39])
def test_a_summary_does_not_depend_on_how_pairs_are_cut(size, monkeypatch):
    random = np.random.default_rng(0)
    values = random.random((40, 300))
    values[random.random(values.shape) < 0.05] = np.nan
    groups = random.integers(0, 100, 300)
    whole = pa.table(pairs.summarise(values, groups, 0.95))
    cuts = [values[start : start + size] for start in range(0, 40, size)]
    pieces = [pa.table(pairs.summarise(cut, groups, 0.95)) for cut in cuts]
    assert pa.concat_tables(pieces).equals(whole)
    monkeypatch.setattr(pairs, "VALUES_AT_ONCE", size * 300)
    assert pa.table(pairs.summarise(values, groups, 0.95)).equals(whole)


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
    assert pairs.clusters(["a", None, "b", "a", None]).tolist() == [0, 1, 2, 0, 3]
    # A group may be called like the place of a text that has none.
    assert len(set(pairs.clusters(["1", None, "0"]).tolist())) == 3


def pairs_of_texts(groups, rule: str, start: int = 0, stop: int | None = None) -> list:
    spec = ComparisonSpec("bottleneck", 1.0, rule, 0.95)
    found = pairs.text_pairs(groups, spec)
    first, second = found.between(start, len(found) if stop is None else stop)
    return list(zip(first.tolist(), second.tolist(), strict=True))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("group", [(0, 2), (0, 4), (1, 3), (2, 4)]),
        ("none", []),
    ],
)
def test_pairs_of_texts(rule, expected):
    assert pairs_of_texts(["a", "b", "a", "b", "a", None], rule) == expected


def test_all_pairs_of_texts():
    expected = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert pairs_of_texts(["a", None, "b", None], "all") == expected
    assert pairs_of_texts([], "all") == []


@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=12), st.data())
def test_pairs_of_texts_by_rank(groups, data):
    """Any run of ranks is that run of the sorted list of all pairs of one group."""
    texts = range(len(groups))
    listed = [(i, j) for i in texts for j in texts if i < j and groups[i] == groups[j] is not None]
    start = data.draw(st.integers(0, len(listed)))
    stop = data.draw(st.integers(start, len(listed)))
    assert pairs_of_texts(groups, "group", start, stop) == listed[start:stop]


def test_pairs_of_a_million_texts_are_not_listed():
    found = pairs.text_pairs([None] * 10**6, ComparisonSpec("bottleneck", 1.0, "all", 0.95))
    assert len(found) == 10**6 * (10**6 - 1) // 2
    first, second = found.between(len(found) - 2, len(found))
    assert (first.tolist(), second.tolist()) == ([999_997, 999_998], [999_999, 999_999])


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
    whole = pairs.pack(table.slice(1, 5))
    expected = packed(first[1:])
    assert np.array_equal(whole.points, expected.points)
    assert np.array_equal(whole.offsets, expected.offsets)
    both = pairs.join([expected, packed(second)])
    assert np.array_equal(both.offsets, packed(first[1:] + second).offsets)
    assert np.array_equal(both.points, packed(first[1:] + second).points)


def diagrams_table(shapes: list[list[np.ndarray]]) -> pa.Table:
    """Rows of a diagrams table: for each text, its diagrams."""
    flat = [bars for of_text in shapes for bars in of_text]
    kind = pa.list_(pa.float64())
    return pa.table(
        {
            name: pa.array([bars[:, column] for bars in flat], kind)
            for column, name in enumerate(("birth", "death"))
        }
    )


def test_diagrams_are_turned_by_dimension_and_head():
    """Two heads in two dimensions on four texts, of which the second was skipped."""
    random = np.random.default_rng(5)
    shapes = [random_diagrams(random, 4) for _ in range(3)]
    there = np.array([True, False, True, True])
    rows = pairs.by_head(diagrams_table(shapes), 2, 2, there)
    assert rows["bars"][0].as_py()[1] is None
    found = pairs.head_major(rows)
    assert found.there.tolist() == [there.tolist()] * 4
    places = np.flatnonzero(there)
    for row, (dimension, head) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        for of_text, place in zip(shapes, places, strict=True):
            at = row * 4 + place
            bars = found.packed.points[found.packed.offsets[at] : found.packed.offsets[at + 1]]
            assert np.array_equal(bars, of_text[head * 2 + dimension])


def test_no_text_of_a_run_may_be_there():
    rows = pairs.by_head(diagrams_table([]), 2, 1, np.array([False, False, False]))
    assert rows["bars"].to_pylist() == [[None] * 3] * 2
    assert pairs.head_major(rows).packed.offsets.tolist() == [0] * 7


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_distances_over_texts_are_those_of_each_pair(size, monkeypatch):
    """Two models of 2 and 3 heads, runs of 2 and 1 texts; the second model lacks the second."""
    monkeypatch.setattr(pairs, "VALUES_AT_ONCE", size)
    random = np.random.default_rng(5)
    shapes = [[random_diagrams(random, 2), random_diagrams(random, 3)] for _ in range(3)]
    first, second = np.array([0, 1, 2, 0]), np.array([1, 4, 3, 2])
    runs = [turned_run(shapes[:2], without=1), turned_run(shapes[2:])]
    pages = [[*pairs.distances_over_texts(run, first, second, SPEC)] for run in runs]
    found = np.hstack([np.vstack(of_run) for of_run in pages])
    assert found.shape == (4, 3)
    for text in range(3):
        heads = shapes[text][0] + shapes[text][1]
        for pair, (a, b) in enumerate(zip(first, second, strict=True)):
            if text == 1 and max(a, b) > 1:
                assert np.isnan(found[pair, text])
            else:
                exact = comparison.bottleneck([heads[a]], [heads[b]])[0, 0]
                assert found[pair, text] == exact


def turned_run(texts, without: int | None = None) -> pairs.HeadMajor:
    """Some texts' diagrams of two models, head_major; one text lacks those of the second."""
    there = np.arange(len(texts)) != (-1 if without is None else without)
    rows = [
        pairs.by_head(diagrams_table([a for a, _ in texts]), 2, 1, np.ones(len(texts), bool)),
        pairs.by_head(
            diagrams_table([b for (_, b), used in zip(texts, there, strict=True) if used]),
            3,
            1,
            there,
        ),
    ]
    return pairs.head_major(pa.concat_tables(rows))
