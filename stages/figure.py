"""One figure to a file, for a paper: a head on a text or an image, on two texts, or all heads.

    python -m stages.figure WHAT --model minilm --layer 3 --head 10 --text "..." --to FILE

FILE ends in .svg, .pdf, .png or .html; --text twice draws both side by side, where WHAT --help
says so. Layers, heads and positions count from 0. All but .html are drawn by a browser of this
machine without a window, which asks nothing of the network. An SVG or PNG has the same bytes
whenever the same browser draws the same.
"""

import argparse
import asyncio
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import plotly
import plotly.graph_objects as go
import pyarrow.compute as pc

from pipeline import context, graphs, store, vision
from pipeline.engine import say
from pipeline.errors import InputError, TextError
from pipeline.figures import text as drawn
from pipeline.figures.heads import head_matrix
from pipeline.figures.style import plain
from stages import look
from stages.app import sentences
from stages.look import Floats, Head, Request

LONG_TITLE = 60  # characters of a text above its panel
PAIRS = 8  # of tokens, as many as there are colours
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FORMATS = (".svg", ".pdf", ".png", ".html")

Draw = Callable[[Head], go.Figure]


# ---------------------------------------------------------------- what there is to draw


def attention(request: Request) -> go.Figure:
    """How much each token (a row, the query) attends to each (a column, the key)."""
    top = max(float(head.A.max()) for head in request.heads)
    return _panels(
        request, lambda head: drawn.heatmap(head.A, _tokens(head), _tokens(head), bounds=(0, top))
    )


def divergences(request: Request) -> go.Figure:
    """Kullback-Leibler divergence of each token's attention (a row) from each other's, in bits."""
    return _matrices(request, request.divergences, "divergence (bits)")


def distances(request: Request) -> go.Figure:
    """Distances between tokens, by the configured rule."""
    return _matrices(request, request.distances, "distance")


def graph(request: Request) -> go.Figure:
    """The attention graph: an edge from each query to each key it attends to, loops kept."""
    least = request.options.threshold
    return _panels(request, lambda head: drawn.graph(head.A, _tokens(head), threshold=least))


def symmetrised(request: Request) -> go.Figure:
    """The graph of the symmetrised map: the larger of both directions."""
    least = request.options.threshold
    return _panels(request, lambda head: drawn.graph(head.A, _tokens(head), True, least))


def diagrams(request: Request) -> go.Figure:
    """Persistence diagrams: when each class is born and dies, by dimension."""
    top = _diameter(request)
    return _panels(request, lambda head: drawn.diagram(request.diagrams(head), top))


def barcodes(request: Request) -> go.Figure:
    """The same as bars, from birth to death."""
    top = _diameter(request)
    return _panels(request, lambda head: drawn.barcode(request.diagrams(head), top))


def clusters(request: Request) -> go.Figure:
    """How many clusters of tokens there are at each scale."""
    trees = (graphs.merge_tree(request.distances(head)) for head in request.heads)
    return drawn.reductions(
        dict(zip(_names(request), map(graphs.cluster_curve, trees), strict=True))
    )


def complex(request: Request) -> go.Figure:
    """The Rips complex in space at --scale (default: half the longest distance)."""
    [head] = request.heads
    made = drawn.complex_of(request.distances(head))
    scale = request.options.scale
    return drawn.complex(made, head.labels, made.diameter / 2 if scale is None else scale)


def sphere(request: Request) -> go.Figure:
    """All tokens, as of an image, on a sphere; joined where one attends to the other."""
    [head] = request.heads
    return drawn.sphere(head.A, _tokens(head), request.options.threshold)


def patches(request: Request) -> go.Figure:
    """An image as the model reads it, with the attention of one token to each patch over it."""
    [head] = request.heads
    encoding, query = head.encoding, request.options.query
    if encoding.pixels is None or not 0 <= query < len(head.A):
        raise InputError(f"There is no token {query}; give one from 0 to {len(head.A) - 1}.")
    keys = np.flatnonzero(~encoding.special)
    grid = vision.grid(request.model.network, encoding.pixels)
    name = f"attention of {encoding.tokens[query]}"
    labels = [encoding.tokens[key] for key in keys]
    return drawn.patches(encoding.pixels, grid, head.A[query, keys], labels, name)


