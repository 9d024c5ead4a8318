"""One view of two texts, or images, under one head -> components of the page.

What is wrong with one text is said in its place, and the other is still seen.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import plotly.graph_objects as go
from dash import dcc, html
from dash.development.base_component import Component
from numpy.typing import NDArray

from pipeline import attention as maps
from pipeline import comparison, context, information, vision
from pipeline.diagrams import HomologySpec
from pipeline.distances import DistanceSpec
from pipeline.errors import InputError, TextError
from pipeline.explorer.reader import Content, Reader, States
from pipeline.explorer.state import SIDES, State
from pipeline.figures import style, text
from pipeline.figures.style import PALETTE, QUIET, plain
from pipeline.measures.block import Block
from pipeline.models import Model

Floats = NDArray[np.float64]
Children = list[Component]

TICKS = 24  # labels of a side of a heatmap
LONG = 48  # tokens from which on most attention is too weak to be seen beside the strongest
LINES = 8  # shared tokens whose cosines are drawn unless a pair is chosen
# The camera of plotly's toolbar saves a picture by itself; nothing leaves the page.
CONFIG = style.CONFIG | {
    "modeBarButtonsToRemove": [*style.CONFIG["modeBarButtonsToRemove"], "lasso2d"],
}


@dataclass(frozen=True)
class Scene:
    """Everything a view is made of."""

    reader: Reader
    model: Model
    state: State
    contents: Mapping[str, Content]  # by side
    distance: DistanceSpec
    homology: HomologySpec

    @property
    def noun(self) -> str:
        """What the model reads, one of it."""
        return self.model.reads.removesuffix("s")

    @cached_property
    def heads(self) -> dict[str, Block]:
        """The heads that were asked for, by side."""
        return {}

    def head(self, side: str) -> Block:
        """The head on one of the two texts."""
        if side not in self.heads:
            place = self.state.layer, self.state.head
            of = self.contents[side], place, self.distance, self.homology
            self.heads[side] = self.reader.head(self.model, *of)
        return self.heads[side]

    def states(self, side: str) -> States:
        """The hidden states of one of the two texts."""
        return self.reader.states(self.model, self.contents[side])


class ViewError(Exception):
    """What keeps a view, or a part of it, from being seen."""


# ---------------------------------------------------------------- parts of a page


def message(sentence: str) -> Component:
    """What is wrong, in the place of what would be seen."""
    return html.P(sentence, className="message", role="alert")


def caption(*words: str) -> Component:
    """What one sees, and in which unit."""
    return html.P(" ".join(words), className="caption")


def picture(figure: go.Figure, name: str, height: int | None = None) -> Component:
    """A figure as wide as its place."""
    figure.update_layout(width=None, autosize=True)
    size = {"height": f"{height or figure.layout.height or 560}px"}
    graph = dcc.Graph(figure=figure, config=CONFIG, style=size, responsive=True)
    return html.Div(graph, role="img", tabIndex=0, **{"aria-label": name})


def matrix(figure: go.Figure, name: str) -> Component:
    """A heatmap, right under its heading; half a page has room for half of its labels."""
    figure.update_yaxes(constraintoward="top")
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        if len(axis.tickvals) > TICKS:
            axis.update(tickvals=axis.tickvals[::2], ticktext=axis.ticktext[::2])
    return picture(figure, name, 540)


def _top(scene: Scene, values: Callable[[Block], Floats]) -> float:
    """The largest finite value over both texts, so that both have the same colours and axes."""
    found = [0.0]
    for side in SIDES:
        with contextlib.suppress(TextError, InputError):  # reported where the text is shown
            numbers = values(scene.head(side))
            found.append(float(numbers.max(initial=0.0, where=np.isfinite(numbers))))
    return max(found) or 1.0


def said(error: Exception, noun: str) -> str:
    """An error as a sentence about a text or an image."""
    if isinstance(error, TextError):
        return f"This {noun} cannot be used: {str(error).removesuffix('.')}."
    return str(error)


def on_sides(scene: Scene, show: Callable[[str, Block], Children]) -> Children:
    """Both texts beside one another, each with what a head makes of it, or why it cannot."""
    return [html.Div([_on_side(scene, side, show) for side in SIDES], className="sides")]


def _on_side(scene: Scene, side: str, show: Callable[[str, Block], Children]) -> Component:
    title = html.H2(f"{scene.noun.capitalize()} {SIDES[side]}")
    try:
        head = scene.head(side)
        children = [*_cut(head), *show(side, head)]
    except (TextError, InputError) as error:
        children = [message(said(error, scene.noun))]
    return html.Section([title, *children])


def _cut(head: Block) -> Children:
    tokens, total = len(head.encoding.tokens), head.encoding.total_tokens
    if not head.encoding.cut:
        return [caption(f"{tokens} tokens")]
    return [
        caption(f"Cut to the first {tokens} of its {total:,} tokens, the most this model reads.")
    ]


def _or_view_error(scene: Scene, side: str, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except (TextError, InputError) as error:
        raise ViewError(
            f"{scene.noun.capitalize()} {SIDES[side]}: {said(error, scene.noun)}"
        ) from error


def _tokens_of(distance: DistanceSpec) -> str:
    if distance.of_states:
        return "hidden states that enter this layer (the same for all its heads)"
    return "attention of this head"


# ---------------------------------------------------------------- attention


def attention(scene: Scene) -> Children:
    """The map of the head on both texts."""
    bounds = 0.0, _top(scene, _strongest)

    def show(side: str, head: Block) -> Children:
        figure = text.heatmap(head.map, head.labels, head.labels, bounds=bounds)
        return [matrix(figure, f"Heatmap of the attention of {scene.noun} {SIDES[side]}")]

    about = caption(
        "How much each token (a row, the query) attends to each token (a column, the key):",
        "each row is a distribution and sums to 1. Labels are position and token, from 0.",
        f"Colours end at {bounds[1]:.3g}, the same for both; hover for the value of a cell.",
    )
    return [about, *on_sides(scene, show)]


def _strongest(head: Block) -> Floats:
    """What colours run up to: the largest value, or of a long text what 1 in 200 exceeds."""
    return np.quantile(head.map, [0.995 if len(head.map) > LONG else 1.0])


def graph(scene: Scene) -> Children:
    """The map of the head on both texts as a graph."""
    state = scene.state

    def show(side: str, head: Block) -> Children:
        figure = text.graph(head.map, head.labels, state.symmetrised, state.threshold)
        return [picture(figure, f"Attention graph of {scene.noun} {SIDES[side]}", 640)]

    kind = (
        "Two tokens are joined by the larger of both weights."
        if state.symmetrised
        else "An arrow goes from each query to the keys it attends to; a loop to itself."
    )
    left_out = f"Edges of attention below {state.threshold:g} are left out."
    return [caption(kind, left_out * (state.threshold > 0)), *on_sides(scene, show)]


def divergences(scene: Scene) -> Children:
    """How far apart the attention of any two tokens is."""
    bits = 0.0, _top(scene, _kl)
    longest = 0.0, _top(scene, lambda head: head.distances)

    def show(side: str, head: Block) -> Children:
        labels, of = head.point_labels, f"of {scene.noun} {SIDES[side]}"
        kl = text.heatmap(_kl(head), labels, labels, "KL, bits", ("of", "from"), bits)
        D = head.distances[0]
        js = text.heatmap(D, labels, labels, "distance", ("token", "token"), longest)
        return [
            html.H3("Kullback-Leibler divergence"),
            matrix(kl, f"Heatmap of divergences {of}"),
            html.H3(f"Distance: {scene.state.rule}"),
            matrix(js, f"Heatmap of distances {of}"),
        ]

    about = caption(
        "Above, the divergence of the attention of one token (a row) from another's (a column), in",
        "bits: infinite, in grey, where the other attends nowhere to a token that the first sees.",
        f"Below, the distance between tokens by the rule {scene.state.rule}, from the",
        f"{_tokens_of(scene.distance)}; jensen_shannon is the root of a divergence in bits, from",
        "0 to 1.",
    )
    return [about, *on_sides(scene, show)]


def _kl(head: Block) -> Floats:
    return information.kl_divergence(head.rows[0])


# ---------------------------------------------------------------- shape


def diagrams(scene: Scene) -> Children:
    """Diagrams and barcodes of both texts, and how far apart they are."""
    diameter = _top(scene, lambda head: head.distances)

    def show(side: str, head: Block) -> Children:
        found = _bars(scene, side)
        name = f"of {scene.noun} {SIDES[side]}"
        return [
            picture(text.diagram(found, diameter), f"Persistence diagram {name}"),
            picture(text.barcode(found, diameter), f"Barcode {name}"),
        ]

    about = caption(
        "Each class of the Vietoris-Rips complex by the distance at which it is born and dies:",
        "dimension 0, clusters of tokens that merge; dimension 1, loops that fill.",
        f"Distances by {scene.state.rule}, from the {_tokens_of(scene.distance)}.",
    )
    return [about, *_bottleneck_table(scene), *on_sides(scene, show)]


def bottlenecks(scene: Scene) -> list[tuple[int, float, int, int]]:
    """By dimension: the exact bottleneck distance of both texts' diagrams, and their bars."""
    found = [_or_view_error(scene, side, partial(_bars, scene, side)) for side in SIDES]
    return [
        (dimension, float(comparison.bottleneck([a], [b])[0, 0]), len(a), len(b))
        for dimension, (a, b) in enumerate(zip(*found, strict=True))
    ]


