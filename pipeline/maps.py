"""A few texts, or images, under one model -> their attention maps, kept whole for pictures.

The bulk of a corpus is streamed and never kept (see `heads`): the maps of one text of 512
tokens take 150 MB for the 144 heads of a common model.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import attention
from pipeline.attention import Encoding
from pipeline.errors import InputError, TextError
from pipeline.models import Model

VALUE = 4  # bytes of a float32


@dataclass(frozen=True)
class AttentionSpec:
    """Which texts' maps are kept: conf/attention/*.yaml.

    texts           the first so many of the corpus that the model can use; 0: none
    text_ids        and these
    max_megabytes   of one text's maps; a longer text is skipped
    """

    texts: int
    text_ids: tuple[str, ...]
    max_megabytes: int

    def __post_init__(self) -> None:
        if self.texts < 0:
            raise InputError(f"texts is {self.texts}; it cannot be negative")
        if not 1 <= self.max_megabytes <= 1024:
            raise InputError(f"max_megabytes is {self.max_megabytes}; it must be 1 to 1024")


@dataclass(frozen=True)
class KeptMaps:
    """The maps of the chosen texts, one table a text, and why others were skipped."""

    tables: list[pa.Table]
    skipped: dict[str, str]


def keep(model: Model, texts: Iterable[tuple[str, str | bytes]], spec: AttentionSpec) -> KeptMaps:
    """Keep the maps of the chosen texts, each a text_id and what the model reads.

    Raises InputError where a text_id of the spec is none of them.
    """
    kept = KeptMaps([], {})
    missing, left = set(spec.text_ids), spec.texts
    for text_id, content in texts:
        if text_id not in spec.text_ids and left == 0:
            continue
        missing.discard(text_id)
        try:
            kept.tables.append(_table(model, text_id, content, spec))
            left -= text_id not in spec.text_ids
        except TextError as error:
            kept.skipped[text_id] = str(error)
    if missing:
        raise InputError(
            f"The corpus has no text {', '.join(sorted(missing))}, which attention.text_ids "
            "names: take it out, or give a text_id of the corpus table."
        )
    return kept


def _table(model: Model, text_id: str, content: str | bytes, spec: AttentionSpec) -> pa.Table:
    encoding = attention.encode(model, content)
    tokens = len(encoding.token_ids)
    _check_size(model.layers * model.heads * tokens**2 * VALUE, spec)
    return pa.concat_tables(
        _page(model.name, text_id, layer, maps) for layer, maps in _layers(model, encoding)
    )


def _check_size(size: int, spec: AttentionSpec) -> None:
    if size > spec.max_megabytes * 1e6:
        raise TextError(
            f"its maps take {size / 1e6:.0f} MB, more than attention.max_megabytes, "
            f"{spec.max_megabytes}"
        )


def _layers(model: Model, encoding: Encoding) -> Iterator[tuple[int, NDArray[np.float32]]]:
    kept: list[NDArray[np.float32]] = []
    attention.for_each_layer(
        model, encoding, lambda layer, maps: kept.append(maps.astype(np.float32))
    )
    yield from enumerate(kept)


def _page(model: str, text_id: str, layer: int, maps: NDArray[np.float32]) -> pa.Table:
    heads, tokens, _ = maps.shape
    ends = pa.array(np.arange(heads + 1) * tokens**2, pa.int32())
    return pa.table(
        {
            "model": pa.repeat(model, heads),
            "text_id": pa.repeat(text_id, heads),
            "layer": np.full(heads, layer, np.int32),
            "head": np.arange(heads, dtype=np.int32),
            "tokens": np.full(heads, tokens, np.int32),
            "attention": pa.ListArray.from_arrays(ends, pa.array(maps.ravel(), pa.float32())),
        }
    )