def contexts(request: Request) -> go.Figure:
    """Cosine between the vectors of each token that two texts share, by layer."""
    try:
        rows = context.cosines(request.model, *request.texts).to_pandas()
    except TextError as error:
        raise InputError(f"These texts cannot be used: {error}") from error
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
    rows = store.read(store.table_path("head_distances"))
    rows = rows.filter(pc.equal(rows["dimension"], options.dimension))
    if not len(rows):
        raise InputError(f"The table has no dimension {options.dimension}; 0 is always there.")
    figure = head_matrix(rows.to_pandas())
    return figure.update_layout(width=figure.layout.height + 60)


def _matrices(request: Request, of: Callable[[Head], Floats], name: str) -> go.Figure:
    found = [of(head) for head in request.heads]
    finite = np.concatenate([values[np.isfinite(values)] for values in found])
    bounds = min(0.0, float(finite.min())), float(finite.max()) or 1.0
    values = iter(found)
    return _panels(
        request,
        lambda head: drawn.heatmap(
            next(values), head.labels, head.labels, name, ("token", "token"), bounds
        ),
    )


def _panels(request: Request, draw: Draw) -> go.Figure:
    figures = [draw(head) for head in request.heads]
    return figures[0] if len(figures) == 1 else drawn.beside(figures, _names(request))


def _tokens(head: Head) -> list[str]:
    return [f"{i} {token}" for i, token in enumerate(head.tokens)]


def _names(request: Request) -> list[str]:
    """What stands above each panel: the beginning of its text, or the image's name."""
    names = [*request.texts, *(path.name for path in request.options.image)]
    return [n if len(n) <= LONG_TITLE else f"{n[: LONG_TITLE - 1]}…" for n in names]


def _diameter(request: Request) -> float:
    return max(float(request.distances(head).max()) for head in request.heads)


# ---------------------------------------------------------------- the command line


class Drawing(NamedTuple):
    """What draws one kind of figure, and what it takes."""

    draw: Callable[[Request], go.Figure]
    options: tuple[str, ...]
    contents: tuple[int, ...] = (1, 2)  # texts or images


OF_A_HEAD = ("model", "layer", "head", "text", "text-id", "image")
DRAWINGS = {
    "attention": Drawing(attention, OF_A_HEAD),
    "kl": Drawing(divergences, (*OF_A_HEAD, "epsilon", "distribution")),
    "distances": Drawing(distances, (*OF_A_HEAD, "distance")),
    "graph": Drawing(graph, (*OF_A_HEAD, "threshold")),
    "symmetrised": Drawing(symmetrised, (*OF_A_HEAD, "threshold")),
    "diagrams": Drawing(diagrams, (*OF_A_HEAD, "distance", "homology")),
    "barcodes": Drawing(barcodes, (*OF_A_HEAD, "distance", "homology")),
    "clusters": Drawing(clusters, (*OF_A_HEAD, "distance")),
    "complex": Drawing(complex, (*OF_A_HEAD, "distance", "scale"), (1,)),
    "sphere": Drawing(sphere, (*OF_A_HEAD, "threshold"), (1,)),
    "patches": Drawing(patches, ("model", "layer", "head", "image", "query"), (1,)),
    "context": Drawing(contexts, ("model", "text", "text-id", "token"), (2,)),
}
HEADS = "heads"  # of all models, which needs none loaded
OPTIONS: dict[str, dict[str, Any]] = {
    **look.OPTIONS,
    "text": {**look.OPTIONS["text"], "help": "a text"},
    "scale": {"type": float, "help": "a distance (default: half the longest)"},
    "query": {"type": int, "default": 0, "help": "position of the token that attends (default 0)"},
    "token": {"action": "append", "metavar": "TOKEN", "help": "only this one; may be repeated"},
    "dimension": {"type": int, "default": 0, "help": "homology dimension (default 0)"},
    "to": {"type": Path, "required": True, "metavar": "FILE", "help": ", ".join(FORMATS)},
    "title": {"help": "above the figure (default: what is drawn; '' for none)"},
    "width": {"type": int, "help": "in units of an SVG, 96 an inch"},
    "height": {"type": int, "help": "the same"},
    "density": {"type": float, "default": 3.0, "help": "a PNG's pixels a unit (default 3)"},
}
LAST = ("to", "title", "width", "height", "density")


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line's options; InputError where it makes no sense."""
    parser = look.Parser("python -m stages.figure", description="Draw one figure to a file.")
    whats = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    takes = {what: (drawing.draw, drawing.options) for what, drawing in DRAWINGS.items()}
    for what, (draw, options) in {**takes, HEADS: (heads, ("dimension",))}.items():
        about = str(draw.__doc__)
        one = whats.add_parser(what, help=about, description=about, allow_abbrev=False)
        for name in (*options, *LAST):
            one.add_argument(f"--{name}", **OPTIONS[name])
    found = parser.parse_args(words, argparse.Namespace(text=[], image=[]))
    _check(found)
    return found


