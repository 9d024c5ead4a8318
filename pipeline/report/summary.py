"""The head-distance table in a few sentences and a few rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.figures.heads import label


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
        lines += [f"  closest {kind}: {pair}" for pair in closest]
    return "\n".join(lines)


def between_models(rows: pd.DataFrame) -> dict[str, float]:
    """Mean over pairs of heads, within each model and between each two models."""
    grouped = rows.groupby(["model_a", "model_b"], sort=False)["mean"].mean()
    names = [a if a == b else f"{a} to {b}" for a, b in grouped.index]
    return dict(zip(names, grouped, strict=True))


def extremes(rows: pd.DataFrame, count: int, farthest: bool = False) -> list[Pair]:
    """The closest (or farthest) pairs of heads, by their mean; ties in the table's order."""
    known = rows[rows["mean"].notna()]
    ranked = known.sort_values("mean", ascending=not farthest, kind="stable").head(count)
    return [
        Pair(
            label(row["model_a"], row["layer_a"], row["head_a"]),
            label(row["model_b"], row["layer_b"], row["head_b"]),
            row["mean"],
            row["ci_low"],
            row["ci_high"],
            row["texts"],
        )
        for row in ranked.to_dict("records")
    ]


def interval(provenance: Mapping[str, Any]) -> str:
    """What the interval of a mean is called, with its confidence where that is known."""
    confidence = provenance.get("config", {}).get("comparison", {}).get("confidence")
    return f"{100 * confidence:g} % interval" if confidence else "interval"
