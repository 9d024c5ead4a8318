"""The head-distance table in a few sentences and a few rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.figures.heads import label

# Two means so near, of which another processor may take either for the smaller: a mean moves by
# 1.4e-6 at most (docs/reproduce.md). Absolute below 1, relative above.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Pair:
    """Two heads and how far apart they are."""

    a: str
    b: str
    mean: float
    low: float
    high: float
    texts: int

    def __str__(self) -> str:
        interval = "" if np.isnan(self.low) else f" [{self.low:.4f}, {self.high:.4f}]"
        return f"{self.a} and {self.b}: {self.mean:.4f}{interval}"


class Ends(NamedTuple):
    """The closest (or farthest) pairs; near: how many more are as the last but for rounding."""

    pairs: list[Pair]
    near: int


def text(head_distances: pa.Table) -> str:
    """The most telling numbers of a run: apart within a model, across models, the closest."""
    frame = head_distances.to_pandas()
    lines = []
    for dimension, rows in frame.groupby("dimension"):
        across = rows[rows.model_a != rows.model_b]
        within = rows[rows.model_a == rows.model_b]
        lines.append(f"dimension {dimension}, distance between heads, mean over texts")
        lines.append(f"  two heads of one model    {within['mean'].mean():.4f}")
        if len(across):
            lines.append(f"  heads of different models {across['mean'].mean():.4f}")
        kind = "across models" if len(across) else "of all"
        closest = extremes(across if len(across) else rows, 1)
        more = f"; {closest.near:,} more as close but for rounding" if closest.near else ""
        lines += [f"  closest {kind}: {pair}{more}" for pair in closest.pairs]
    return "\n".join(lines)


def between_models(rows: pd.DataFrame) -> dict[str, float]:
    """Mean over pairs of heads, within each model and between each two models."""
    grouped = rows.groupby(["model_a", "model_b"], sort=False)["mean"].mean()
    names = [a if a == b else f"{a} to {b}" for a, b in grouped.index]
    return dict(zip(names, grouped, strict=True))


def extremes(rows: pd.DataFrame, count: int, farthest: bool = False) -> Ends:
    """The closest (or farthest) pairs of heads, by their mean; ties in the table's order."""
    known = rows[rows["mean"].notna()]
    ranked = known.sort_values("mean", ascending=not farthest, kind="stable")
    pairs = [
        Pair(
            label(row["model_a"], row["layer_a"], row["head_a"]),
            label(row["model_b"], row["layer_b"], row["head_b"]),
            row["mean"],
            row["ci_low"],
            row["ci_high"],
            row["texts"],
        )
        for row in ranked.head(count).to_dict("records")
    ]
    return Ends(pairs, near_last(ranked["mean"], count))


def near_last(ranked: pd.Series, shown: int) -> int:
    """Of values in order, of which the first are shown: how many more are as the last of these.

    As it but for rounding, so that another processor may show them in its place.
    """
    values = ranked.to_numpy(np.float64)
    if not shown or len(values) <= shown:
        return 0
    last, others = values[shown - 1], values[shown:]
    return int((np.abs(others - last) <= ROUNDING * max(1.0, abs(last))).sum())


def interval(provenance: Mapping[str, Any]) -> str:
    """What the interval of a mean is called, with its confidence where that is known."""
    confidence = provenance.get("config", {}).get("comparison", {}).get("confidence")
    return f"{100 * confidence:g} % interval" if confidence else "interval"
