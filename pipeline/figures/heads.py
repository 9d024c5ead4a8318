"""Many heads: how far apart they are, as a matrix and as points of a plane."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import pdist, squareform
from sklearn.manifold import MDS

from pipeline.figures.style import PALETTE, QUANTITY, QUIET, SYMBOLS, laid_out, plain
from pipeline.pairs import Head

Floats = NDArray[np.float64]

# Cells grow with the square: a matrix of so many heads weighs 4 MB in the page.
MATRIX_HEADS = 600
# So does what MDS holds and does: so many heads take it half a minute.
EMBEDDED_HEADS = 2000
APART = "mean distance"


def label(model: str, layer: int, head: int) -> str:
    """A head's name as a person reads it: model layer.head, both from 0."""
    return f"{model} {layer}.{head}"


def heads_of(rows: pd.DataFrame) -> list[Head]:
    """All heads of the head_distances rows of one dimension, in the order of the table."""
    if rows.empty:
        return []
    # Rows run over all pairs a < b of h heads, so the first h - 1 are the first head's.
    count = (1 + math.isqrt(1 + 8 * len(rows))) // 2
    first = rows.iloc[: count - 1]
    others = map(Head, first.model_b, first.layer_b, first.head_b)
    return [Head(first.model_a.iloc[0], first.layer_a.iloc[0], first.head_a.iloc[0]), *others]


# ---- the matrix ---------------------------------------------------------------------------


def head_matrix(rows: pd.DataFrame) -> go.Figure:
    """Mean distance between all heads in one dimension, heads ordered by clustering."""
    heads = heads_of(rows)
    half, texts = _half_width(rows), rows["texts"].to_numpy(np.float64)
    hover = ["%{y} and %{x}", "mean %{z:.4r}"]
    details: list[Floats] = []
    if not np.isnan(half).all():
        hover[1] += f" ± %{{customdata[{len(details)}]:.3~r}}"
        details.append(half)
    if (texts == texts[0]).all():
        hover.append(f"{texts[0]:.0f} texts")
    else:
        hover.append(f"%{{customdata[{len(details)}]}} texts")
        details.append(texts)
    names = [label(*head) for head in heads]
    planes = [_square(plane, len(heads)) for plane in details]
    mean = _square(_column(rows, "mean"), len(heads))
    return _matrix(mean, planes, names, [model for model, _, _ in heads], hover)


def layer_matrix(rows: pd.DataFrame) -> go.Figure:
    """Mean distance between the heads of all layers in one dimension, layers clustered."""
    sides = ["model_a", "layer_a", "model_b", "layer_b"]
    grouped = rows.groupby(sides, sort=False, observed=True)["mean"]
    pairs = grouped.agg(["mean", "min", "max", "size"]).reset_index()
    layers = list(dict.fromkeys((model, layer) for model, layer, _ in heads_of(rows)))
    place = {layer: i for i, layer in enumerate(layers)}
    a = [place[layer] for layer in zip(pairs.model_a, pairs.layer_a, strict=True)]
    b = [place[layer] for layer in zip(pairs.model_b, pairs.layer_b, strict=True)]
    planes = []
    for name in ("mean", "min", "max", "size"):
        # A layer of one head has no pair within, so its own cell stays empty.
        plane = np.full((len(layers), len(layers)), np.nan)
        plane[a, b] = plane[b, a] = pairs[name]
        planes.append(plane)
    hover = [
        "%{y} and %{x}",
        "mean %{z:.4r}",
        "pairs of heads from %{customdata[0]:.4r} to %{customdata[1]:.4r}",
        "%{customdata[2]} pairs",
    ]
    names = [f"{model} layer {layer}" for model, layer in layers]
    return _matrix(planes[0], planes[1:], names, [model for model, _ in layers], hover)


def cluster_order(distances: Floats) -> NDArray[np.int64]:
    """Order of the leaves of average linkage, neighbours as close as the tree allows."""
    if len(distances) < 3 or np.isnan(distances).all():
        return np.arange(len(distances))
    flat = squareform(np.nan_to_num(distances, nan=np.nanmax(distances)), checks=False)
    tree = linkage(flat, "average")
    return np.asarray(leaves_list(optimal_leaf_ordering(tree, flat)))


