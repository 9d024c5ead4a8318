"""One figure to a file, for a paper: a head on one text or two, or all heads.

    python -m commands.figure WHAT --model minilm --layer 3 --head 10 --text "..." --to FILE

FILE ends in .svg, .pdf, .png or .html; --text twice draws both side by side, where WHAT --help
says so. Layers, heads and positions count from 0. All but .html are drawn by a browser of this
machine without a window, which asks nothing of the network. An SVG or PNG has the same bytes
whenever the same browser draws the same.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from commands.one_head.options import OF_A_HEAD
from commands.one_head.options import OPTIONS as OF_HEADS
from pipeline import console
from pipeline.errors import InputError

FORMATS = (".svg", ".pdf", ".png", ".html")


class Drawing(NamedTuple):
    """One kind of figure, and what it takes."""

    about: str
    options: tuple[str, ...]
    contents: tuple[int, ...] = (1, 2)  # texts or images


DRAWINGS = {
    "attention": Drawing(
        "How much each token (a row, the query) attends to each (a column, the key).", OF_A_HEAD
    ),
    "kl": Drawing(
        "Kullback-Leibler divergence of each token's attention (a row) from each other's, in bits.",
        (*OF_A_HEAD, "epsilon", "distribution"),
    ),
    "distances": Drawing(
        "Distances between tokens, by the configured rule.", (*OF_A_HEAD, "distance")
    ),
    "graph": Drawing(
        "The attention graph: an edge from each query to each key it attends to, loops kept.",
        (*OF_A_HEAD, "threshold"),
    ),
    "symmetrised": Drawing(
        "The graph of the symmetrised map: the larger of both directions.",
        (*OF_A_HEAD, "threshold"),
    ),
    "diagrams": Drawing(
        "Persistence diagrams: when each class is born and dies, by dimension.",
        (*OF_A_HEAD, "distance", "homology"),
    ),
    "barcodes": Drawing(
        "The same as bars, from birth to death.", (*OF_A_HEAD, "distance", "homology")
    ),
    "clusters": Drawing(
        "How many clusters of tokens there are at each scale.", (*OF_A_HEAD, "distance")
    ),
    "complex": Drawing(
        "The Rips complex in space at --scale (default: half the longest distance).",
        (*OF_A_HEAD, "distance", "scale"),
        (1,),
    ),
    "sphere": Drawing(
        "All tokens, as of an image, on a sphere; joined where one attends to the other.",
        (*OF_A_HEAD, "threshold"),
        (1,),
    ),
    "patches": Drawing(
        "An image as the model reads it, with the attention of one token to each patch over it.",
        ("model", "layer", "head", "image", "query"),
        (1,),
    ),
    "context": Drawing(
        "Cosine between the vectors of each token that two texts share, by layer.",
        ("model", "text", "text-id", "token"),
        (2,),
    ),
    # Of all models, of which none is loaded.
    "heads": Drawing(
        "Mean distance between all heads of all models, from the tables of the last run.",
        ("dimension",),
        (0,),
    ),
}
OPTIONS: dict[str, dict[str, Any]] = {
    **OF_HEADS,
    "text": {**OF_HEADS["text"], "help": "a text"},
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


def main(words: Sequence[str]) -> None:
    """Draw what one command line asks for."""
    options = parse(words)
    from commands.one_head import images

    images.draw(options)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line's options; InputError where it makes no sense."""
    parser = console.Parser(prog="python -m commands.figure", description=__doc__)
    whats = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    for what, (about, options, _) in DRAWINGS.items():
        one = whats.add_parser(what, help=about, description=about)
        for name in (*options, *LAST):
            one.add_argument(f"--{name}", **OPTIONS[name])
    found = parser.parse_args(words, argparse.Namespace(text=[], image=[]))
    _check(found)
    return found


def _check(options: argparse.Namespace) -> None:
    came, contents = len(options.text) + len(options.image), DRAWINGS[options.what].contents
    if came not in contents:
        takes = " or ".join(map(str, contents))
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


if __name__ == "__main__":
    console.run(main)
