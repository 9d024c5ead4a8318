"""Tables -> plotly figures."""

import math
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform

from pipeline.report.summary import label

# Okabe and Ito 2008: told apart with every kind of colour vision.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#000000")


def head_matrix(rows: pd.DataFrame) -> go.Figure:
    """Mean distance between all heads in one dimension, heads ordered by clustering."""
    heads = _heads(rows)
    mean = _square(rows, heads, "mean")
    order = cluster_order(mean)
    names = [label(*heads[i]) for i in order]
    models = list(dict.fromkeys(model for model, _, _ in heads))
    marks = np.array([models.index(heads[i][0]) for i in order])
    figure = make_subplots(
        rows=2,
        cols=2,
        shared_xaxes=True,
        shared_yaxes=True,
        row_heights=[0.025, 0.975],
        column_widths=[0.025, 0.975],
        horizontal_spacing=0.004,
        vertical_spacing=0.004,
    )
    figure.add_trace(_strip(marks[None, :], models, names, ["model"]), 1, 2)
    figure.add_trace(_strip(marks[:, None], models, ["model"], names), 2, 1)
    figure.add_trace(_cells(rows, heads, order, mean, names), 2, 2)
    for number, model in enumerate(models):
        figure.add_trace(_legend_entry(model, number), 2, 2)
    figure.update_xaxes(showticklabels=False, type="category")
    figure.update_yaxes(showticklabels=False, type="category", autorange="reversed")
    figure.update_layout(
        height=820,
        margin={"l": 10, "r": 10, "t": 40, "b": 10},
        legend={"orientation": "h", "y": 1.05, "x": 0.03},
        template="plotly_white",
    )
    return figure


def cluster_order(distances: NDArray[np.float64]) -> NDArray[np.int64]:
    """Order of the leaves of average linkage, neighbours as close as the tree allows."""
    if len(distances) < 3:
        return np.arange(len(distances))
    flat = squareform(np.nan_to_num(distances, nan=np.nanmax(distances)), checks=False)
    tree = linkage(flat, "average")
    return np.asarray(leaves_list(optimal_leaf_ordering(tree, flat)))


Head = tuple[str, int, int]


def _heads(rows: pd.DataFrame) -> list[Head]:
    # Rows run over all pairs a < b of h heads, so the first h - 1 are the first head's.
    count = (1 + math.isqrt(1 + 8 * len(rows))) // 2
    first = rows.iloc[: count - 1]
    others = zip(first.model_b, first.layer_b, first.head_b, strict=True)
    return [(first.model_a.iloc[0], first.layer_a.iloc[0], first.head_a.iloc[0]), *others]


def _square(rows: pd.DataFrame, heads: list[Head], column: str) -> NDArray[np.float64]:
    square = np.zeros((len(heads), len(heads)))
    square[np.triu_indices(len(heads), 1)] = rows[column].to_numpy(np.float64, na_value=np.nan)
    return square + square.T


def _cells(
    rows: pd.DataFrame,
    heads: list[Head],
    order: NDArray[np.int64],
    mean: NDArray[np.float64],
    names: list[str],
) -> go.Heatmap:
    chosen = np.ix_(order, order)
    details = [_square(rows, heads, name)[chosen] for name in ("ci_low", "ci_high", "texts")]
    return go.Heatmap(
        z=mean[chosen].astype(np.float32),
        x=names,
        y=names,
        customdata=np.stack(details, -1).astype(np.float32),
        colorscale="Viridis",
        colorbar={"title": "mean distance"},
        hovertemplate=(
            "%{y} and %{x}<br>mean %{z:.4f}<br>interval %{customdata[0]:.4f} to "
            "%{customdata[1]:.4f}<br>%{customdata[2]} texts<extra></extra>"
        ),
    )


def _strip(marks: NDArray[np.int64], models: list[str], x: list[str], y: list[str]) -> go.Heatmap:
    top = max(len(models) - 1, 1)
    scale: list[list[Any]] = [[i / top, PALETTE[i % len(PALETTE)]] for i in range(top + 1)]
    return go.Heatmap(
        z=marks, x=x, y=y, zmin=0, zmax=top, colorscale=scale, showscale=False, hoverinfo="skip"
    )


def _legend_entry(model: str, number: int) -> go.Scatter:
    colour = PALETTE[number % len(PALETTE)]
    marker = {"color": colour, "symbol": "square", "size": 12}
    return go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name=model)
