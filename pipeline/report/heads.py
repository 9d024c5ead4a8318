"""How far apart heads are, in each homology dimension."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from pipeline.figures import heads
from pipeline.report import measures, summary
from pipeline.report.run import Run

PAIRS_SHOWN = 10


@dataclass(frozen=True)
class Plane:
    """One embedding, drawn twice."""

    heads: int
    models: list[str]
    stress: float
    by_model: go.Figure
    by_layer: go.Figure


@dataclass(frozen=True)
class Dimension:
    """One homology dimension's part of the section."""

    number: int
    heads: int
    by_layer: bool  # cells of the matrix: layers, for there are too many heads
    matrix: go.Figure | None
    planes: list[Plane]
    means: Mapping[str, float]
    lists: Mapping[str, summary.Ends]


def build(run: Run) -> dict[str, Any] | None:
    """Variables of the template."""
    table = run.head_distances
    numbers: list[int] = sorted(table["dimension"].unique().tolist()) if len(table) else []
    if not numbers:
        return None
    return {
        "dimensions": [_dimension(run, k, table[table["dimension"] == k]) for k in numbers],
        "limits": (heads.MATRIX_HEADS, heads.EMBEDDED_HEADS),
        "interval": summary.interval(run.provenance),
    }


def _dimension(run: Run, number: int, rows: pd.DataFrame) -> Dimension:
    across = rows[rows.model_a != rows.model_b]
    lists = {
        "Most alike": summary.extremes(rows, PAIRS_SHOWN),
        "Most alike across models": summary.extremes(across, PAIRS_SHOWN),
        "Most different": summary.extremes(rows, PAIRS_SHOWN, farthest=True),
    }
    count = len(heads.heads_of(rows))
    by_layer = count > heads.MATRIX_HEADS
    known = rows["mean"].notna().any()
    matrix = heads.layer_matrix if by_layer else heads.head_matrix
    return Dimension(
        number,
        count,
        by_layer,
        matrix(rows) if known else None,
        [_plane(found) for found in measures.embeddings(run, number) if len(found.heads) > 2],
        summary.between_models(rows),
        {title: ends for title, ends in lists.items() if ends.pairs},
    )


def _plane(found: heads.Embedding) -> Plane:
    models = list(dict.fromkeys(model for model, _, _ in found.heads))
    return Plane(
        len(found.heads),
        models,
        found.stress,
        heads.embedding_by_model(found),
        heads.embedding_by_layer(found),
    )