def _bars(scene: Scene, side: str) -> list[Floats]:
    """The diagrams of a text, by dimension."""
    return scene.head(side).diagrams[0]


def _bottleneck_table(scene: Scene) -> Children:
    try:
        rows = bottlenecks(scene)
    except ViewError as error:
        return [message(f"No distance between the diagrams. {error}")]
    names = ["dimension", "bottleneck distance", "bars of A", "bars of B"]
    body = [
        html.Tr([html.Td(cell) for cell in (str(k), f"{distance:.4g}", str(a), str(b))])
        for k, distance, a, b in rows
    ]
    head = html.Thead(html.Tr([html.Th(name, scope="col") for name in names]))
    return [html.Table([head, html.Tbody(body)], id="bottlenecks")]


def complex_data(scene: Scene) -> dict[str, Any]:
    """What the browser draws the complex of one text from, at every scale."""
    side = scene.state.side
    head: Block = _or_view_error(scene, side, partial(scene.head, side))
    D: Floats = _or_view_error(scene, side, lambda: head.distances[0])
    made = text.complex_of(D)
    lengths = np.sort(D[np.triu_indices(len(D), 1)])
    return {
        "labels": [_shown(label) for label in head.point_labels],
        "words": list(spelled(scene.contents[side], head)),
        "positions": made.positions.round(5).tolist(),
        "edges": made.edges.tolist(),
        "lengths": lengths.tolist(),
        "triangles": made.triangles.tolist(),
        "scales": made.scales.tolist(),
        "tree": made.tree[:, :3].tolist(),
        "diameter": made.diameter,
        "palette": PALETTE,
        "quiet": QUIET,
    }


