"""One text, or image, under one model -> what each head makes of it: numbers, and diagrams.

A layer's maps become distances, then diagrams, and are dropped before the next comes. The
tables are plain pyarrow tables; their schemas are the store's.
"""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import attention, diagrams, information
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
        encoding = attention.encode(model, text.content)
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
    found: list[Future[tuple[Columns, list[list[Floats]]]]] = []

    def use(layer: int, maps: Floats) -> None:
        # One layer is looked at while the next is computed: no third is ever in memory.
        if found:
            found[-1].result()
        rows = maps if points.all() else maps[:, points, :]
        found.append(analyst.submit(_layer, layer, rows, distance, homology))

    with ThreadPoolExecutor(1, "heads") as analyst:
        attention.for_each_layer(model, encoding, use)
    pages, shapes = zip(*(layer.result() for layer in found), strict=True)
    table = {name: np.concatenate([page[name] for page in pages]) for name in pages[0]}
    flat = [diagrams for layer in shapes for diagrams in layer]
    return table, _diagram_columns(table["layer"], table["head"], flat)


def _layer(
    layer: int, rows: Floats, distance: DistanceSpec, homology: HomologySpec
) -> tuple[Columns, list[list[Floats]]]:
    D = token_distances(rows, distance.rule, distance.options)
    return _head_columns(layer, rows, D), persistence(D, homology)


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
