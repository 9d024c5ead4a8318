"""One head on one text: map, entropy, distances, diagrams, graphs, clusters, simplices.

    python -m commands.look WHAT --model minilm --layer 3 --head 10 --text "..." [--to FILE]

prints a table, or writes it; --image FILE in place of --text for a vision model. WHAT --help
says what WHAT is and takes. Layers, heads and positions count from 0.
"""

# Not a Hydra application, unlike the stages: its grammar wants a text with a comma, a bracket
# or an equals sign quoted a second time.

import argparse
from collections.abc import Sequence
from typing import NamedTuple

from commands.one_head.options import GRAPH_FILE, OF_A_HEAD, OPTIONS, PAIRS, TABLE_FILES
from pipeline import console
from pipeline.errors import InputError


class What(NamedTuple):
    """One thing to look at, and the options it takes beside those of a head."""

    about: str
    options: tuple[str, ...] = ()


WHATS = {
    "attention": What(
        "How much each token (a row, the query) attends to each (a column, the key)."
    ),
    "entropy": What("Shannon entropy of each token's attention, in bits."),
    "kl": What(
        "Kullback-Leibler divergence of each token's attention (a row) from each other's, in bits.",
        ("epsilon", "distribution"),
    ),
    "distances": What("Distances between tokens, by the configured rule.", ("distance",)),
    "diagrams": What(
        "Persistence diagrams: when each class is born and dies, by dimension.",
        ("distance", "homology"),
    ),
    "bottleneck": What(
        "Exact bottleneck distance between the diagrams of two texts, by dimension.",
        ("distance", "homology"),
    ),
    "graph": What(
        "The attention graph: an edge from each query to each key it attends to, loops kept.",
        ("threshold",),
    ),
    "symmetrised": What(
        "The symmetrised map, a weighted adjacency matrix: the larger of both directions."
    ),
    "clusters": What(
        "Clusters of tokens at --scale, each with its medoid; or how many there are at all scales.",
        ("distance", "scale"),
    ),
    "simplices": What(
        "Edges and triangles of the Rips complex up to --scale, each with the scale it enters at.",
        ("distance", "scale"),
    ),
    "context": What(
        "Cosine between the vectors of each token that two texts share, in every layer."
    ),
}
GRAPHS = ("graph", "symmetrised")
TEXTS = ("context",)  # of whole texts, in every layer, whatever the head


def main(words: Sequence[str]) -> None:
    """Answer one command line."""
    options = parse(words)
    from commands.one_head import request, tables

    tables.answer(request.ask(options))


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line's options; InputError where it makes no sense."""
    parser = console.Parser(prog="python -m commands.look", description=__doc__)
    whats = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    for what, (about, options) in WHATS.items():
        one = whats.add_parser(what, help=about, description=about)
        of_what = ("model", "text", "text-id") if what in TEXTS else OF_A_HEAD
        for name in (*of_what, "to", *options):
            one.add_argument(f"--{name}", **OPTIONS[name])
    found = parser.parse_args(words)
    _check(found)
    return found


def _check(options: argparse.Namespace) -> None:
    texts = 2 if options.what in PAIRS else 1
    came = len(options.text) + len(getattr(options, "image", []))
    if came != texts:
        raise InputError(f"{options.what} takes {texts} --text, and {came} came; give as many.")
    allowed = [*TABLE_FILES, *([GRAPH_FILE] if options.what in GRAPHS else [])]
    if options.to and options.to.suffix not in allowed:
        raise InputError(
            f"{options.what} cannot be written to {str(options.to)!r}; "
            f"end the name in {' or '.join(allowed)}."
        )


if __name__ == "__main__":
    console.run(main)
