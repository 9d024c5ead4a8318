"""Per-text results -> the columns of the tables.

Two units of work stand here: the texts of one part under one model (text_tables), and a
block of head pairs or text pairs over diagrams made earlier (head_distances,
text_distances). Tables are plain pyarrow tables; their schemas are the store's.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import t as student

from pipeline import attention, comparison, diagrams, information
from pipeline.attention import Encoding
from pipeline.distances import DistanceSpec, token_distances
from pipeline.errors import InputError, TextError
from pipeline.models import Model

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Columns = dict[str, Any]


@dataclass(frozen=True)
class HomologySpec:
    """Which diagrams: conf/homology/*.yaml."""

    max_dimension: int
    coefficient_field: int
    min_persistence: float

    def __post_init__(self) -> None:
        if not 0 <= self.max_dimension <= 3:
            raise InputError(f"max_dimension is {self.max_dimension}; it must be 0 to 3")
        if self.coefficient_field not in (2, 3, 5, 7, 11, 13):
            raise InputError(
                f"coefficient_field is {self.coefficient_field}; give a prime up to 13"
            )
        if not self.min_persistence >= 0:
            raise InputError(f"min_persistence is {self.min_persistence}; it cannot be negative")


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


class Text(NamedTuple):
    """A text to look at."""

    text_id: str
    text: str


# ---- one text under one model -------------------------------------------------------------


def text_tables(
    model: Model, texts: Sequence[Text], distance: DistanceSpec, homology: HomologySpec
) -> dict[str, pa.Table]:
    """The texts, tokens, heads and diagrams tables of some texts under one model.

    A text that cannot be used is set aside: it has a row in texts, with its reason, and none
    in the other tables. A table without rows is left out.
    """
    pages = defaultdict(list)
    for text in texts:
        for name, columns in _one_text(model, text, distance, homology).items():
            pages[name].append(_page(columns, model.name, text.text_id))
    return {name: pa.concat_tables(tables) for name, tables in pages.items()}


def _page(columns: Columns, model: str, text_id: str) -> pa.Table:
    rows = len(next(iter(columns.values())))
    return pa.table(
        {"model": pa.repeat(model, rows), "text_id": pa.repeat(text_id, rows), **columns}
    )


def _one_text(
    model: Model, text: Text, distance: DistanceSpec, homology: HomologySpec
) -> dict[str, Columns]:
    encoding = None
    try:
        encoding = attention.encode(model, text.text)
        points = attention.points(model, encoding)
        if points.sum() < 2:
            raise TextError(f"{points.sum()} token; a distance needs 2")
        heads, shapes = _heads_of(model, encoding, points, distance, homology)
    except TextError as error:
        return {"texts": _text_row(encoding, 0, str(error))}
    return {
        "texts": _text_row(encoding, int(points.sum()), None),
        "tokens": _tokens(encoding),
        "heads": heads,
        "diagrams": shapes,
    }


def _text_row(encoding: Encoding | None, points: int, reason: str | None) -> Columns:
    return {
        "total_tokens": [encoding.total_tokens if encoding else 0],
        "tokens": [points],
        "cut": [encoding.cut if encoding else False],
        "reason": pa.array([reason], pa.string()),
    }


def _tokens(encoding: Encoding) -> Columns:
    return {
        "position": np.arange(len(encoding.token_ids)),
        "token": pa.array(encoding.tokens, pa.string()),
        "token_id": encoding.token_ids,
        "special": encoding.special,
        "word": pa.array(encoding.words, pa.int32()),
    }


def _heads_of(
    model: Model,
    encoding: Encoding,
    points: NDArray[np.bool_],
    distance: DistanceSpec,
    homology: HomologySpec,
) -> tuple[Columns, Columns]:
    heads: list[Columns] = []
    shapes: list[list[Floats]] = []

    def use(layer: int, maps: Floats) -> None:
        rows = maps[:, points, :]
        D = token_distances(rows, distance.rule, distance.options)
        heads.append(_head_columns(layer, rows, D))
        shapes.extend(persistence(D, homology))

    attention.for_each_layer(model, encoding, use)
    table = {name: np.concatenate([page[name] for page in heads]) for name in heads[0]}
    return table, _diagram_columns(table["layer"], table["head"], shapes)


def persistence(D: Floats, homology: HomologySpec) -> list[list[Floats]]:
    """Diagrams of each distance matrix by dimension, bars of at most min_persistence dropped."""
    found = diagrams.rips(D, homology.max_dimension, homology.coefficient_field)
    return [[_longer_than(homology.min_persistence, bars) for bars in dims] for dims in found]


def _longer_than(length: float, bars: Floats) -> Floats:
    return bars[bars[:, 1] - bars[:, 0] > length] if length > 0 else bars


def _head_columns(layer: int, rows: Floats, D: Floats) -> Columns:
    count, n = D.shape[:2]
    entropy = information.entropy(rows)
    return {
        "layer": np.full(count, layer),
        "head": np.arange(count),
        "tokens": np.full(count, n),
        "entropy_mean": entropy.mean(1),
        "entropy_min": entropy.min(1),
        "entropy_max": entropy.max(1),
        "distance_mean": D.sum((1, 2)) / (n * (n - 1)),
        "distance_max": D.max((1, 2)),
    }


def _diagram_columns(layer: Integers, head: Integers, shapes: list[list[Floats]]) -> Columns:
    dimensions = len(shapes[0])
    flat = [bars for by_dimension in shapes for bars in by_dimension]
    ends = np.concatenate([[0], np.cumsum([len(bars) for bars in flat])]).astype(np.int32)
    bars = np.concatenate(flat)
    return {
        "layer": np.repeat(layer, dimensions),
        "head": np.repeat(head, dimensions),
        "dimension": np.tile(np.arange(dimensions), len(shapes)),
        "birth": pa.ListArray.from_arrays(ends, pa.array(bars[:, 0])),
        "death": pa.ListArray.from_arrays(ends, pa.array(bars[:, 1])),
    }


# ---- diagrams compared --------------------------------------------------------------------


class Packed(NamedTuple):
    """Diagrams one after another: diagram d is points[offsets[d] : offsets[d + 1]]."""

    points: Floats
    offsets: Integers


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
    return comparison.wasserstein_pairs(
        packed.points, packed.offsets, first, second, order=spec.order
    )


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
    values, clusters = values[:, order], clusters[order]
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
        "texts": count,
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
    return student.ppf((1 + confidence) / 2, free) * error, groups


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