def _check(options: argparse.Namespace) -> None:
    came = len(options.text) + len(options.image)
    if options.what != HEADS and came not in DRAWINGS[options.what].contents:
        takes = " or ".join(map(str, DRAWINGS[options.what].contents))
        what = "--image" if options.what == "patches" else "--text"
        raise InputError(f"{options.what} takes {takes} {what}, and {came} came; give as many.")
    if options.to.suffix not in FORMATS:
        raise InputError(
            f"A figure cannot be written to {str(options.to)!r}; "
            f"end the name in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}."
        )
    for name in ("width", "height", "density"):
        size = getattr(options, name)
        if size is not None and not 0 < size <= 10_000:
            raise InputError(f"--{name} is {size}; give a number above 0, 10000 at most.")


def main(words: Sequence[str]) -> None:
    """Draw what one command line asks for."""
    options = parse(words)
    browser = None if options.to.suffix == ".html" else _browser()
    if options.what == HEADS:
        figure, title = heads(options), f"mean distance of heads, dimension {options.dimension}"
    else:
        request = look.asked(options)
        figure, title = DRAWINGS[options.what].draw(request), request.title
    _finish(figure, title if options.title is None else options.title, options)
    content = _page(figure) if browser is None else _image(figure, options, browser)
    options.to.parent.mkdir(parents=True, exist_ok=True)
    with look.drafted(options.to) as draft:
        draft.write_bytes(content)
    say(f"{options.what} -> {options.to}")


# ---------------------------------------------------------------- files


def _finish(figure: go.Figure, title: str, options: argparse.Namespace) -> None:
    """Give a figure its title and size, and its parts names that are the same every time."""
    if title:
        place = {"yref": "container", "y": 1, "yanchor": "top", "pad": {"t": 12}, "x": 0.02}
        room = figure.layout.margin.t + 30
        figure.update_layout(title={"text": plain(title), "font": {"size": 15}, **place})
        figure.update_layout(margin_t=room, height=figure.layout.height + 30)
    for name in ("width", "height"):
        if (size := getattr(options, name)) is not None:
            figure.update_layout({name: size})
    for number, trace in enumerate(figure.data):
        trace.uid = f"t{number}"


def _page(figure: go.Figure) -> bytes:
    page: str = figure.to_html(include_plotlyjs=True, div_id="figure")
    return page.encode()


def _browser() -> Path:
    """The browser that draws; InputError where there is none."""
    named = os.environ.get("BROWSER_PATH") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if named is None or not Path(named).is_file():
        said = "No Chrome or Chromium is here" if named is None else f"{named!r} is no browser"
        raise InputError(
            f"{said}, and an image needs one: apt-get install chromium, or name one in "
            "BROWSER_PATH; a figure --to FILE.html needs none."
        )
    return Path(named)


def _image(figure: go.Figure, options: argparse.Namespace, browser: Path) -> bytes:
    import kaleido

    kind = options.to.suffix[1:]
    size = {"width": figure.layout.width, "height": figure.layout.height}
    density = options.density if kind == "png" else 1
    # Left to itself, it would look for both scripts on the network.
    script = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    drawing = kaleido.calc_fig(
        figure,
        {"format": kind, **size, "scale": density},
        kopts={"path": browser, "plotlyjs": script, "mathjax": False},
    )
    content: bytes = asyncio.run(drawing)
    return {"svg": _steady_svg, "pdf": _steady_pdf}.get(kind, bytes)(content)


def _steady_svg(content: bytes) -> bytes:
    """An SVG in which the number that plotly draws by lot, part of many names, is always 0."""
    lot = re.search(rb'<defs id="defs-([0-9a-f]{6})"', content)
    if lot is None:
        return content
    named = rb"""((?:id="|#)[a-z-]*)""" + lot[1]
    return re.sub(named, rb"\g<1>000000", content)


def _steady_pdf(content: bytes) -> bytes:
    """A PDF without the time it was made at, as long as before: it holds places in bytes."""
    made = rb"(/(?:Creation|Mod)Date \(D:)\d{14}"
    return re.sub(made, rb"\g<1>20000101000000", content)


if __name__ == "__main__":
    with sentences():
        main(sys.argv[1:])
