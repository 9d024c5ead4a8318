"""A run of two models on four texts whose numbers are known in advance."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline import store
from pipeline.report.run import Run
from tests.report.test_summary import table as head_distances

INF = float("inf")
COMPARISON = {"metric": "bottleneck", "order": 1.0, "text_pairs": "group", "confidence": 0.9}
TEXTS = ["t0", "t1", "t2", "t3"]
# Layers by model, two heads each.
LAYERS = {"m": 2, "n": 3}
HEADS = [
    (m, layer, head) for m, count in LAYERS.items() for layer in range(count) for head in (0, 1)
]
# Points of a plane: the map of the heads is known but for a turn.
PLACES = np.random.default_rng(5).normal(size=(len(HEADS), 2)) / 10
D = np.linalg.norm(PLACES[:, None] - PLACES[None], axis=-1)


class Kept:
    """A table as `store.TextRows` gives it."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __contains__(self, text_id: str) -> bool:
        return text_id in self._table["text_id"].to_pylist()

    def __iter__(self) -> Iterator[pa.Table]:
        return map(self.rows, dict.fromkeys(self._table["text_id"].to_pylist()))

    def rows(self, text_id: str) -> pa.Table:
        ids = self._table["text_id"].to_pylist()
        return self._table.slice(ids.index(text_id), ids.count(text_id))


def entropy(text: int, layer: int, head: int) -> float:
    """What the heads table holds."""
    return 1 + text + 10 * layer + 0.5 * head


def length(text: int, layer: int, head: int, dimension: int) -> float:
    """The second of the two finite bars of a diagram; the first has length 1."""
    return (1 + text + layer + head) / (1 + dimension)


def run(**changes: Any) -> Run:
    """The run, with these fields in place of its own."""
    made = Run(
        corpus="small",
        records=pd.DataFrame(
            {
                "text_id": TEXTS,
                "text": ["one", "two", "three", "four"],
                "language": ["en", "he", "en", None],
                "group": ["g", "g", "g", None],
                "source": [f"a#{i}" for i in range(4)],
            }
        ),
        rejects=pd.DataFrame({"source": [], "reason": [], "excerpt": []}),
        texts={m: _texts(m) for m in LAYERS},
        heads={m: Kept(_heads(m)) for m in LAYERS},
        diagrams={m: Kept(_diagrams(m)) for m in LAYERS},
        head_distances=pa.concat_tables(
            [head_distances(D, HEADS, 0), head_distances(D / 2, HEADS, 1)]
        ).to_pandas(),
        text_distances=_text_distances(),
        context={"m": _context("m")},
        context_equal={"m": _equal("m")},
        equivariance={"m": _equivariance("m")},
        provenance={"config": {"comparison": COMPARISON}},
    )
    return replace(made, **changes)


def _texts(model: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "model": model,
            "text_id": TEXTS,
            "total_tokens": 5,
            "tokens": 5,
            "cut": False,
            "reason": pd.Series([None] * 4, dtype=object),
        }
    )


def _each(model: str) -> list[tuple[int, int, int]]:
    return [(t, layer, h) for t in range(4) for layer in range(LAYERS[model]) for h in (0, 1)]


def _heads(model: str) -> pa.Table:
    rows = [
        {
            "model": model,
            "text_id": TEXTS[text],
            "layer": layer,
            "head": head,
            "tokens": 5,
            "entropy_mean": entropy(text, layer, head),
            "distance_mean": entropy(text, layer, head) / 100,
        }
        for text, layer, head in _each(model)
    ]
    return pa.Table.from_pylist(rows)


def _diagrams(model: str) -> pa.Table:
    rows = [
        {
            "model": model,
            "text_id": TEXTS[text],
            "layer": layer,
            "head": head,
            "dimension": dimension,
            "birth": [0.0, 0.0, 0.5],
            "death": [1.0, INF, 0.5 + length(text, layer, head, dimension)],
        }
        for text, layer, head in _each(model)
        for dimension in (0, 1)
    ]
    return pa.Table.from_pylist(rows, store.SCHEMAS["diagrams"])


def text_distance(dimension: int, layer: int, head: int, pair: tuple[int, int]) -> float:
    """What the text_distances table holds."""
    return 0.1 * layer + 0.01 * head + 0.001 * (pair[0] + pair[1]) + dimension


def _text_distances() -> list[pa.Table]:
    rows: list[Mapping[str, Any]] = [
        {
            "corpus": "small",
            "dimension": dimension,
            "model": model,
            "layer": layer,
            "head": head,
            "text_a": TEXTS[a],
            "text_b": TEXTS[b],
            "distance": text_distance(dimension, layer, head, (a, b)),
        }
        # The last pair is of no group.
        for a, b in ((0, 1), (0, 2), (1, 2), (0, 3))
        for model in LAYERS
        for dimension in (0, 1)
        for layer in range(LAYERS[model])
        for head in (0, 1)
    ]
    # Cut where a row group may end: within the rows of a pair.
    table = pa.Table.from_pylist(rows, store.SCHEMAS["text_distances"])
    return [table.slice(0, 25), table.slice(25)]


def _context(model: str) -> pd.DataFrame:
    cosines = {(False, False): [0.2, 0.4, 0.9], (False, True): [1.0, 1.0], (True, False): [0.5]}
    rows = [
        {
            "model": model,
            "text_a": "t0",
            "text_b": "t1",
            "token": "<b>x</b>",
            "special": special,
            "position_a": 1,
            "position_b": 1,
            "prefix": prefix,
            "layer": layer,
            "cosine": None if cosine is None else cosine / (1 + layer),
        }
        for layer in range(3)
        for (special, prefix), found in cosines.items()
        for cosine in [*found, None]
    ]
    return pd.DataFrame(rows)


def _equal(model: str) -> pd.DataFrame:
    within = {0: (7, 9), 1: (0, 2), 2: (0, 2), 3: (0, 3)}
    rows = [
        {
            "model": model,
            "layer": layer,
            "tolerance": tolerance,
            "text_pairs": 3,
            "texts": 4,
            "within_pairs": 1000,
            "within_equal": count,
            "within_near": 0,
            "across_pairs": 2000,
            "across_equal": 0,
            "across_near": 0,
            "prefix_pairs": 5,
            "prefix_equal": 5,
            "prefix_near": 0,
        }
        for layer, counts in within.items()
        for tolerance, count in zip((0.0, 1e-6), counts, strict=True)
    ]
    return pd.DataFrame(rows)


def _equivariance(model: str) -> pd.DataFrame:
    def row(component, layer, positions, relative, holds, reason=None):
        return {
            "model": model,
            "component": component,
            "layer": layer,
            "positions": positions,
            "mask": "none",
            "tokens": 7,
            "permutations": 4,
            "error_max": relative,
            "scale": 1.0,
            "relative": relative,
            "holds": holds,
            "near": None if holds is None else False,
            "reason": reason,
        }

    return pd.DataFrame(
        [
            row("attention", 0, "with", 1e-7, True),
            row("attention", 1, "with", 3e-7, True),
            row("model", None, "with", 2.5, False),
            row("attention", 0, "without", 2e-7, True),
            row("attention", 1, "without", 0.5, False),
            row("model", None, "without", None, None, "not possible: <i>why</i>"),
        ]
    )
