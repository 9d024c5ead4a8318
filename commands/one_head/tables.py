"""What is known of one head as a table, or as a graph: printed, or written to a file."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from commands.one_head.options import GRAPH_FILE
from commands.one_head.request import Floats, Request
from pipeline import comparison, console, context, graphs, information
from pipeline.console import say
from pipeline.measures.block import Block
from pipeline.store.export import export

Columns = dict[str, Any]
Cells = Sequence[Any]


class Shown(NamedTuple):
    """An answer: what a file gets and, where they differ, what is printed; or a graph."""

    table: pa.Table
    printed: list[Cells] | None = None
    note: str = ""
    graph: Any = None


def attention_map(request: Request) -> Shown:
    """How much each token (a row, the query) attends to each (a column, the key)."""
    [head] = request.heads
    return _matrix(head, np.arange(len(head.map)), head.map, ("query", "key", "attention"))


def entropy(request: Request) -> Shown:
    """Shannon entropy of each token's attention, in bits."""
    [head] = request.heads
    return Shown(
        pa.table(
            {
                "position": head.positions,
                "token": [head.tokens[i] for i in head.positions],
                "entropy": information.entropy(head.rows[0]),
            }
        )
    )


def divergences(request: Request) -> Shown:
    """Kullback-Leibler divergence of each token's attention (a row) from each other's, in bits."""
    [head] = request.heads
    return _matrix(head, head.positions, request.divergences(head), ("a", "b", "divergence"))


def distances(request: Request) -> Shown:
    """Distances between tokens, by the configured rule."""
    [head] = request.heads
    return _matrix(head, head.positions, head.distances[0], ("a", "b", "distance"))


def bars(request: Request) -> Shown:
    """Persistence diagrams: when each class is born and dies, by dimension."""
    [head] = request.heads
    found = head.diagrams[0]
    births, deaths = np.concatenate(found).T
    dimensions = np.repeat(np.arange(len(found)), [len(diagram) for diagram in found])
    return Shown(pa.table({"dimension": dimensions, "birth": births, "death": deaths}))


def bottleneck(request: Request) -> Shown:
    """Exact bottleneck distance between the diagrams of two texts, by dimension."""
    pairs = list(zip(*(head.diagrams[0] for head in request.heads), strict=True))
    distances = [float(comparison.bottleneck([a], [b])[0, 0]) for a, b in pairs]
    return Shown(pa.table({"dimension": range(len(distances)), "bottleneck": distances}))


def graph(request: Request) -> Shown:
    """The attention graph: an edge from each query to each key it attends to, loops kept."""
    [head] = request.heads
    made = graphs.attention_graph(head.map, head.tokens, request.options.threshold)
    queries, keys, weights = (
        zip(*made.edges(data="weight"), strict=True) if made.edges else [()] * 3
    )
    columns = _ends(head, ("query", "key"), np.array(queries, int), np.array(keys, int))
    return Shown(pa.table({**columns, "weight": pa.array(weights, pa.float64())}), graph=made)


def symmetrised(request: Request) -> Shown:
    """The symmetrised map, a weighted adjacency matrix: the larger of both directions."""
    [head] = request.heads
    W = graphs.symmetrised(head.map)
    shown = _matrix(head, np.arange(len(W)), W, ("a", "b", "weight"))
    return shown._replace(graph=graphs.symmetrised_graph(head.map, head.tokens))


def clusters(request: Request) -> Shown:
    """Clusters of tokens at --scale, each with its medoid; or how many there are at all scales."""
    [head] = request.heads
    D = head.distances[0]
    tree = graphs.merge_tree(D)
    if request.options.scale is None:
        return _curve(tree)
    labels = graphs.cluster_labels(tree, request.options.scale)
    note = f"{labels.max() + 1} of {len(labels)} tokens, reduction {graphs.reduction(labels):.4g}"
    return Shown(_clusters(head, labels, graphs.representatives(D, labels)), note=note)


