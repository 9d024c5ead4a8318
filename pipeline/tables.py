"""Diagrams -> the rows that compare them, over texts and between texts."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import stdtrit

from pipeline import comparison
from pipeline.diagrams import Packed
from pipeline.errors import InputError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Columns = dict[str, Any]

# Of (pair, text) distances, in one go of the summary: bounds its memory, changes no bit.
VALUES_AT_ONCE = 2**20


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


def distances_over_texts(
    texts: Iterable[Sequence[Packed | None]],
    first: Integers,
    second: Integers,
    spec: ComparisonSpec,
) -> Floats:
    """Distances (pair, text) of pairs of heads, NaN where a model set the text aside.

    texts    for each text, the packed diagrams of each model, or None
    first, second   (pair, 2): the model and the diagram within its pack, of each side
    """
    columns = []
    for packs in texts:
        columns.append(_one_column(packs, first, second, spec))
    return np.column_stack(columns) if columns else np.empty((len(first), 0))


def _one_column(
    packs: Sequence[Packed | None], first: Integers, second: Integers, spec: ComparisonSpec
) -> Floats:
    there = np.array([pack is not None for pack in packs])
    column = np.full(len(first), np.nan)
    both = there[first[:, 0]] & there[second[:, 0]]
    if not both.any():
        return column
    present = [pack for pack in packs if pack is not None]
    counts = np.array([len(pack.offsets) - 1 if pack else 0 for pack in packs])
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    a, b = (starts[side[both, 0]] + side[both, 1] for side in (first, second))
    column[both] = compare(join(present), a, b, spec)
    return column


def clusters(groups: Sequence[str | None]) -> Integers:
    """A number for each text: the same for texts of one group, its own without a group."""
    numbers: dict[Any, int] = {}
    keys = [group if group is not None else index for index, group in enumerate(groups)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


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


def text_pairs(records: pa.Table, spec: ComparisonSpec) -> list[tuple[str, str]]:
    """The pairs of texts to compare under each head, in the order of the corpus."""
    ids, groups = records["text_id"].to_pylist(), records["group"].to_pylist()
    members = defaultdict(list)
    for index, group in enumerate(groups):
        if spec.text_pairs == "all" or group is not None:
            members[None if spec.text_pairs == "all" else group].append(index)
    together = (combinations(found, 2) for found in members.values())
    pairs = sorted(chain.from_iterable(together)) if spec.text_pairs != "none" else []
    return [(ids[i], ids[j]) for i, j in pairs]


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
