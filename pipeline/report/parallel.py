"""Parallel texts (translations of one sentence) under each head."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from pipeline.figures.heads import label
from pipeline.figures.tiles import Tile, tiles
from pipeline.report.run import Run

HEADS_SHOWN = 10
LANGUAGES_SHOWN = 40  # more would be cells of a few pixels


@dataclass(frozen=True)
class Seen:
    """A head and how far apart it sees the texts of one group."""

    head: str
    mean: float
    pairs: int


@dataclass(frozen=True)
class Dimension:
    """One homology dimension's part of the section."""

    number: int
    by_head: go.Figure
    by_language: go.Figure | None
    lists: dict[str, list[Seen]]


def build(run: Run) -> dict[str, Any] | None:
    """Variables of the template."""
    pairs = _pairs(run)
    if pairs.empty:
        return None
    table = run.text_distances.merge(pairs, on=["text_a", "text_b"])
    dimensions = [
        _dimension(k, table[table["dimension"] == k])
        for k in sorted(table["dimension"].unique().tolist())
    ]
    known = pairs["language_a"].notna() & pairs["language_b"].notna()
    return {
        "dimensions": dimensions,
        "pairs": len(pairs),
        "groups": int(pairs["group"].nunique()),
        "alike": int((known & (pairs["language_a"] == pairs["language_b"])).sum()),
        "languages": _languages(pairs),
    }


def _pairs(run: Run) -> pd.DataFrame:
    """The pairs of texts of one group, with their languages (in order of the alphabet)."""
    if run.text_distances.empty:
        return pd.DataFrame()
    pairs = run.text_distances[["text_a", "text_b"]].drop_duplicates()
    of_text = run.records.drop_duplicates("text_id").set_index("text_id")
    pairs["group"] = pairs["text_a"].map(of_text["group"])
    # A text without a group is a variant of none: not known is not equal.
    pairs = pairs[pairs["group"] == pairs["text_b"].map(of_text["group"])]
    first, second = (pairs[side].map(of_text["language"]) for side in ("text_a", "text_b"))
    turned = (second < first).fillna(False).astype(bool)
    return pairs.assign(
        language_a=first.where(~turned, second), language_b=second.where(~turned, first)
    )


def _languages(table: pd.DataFrame) -> list[str]:
    return sorted({*table["language_a"].dropna(), *table["language_b"].dropna()})


def _dimension(number: int, rows: pd.DataFrame) -> Dimension:
    models = list(dict.fromkeys(rows["model"]))
    of_model = {model: rows[rows["model"] == model] for model in models}
    # Of so many languages a matrix says nothing; of one, or none stated, there is none.
    drawn = 1 < len(_languages(rows)) <= LANGUAGES_SHOWN
    return Dimension(
        number,
        tiles(
            [_heads_tile(model, part) for model, part in of_model.items()],
            ("layer", "head"),
            "layer %{y}, head %{x}<br>mean %{z:.4r}<br>%{customdata} pairs of texts",
        ),
        tiles(
            [_languages_tile(model, part) for model, part in of_model.items()],
            ("", ""),
            "%{y} and %{x}<br>mean %{z:.4r}<br>%{customdata} pairs of texts and heads",
            cell=44,
            numbers=True,
        )
        if drawn
        else None,
        _lists(rows),
    )


def _heads_tile(model: str, rows: pd.DataFrame) -> Tile:
    found = rows.groupby(["layer", "head"])["distance"].agg(["mean", "size"])
    layer, head = (found.index.get_level_values(name).to_numpy() for name in ("layer", "head"))
    shape = (layer.max() + 1, head.max() + 1)
    values, counts = np.full(shape, np.nan), np.zeros(shape, np.int64)
    values[layer, head], counts[layer, head] = found["mean"], found["size"]
    return Tile(
        model, values, counts, list(map(str, range(shape[0]))), list(map(str, range(shape[1])))
    )


def _languages_tile(model: str, rows: pd.DataFrame) -> Tile:
    names = _languages(rows)
    found = rows.groupby(["language_a", "language_b"], observed=True)["distance"].agg(
        ["mean", "size"]
    )
    a, b = (
        [names.index(name) for name in found.index.get_level_values(side)]
        for side in ("language_a", "language_b")
    )
    values = np.full((len(names), len(names)), np.nan)
    counts = np.zeros(values.shape, np.int64)
    values[a, b] = values[b, a] = found["mean"]
    counts[a, b] = counts[b, a] = found["size"]
    return Tile(model, values, counts, names, names)


def _lists(rows: pd.DataFrame) -> dict[str, list[Seen]]:
    by = ["model", "layer", "head"]
    found = rows.groupby(by, sort=False, observed=True)["distance"].agg(["mean", "size"])
    ranked = found.sort_values("mean", kind="stable").reset_index()
    ends = {
        "Most alike": ranked.head(HEADS_SHOWN),
        "Most different": ranked[::-1].head(HEADS_SHOWN),
    }
    return {
        title: [
            Seen(label(row["model"], row["layer"], row["head"]), row["mean"], row["size"])
            for row in part.to_dict("records")
        ]
        for title, part in ends.items()
    }
