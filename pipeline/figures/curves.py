"""Curves over layers, with bands over texts, in panels side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from pipeline.figures.style import PALETTE, SYMBOLS, laid_out, plain

COLUMNS = 2
PANEL = 300  # pixels of height


@dataclass(frozen=True)
class Curve:
    """One line and its band: y at each layer; number: which colour, the same in all panels."""

    name: str
    number: int
    layers: Sequence[int]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """Curves on the same axes."""

    title: str
    curves: Sequence[Curve]
    unit: str = ""


def curves(panels: Sequence[Panel], shared_y: bool = False) -> go.Figure:
    """All panels, two a row, on one y axis or each its own.

    The layers of curves of unequal length run from first to last.
    """
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = make_subplots(
        rows,
        columns,
        subplot_titles=[plain(panel.title) for panel in panels],
        shared_yaxes="all" if shared_y else False,
        horizontal_spacing=0.09 if not shared_y else 0.04,
        vertical_spacing=0.22 / rows,
    )
    named: set[str] = set()
    for at, panel in enumerate(panels):
        _draw(figure, panel, at // columns + 1, at % columns + 1, named)
        if shared_y and at % columns:
            figure.update_yaxes(title=None, row=at // columns + 1, col=at % columns + 1)
    legend = {"orientation": "h", "y": 1 + 36 / (PANEL * rows), "yanchor": "bottom", "x": 0}
    return laid_out(
        figure,
        height=PANEL * rows + 60,
        legend=legend,
        showlegend=True,
        margin={"l": 10, "r": 10, "t": 80, "b": 10},
        hovermode="closest",
    )


def _draw(figure: go.Figure, panel: Panel, row: int, column: int, named: set[str]) -> None:
    depths = {max(curve.layers, default=0) for curve in panel.curves}
    relative = len(depths) > 1
    for curve in panel.curves:
        scale = max(*curve.layers, 1) if relative else 1
        x = [round(layer / scale, 4) for layer in curve.layers]
        for trace in (_band(curve, x), _line(curve, x, panel.unit, curve.name not in named)):
            figure.add_trace(trace, row, column)
        named.add(curve.name)
    if relative:
        ends = {"tickvals": [0, 0.5, 1], "ticktext": ["first layer", "middle", "last layer"]}
        figure.update_xaxes(ends, range=[-0.03, 1.03], ticklabelstandoff=5, row=row, col=column)
    else:
        figure.update_xaxes(title={"text": "layer", "standoff": 6}, row=row, col=column)
    figure.update_yaxes(title={"text": plain(panel.unit), "standoff": 6}, row=row, col=column)
    figure.update_yaxes(rangemode="tozero")


def _band(curve: Curve, x: list[float]) -> go.Scatter:
    return go.Scatter(
        x=[*x, *reversed(x)],
        y=[*curve.high, *reversed(curve.low)],
        fill="toself",
        fillcolor=_faint(PALETTE[curve.number % len(PALETTE)]),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        legendgroup=curve.name,
        showlegend=False,
    )


def _line(curve: Curve, x: list[float], unit: str, first: bool) -> go.Scatter:
    colour, symbol = (kind[curve.number % len(kind)] for kind in (PALETTE, SYMBOLS))
    details: list[list[Any]] = list(
        map(list, zip(curve.layers, curve.low, curve.high, strict=True))
    )
    return go.Scatter(
        x=x,
        y=list(curve.mean),
        customdata=details,
        name=plain(curve.name),
        legendgroup=curve.name,
        showlegend=first,
        mode="lines+markers",
        line={"color": colour, "width": 2},
        marker={"size": 6, "color": colour, "symbol": symbol},
        hovertemplate=(
            f"{plain(curve.name)}<br>layer %{{customdata[0]}}<br>mean %{{y:.4r}} {plain(unit)}"
            "<br>8 in 10 from %{customdata[1]:.4r} to %{customdata[2]:.4r}<extra></extra>"
        ),
    )


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.15)"