def _shown(label: str) -> str:
    return plain(label if len(label) <= 40 else f"{label[:39]}…")


def complex(scene: Scene) -> Children:
    """The words around the complex, which the browser draws."""
    side = scene.state.side
    head: Block = _or_view_error(scene, side, partial(scene.head, side))
    return [
        caption(
            f"{scene.noun.capitalize()} {SIDES[side]} as points, tokens as near one another as",
            "three dimensions allow. At a scale, tokens at most so far apart are joined by an",
            "edge, and three that are joined by a triangle; joined tokens are a cluster, and have",
            "its colour and number here and in the text itself. Distances by",
            f"{scene.state.rule}, from the {_tokens_of(scene.distance)}.",
        ),
        *_cut(head),
    ]


def spelled(content: Content, head: Block) -> Iterator[tuple[str, str, int, bool]]:
    """The text as it was written, by tokens: what stands before it, the token, its point or -1,
    and whether it is the tokenizer's own.
    """
    written = content if isinstance(content, str) else ""
    point = np.where(head.points, np.cumsum(head.points) - 1, -1).tolist()
    reached, space = 0, ""
    for i, token in enumerate(head.encoding.tokens):
        own, at = bool(head.encoding.special[i]), written.find(token, reached)
        gap = written[reached:at] if at >= 0 else "?"
        if own or gap.strip():
            # The tokenizer's own, or one that is shown otherwise than it was written.
            space = "" if token == maps.CONTINUED else " "
            yield space, token, point[i], own
            continue
        yield gap or space, token, point[i], own
        reached, space = at + len(token), ""


# ---------------------------------------------------------------- contexts


def context_curves(scene: Scene) -> Children:
    """Cosine between the vectors of a token of each text, by layer."""
    a, b = (_or_view_error(scene, side, partial(scene.states, side)) for side in SIDES)
    pairs = _pairs(scene.state, a, b)
    first, second = (list(chosen) for chosen in zip(*pairs, strict=True))
    found = context.cosine(a.values[:, first], b.values[:, second]).T.tolist()
    lines = {_pair_name(a, b, *pair): values for pair, values in zip(pairs, found, strict=True)}
    figure = text.cosines(range(len(a.values)), lines)
    # Cosines that differ in their last bits are one line, not a range of mountains.
    lowest = np.nanmin([0.9, *(value for values in lines.values() for value in values)])
    figure.update_yaxes(range=[float(lowest) - 0.02, 1.02])
    return [
        caption(
            "Cosine between the hidden states of two tokens, one of each text, by layer: 0 is the",
            "embedding, k the output of layer k - 1. 1: the same direction, whatever is around.",
            "Unless you choose one of each, the tokens that both share are shown.",
            *_prefix(scene.model, a, b),
        ),
        picture(figure, "Cosines by layer", 480),
        _cosine_table(lines),
    ]


