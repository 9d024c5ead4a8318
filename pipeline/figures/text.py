"""One head on one text or image: maps, graphs, diagrams, the complex in space, patches.

Labels come unescaped, such as "3 cat": position, token. Whatever is left out for the eye's or
the browser's sake is said in a note on the figure.
"""

import base64
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from PIL import Image

from pipeline import graphs, images
from pipeline.errors import InputError
from pipeline.figures.style import FAINT, INK, PALETTE, QUANTITY, QUIET, laid_out, plain
from pipeline.vision import fibonacci_sphere

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

LABELS = 40  # of a heatmap's side that stand without touching
LONG_LABEL = 18  # characters of a label at an axis or a node; the hover has all of it
EDGES = 1500  # heaviest edges that a graph draws
EDGE_LABELS = 24  # heaviest edges whose weight is written beside them
NODE_LABELS = 90  # tokens written around the circle
STEPS = 8  # of width and opacity of edges
COMPLEX_EDGES = 4000  # shortest edges of a complex that are kept
COMPLEX_TRIANGLES = 2000  # and first triangles
SPACE_LABELS = 60  # tokens written beside their points in space
SPHERE_EDGES = 2000
SYMBOLS = ("circle", "diamond", "square", "cross", "x", "triangle-up", "star", "hexagon")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
NAMES = ("0: clusters of tokens", "1: loops", "2: voids")


class Complex(NamedTuple):
    """A Rips complex in space, as far as it is drawn: plain arrays, to be sent to a browser.

    positions   (n, 3): classical scaling of the distances
    edges       (m, 2), i < j, by length; lengths (m,): the shortest COMPLEX_EDGES at most
    triangles   (t, 3), i < j < l, by scale; scales (t,): the first COMPLEX_TRIANGLES at most
    diameter    the longest distance
    tree        (n - 1, 4): which clusters merge at which scale, see `graphs.merge_tree`
    """

    positions: Floats
    edges: Integers
    lengths: Floats
    triangles: Integers
    scales: Floats
    diameter: float
    tree: Floats


# ---------------------------------------------------------------- matrices


def heatmap(
    values: npt.ArrayLike,
    rows: Sequence[str],
    columns: Sequence[str],
    name: str = "attention",
    axes: tuple[str, str] = ("query", "key"),
    bounds: tuple[float, float] | None = None,
) -> go.Figure:
    """A matrix between tokens, (rows, columns), in square cells, the first row at the top.

    Colours go over bounds, by default from 0 (or the least value below it) to the largest;
    infinite values are grey.
    """
    cells = np.asarray(values, np.float32)
    if cells.shape != (len(rows), len(columns)):
        raise InputError(
            f"A matrix has shape {cells.shape}, with {len(rows)} labels of rows and "
            f"{len(columns)} of columns; give a label each."
        )
    y, x = _distinct(rows), _distinct(columns)
    low, high = bounds or _bounds(cells)
    where = f"{plain(axes[0])} %{{y}}<br>{plain(axes[1])} %{{x}}<br>{plain(name)} "
    finite = np.where(np.isfinite(cells), cells, np.float32(np.nan))
    figure = go.Figure(
        go.Heatmap(
            z=finite,
            x=x,
            y=y,
            zmin=low,
            zmax=high,
            colorscale=QUANTITY,
            colorbar={"title": {"text": plain(name), "side": "right"}, "thickness": 14},
            hoverongaps=False,
            hovertemplate=f"{where}%{{z:.4g}}<extra></extra>",
        )
    )
    if np.isinf(cells).any():
        _add_infinite(figure, np.isinf(cells), x, y, where)
    figure.update_xaxes(_token_axis(columns, x, axes[1]), tickangle=-90, constrain="domain")
    figure.update_yaxes(
        _token_axis(rows, y, axes[0]), autorange="reversed", scaleanchor="x", constrain="domain"
    )
    return laid_out(figure, width=720, height=640, plot_bgcolor="white")


def _distinct(labels: Sequence[str]) -> list[str]:
    """Labels as the categories of an axis, which would draw equal ones into one."""
    shown = [_label(label) for label in labels]
    return shown if len({*shown}) == len(shown) else [f"{i} {s}" for i, s in enumerate(shown)]


def _label(label: str, length: int | None = None) -> str:
    """Position and token, escaped; apart, so that a token read from the right stays in place."""
    position, blank, token = label.partition(" ")
    if length and len(token) > length:
        token = f"{token[: length - 1]}…"
    return plain(position) + blank + plain(token)


