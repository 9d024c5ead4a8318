"""Diagrams -> the rows that compare them, over texts and between texts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import stdtrit

from pipeline import comparison
from pipeline.diagrams import Packed
from pipeline.errors import InputError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]
Columns = dict[str, Any]

# Of (pair, text) distances, in one go: bounds the memory beside them, changes no bit.
VALUES_AT_ONCE = 2**17


@dataclass(frozen=True)
class ComparisonSpec:
    """How diagrams are compared: conf/comparison/*.yaml."""

    metric: Literal["bottleneck", "wasserstein"]
    order: float
    text_pairs: Literal["group", "all", "none"]
    confidence: float

    def __post_init__(self) -> None:
        if not self.order >= 1:
            raise InputError(f"order is {self.order}; it must be at least 1")
        if not 0 < self.confidence < 1:
            raise InputError(f"confidence is {self.confidence}; it must lie between 0 and 1")


class Head(NamedTuple):
    """A head of a model."""

    model: str
    layer: int
    head: int


class HeadMajor(NamedTuple):
    """Diagrams by head over a run of texts: that of row r on text t is r * texts + t.

    there   (rows, texts): False where the row's model skipped the text; an empty diagram
    """

    packed: Packed
    there: Flags


# ---- diagrams compared --------------------------------------------------------------------


def pack(table: pa.Table) -> Packed:
    """The rows of a diagrams table, in their order, as packed diagrams."""
    birth = table["birth"].combine_chunks()
    death = table["death"].combine_chunks()
    ends = birth.offsets.to_numpy().astype(np.int64)
    return Packed(np.column_stack([birth.flatten(), death.flatten()]), ends - ends[0])


def join(packed: Sequence[Packed]) -> Packed:
    """Several packs as one, in their order."""
    starts = np.cumsum([0, *(len(pack.points) for pack in packed)])
    ends = [pack.offsets[1:] + start for pack, start in zip(packed, starts, strict=False)]
    return Packed(
        np.concatenate([pack.points for pack in packed]), np.concatenate([[0], *ends]).astype(int)
    )


def compare(packed: Packed, first: Integers, second: Integers, spec: ComparisonSpec) -> Floats:
    """Distance between the packed diagrams first[i] and second[i], for every i."""
    if spec.metric == "bottleneck":
        return comparison.bottleneck_pairs(packed.points, packed.offsets, first, second)
    return comparison.wasserstein_pairs(packed.points, packed.offsets, first, second, spec.order)


def by_head(rows: pa.Table, heads: int, dimensions: int, there: Flags) -> pa.Table:
    """One model's diagrams of a run of texts, head_major: a row for each dimension and head.

    rows    of a diagrams table: the texts that are there, in each the heads, in each so many
            dimensions
    there   (texts,): False where the model skipped the text

    points: a row's diagrams one after another; bars: how long each is, null if it is not there.
    """
    texts = int(there.sum())
    order = np.arange(len(rows)).reshape(texts, heads, dimensions).T.reshape(-1)
    birth, death = (rows[name].combine_chunks().take(order) for name in ("birth", "death"))
    lengths = np.zeros((heads * dimensions, len(there)), np.int32)
    lengths[:, there] = birth.value_lengths().to_numpy().reshape(len(lengths), texts)
    bars = pa.array(lengths.reshape(-1), pa.int32(), mask=np.tile(~there, len(lengths)))
    ends = np.arange(0, len(bars) + 1, len(there))
    points = np.column_stack([birth.flatten(), death.flatten()])
    cuts = np.cumsum([0, *lengths.sum(1)]) * points.itemsize * 2
    return pa.table({"bars": pa.ListArray.from_arrays(ends, bars), "points": _cut(points, cuts)})


def _cut(points: Floats, cuts: Integers) -> pa.BinaryArray:
    """The bytes of all points, cut at these places."""
    buffers = [None, pa.py_buffer(cuts.astype(np.int32)), pa.py_buffer(points)]
    return pa.BinaryArray.from_buffers(pa.binary(), len(cuts) - 1, buffers)


def head_major(rows: pa.Table) -> HeadMajor:
    """Some rows that `by_head` made over one run of texts."""
    bars = rows["bars"].combine_chunks().flatten()
    points = [np.frombuffer(row.as_buffer(), np.float64) for row in rows["points"]]
    ends = np.cumsum([0, *bars.fill_null(0).to_numpy()])
    there = bars.is_valid().to_numpy(zero_copy_only=False).reshape(len(rows), -1)
    return HeadMajor(Packed(np.concatenate(points).reshape(-1, 2), ends), there)


def distances_over_texts(
    run: HeadMajor, first: Integers, second: Integers, spec: ComparisonSpec
) -> Iterator[Floats]:
    """Distances (pair, text) of pairs of heads, NaN where a model skipped the text.

    first, second   (pairs,): each side's row in the run

    Comes in pages, pairs after pairs: all of them could be more than memory holds.
    """
    texts = np.arange(run.there.shape[1])
    size = max(VALUES_AT_ONCE // len(texts), 1)
    for start in range(0, len(first), size):
        a, b = (side[start : start + size, None] for side in (first, second))
        both = (run.there[a] & run.there[b])[:, 0]
        page = np.full(both.shape, np.nan)
        left, right = ((side * len(texts) + texts)[both] for side in (a, b))
        page[both] = compare(run.packed, left, right, spec)
        yield page


def clusters(groups: pa.Array | Sequence[str | None]) -> Integers:
    """A number for each text: the same for texts of one group, its own without a group."""
    codes = pa.array(groups, pa.string()).dictionary_encode().indices.fill_null(-1).to_numpy()
    alone = len(codes) + np.arange(len(codes))
    _, first, number = np.unique(
        np.where(codes < 0, alone, codes), return_index=True, return_inverse=True
    )
    # Counted as they come in the corpus: the order of the numbers is that of the sums.
    return np.argsort(np.argsort(first))[number]


def summarise(values: Floats, clusters: Integers, confidence: float) -> Columns:
    """Mean, spread, median and interval over texts of (pair, text) values, NaN left out.

    The interval is Student's t for the mean with a cluster-robust standard error: texts of
    one cluster (translations of one sentence) are not independent, so deviations are summed
    within clusters first,
        se^2 = g / (g - 1) * sum over clusters (sum of x - mean)^2 / texts^2,  g - 1 degrees,
    which is the usual interval when every text is its own cluster. A distance is never
    negative, so neither is the lower end. Liang and Zeger 1986.
    """
    order = np.argsort(clusters, kind="stable")
    size = max(VALUES_AT_ONCE // max(values.shape[1], 1), 1)
    # Whole rows in memory order: numpy sums one row alone otherwise than one among columns.
    pages = [
        _summary(
            np.ascontiguousarray(values[start : start + size][:, order]),
            clusters[order],
            confidence,
        )
        for start in range(0, max(len(values), 1), size)
    ]
    return {name: pa.concat_arrays([page[name] for page in pages]) for name in pages[0]}


def _summary(values: Floats, clusters: Integers, confidence: float) -> dict[str, pa.Array]:
    present = ~np.isnan(values)
    count = present.sum(1)
    some, many = np.maximum(count, 1), np.maximum(count - 1, 1)
    filled = np.where(present, values, 0.0)
    mean = filled.sum(1) / some
    deviation = np.where(present, values - mean[:, None], 0.0)
    std = np.sqrt((deviation**2).sum(1) / many)
    half, groups = _half_width(deviation, present, clusters, confidence)
    ranked = np.sort(values, axis=1)
    return {
        "texts": pa.array(count),
        "mean": _where(count > 0, mean),
        "std": _where(count > 1, std),
        "min": _where(count > 0, ranked[:, 0]),
        "median": _where(
            count > 0, (_rank(ranked, (some - 1) // 2) + _rank(ranked, some // 2)) / 2
        ),
        "max": _where(count > 0, _rank(ranked, some - 1)),
        "ci_low": _where(groups > 1, np.maximum(mean - half, 0.0)),
        "ci_high": _where(groups > 1, mean + half),
    }


def _half_width(
    deviation: Floats, present: NDArray[np.bool_], clusters: Integers, confidence: float
) -> tuple[Floats, Integers]:
    starts = np.flatnonzero(np.diff(clusters, prepend=clusters[0] - 1))
    sums = np.add.reduceat(deviation, starts, axis=1)
    groups = (np.add.reduceat(present, starts, axis=1) > 0).sum(1)
    free = np.maximum(groups - 1, 1)
    count = np.maximum(present.sum(1), 1)
    error = np.sqrt(groups / free * (sums**2).sum(1)) / count
    return stdtrit(free, (1 + confidence) / 2) * error, groups


def _rank(ranked: Floats, index: Integers) -> Floats:
    return np.take_along_axis(ranked, index[:, None], axis=1)[:, 0]


def _where(known: NDArray[np.bool_], values: Floats) -> pa.Array:
    return pa.array(values, pa.float64(), mask=~known)


class TextPairs:
    """All pairs of texts of one cluster, by rank in the order of the corpus; never listed."""

    def __init__(self, clusters: Integers) -> None:
        self._order = np.argsort(clusters, kind="stable")
        self._next = np.empty_like(self._order)
        self._next[self._order] = np.arange(1, len(clusters) + 1)
        ends = np.cumsum(np.bincount(clusters))
        self._later = ends[clusters] - self._next
        self._until = np.cumsum(self._later)

    def __len__(self) -> int:
        return int(self._until[-1]) if len(self._until) else 0

    def between(self, start: int, stop: int) -> tuple[Integers, Integers]:
        """The pairs of the ranks start to stop - 1: places in the corpus, first < second."""
        ranks = np.arange(start, stop)
        first = np.searchsorted(self._until, ranks, side="right")
        among = ranks - (self._until - self._later)[first]
        return first, self._order[self._next[first] + among]


def text_pairs(groups: pa.Array | Sequence[str | None], spec: ComparisonSpec) -> TextPairs:
    """The pairs of texts to compare under each head."""
    match spec.text_pairs:
        case "group":
            return TextPairs(clusters(groups))
        case "all":
            return TextPairs(np.zeros(len(groups), np.int64))
        case "none":
            return TextPairs(np.arange(len(groups)))


def text_distances(a: pa.Table, b: pa.Table, spec: ComparisonSpec) -> Columns:
    """Distances between one model's diagrams of two texts, diagram by diagram."""
    packed = join([pack(a), pack(b)])
    first = np.arange(len(a))
    return {
        "dimension": a["dimension"],
        "model": a["model"],
        "layer": a["layer"],
        "head": a["head"],
        "distance": compare(packed, first, first + len(a), spec),
    }
