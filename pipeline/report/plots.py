"""The page's curves, map and distances as data that `dvc plots`, Studio and editors draw.

Each table is a long CSV, a row a point, drawn through a template of .dvc/plots. Numbers have six
digits, so that the last bits of a sum do not show as a difference between two runs.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from pipeline.figures import heads
from pipeline.report import context, measures, summary
from pipeline.report.run import Run

BINS = 50


def build(run: Run) -> dict[str, str]:
    """Text of each file, by its name."""
    return {f"{name}.csv": _csv(make(run)) for name, make in TABLES.items()}


def layers(run: Run) -> pd.DataFrame:
    """A row a model, measure and layer: mean, and 10th and 90th percentile, over texts."""
    return measures.of_layers(run)


def contexts(run: Run) -> pd.DataFrame:
    """A row a model, kind of token and layer: the cosine of a token in two texts."""
    # Named as in layers.csv: one template draws both.
    return context.of_layers(run).rename(columns={"kind": "measure"})


def head_embedding(run: Run) -> pd.DataFrame:
    """A row a head and dimension: its place in the plane, its layer's depth from 0 to 1.

    map   models that share no text stand in maps of their own, numbered from 0
    """
    columns = ["dimension", "map", "model", "layer", "head", "depth", "x", "y"]
    rows = [
        (dimension, number, *head, depth, *place)
        for dimension in _dimensions(run)
        for number, found in enumerate(measures.embeddings(run, dimension))
        for head, depth, place in zip(
            found.heads, heads.depths(found.heads), found.places.tolist(), strict=True
        )
    ]
    return pd.DataFrame(rows, columns=columns)


def head_distances(run: Run) -> pd.DataFrame:
    """A row a dimension, pair of models and bin of the mean distance: its share of the pairs.

    near   pairs that stand so near an end of the bin that rounding decides on their bin
    """
    columns = ["dimension", "models", "low", "distance", "high", "pairs", "share", "near"]
    parts = [_histograms(run, dimension) for dimension in _dimensions(run)]
    return pd.concat(parts)[columns] if parts else pd.DataFrame(columns=columns)


def _histograms(run: Run, dimension: int) -> pd.DataFrame:
    table = run.head_distances
    rows = table[(table["dimension"] == dimension) & table["mean"].notna()]
    top = rows["mean"].max() if len(rows) else 0
    edges = np.linspace(0, top or 1, BINS + 1)
    rounding = summary.ROUNDING * max(1.0, top)
    parts = []
    for (a, b), part in rows.groupby(["model_a", "model_b"], sort=False, observed=True):
        counts = np.histogram(part["mean"], edges)[0]
        at_edges = np.abs(np.subtract.outer(edges, part["mean"].to_numpy())) <= rounding
        values = {
            "dimension": dimension,
            "models": a if a == b else f"{a} to {b}",
            "low": edges[:-1],
            "distance": (edges[:-1] + edges[1:]) / 2,
            "high": edges[1:],
            "pairs": counts,
            "share": counts / len(part),
            "near": (at_edges[:-1] | at_edges[1:]).sum(axis=1),
        }
        parts.append(pd.DataFrame(values))
    return pd.concat(parts) if parts else pd.DataFrame()


def _dimensions(run: Run) -> list[int]:
    table = run.head_distances
    return sorted(table["dimension"].unique().tolist()) if len(table) else []


def _csv(table: pd.DataFrame) -> str:
    return str(table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


TABLES: dict[str, Callable[[Run], pd.DataFrame]] = {
    "layers": layers,
    "context": contexts,
    "head_embedding": head_embedding,
    "head_distances": head_distances,
}