def simplices(request: Request) -> Shown:
    """Edges and triangles of the Rips complex, up to --scale, each with the scale it enters at."""
    [head] = request.heads
    length = np.inf if request.options.scale is None else request.options.scale
    found = graphs.simplices(head.distances[0], length)
    members = [head.positions[simplex] for simplex in (*found.edges, *found.triangles)]
    return Shown(
        pa.table(
            {
                "dimension": np.repeat([1, 2], [len(found.edges), len(found.triangles)]),
                "scale": np.concatenate([found.lengths, found.scales]),
                "positions": pa.array([_joined(m) for m in members], pa.string()),
                "tokens": pa.array(
                    [_joined(head.tokens[i] for i in m) for m in members], pa.string()
                ),
            }
        )
    )


def contexts(request: Request) -> Shown:
    """Cosine between the vectors of each token that two texts share, in every layer."""
    return Shown(context.cosines(request.model, *request.texts))


def _matrix(
    head: Block, positions: NDArray[np.int64], values: Floats, names: tuple[str, str, str]
) -> Shown:
    """A matrix between tokens: a row a pair in a file, a row a token in print."""
    n = len(positions)
    columns = _ends(head, names[:2], np.repeat(positions, n), np.tile(positions, n))
    labels = [f"{i} {head.tokens[i]}" for i in positions]
    printed = [["", *labels]] + [[label, *row] for label, row in zip(labels, values, strict=True)]
    return Shown(pa.table({**columns, names[2]: values.reshape(-1)}), printed)


def _ends(
    head: Block, names: tuple[str, str], first: NDArray[np.int64], second: NDArray[np.int64]
) -> Columns:
    tokens = np.array(head.tokens, object)
    return {
        names[0]: first,
        f"{names[0]}_token": pa.array(tokens[first], pa.string()),
        names[1]: second,
        f"{names[1]}_token": pa.array(tokens[second], pa.string()),
    }


def _curve(tree: Floats) -> Shown:
    scales, numbers = graphs.cluster_curve(tree)
    return Shown(
        pa.table({"scale": scales, "clusters": numbers, "reduction": numbers / (len(tree) + 1)}),
        note="from each scale on",
    )


def _clusters(head: Block, labels: NDArray[np.int64], medoids: NDArray[np.int64]) -> pa.Table:
    members = [head.positions[labels == label] for label in range(len(medoids))]
    return pa.table(
        {
            "cluster": np.arange(len(medoids)),
            "size": [len(found) for found in members],
            "representative": head.positions[medoids],
            "token": [head.tokens[i] for i in head.positions[medoids]],
            "positions": [_joined(found) for found in members],
            "tokens": [_joined(head.tokens[i] for i in found) for found in members],
        }
    )


def _joined(values: Iterable[Any]) -> str:
    return " ".join(map(str, values))


TABLES: dict[str, Callable[[Request], Shown]] = {
    "attention": attention_map,
    "entropy": entropy,
    "kl": divergences,
    "distances": distances,
    "diagrams": bars,
    "bottleneck": bottleneck,
    "graph": graph,
    "symmetrised": symmetrised,
    "clusters": clusters,
    "simplices": simplices,
    "context": contexts,
}


def answer(request: Request) -> None:
    """Print what is asked for, or write it to the file that is named."""
    options = request.options
    shown = TABLES[options.what](request)
    if options.to:
        write(shown, options.to)
        say(f"{options.what} -> {options.to}")
        return
    table = shown.table
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    title = f"{request.title}, {shown.note}" if shown.note else request.title
    console.show(f"{title}\n{console.table(shown.printed or [table.column_names, *rows])}")


def write(shown: Shown, path: Path) -> None:
    """Write a table or a graph, atomically, in the form that the name ends in."""
    if path.suffix == GRAPH_FILE:
        path.parent.mkdir(parents=True, exist_ok=True)
        graphs.write_graphml(shown.graph, path)
        return
    export(shown.table, path)