def _half_width(rows: pd.DataFrame) -> Floats:
    # The lower end is cut at 0, the upper never: it alone gives the whole interval.
    return _column(rows, "ci_high") - _column(rows, "mean")


def _column(rows: pd.DataFrame, name: str) -> Floats:
    return rows[name].to_numpy(np.float64, na_value=np.nan)


def _square(values: Floats, count: int) -> Floats:
    square = np.zeros((count, count))
    square[np.triu_indices(count, 1)] = values
    return square + square.T


def _matrix(
    mean: Floats, planes: list[Floats], names: list[str], models: list[str], hover: list[str]
) -> go.Figure:
    order = cluster_order(mean)
    shown = [plain(names[i]) for i in order]
    known = list(dict.fromkeys(models))
    marks = np.array([known.index(models[i]) for i in order], np.int16)
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
    figure.add_trace(_strip(marks[None, :], len(known), shown, ["model"]), 1, 2)
    figure.add_trace(_strip(marks[:, None], len(known), ["model"], shown), 2, 1)
    figure.add_trace(_cells(mean, planes, order, shown, hover), 2, 2)
    for number, model in enumerate(known):
        figure.add_trace(_legend_entry(plain(model), number), 2, 2)
    figure.update_xaxes(showticklabels=False, type="category")
    figure.update_yaxes(showticklabels=False, type="category", autorange="reversed")
    legend = {"orientation": "h", "y": 1.05, "x": 0.03}
    # A page narrower than the figure is high makes it lower.
    return laid_out(figure, height=820, legend=legend, meta={"square": True})


def _cells(
    mean: Floats,
    planes: list[Floats],
    order: NDArray[np.int64],
    names: list[str],
    hover: list[str],
) -> go.Heatmap:
    chosen = np.ix_(order, order)
    details = [plane[chosen] for plane in planes]
    return go.Heatmap(
        z=mean[chosen].astype(np.float32),  # 7 digits, and half the page
        x=names,
        y=names,
        customdata=np.stack(details, -1).astype(np.float32) if details else None,
        colorscale=QUANTITY,
        colorbar={"title": {"text": APART, "side": "right"}, "thickness": 14},
        hovertemplate="<br>".join(hover) + "<extra></extra>",
    )


def _strip(marks: NDArray[np.int16], count: int, x: list[str], y: list[str]) -> go.Heatmap:
    top = max(count - 1, 1)
    scale: list[list[Any]] = [[i / top, PALETTE[i % len(PALETTE)]] for i in range(top + 1)]
    return go.Heatmap(
        z=marks, x=x, y=y, zmin=0, zmax=top, colorscale=scale, showscale=False, hoverinfo="skip"
    )


def _legend_entry(model: str, number: int) -> go.Scatter:
    colour = PALETTE[number % len(PALETTE)]
    marker = {"color": colour, "symbol": "square", "size": 12}
    return go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name=model)


# ---- the plane ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Embedding:
    """Heads as points of a plane.

    places   (head, 2), in the unit of the distances
    stress   root of the sum of (shown - true distance)^2 over the sum of true^2; 0: exact
    """

    heads: list[Head]
    places: Floats
    stress: float


def embed(rows: pd.DataFrame) -> list[Embedding]:
    """Multidimensional scaling (SMACOF) of the mean distances of one dimension.

    Models that share no text have no distance between them, so they stand in embeddings of
    their own: one for each set of models that all do. More than EMBEDDED_HEADS: none.
    """
    heads = heads_of(rows)
    if not heads or len(heads) > EMBEDDED_HEADS:
        return []
    D = _square(_column(rows, "mean"), len(heads))
    model = np.array([name for name, _, _ in heads], object)
    members = [np.flatnonzero(np.isin(model, group)) for group in _sharing(D, model)]
    return [_embedding([heads[i] for i in m], D[np.ix_(m, m)]) for m in members]


def _sharing(D: Floats, model: NDArray[np.object_]) -> list[list[str]]:
    """Models in sets within which every distance is known; without one of its own, in none."""
    groups: list[list[str]] = []
    for name in dict.fromkeys(model):
        own = model == name
        if np.isnan(D[np.ix_(own, own)]).any():
            continue
        fitting = (g for g in groups if not np.isnan(D[np.ix_(own, np.isin(model, g))]).any())
        group = next(fitting, None)
        if group is None:
            groups.append([name])
        else:
            group.append(name)
    return groups