def _bounds(cells: npt.NDArray[np.float32]) -> tuple[float, float]:
    finite = cells[np.isfinite(cells)]
    if not finite.size:
        return 0.0, 1.0
    low, high = min(0.0, float(finite.min())), float(finite.max())
    return low, high if high > low else low + 1.0


def _add_infinite(
    figure: go.Figure, infinite: npt.NDArray[np.bool_], x: list[str], y: list[str], where: str
) -> None:
    figure.add_heatmap(
        z=np.where(infinite, np.float32(1), np.float32(np.nan)),
        x=x,
        y=y,
        colorscale=[[0, QUIET], [1, QUIET]],
        showscale=False,
        hoverongaps=False,
        hovertemplate=f"{where}inf<extra></extra>",
    )
    marker = {"color": QUIET, "symbol": "square", "size": 12}
    figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name="infinite")
    figure.update_layout(
        showlegend=True, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"}
    )


def _token_axis(labels: Sequence[str], categories: list[str], title: str) -> dict[str, Any]:
    every = max(1, math.ceil(len(labels) / LABELS))
    return {
        "title": {"text": plain(title)},
        "type": "category",
        "tickmode": "array",
        "tickvals": categories[::every],
        "ticktext": [_label(label, LONG_LABEL) for label in labels[::every]],
        "tickfont": {"size": 11},
        "showgrid": False,
        "ticks": "",
    }


# ---------------------------------------------------------------- graphs


def graph(
    A: npt.ArrayLike, labels: Sequence[str], symmetrised: bool = False, threshold: float = 0.0
) -> go.Figure:
    """Tokens on a circle, clockwise from the top, and an edge from each query to its keys.

    Width and strength follow the weight; edges below the threshold, or of weight 0, are left
    out. symmetrised: no directions, the larger of both weights.
    """
    weights = graphs.symmetrised(A) if symmetrised else np.asarray(A, np.float64)
    ends, total = _heaviest(np.triu(weights) if symmetrised else weights, threshold, EDGES)
    heavy = weights[ends[:, 0], ends[:, 1]]
    places = _circle(len(labels))
    figure = go.Figure()
    lines = [_curve(places, i, j, not symmetrised) for i, j in ends]
    for strength, chosen in _by_strength(heavy):
        some = [lines[at] for at in np.flatnonzero(chosen)]
        _add_edges(figure, some, strength, len(ends), arrows=not symmetrised)
    written = _add_weights(figure, lines, ends, heavy, labels, "—" if symmetrised else "→")
    every = max(1, math.ceil(len(labels) / NODE_LABELS))
    _add_nodes(figure, places, labels, every)
    notes = [_drawn(ends, total)] * (total > len(ends))
    notes += [f"weight written on {written} of the heaviest"] * (len(ends) > written)
    notes += [f"1 token in {every} written"] * (every > 1)
    figure.update_xaxes(visible=False, range=[-1.2, 1.2], constrain="domain")
    figure.update_yaxes(visible=False, range=[-1.2, 1.2], scaleanchor="x", constrain="domain")
    laid_out(figure, width=720, height=720, hovermode="closest", showlegend=False)
    return _noted(figure, notes, _label_room(labels))


def _drawn(ends: Integers, total: int) -> str:
    return f"the {len(ends):,} heaviest of {total:,} edges"


def _heaviest(weights: Floats, threshold: float, most: int) -> tuple[Integers, int]:
    """Ends of the heaviest edges, heaviest first, and how many there are in all."""
    i, j = np.nonzero((weights > 0) & (weights >= threshold))
    order = np.argsort(-weights[i, j], kind="stable")[:most]
    return np.column_stack([i[order], j[order]]), len(i)


def _by_strength(weights: Floats) -> Iterator[tuple[float, npt.NDArray[np.bool_]]]:
    """The edges in steps of weight, weakest first: so the strong are drawn over the weak."""
    top = weights.max(initial=0.0) or 1.0
    steps = np.minimum((weights / top * STEPS).astype(int), STEPS - 1)
    for step in np.unique(steps).tolist():
        yield (step + 1) / STEPS, steps == step


def _circle(n: int) -> Floats:
    turn = np.pi / 2 - 2 * np.pi * np.arange(n) / max(n, 1)
    return np.column_stack([np.cos(turn), np.sin(turn)])