def _pairs(state: State, a: States, b: States) -> list[tuple[int, int]]:
    if state.token_a is not None and state.token_b is not None:
        _check_position("A", state.token_a, a)
        _check_position("B", state.token_b, b)
        return [(state.token_a, state.token_b)]
    if state.token_a is not None or state.token_b is not None:
        raise ViewError("Choose a token of both, or of neither for those that both share.")
    first, second = context.shared_tokens(a.encoding.token_ids, b.encoding.token_ids)
    own = ~a.encoding.special[first] & ~b.encoding.special[second]
    found = list(zip(first[own].tolist(), second[own].tolist(), strict=True))
    if not found:
        raise ViewError("The texts share no token; choose one of each above.")
    # From the end: what a causal model has read before is the same at the beginning.
    return found[-LINES:]


def _check_position(side: str, position: int, seen: States) -> None:
    if not 0 <= position < (n := len(seen.encoding.tokens)):
        raise ViewError(
            f"{side} has no token {position}: its tokens are 0 to {n - 1}; choose another."
        )


def _pair_name(a: States, b: States, i: int, j: int) -> str:
    first, second = f"{i} {a.encoding.tokens[i]}", f"{j} {b.encoding.tokens[j]}"
    return first if first == second else f"{first} · {second}"


def _prefix(model: Model, a: States, b: States) -> list[str]:
    shared = context.shared_prefix(a.encoding.token_ids, b.encoding.token_ids)
    if not (model.causal and shared):
        return []
    return [f"This model is causal and both begin with the same {shared} tokens: there it is 1."]


def _cosine_table(lines: Mapping[str, Sequence[float]]) -> Component:
    layers = len(next(iter(lines.values())))
    head = html.Tr(
        [html.Th("layer", scope="col"), *(html.Th(k, scope="col") for k in range(layers))]
    )
    body = [
        html.Tr([html.Th(name, scope="row"), *(html.Td(f"{value:.4f}") for value in values)])
        for name, values in lines.items()
    ]
    table = html.Table([html.Thead(head), html.Tbody(body)], id="cosines")
    return html.Details([html.Summary("The numbers"), html.Div(table, className="wide")])


# ---------------------------------------------------------------- images


def image(scene: Scene) -> Children:
    """An image with attention on its patches, and the sphere of its tokens."""
    if scene.model.reads != "images":
        raise ViewError(f"{scene.model.name} reads texts; choose a model of images, such as vit.")
    return [
        caption(
            "How much the chosen token, or the first, attends to each patch. Below, all",
            "tokens on a sphere, joined where one attends to the other by at least the threshold.",
        ),
        *on_sides(scene, lambda side, head: _image_side(scene, side, head)),
    ]


def _image_side(scene: Scene, side: str, head: Block) -> Children:
    pixels = head.encoding.pixels
    assert pixels is not None
    own = ~head.encoding.special
    labels = [label for label, patch in zip(head.labels, own, strict=True) if patch]
    token = (scene.state.token_a if side == "a" else scene.state.token_b) or 0
    if token >= len(head.map):
        raise TextError(f"it has no token {token}, only 0 to {len(head.map) - 1}; choose another")
    grid = vision.grid(scene.model.network, pixels)
    shown = text.patches(pixels, grid, head.map[token, own], labels)
    sphere = text.sphere(head.map, head.labels, scene.state.threshold)
    sphere.update_layout(scene_camera_eye={"x": 1.2, "y": 1.2, "z": 0.9})  # half a page is narrow
    for axis in (shown.layout.xaxis, shown.layout.yaxis):
        axis.update(tick0=0, dtick=max(1, math.ceil(max(grid) / 14)))
    return [
        html.H3(f"Attention of token {head.labels[token]}"),
        picture(shown, f"Patches of image {SIDES[side]}"),
        html.H3("Sphere"),
        picture(sphere, f"Sphere of the tokens of image {SIDES[side]}"),
    ]


VIEWS: dict[str, Callable[[Scene], Children]] = {
    "attention": attention,
    "graph": graph,
    "divergences": divergences,
    "diagrams": diagrams,
    "complex": complex,
    "context": context_curves,
    "image": image,
}
