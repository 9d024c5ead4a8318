"""What is drawn of one head on a text or two, or of all heads."""

import argparse
from collections.abc import Callable

import numpy as np
import plotly.graph_objects as go
import pyarrow.compute as pc

from commands.one_head.request import Floats, Request
from pipeline import context, graphs, store, vision
from pipeline.errors import InputError
from pipeline.figures import text as drawn
from pipeline.figures.heads import head_matrix
from pipeline.measures.block import Block

LONG_TITLE = 60  # characters of a text above its panel
PAIRS = 8  # of tokens, as many as there are colours

Draw = Callable[[Block], go.Figure]


def attention(request: Request) -> go.Figure:
    """How much each token (a row, the query) attends to each (a column, the key)."""
    top = max(float(head.map.max()) for head in request.heads)
    return _panels(
        request,
        lambda head: drawn.heatmap(head.map, head.labels, head.labels, bounds=(0, top)),
    )


def divergences(request: Request) -> go.Figure:
    """Kullback-Leibler divergence of each token's attention (a row) from each other's, in bits."""
    return _matrices(request, request.divergences, "divergence (bits)")


def distances(request: Request) -> go.Figure:
    """Distances between tokens, by the configured rule."""
    return _matrices(request, lambda head: head.distances[0], "distance")


def graph(request: Request) -> go.Figure:
    """The attention graph: an edge from each query to each key it attends to, loops kept."""
    least = request.options.threshold
    return _panels(request, lambda head: drawn.graph(head.map, head.labels, threshold=least))


def symmetrised(request: Request) -> go.Figure:
    """The graph of the symmetrised map: the larger of both directions."""
    least = request.options.threshold
    return _panels(request, lambda head: drawn.graph(head.map, head.labels, True, least))


def diagrams(request: Request) -> go.Figure:
    """Persistence diagrams: when each class is born and dies, by dimension."""
    top = _diameter(request)
    return _panels(request, lambda head: drawn.diagram(head.diagrams[0], top))


def barcodes(request: Request) -> go.Figure:
    """The same as bars, from birth to death."""
    top = _diameter(request)
    return _panels(request, lambda head: drawn.barcode(head.diagrams[0], top))


def clusters(request: Request) -> go.Figure:
    """How many clusters of tokens there are at each scale."""
    trees = (graphs.merge_tree(head.distances[0]) for head in request.heads)
    return drawn.reductions(
        dict(zip(_names(request), map(graphs.cluster_curve, trees), strict=True))
    )


def complex(request: Request) -> go.Figure:
    """The Rips complex in space at --scale (default: half the longest distance)."""
    [head] = request.heads
    made = drawn.complex_of(head.distances[0])
    scale = request.options.scale
    return drawn.complex(made, head.point_labels, made.diameter / 2 if scale is None else scale)


def sphere(request: Request) -> go.Figure:
    """All tokens, as of an image, on a sphere; joined where one attends to the other."""
    [head] = request.heads
    return drawn.sphere(head.map, head.labels, request.options.threshold)


def patches(request: Request) -> go.Figure:
    """An image as the model reads it, with the attention of one token to each patch over it."""
    [head] = request.heads
    encoding, query = head.encoding, request.options.query
    if encoding.pixels is None or not 0 <= query < len(head.map):
        raise InputError(f"There is no token {query}; give one from 0 to {len(head.map) - 1}.")
    keys = np.flatnonzero(~encoding.special)
    grid = vision.grid(request.model.network, encoding.pixels)
    name = f"attention of {encoding.tokens[query]}"
    labels = [encoding.tokens[key] for key in keys]
    return drawn.patches(encoding.pixels, grid, head.map[query, keys], labels, name)


def contexts(request: Request) -> go.Figure:
    """Cosine between the vectors of each token that two texts share, by layer."""
    rows = context.cosines(request.model, *request.texts).to_pandas()
    if wanted := request.options.token:
        rows = rows[rows.token.isin(wanted)]
    pairs = list(rows.groupby(["position_a", "position_b", "token"], sort=True))
    if not pairs:
        raise InputError("The texts share no such token; look context lists those they do.")
    layers = pairs[0][1].layer.tolist()
    shown = {f"{a} | {b} {token}": found.cosine for (a, b, token), found in pairs[:PAIRS]}
    figure = drawn.cosines(layers, shown)
    few = f", {PAIRS} of {len(pairs)}" if len(pairs) > PAIRS else ""
    return figure.update_layout(legend_title_text=f"positions, token{few}")


def heads(options: argparse.Namespace) -> go.Figure:
    """Mean distance between all heads of all models, from the tables of the last run."""
    rows = store.read(store.path("head_distances"))
    rows = rows.filter(pc.equal(rows["dimension"], options.dimension))
    if not len(rows):
        raise InputError(f"The table has no dimension {options.dimension}; 0 is always there.")
    figure = head_matrix(rows.to_pandas())
    return figure.update_layout(width=figure.layout.height + 60)


def _matrices(request: Request, of: Callable[[Block], Floats], name: str) -> go.Figure:
    found = [of(head) for head in request.heads]
    finite = np.concatenate([values[np.isfinite(values)] for values in found])
    bounds = min(0.0, float(finite.min())), float(finite.max()) or 1.0
    values = iter(found)
    return _panels(
        request,
        lambda head: drawn.heatmap(
            next(values), head.point_labels, head.point_labels, name, ("token", "token"), bounds
        ),
    )


def _panels(request: Request, draw: Draw) -> go.Figure:
    figures = [draw(head) for head in request.heads]
    return figures[0] if len(figures) == 1 else drawn.beside(figures, _names(request))


def _names(request: Request) -> list[str]:
    """What stands above each panel: the beginning of its text, or the image's name."""
    names = [*request.texts, *(path.name for path in request.options.image)]
    return [n if len(n) <= LONG_TITLE else f"{n[: LONG_TITLE - 1]}…" for n in names]


def _diameter(request: Request) -> float:
    return max(float(head.distances[0].max()) for head in request.heads)


DRAWINGS: dict[str, Callable[[Request], go.Figure]] = {
    "attention": attention,
    "kl": divergences,
    "distances": distances,
    "graph": graph,
    "symmetrised": symmetrised,
    "diagrams": diagrams,
    "barcodes": barcodes,
    "clusters": clusters,
    "complex": complex,
    "sphere": sphere,
    "patches": patches,
    "context": contexts,
}