def _add_edges(
    figure: go.Figure, lines: list[Floats], strength: float, total: int, arrows: bool
) -> None:
    colour = f"rgba(0, 114, 178, {0.12 + 0.78 * strength:.3f})"
    # Where there are many, thin lines still leave paper to be seen between them.
    finest = 4 * strength / max(1.0, total / 300)
    x, y = _joined(lines)
    line = {"color": colour, "width": 0.4 + finest}
    figure.add_scatter(x=x, y=y, mode="lines", hoverinfo="skip", line=line)
    if arrows:
        x, y = _joined([_arrowhead(line, 0.018 + 0.008 * finest) for line in lines])
        line = {"width": 0}
        figure.add_scatter(
            x=x, y=y, mode="lines", fill="toself", fillcolor=colour, hoverinfo="skip", line=line
        )


def _curve(places: Floats, i: int, j: int, directed: bool) -> Floats:
    """The line of an edge: (points, 2), bent to its left, so that both directions are seen."""
    gap = 0.035  # so that the arrowhead stands before the node
    if i == j:
        centre, turn = places[i] * 1.1, np.linspace(0, 2 * np.pi, 24)
        start = math.atan2(*-places[i][::-1])
        circle = np.column_stack([np.cos(start + turn), np.sin(start + turn)])
        return np.asarray(centre + 0.08 * circle)
    a, b = places[i], places[j]
    bend = 0.12 if directed else 0.0
    middle = (a + b) / 2 * 0.9 + bend * np.array([a[1] - b[1], b[0] - a[0]])
    t = np.linspace(gap, 1 - gap, 16)[:, None]
    return np.asarray((1 - t) ** 2 * a + 2 * t * (1 - t) * middle + t**2 * b)


def _arrowhead(line: Floats, size: float) -> Floats:
    tip, along = line[-1], line[-1] - line[-2]
    along = along / np.hypot(*along) * size
    across = np.array([-along[1], along[0]]) * 0.45
    return np.array([tip, tip - along + across, tip - along - across, tip])


def _joined(lines: list[Floats]) -> tuple[Floats, Floats]:
    """Many lines as one, with a gap after each."""
    gap = np.full((1, lines[0].shape[1]), np.nan)
    x, y = np.concatenate([part for line in lines for part in (line, gap)]).T
    return x.astype(np.float32), y.astype(np.float32)


def _add_weights(
    figure: go.Figure,
    lines: list[Floats],
    ends: Integers,
    weights: Floats,
    labels: Sequence[str],
    arrow: str,
) -> int:
    """Each edge's weight in its hover, and that of the heaviest beside it; how many of these."""
    at = np.array([_middle(line) for line in lines]).reshape(-1, 2)
    written = _spaced(at, 0.08, EDGE_LABELS)
    figure.add_scatter(
        x=at[:, 0],
        y=at[:, 1],
        mode="markers+text",
        marker={"size": 9, "opacity": 0},
        text=[f"{weight:.2f}" if k in written else "" for k, weight in enumerate(weights)],
        textfont={"size": 10, "shadow": "0 0 2px white, 0 0 4px white"},
        customdata=weights,
        hovertext=[f"{_label(labels[i])} {arrow} {_label(labels[j])}" for i, j in ends],
        hovertemplate="%{hovertext}<br>weight %{customdata:.4g}<extra></extra>",
    )
    return len(written)