def _embedding(heads: list[Head], D: Floats) -> Embedding:
    if len(heads) == 1 or not D.any():
        return Embedding(heads, np.zeros((len(heads), 2)), 0.0)
    scaling = MDS(2, metric="precomputed", init="classical_mds", n_init=1, random_state=0)
    places = _rotated(scaling.fit_transform(D))
    true = squareform(D, checks=False)
    return Embedding(
        heads, places, float(np.sqrt(((pdist(places) - true) ** 2).sum() / (true**2).sum()))
    )


def _rotated(places: Floats) -> Floats:
    """Centred, widest along x, the farthest point of each axis positive, few digits.

    A turn or a mirror keeps all distances; with this one, and without the last digits,
    two machines draw the same picture.
    """
    centred = places - places.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    rotated = centred @ axes.T
    farthest = rotated[np.abs(rotated).argmax(0), np.arange(rotated.shape[1])]
    rotated = rotated * np.where(farthest < 0, -1, 1)
    digits = 4 - math.ceil(math.log10(np.abs(rotated).max() or 1))
    return np.asarray(np.round(rotated, digits) + 0.0)


def embedding_by_model(embedding: Embedding) -> go.Figure:
    """The points, coloured by model; its symbol too, for eyes and prints without colour."""
    numbers = _numbers(embedding)
    colours = [PALETTE[number % len(PALETTE)] for number in numbers]
    return _plane(embedding, {"color": colours}, dict(zip(numbers, colours, strict=True)))


def embedding_by_layer(embedding: Embedding) -> go.Figure:
    """The points, coloured by how deep in its model each head's layer lies."""
    bar = {
        "orientation": "h",
        "thickness": 12,
        "y": -0.1,
        "ypad": 0,
        "yanchor": "top",
        "tickvals": [0.03, 0.5, 0.97],  # words at the very ends would be cut
        "ticktext": ["first layer", "middle", "last layer"],
    }
    colours = {"color": depths(embedding.heads), "colorscale": QUANTITY, "cmin": 0, "cmax": 1}
    return _plane(
        embedding,
        colours | {"colorbar": bar},
        dict.fromkeys(_numbers(embedding), QUIET),
    )


def depths(heads: Sequence[Head]) -> list[float]:
    """How deep each head's layer lies in its model: 0 the first, 1 the last."""
    last: dict[str, int] = {}
    for model, layer, _ in heads:
        last[model] = max(last.get(model, 1), layer)
    return [round(float(layer / last[model]), 4) for model, layer, _ in heads]


def _numbers(embedding: Embedding) -> list[int]:
    """Of each head, the number of its model."""
    models = [model for model, _, _ in embedding.heads]
    known = list(dict.fromkeys(models))
    return [known.index(model) for model in models]


def _plane(embedding: Embedding, colours: dict[str, Any], of_models: dict[int, str]) -> go.Figure:
    figure = go.Figure(_points(embedding, colours))
    models = list(dict.fromkeys(model for model, _, _ in embedding.heads))
    for number, colour in of_models.items():
        marker = {"color": colour, "symbol": SYMBOLS[number % len(SYMBOLS)], "size": 9}
        figure.add_scatter(
            x=[None], y=[None], mode="markers", marker=marker, name=plain(models[number])
        )
    # One unit is as long on both axes: what is measured is the distance between points.
    figure.update_xaxes(zeroline=False, nticks=8)
    figure.update_yaxes(zeroline=False, nticks=8, scaleanchor="x", scaleratio=1)
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    # The same margins whatever is drawn there: two pictures of the same points match.
    margin = {"l": 50, "r": 10, "t": 50, "b": 80}
    return laid_out(figure, height=520, legend=legend, margin=margin)


def _points(embedding: Embedding, colours: dict[str, Any]) -> go.Scatter:
    symbols = [SYMBOLS[number % len(SYMBOLS)] for number in _numbers(embedding)]
    line = {"width": 0.5, "color": "white"}
    return go.Scatter(
        x=embedding.places[:, 0],
        y=embedding.places[:, 1],
        text=[plain(label(*head)) for head in embedding.heads],
        mode="markers",
        marker={"size": 7, "opacity": 0.8, "line": line, "symbol": symbols, **colours},
        showlegend=False,
        hovertemplate="%{text}<extra></extra>",
    )
