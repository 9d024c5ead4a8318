"""Parallel texts (translations of one sentence) under each head."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from pipeline.figures.heads import label
from pipeline.figures.tiles import Tile, tiles
from pipeline.report import summary
from pipeline.report.run import Run

HEADS_SHOWN = 10
LANGUAGES_SHOWN = 40  # more would be cells of a few pixels
BY_HEAD = ("dimension", "model", "layer", "head")
BY_LANGUAGES = ("dimension", "model", "language_a", "language_b")


@dataclass(frozen=True)
class Seen:
    """A head and how far apart it sees the texts of one group."""

    head: str
    mean: float
    pairs: int


class Ends(NamedTuple):
    """The heads at one end; near: how many more are as the last but for rounding."""

    heads: list[Seen]
    near: int


@dataclass(frozen=True)
class Dimension:
    """One homology dimension's part of the section."""

    number: int
    by_head: go.Figure
    by_language: go.Figure | None
    lists: dict[str, Ends]


def build(run: Run) -> dict[str, Any] | None:
    """Variables of the template."""
    seen = _means(run)
    if seen is None:
        return None
    pairs, by_head, by_languages = seen
    known = pairs["language_a"].notna() & pairs["language_b"].notna()
    return {
        "dimensions": [
            _dimension(k, *(rows[rows["dimension"] == k] for rows in (by_head, by_languages)))
            for k in sorted(by_head["dimension"].unique().tolist())
        ],
        "pairs": len(pairs),
        "groups": int(pairs["group"].nunique()),
        "alike": int((known & (pairs["language_a"] == pairs["language_b"])).sum()),
        "languages": _languages(pairs),
    }


def _means(run: Run) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame] | None:
    """The pairs of texts of one group, and the means of their distances by head and by languages.

    The table may have very many rows: it is read by row groups, and only sums of them are kept.
    """
    of_text = run.records.drop_duplicates("text_id").set_index("text_id")
    pairs: list[pd.DataFrame] = []
    sums: dict[tuple[str, ...], list[pd.DataFrame]] = {BY_HEAD: [], BY_LANGUAGES: []}
    for rows in run.text_distances:
        frame = rows.drop_columns("corpus").to_pandas()
        found = _pairs(frame[["text_a", "text_b"]].drop_duplicates(), of_text)
        pairs.append(found)
        table = frame.merge(found, on=["text_a", "text_b"])
        for by, before in sums.items():
            here = table.groupby([*by], sort=False)["distance"].agg(["sum", "size"])
            sums[by] = [pd.concat([*before, here]).groupby(level=[*by], sort=False).sum()]
    if not any(map(len, pairs)):
        return None
    by_head, by_languages = (
        found.assign(mean=found["sum"] / found["size"]).reset_index() for [found] in sums.values()
    )
    # The rows of a pair may go on in the next row group.
    return pd.concat(pairs).drop_duplicates(["text_a", "text_b"]), by_head, by_languages


def _pairs(pairs: pd.DataFrame, of_text: pd.DataFrame) -> pd.DataFrame:
    """Those of one group, with their languages (in order of the alphabet)."""
    pairs = pairs.assign(group=pairs["text_a"].map(of_text["group"]))
    # A text without a group is a variant of none: not known is not equal.
    pairs = pairs[pairs["group"] == pairs["text_b"].map(of_text["group"])]
    first, second = (pairs[side].map(of_text["language"]) for side in ("text_a", "text_b"))
    swapped = (second < first).fillna(False).astype(bool)
    return pairs.assign(
        language_a=first.where(~swapped, second), language_b=second.where(~swapped, first)
    )


def _languages(table: pd.DataFrame) -> list[str]:
    return sorted({*table["language_a"].dropna(), *table["language_b"].dropna()})


def _dimension(number: int, by_head: pd.DataFrame, by_languages: pd.DataFrame) -> Dimension:
    of_model = {str(model): rows for model, rows in by_head.groupby("model", sort=False)}
    spoken = {model: by_languages[by_languages["model"] == model] for model in of_model}
    # Of so many languages a matrix says nothing; of one, or none stated, there is none.
    drawn = 1 < len(_languages(by_languages)) <= LANGUAGES_SHOWN
    return Dimension(
        number,
        tiles(
            [_heads_tile(model, rows) for model, rows in of_model.items()],
            ("layer", "head"),
            "layer %{y}, head %{x}<br>mean %{z:.4r}<br>%{customdata} pairs of texts",
        ),
        tiles(
            [_languages_tile(model, rows) for model, rows in spoken.items()],
            ("", ""),
            "%{y} and %{x}<br>mean %{z:.4r}<br>%{customdata} pairs of texts and heads",
            cell=44,
            numbers=True,
        )
        if drawn
        else None,
        _lists(by_head),
    )


def _heads_tile(model: str, rows: pd.DataFrame) -> Tile:
    layer, head = rows["layer"].to_numpy(), rows["head"].to_numpy()
    shape = (layer.max() + 1, head.max() + 1)
    values, counts = np.full(shape, np.nan), np.zeros(shape, np.int64)
    values[layer, head], counts[layer, head] = rows["mean"], rows["size"]
    return Tile(
        model, values, counts, list(map(str, range(shape[0]))), list(map(str, range(shape[1])))
    )


def _languages_tile(model: str, rows: pd.DataFrame) -> Tile:
    names = _languages(rows)
    a, b = ([names.index(name) for name in rows[f"language_{side}"]] for side in "ab")
    values = np.full((len(names), len(names)), np.nan)
    counts = np.zeros(values.shape, np.int64)
    values[a, b] = values[b, a] = rows["mean"]
    counts[a, b] = counts[b, a] = rows["size"]
    return Tile(model, values, counts, names, names)


def _lists(rows: pd.DataFrame) -> dict[str, Ends]:
    ranked = rows.sort_values("mean", kind="stable")
    return {"Most alike": _ends(ranked), "Most different": _ends(ranked[::-1])}


def _ends(ranked: pd.DataFrame) -> Ends:
    seen = [
        Seen(label(row["model"], row["layer"], row["head"]), row["mean"], row["size"])
        for row in ranked.head(HEADS_SHOWN).to_dict("records")
    ]
    return Ends(seen, summary.near_last(ranked["mean"], HEADS_SHOWN))