def _middle(line: Floats) -> Floats:
    """Where an edge's weight is written: in a loop, or towards the edge's end, for at its middle
    the two directions would write over each other.
    """
    closed = np.allclose(line[0], line[-1])
    return np.asarray(line[:-1].mean(axis=0) if closed else line[len(line) * 5 // 8])


def _spaced(places: Floats, least: float, most: int) -> set[int]:
    """The first places, at most so many, of which no two are nearer than the least distance.

    None stands on the circle of the nodes.
    """
    kept: list[int] = []
    for at, place in enumerate(places):
        if abs(math.hypot(*place) - 1) < least:
            continue
        if len(kept) < most and all(math.dist(place, places[other]) >= least for other in kept):
            kept.append(at)
    return {*kept}


def _add_nodes(figure: go.Figure, places: Floats, labels: Sequence[str], every: int) -> None:
    figure.add_scatter(
        x=places[:, 0],
        y=places[:, 1],
        mode="markers",
        marker={"size": 9 if len(labels) <= NODE_LABELS else 4, "color": INK},
        hovertext=[_label(label) for label in labels],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    for (x, y), label in list(zip(places, labels, strict=True))[::every]:
        angle = math.degrees(math.atan2(y, x))
        figure.add_annotation(
            x=x * 1.2,
            y=y * 1.2,
            text=_label(label, LONG_LABEL),
            showarrow=False,
            font={"size": 11},
            # Along the radius, and never upside down.
            textangle=-angle if abs(angle) <= 90.001 else 180 - angle,
            xanchor="center" if abs(x) < 0.01 else "left" if x > 0 else "right",
            yanchor="middle" if abs(y) < 0.01 else "bottom" if y > 0 else "top",
        )


def _label_room(labels: Sequence[str]) -> int:
    """Pixels beyond the circle for labels that stand away from it."""
    longest = max((min(len(label), LONG_LABEL + 4) for label in labels), default=0)
    return 10 + 6 * longest


def _noted(figure: go.Figure, notes: Sequence[str], room: int = 10) -> go.Figure:
    """The same figure with notes below it, and room around it."""
    margin = {"l": room, "r": room, "t": room + 30, "b": room + (26 if notes else 0)}
    figure.update_layout(margin=margin)
    if notes:
        figure.add_annotation(
            text="; ".join(notes), xref="paper", yref="paper", x=0.5, y=0, yshift=-room,
            xanchor="center", yanchor="top", showarrow=False, font={"size": 11, "color": FAINT},
        )  # fmt: skip
    return figure


# ---------------------------------------------------------------- diagrams


def diagram(
    diagrams: Sequence[npt.NDArray[np.float64]],
    diameter: float,
    names: Sequence[str] | None = None,
) -> go.Figure:
    """Births and deaths, by dimension; what never dies stands on a line of its own.

    Equal bars are one point, with their number in the hover. Names are those of dimensions.
    """
    never = 1.08 * (diameter or 1.0)
    figure = go.Figure()
    line = {"color": QUIET, "width": 1}
    figure.add_scatter(
        x=[0, never], y=[0, never], mode="lines", line=line, hoverinfo="skip", showlegend=False
    )
    figure.add_hline(never, line={**line, "dash": "dash"})
    for dimension, bars in enumerate(diagrams):
        _add_points(figure, bars, never, dimension, _dimension_name(dimension, names))
    figure.add_annotation(
        text="never dies", xref="x domain", x=1, y=never, showarrow=False,
        xanchor="right", yanchor="bottom", font={"size": 11, "color": FAINT},
    )  # fmt: skip
    span = [-0.03 * never, 1.08 * never]
    figure.update_xaxes(title="birth", nticks=8, range=span, constrain="domain", zeroline=False)
    figure.update_yaxes(
        title="death", nticks=8, range=span, scaleanchor="x", constrain="domain", zeroline=False
    )
    return laid_out(figure, width=560, height=560, legend=_above(), hovermode="closest")


def _add_points(
    figure: go.Figure, bars: npt.NDArray[np.float64], never: float, dimension: int, name: str
) -> None:
    points, counts = np.unique(np.reshape(bars, (-1, 2)), axis=0, return_counts=True)
    shown = [f"{death:.4g}" if np.isfinite(death) else "never" for death in points[:, 1]]
    figure.add_scatter(
        x=points[:, 0],
        y=np.minimum(points[:, 1], never),
        mode="markers",
        name=plain(name),
        marker={
            "color": PALETTE[dimension % len(PALETTE)],
            "symbol": SYMBOLS[dimension % len(SYMBOLS)],
            "size": 9,
            "opacity": 0.7,
            "line": {"width": 1, "color": INK},
        },
        customdata=counts,
        hovertext=shown,
        hovertemplate=(
            f"dimension {dimension}<br>birth %{{x:.4g}}<br>death %{{hovertext}}"
            "<br>bars: %{customdata}<extra></extra>"
        ),
        cliponaxis=False,
    )


def _dimension_name(dimension: int, names: Sequence[str] | None) -> str:
    known = names or NAMES
    return known[dimension] if dimension < len(known) else str(dimension)


def _above() -> dict[str, Any]:
    return {
        "orientation": "h",
        "y": 1.01,
        "yanchor": "bottom",
        "x": 0,
        "title": {"text": "dimension "},
    }


def barcode(diagrams: Sequence[npt.NDArray[np.float64]], diameter: float) -> go.Figure:
    """A bar from birth to death for each class, dimension above dimension."""
    never = 1.08 * (diameter or 1.0)
    figure, first = go.Figure(), 0
    for dimension, bars in enumerate(diagrams):
        ordered = np.asarray(bars, np.float64).reshape(-1, 2)
        ordered = ordered[np.lexsort((ordered[:, 1], ordered[:, 0]))]
        _add_bars(figure, ordered, never, dimension, first)
        first += len(ordered) + (first + len(ordered) > 0)
    figure.add_vline(never, line={"color": QUIET, "width": 1, "dash": "dash"})
    figure.add_annotation(
        text="never dies", x=never, yref="y domain", y=0, showarrow=False, textangle=-90,
        xanchor="left", yanchor="bottom", font={"size": 11, "color": FAINT},
    )  # fmt: skip
    figure.update_xaxes(title="scale", range=[0, 1.04 * never], zeroline=False)
    figure.update_yaxes(
        title="bars",
        showticklabels=False,
        showgrid=False,
        zeroline=False,
        range=[-1, max(first, 1)],
    )
    return laid_out(figure, width=640, height=520, legend=_above(), bargap=0, showlegend=True)


def _add_bars(figure: go.Figure, bars: Floats, never: float, dimension: int, first: int) -> None:
    ends = np.minimum(bars[:, 1], never)
    figure.add_bar(
        base=bars[:, 0],
        x=ends - bars[:, 0],
        y=np.arange(first, first + len(bars)),
        orientation="h",
        width=0.75,
        name=plain(_dimension_name(dimension, None)),
        marker={
            "color": PALETTE[dimension % len(PALETTE)],
            "line": {"width": 0},
            "pattern": {"shape": ["", "/", "x"][dimension % 3], "size": 4},
        },
        customdata=[f"{d:.4g}" if np.isfinite(d) else "never" for d in bars[:, 1]],
        hovertemplate=(
            f"dimension {dimension}<br>birth %{{base:.4g}}<br>death %{{customdata}}<extra></extra>"
        ),
    )


# ---------------------------------------------------------------- the complex


def complex_of(D: npt.ArrayLike) -> Complex:
    """The Rips complex of a distance matrix, laid out in space, as far as it is drawn."""
    lengths = np.asarray(D, np.float64)
    tree = graphs.merge_tree(lengths)
    edges, at = _shortest(lengths)
    triangles = _first_triangles(edges, len(lengths))
    corners = lengths[triangles[:, [0, 0, 1]], triangles[:, [1, 2, 2]]]
    return Complex(
        _scaled(lengths),
        edges,
        at,
        triangles,
        corners.max(axis=1, initial=0.0),
        float(lengths.max()),
        tree,
    )


def _scaled(D: Floats) -> Floats:
    """Classical scaling to three dimensions: (n, 3); each axis's largest value is positive."""
    square = -0.5 * D**2
    centred = square - square.mean(0) - square.mean(1)[:, None] + square.mean()
    values, vectors = np.linalg.eigh(centred)
    values, vectors = values[::-1][:3], vectors[:, ::-1][:, :3]
    places = vectors * np.sqrt(np.maximum(values, 0))
    places *= np.where(places[np.abs(places).argmax(0), np.arange(places.shape[1])] < 0, -1, 1)
    return np.pad(places, ((0, 0), (0, 3 - places.shape[1])))


def _shortest(D: Floats) -> tuple[Integers, Floats]:
    i, j = np.triu_indices(len(D), 1)
    order = np.argsort(D[i, j], kind="stable")[:COMPLEX_EDGES]
    return np.column_stack([i[order], j[order]]), D[i[order], j[order]]


def _first_triangles(edges: Integers, n: int) -> Integers:
    """Triangles in the order in which their last edges enter."""
    joined, found, count = np.zeros((n, n), bool), [], 0
    for i, j in edges:
        thirds = np.flatnonzero(joined[i] & joined[j])
        found.append(np.column_stack([np.full_like(thirds, i), np.full_like(thirds, j), thirds]))
        joined[i, j] = joined[j, i] = True
        count += len(thirds)
        if count >= COMPLEX_TRIANGLES:
            break
    stacked = np.concatenate([np.empty((0, 3), np.int64), *found])[:COMPLEX_TRIANGLES]
    return np.sort(stacked, axis=1)


def complex(made: Complex, labels: Sequence[str], scale: float) -> go.Figure:
    """The complex at a scale: its points by cluster, the edges and triangles there are by then.

    The largest clusters have a colour each, lone tokens are grey.
    """
    edges = made.edges[made.lengths <= scale]
    triangles = made.triangles[made.scales <= scale]
    figure = go.Figure()
    x, y, z = made.positions.T
    if len(triangles):
        i, j, k = triangles.T
        figure.add_mesh3d(
            x=x, y=y, z=z, i=i, j=j, k=k, opacity=0.12, color=PALETTE[5], hoverinfo="skip"
        )
    if len(edges):
        figure.add_scatter3d(
            **_segments(made.positions, edges),
            line={"color": "#777777", "width": 2 if len(edges) < 500 else 1},
        )
    _add_clusters(figure, made, labels, scale)
    scene = _space(made.positions, labels)
    laid_out(figure, width=720, height=640, scene=scene, showlegend=True)
    figure.update_layout(
        legend={"title": {"text": "cluster"}, "x": 0, "y": 1, "itemsizing": "constant"}
    )
    return _noted(figure, _left_out(made, scale))


def cluster_colours(tree: Floats, scale: float) -> list[str]:
    """A colour for each token: its cluster's among the largest at this scale, grey for the rest."""
    groups = graphs.cluster_labels(tree, scale)
    return [_cluster_colour(rank) for rank in _ranks(groups)[groups]]


def _ranks(groups: Integers) -> Integers:
    """Of each cluster, its place by size among those of two or more tokens; -1 for one."""
    sizes = np.bincount(groups)
    ranks = np.empty(len(sizes), np.int64)
    ranks[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return np.where(sizes > 1, ranks, -1)


def _cluster_colour(rank: int) -> str:
    return PALETTE[rank] if 0 <= rank < len(PALETTE) else QUIET


def _add_clusters(figure: go.Figure, made: Complex, labels: Sequence[str], scale: float) -> None:
    groups = graphs.cluster_labels(made.tree, scale)
    ranks = _ranks(groups)[groups]
    ranks = np.where(ranks < len(PALETTE), ranks, len(PALETTE))
    for rank in sorted({*ranks.tolist()}, key=lambda rank: (rank < 0, rank)):
        members = np.flatnonzero(ranks == rank).tolist()
        x, y, z = made.positions[members].T
        shown = [_label(labels[member]) for member in members]
        name = {-1: f"{len(members)} lone tokens", len(PALETTE): "smaller clusters"}.get(rank)
        figure.add_scatter3d(
            x=x,
            y=y,
            z=z,
            mode="markers",
            marker={"size": _marker(len(labels)), "color": _cluster_colour(rank)},
            hovertext=shown,
            name=name or f"{len(members)} tokens",
            hovertemplate="%{hovertext}<extra></extra>",
        )


def _segments(places: Floats, edges: Integers) -> dict[str, Any]:
    """Edges as one line in space with gaps: x, y, z and mode of a trace."""
    ends = np.full((len(edges), 3, 3), np.nan, np.float32)
    ends[:, :2] = places[edges]
    x, y, z = ends.reshape(-1, 3).T
    return {"x": x, "y": y, "z": z, "mode": "lines", "hoverinfo": "skip", "showlegend": False}


def _strengths(name: str) -> dict[str, Any]:
    """A colour axis for lines on white: the strong are dark."""
    bar = {"title": {"text": plain(name), "side": "right"}, "thickness": 14}
    return {"colorscale": f"{QUANTITY}_r", "cmin": 0, "colorbar": bar}


def _space(places: Floats, labels: Sequence[str]) -> dict[str, Any]:
    """A scene without axes, its sides as long as the data's, and a few points' labels."""
    hidden = {"visible": False}
    sides = np.ptp(places, axis=0)
    sides = np.maximum(sides / (sides.max() or 1.0), 0.05)
    return {
        "xaxis": hidden,
        "yaxis": hidden,
        "zaxis": hidden,
        # By hand: left to itself, plotly draws what is long beyond the frame.
        "aspectmode": "manual",
        "aspectratio": dict(zip("xyz", sides.tolist(), strict=True)),
        "camera": {"eye": {"x": 0.9, "y": 0.9, "z": 0.7}},
        "annotations": [
            {
                **dict(zip("xyz", place.tolist(), strict=True)),
                "text": _label(label, LONG_LABEL),
                "showarrow": False,
                "yshift": 10,
                "font": {"size": 11},
            }
            for place, label in zip(places, labels, strict=True)
            if len(labels) <= SPACE_LABELS
        ],
    }


def _marker(n: int) -> float:
    """Size of n points in space."""
    return 5.0 if n <= SPACE_LABELS else 3.0


def _left_out(made: Complex, scale: float) -> list[str]:
    n = len(made.positions)
    notes = []
    for name, kept, at, total in (
        ("edges", len(made.edges), made.lengths, math.comb(n, 2)),
        ("triangles", len(made.triangles), made.scales, math.comb(n, 3)),
    ):
        if kept < total and scale >= at[-1]:
            notes.append(f"only the first {kept:,} of {total:,} {name} are drawn")
    return notes


# ---------------------------------------------------------------- images


def sphere(A: npt.ArrayLike, labels: Sequence[str], threshold: float = 0.0) -> go.Figure:
    """Tokens on a sphere, joined where either attends to the other by at least the threshold."""
    weights = np.triu(graphs.symmetrised(A), 1)
    ends, total = _heaviest(weights, threshold, SPHERE_EDGES)
    places = fibonacci_sphere(len(labels))
    heavy = weights[ends[:, 0], ends[:, 1]]
    figure = go.Figure()
    for strength, chosen in _by_strength(heavy):
        line = {
            "color": np.repeat(heavy[chosen], 3).astype(np.float32),
            "coloraxis": "coloraxis",
            "width": 1 + 6 * strength,
        }
        figure.add_scatter3d(**_segments(places, ends[chosen]), line=line)
    x, y, z = places.T
    figure.add_scatter3d(
        x=x,
        y=y,
        z=z,
        mode="markers",
        marker={"size": _marker(len(labels)), "color": INK},
        showlegend=False,
        hovertext=[_label(label) for label in labels],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    colours = _strengths("attention (the larger way)")
    laid_out(figure, width=720, height=640, scene=_space(places, labels), coloraxis=colours)
    return _noted(figure, [_drawn(ends, total)] if total > len(ends) else [])


def patches(
    pixels: npt.NDArray[np.float32] | bytes,
    grid: tuple[int, int],
    values: npt.ArrayLike,
    labels: Sequence[str],
    name: str = "attention",
) -> go.Figure:
    """An image with a value for each patch laid over it: (rows * columns,) in a grid.

    The image is what a model reads, (channels, height, width), or a file's bytes; it is drawn
    in grey, so that colours are values.
    """
    rows, columns = grid
    cells = np.asarray(values, np.float32).reshape(rows, columns)
    picture = images.picture(pixels) if isinstance(pixels, bytes) else _picture(pixels)
    low, high = _bounds(cells)
    figure = go.Figure(
        go.Heatmap(
            z=cells,
            zmin=low,
            zmax=high,
            customdata=np.array([_label(label) for label in labels]).reshape(rows, columns),
            opacity=0.55,
            xgap=1,
            ygap=1,
            colorscale=QUANTITY,
            colorbar={"title": {"text": plain(name), "side": "right"}, "thickness": 14},
            hovertemplate=f"patch %{{customdata}}<br>{plain(name)} %{{z:.4g}}<extra></extra>",
        )
    )
    figure.add_layout_image(
        source=_png(picture.convert("L")),
        xref="x",
        yref="y",
        x=-0.5,
        y=-0.5,
        sizex=columns,
        sizey=rows,
        sizing="stretch",
        layer="below",
    )
    figure.update_xaxes(_patch_axis(columns), title="column", constrain="domain")
    figure.update_yaxes(
        _patch_axis(rows), title="row", autorange="reversed", scaleanchor="x", constrain="domain"
    )
    return laid_out(figure, width=640, height=560)


def _patch_axis(n: int) -> dict[str, Any]:
    every = max(1, math.ceil(n / LABELS))
    return {"tickvals": list(range(0, n, every)), "showgrid": False, "zeroline": False}


def _picture(pixels: npt.NDArray[np.float32]) -> Image.Image:
    """What a model reads as a picture: its own normalisation, stretched from black to white."""
    low, high = float(pixels.min()), float(pixels.max())
    bytes_ = (255 * (pixels - low) / ((high - low) or 1.0)).round().astype(np.uint8)
    colours = np.moveaxis(bytes_ if len(bytes_) == 3 else bytes_[[0, 0, 0]], 0, -1)
    return Image.fromarray(np.ascontiguousarray(colours))


def _png(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


# ---------------------------------------------------------------- contexts


def cosines(layers: Sequence[int], values_by_name: Mapping[str, Sequence[float]]) -> go.Figure:
    """Cosine between the vectors of a token in two texts, by layer; a line for each pair."""
    figure = go.Figure()
    for number, (name, values) in enumerate(values_by_name.items()):
        figure.add_scatter(
            x=list(layers),
            y=list(values),
            name=plain(name),
            mode="lines+markers",
            line={"color": PALETTE[number % len(PALETTE)], "dash": DASHES[number % len(DASHES)]},
            marker={"symbol": SYMBOLS[number % len(SYMBOLS)], "size": 8},
            hovertemplate=f"{plain(name)}<br>layer %{{x}}<br>cosine %{{y:.4f}}<extra></extra>",
        )
    figure.update_xaxes(title="layer (0: embeddings)", dtick=1 if len(layers) < 16 else None)
    figure.update_yaxes(title="cosine")
    return laid_out(figure, width=720, height=460, showlegend=True, hovermode="closest")


def reductions(curves: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]]) -> go.Figure:
    """How many clusters there are from each scale on: (scales, numbers) by the text's name."""
    figure = go.Figure()
    for number, (name, (scales, clusters)) in enumerate(curves.items()):
        figure.add_scatter(
            x=scales,
            y=clusters,
            name=plain(name),
            mode="lines",
            line={
                "shape": "hv",
                "color": PALETTE[number % len(PALETTE)],
                "dash": DASHES[number % len(DASHES)],
            },
            hovertemplate="%{y} clusters from scale %{x:.4g} on<extra></extra>",
        )
    figure.update_xaxes(title="scale", rangemode="tozero")
    figure.update_yaxes(title="clusters of tokens", rangemode="tozero")
    return laid_out(figure, width=720, height=460, showlegend=len(curves) > 1, legend=_below())


# ---------------------------------------------------------------- two texts


def beside(figures: Sequence[go.Figure], titles: Sequence[str]) -> go.Figure:
    """Flat figures as panels of one, from the left; what their legends share is said once."""
    whole, first = go.Figure(), figures[0].layout
    width = sum(figure.layout.width for figure in figures)
    laid_out(
        whole,
        width=width,
        height=first.height + 30,
        margin=first.margin,
        legend=first.legend,
        showlegend=first.showlegend,
        hovermode=first.hovermode,
        bargap=first.bargap,
    )
    whole.update_layout(margin_t=first.margin.t + 40)
    ends = _domains([_gap(figure) for figure in figures[1:]], width)
    for number, (panel, title) in enumerate(zip(figures, titles, strict=True)):
        mark = str(number + 1) if number else ""
        _add_panel(whole, panel, mark, ends[number])
        whole.add_annotation(_panel_title(title, mark, first.margin.t - 10))
    _say_once(whole)
    return whole


def _gap(panel: go.Figure) -> float:
    """Pixels that a panel's labels want at its left, and the last one's at its right."""
    longest = max(map(len, panel.layout.yaxis.ticktext or [""]))
    return float(panel.layout.margin.l + panel.layout.margin.r + 50 + 6 * min(longest, 22))


def _domains(gaps: Sequence[float], width: float) -> list[list[float]]:
    side = (1 - sum(gaps) / width) / (len(gaps) + 1)
    starts = np.cumsum([0.0, *(side + gap / width for gap in gaps)])
    return [[start, min(1.0, start + side)] for start in starts.tolist()]


def _add_panel(whole: go.Figure, panel: go.Figure, mark: str, domain: list[float]) -> None:
    for trace in panel.data:
        whole.add_trace(trace.update(xaxis=f"x{mark}", yaxis=f"y{mark}"))
    x, y = panel.layout.xaxis.to_plotly_json(), panel.layout.yaxis.to_plotly_json()
    if "scaleanchor" in y:
        y["scaleanchor"] = f"x{mark}"
    whole.layout[f"xaxis{mark}"] = {**x, "domain": domain, "anchor": f"y{mark}"}
    whole.layout[f"yaxis{mark}"] = {**y, "anchor": f"x{mark}"}
    for kind in ("annotations", "shapes"):
        for item in panel.layout[kind]:
            refs = {f"{axis}ref": _moved(item[f"{axis}ref"], axis, mark) for axis in "xy"}
            whole.layout[kind] += (item.update(refs),)


def _moved(reference: str | None, axis: str, mark: str) -> str:
    """What a panel's x, or its whole width, is called in a figure of several."""
    whole = reference == "paper" or (reference or "").endswith("domain")
    return f"{axis}{mark} domain" if whole else f"{axis}{mark}"


def _panel_title(title: str, mark: str, above: float) -> dict[str, Any]:
    return {
        "text": plain(title),
        "xref": f"x{mark} domain",
        "yref": "paper",
        "x": 0.5,
        "y": 1,
        "yshift": above,
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 13},
    }


def _say_once(whole: go.Figure) -> None:
    """Each name once in the legend, switching all panels; one scale of colours, at the right."""
    named = set[str]()
    scaled = (trace for trace in whole.data if trace.type == "heatmap" and trace.colorbar.thickness)
    for trace in list(scaled)[:-1]:
        trace.showscale = False
    for trace in whole.data:
        if trace.name is not None:
            shown = trace.showlegend is not False and trace.name not in named
            trace.update(legendgroup=trace.name, showlegend=shown)
            named.add(trace.name)


def _below() -> dict[str, Any]:
    return {"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0}
