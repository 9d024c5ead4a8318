"""Small matrices side by side on one colour scale, each cell a mean of so many values."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from pipeline.figures.style import QUANTITY, laid_out, plain

COLUMNS = 2
WRITTEN = 100  # cells: more, and their numbers no longer fit


@dataclass(frozen=True)
class Tile:
    """One matrix: values (row, column), NaN where there is none; counts of what each is over."""

    title: str
    values: NDArray[np.float64]
    counts: NDArray[np.int64]
    rows: Sequence[str]
    columns: Sequence[str]


def tiles(
    matrices: Sequence[Tile],
    axes: tuple[str, str],
    hover: str,
    cell: int = 18,
    numbers: bool = False,
) -> go.Figure:
    """The matrices, two a row.

    axes      what rows and columns are
    hover     template: %{y} row, %{x} column, %{z} value, %{customdata} its count
    cell      height of a cell in pixels
    numbers   written into the cells, where they are few enough
    """
    columns = min(COLUMNS, len(matrices))
    rows = -(-len(matrices) // columns)
    heights = [
        max(len(tile.rows) for tile in matrices[i * columns : (i + 1) * columns]) * cell + 40
        for i in range(rows)
    ]
    figure = make_subplots(
        rows,
        columns,
        subplot_titles=[plain(tile.title) for tile in matrices],
        row_heights=heights,
        horizontal_spacing=0.1,
        vertical_spacing=min(90 / sum(heights), 0.9 / rows),
    )
    for at, tile in enumerate(matrices):
        place = {"row": at // columns + 1, "col": at % columns + 1}
        figure.add_trace(_cells(tile, hover, numbers), **place)
        figure.update_xaxes(title={"text": axes[1], "standoff": 6}, **place)
        figure.update_yaxes(title={"text": axes[0], "standoff": 6}, **place)
        # Cells are as high in every matrix of a row, so a short one ends early.
        most = max(len(other.rows) for other in matrices[at // columns * columns :][:columns])
        low, high = figure.get_subplot(place["row"], place["col"]).yaxis.domain
        figure.update_yaxes(domain=[high - (high - low) * len(tile.rows) / most, high], **place)
    figure.update_xaxes(type="category", showgrid=False, tickangle=0)
    figure.update_yaxes(type="category", showgrid=False, autorange="reversed", ticklabelstandoff=4)
    bar = {"thickness": 14, "title": {"text": "mean distance", "side": "right"}}
    return laid_out(
        figure,
        height=sum(heights) + 90 * rows,
        coloraxis={"colorscale": QUANTITY, "colorbar": bar},
    )


def _cells(tile: Tile, hover: str, numbers: bool) -> go.Heatmap:
    return go.Heatmap(
        z=tile.values.astype(np.float32),
        x=[plain(name) for name in tile.columns],
        y=[plain(name) for name in tile.rows],
        customdata=tile.counts,
        coloraxis="coloraxis",
        texttemplate="%{z:.3f}" if numbers and tile.values.size <= WRITTEN else None,
        xgap=1,
        ygap=1,
        hovertemplate=f"{plain(tile.title)}<br>{hover}<extra></extra>",
    )
