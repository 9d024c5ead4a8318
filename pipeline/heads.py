"""One text, or image, under one model -> what each head makes of it: numbers, and diagrams.

A layer's maps become distances, then diagrams, and are dropped before the next comes. The
tables are plain pyarrow tables; their schemas are the store's.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import attention, diagrams, graphs, information
from pipeline.attention import Encoding
from pipeline.distances import DistanceSpec, token_distances
from pipeline.errors import InputError, TextError
from pipeline.kernels import threads
from pipeline.models import Model

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Points = NDArray[np.bool_]
Columns = dict[str, Any]


@dataclass(frozen=True)
class HomologySpec:
    """Which diagrams: conf/homology/*.yaml."""

    max_dimension: int
    coefficient_field: int
    min_persistence: float
    cluster_scales: tuple[float, ...] = ()  # distances at which clusters are told

    def __post_init__(self) -> None:
        if not 0 <= self.max_dimension <= 3:
            raise InputError(f"max_dimension is {self.max_dimension}; it must be 0 to 3")
        if self.coefficient_field not in (2, 3, 5, 7, 11, 13):
            raise InputError(
                f"coefficient_field is {self.coefficient_field}; give a prime up to 13"
            )
        if not self.min_persistence >= 0:
            raise InputError(f"min_persistence is {self.min_persistence}; it cannot be negative")
        if not all(scale >= 0 for scale in self.cluster_scales):
            raise InputError(f"cluster_scales are {self.cluster_scales}; give distances from 0 up")


class Layer(NamedTuple):
    """What one layer adds to the tables."""

    heads: Columns
    clusters: Columns
    diagrams: list[list[Floats]]


class Text(NamedTuple):
    """A text to look at; or an image: the bytes of its file, and its name as the text."""

    text_id: str
    text: str
    image: bytes | None = None

    @property
    def content(self) -> str | bytes:
        """What a model reads."""
        return self.text if self.image is None else self.image


# ---- one text under one model -------------------------------------------------------------


def text_tables(
    model: Model, texts: Sequence[Text], distance: DistanceSpec, homology: HomologySpec
) -> dict[str, pa.Table]:
    """The texts, tokens, heads, clusters and diagrams tables of some texts under one model.

    A text that cannot be used is set aside: it has a row in texts, with its reason, and none
    in the other tables. A table without rows is left out.
    """
    pages = defaultdict(list)
    for text in texts:
        for name, columns in _one_text(model, text, distance, homology).items():
            pages[name].append(_page(columns, model.name, text.text_id))
    return {name: pa.concat_tables(tables) for name, tables in pages.items()}


def set_aside(model: str, text_id: str, reason: str) -> dict[str, pa.Table]:
    """The texts table of a text that could not even be tried."""
    return {"texts": _page(_text_row(None, 0, reason), model, text_id)}


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
        encoding = attention.encode(model, text.content)
        points = attention.points(model, encoding)
        if points.sum() < 2:
            raise TextError(f"{points.sum()} token; a distance needs 2")
        found = _heads_of(model, encoding, points, distance, homology)
    except TextError as error:
        return {"texts": _text_row(encoding, 0, str(error))}
    return {
        "texts": _text_row(encoding, int(points.sum()), None),
        "tokens": _tokens(encoding),
        **found,
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
    points: Points,
    distance: DistanceSpec,
    homology: HomologySpec,
) -> dict[str, Columns]:
    layers = _of_states if distance.of_states else _of_attention
    found = layers(model, encoding, points, distance, homology)
    heads, parts = _joined([layer.heads for layer in found]), [layer.clusters for layer in found]
    clusters = {"clusters": _joined(parts)} if homology.cluster_scales else {}
    flat = [diagrams for layer in found for diagrams in layer.diagrams]
    shapes = _diagram_columns(heads["layer"], heads["head"], flat)
    return {"heads": heads, **clusters, "diagrams": shapes}


def _joined(pages: Sequence[Columns]) -> Columns:
    return {name: _one_after_another([page[name] for page in pages]) for name in pages[0]}


def _one_after_another(columns: Sequence[Any]) -> Any:
    if isinstance(columns[0], pa.Array):
        return pa.concat_arrays(columns)
    return np.concatenate(columns)


def _of_attention(
    model: Model,
    encoding: Encoding,
    points: Points,
    distance: DistanceSpec,
    homology: HomologySpec,
) -> list[Layer]:
    def look(layer: int, maps: Floats) -> Layer:
        D = token_distances(maps, distance.rule, distance.options, points)
        rows = maps if points.all() else maps[:, points]
        return _layer(layer, D, _information(rows), points, homology)

    if threads.count() > 1:
        return _overlapped(model, encoding, look)
    found: list[Layer] = []
    attention.for_each_layer(model, encoding, lambda *layer: found.append(look(*layer)))
    return found


def _overlapped(
    model: Model, encoding: Encoding, look: Callable[[int, Floats], Layer]
) -> list[Layer]:
    """Look at one layer while the next is computed.

    No third is ever in memory; where the model runs elsewhere, a few wait here for their turn.
    """
    most = 1 if model.device == "cpu" else 4
    found: list[Future[Layer]] = []

    def use(layer: int, maps: Floats) -> None:
        if len(found) >= most:
            found[-most].result()
        found.append(analyst.submit(look, layer, maps))

    with ThreadPoolExecutor(1, "heads") as analyst:
        attention.for_each_layer(model, encoding, use)
    return [layer.result() for layer in found]


def _of_states(
    model: Model,
    encoding: Encoding,
    points: Points,
    distance: DistanceSpec,
    homology: HomologySpec,
) -> list[Layer]:
    states = attention.hidden_states(model, encoding)
    found = []
    for layer in range(len(states)):
        one = states[layer : layer + 1]
        D = token_distances(one, distance.rule, distance.options, points)
        found.append(_layer(layer, D, _NO_ATTENTION, points, homology))
    return found


def _layer(layer: int, D: Floats, about: Columns, points: Points, homology: HomologySpec) -> Layer:
    clusters = _cluster_columns(layer, D, points, homology.cluster_scales)
    return Layer(_columns(layer, D, about), clusters, persistence(D, homology))


def persistence(D: Floats, homology: HomologySpec) -> list[list[Floats]]:
    """Diagrams of each distance matrix by dimension, bars of at most min_persistence dropped."""
    found = diagrams.rips(D, homology.max_dimension, homology.coefficient_field)
    return [[_longer_than(homology.min_persistence, bars) for bars in dims] for dims in found]


def _longer_than(length: float, bars: Floats) -> Floats:
    return bars[bars[:, 1] - bars[:, 0] > length] if length > 0 else bars


def _columns(layer: int, D: Floats, about: Columns) -> Columns:
    count, n = D.shape[:2]
    return {
        "layer": np.full(count, layer),
        "head": np.arange(count),
        "tokens": np.full(count, n),
        **about,
        "distance_mean": D.sum((1, 2)) / (n * (n - 1)),
        "distance_max": D.max((1, 2)),
    }


def _information(rows: Floats) -> Columns:
    entropy = information.entropy(rows)
    count, n = entropy.shape
    ends = np.arange(0, count * n + 1, n, dtype=np.int32)
    return {
        "entropy": pa.ListArray.from_arrays(ends, pa.array(entropy.reshape(-1))),
        "entropy_mean": pa.array(entropy.mean(1)),
        "entropy_min": pa.array(entropy.min(1)),
        "entropy_max": pa.array(entropy.max(1)),
        "kl_mean": pa.array(information.kl_mean(rows)),
    }


# Hidden states have no attention of their own: they are of a layer, not of a head.
_NO_ATTENTION: Columns = {
    "entropy": pa.nulls(1, pa.list_(pa.float64())),
    **{
        name: pa.nulls(1, pa.float64())
        for name in ("entropy_mean", "entropy_min", "entropy_max", "kl_mean")
    },
}


def _cluster_columns(layer: int, D: Floats, points: Points, scales: Sequence[float]) -> Columns:
    count, n = D.shape[:2]
    found = graphs.clusters(D, scales)
    number = found.number.reshape(-1)
    positions = np.flatnonzero(points)[found.representatives]
    ends = found.offsets.astype(np.int32)
    return {
        "layer": np.full(len(number), layer),
        "head": np.repeat(np.arange(count), len(scales)),
        "scale": np.tile(np.array(scales, np.float64), count),
        "tokens": np.full(len(number), n),
        "clusters": number,
        "largest": found.largest.reshape(-1),
        "reduction": number / n,
        "clusters_near": found.near.reshape(-1),
        "representatives_near": found.unsure.reshape(-1),
        "representatives": pa.ListArray.from_arrays(ends, pa.array(positions, pa.int32())),
        "sizes": pa.ListArray.from_arrays(ends, pa.array(found.sizes, pa.int32())),
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
