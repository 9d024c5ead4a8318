"""One text, or image, under one model -> what each head makes of it: numbers, and diagrams.

The maps of one layer are measured while the network computes the next, and dropped. The tables
are plain pyarrow tables; their schemas are the store's.
"""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline import attention
from pipeline.attention import Encoding, LayerMaps
from pipeline.diagrams import HomologySpec
from pipeline.distances import DistanceSpec
from pipeline.errors import TextError
from pipeline.kernels import threads
from pipeline.measures import Columns, measured
from pipeline.measures.block import Block, check_points
from pipeline.models import Model


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

    A text that cannot be used is skipped: it has a row in texts, with its reason, and none
    in the other tables. A table without rows is left out.
    """
    pages = defaultdict(list)
    for text in texts:
        for name, columns in _one_text(model, text, distance, homology).items():
            pages[name].append(_page(columns, model.name, text.text_id))
    return {name: pa.concat_tables(tables) for name, tables in pages.items()}


def skipped(model: str, text_id: str, reason: str) -> dict[str, pa.Table]:
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
        check_points(points)
        found = _heads_of(model, Block(encoding, points, distance, homology))
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


def _heads_of(model: Model, whole: Block) -> dict[str, Columns]:
    """The rows of every table for all heads, a layer at a time."""
    if whole.distance.of_states:
        states = enumerate(attention.hidden_states(model, whole.encoding))
        found = [
            measured(replace(whole, get_states=partial(np.expand_dims, vectors, 0)), layer, 0)
            for layer, vectors in states
        ]
    else:
        found = _layers(model, whole)
    return {name: _joined([page[name] for page in found]) for name in found[0]}


def _layers(model: Model, whole: Block) -> list[dict[str, Columns]]:
    """Measure one layer while the next is computed, where there is a second thread.

    No third is ever in memory; where the model runs elsewhere, a few wait here for their turn.
    """

    def look(maps: LayerMaps) -> dict[str, Columns]:
        return measured(replace(whole, get_maps=maps.of), maps.layer, 0)

    if threads.count() == 1:
        every: list[dict[str, Columns]] = []
        attention.each_layer(model, whole.encoding, lambda maps: every.append(look(maps)))
        return every
    most = 1 if model.device == "cpu" else 4
    found: list[Future[dict[str, Columns]]] = []

    def use(maps: LayerMaps) -> None:
        if len(found) >= most:
            found[-most].result()
        found.append(analyst.submit(look, maps))

    with ThreadPoolExecutor(1, "heads") as analyst:
        attention.each_layer(model, whole.encoding, use)
    return [layer.result() for layer in found]


def _joined(pages: Sequence[Columns]) -> Columns:
    return {name: _one_after_another([page[name] for page in pages]) for name in pages[0]}


def _one_after_another(columns: Sequence[Any]) -> Any:
    if isinstance(columns[0], pa.Array):
        return pa.concat_arrays(columns)
    return np.concatenate(columns)
