# mypy: disable-error-code="untyped-decorator"
"""Attention maps as graphs; distance matrices as clusters at a scale, and as simplices.

A cluster at a scale is a connected component of the Rips complex there: tokens i and j are
joined where their distance is at most the scale. Single linkage merges the same clusters at
the same scales, and dimension-0 persistence ends its bars there.
"""

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline import files
from pipeline.arrays import reals
from pipeline.diagrams import ROUNDING, mended
from pipeline.errors import InputError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

LONGEST = 2.0**900  # far from where sums of distances overflow
# How far a distance moves from one processor to another, in parts of the longest of its matrix:
# 1.6e-5 at most, as measured over all rules (docs/reproduce.md).
MOVE = 6e-5
# So much nearer on average, in the same parts, is no nearer: more than 2 MOVE, by which the
# difference of two means may move.
TIE = 2e-4


class Clusters(NamedTuple):
    """Clusters of each head at each scale, those of a head and a scale by first member.

    number, largest   (head, scale): how many clusters, and the tokens of the largest
    near              (head, scale): merges within MOVE of the scale, in parts of the longest
                      distance: by at most so many may the number differ where all distances
                      move by less; where there is none, the clusters are the same
    unsure            (head, scale): of these clusters, those of which then another member may
                      be the medoid
    representatives   of all clusters, one after another: the position of the medoid
    sizes             the same for how many tokens each holds
    offsets           (heads * scales + 1): where, among those, each head's and scale's begin
    """

    number: Integers
    largest: Integers
    near: Integers
    unsure: Integers
    representatives: Integers
    sizes: Integers
    offsets: Integers

    def of(self, head: int, scale: int) -> tuple[Integers, Integers]:
        """Representatives and sizes of a head's clusters at the scale of this index."""
        at = head * self.number.shape[1] + scale
        here = slice(self.offsets[at], self.offsets[at + 1])
        return self.representatives[here], self.sizes[here]


class Simplices(NamedTuple):
    """Vertices, edges and triangles of a Rips complex; all vertices are there from scale 0.

    vertices    (n,): 0 to n - 1
    edges       (m, 2), each i < j, in the order of (length, i, j); lengths (m,)
    triangles   (k, 3), each i < j < l, in the order of (scale, i, j, l); scales (k,)
    """

    vertices: Integers
    edges: Integers
    lengths: Floats
    triangles: Integers
    scales: Floats


# ---------------------------------------------------------------- graphs


def attention_graph(
    A: npt.ArrayLike, tokens: Sequence[str] | None = None, threshold: float = 0.0
) -> Any:
    """One head's map (query, key) as a networkx.DiGraph.

    An edge goes from query i to key j, loops kept, with weight A[i, j], where that is above
    0 and at least the threshold. Nodes are the positions, with their token (the position
    where none are given) and position.
    """
    import networkx

    return _graph(networkx.DiGraph(), _map(A), tokens, threshold)


def symmetrised(A: npt.ArrayLike) -> Floats:
    """The larger of A[i, j] and A[j, i]: (n, n), symmetric.

    In the map of a causal model, 0 above the diagonal, each entry there takes its counterpart
    below: the founding notebook's weighted adjacency matrix. Elsewhere two tokens are joined as
    strongly as either attends to the other, as Kushnareva et al. 2021 (EMNLP) take it.
    """
    weights = _map(A)
    return np.maximum(weights, weights.T)


def symmetrised_graph(
    A: npt.ArrayLike, tokens: Sequence[str] | None = None, threshold: float = 0.0
) -> Any:
    """The symmetrised map as a networkx.Graph; nodes and edges as in attention_graph."""
    import networkx

    return _graph(networkx.Graph(), symmetrised(A), tokens, threshold)


def write_graphml(graph: Any, path: Path) -> None:
    r"""Write a graph as GraphML, atomically; networkx.read_graphml(path, int) reads it.

    Characters that XML cannot hold are written as Python escapes them (\x07).
    """
    from networkx import write_graphml_xml

    document = BytesIO()
    write_graphml_xml(_without_what_xml_forbids(graph), document)
    with files.written(path) as draft:
        draft.write_bytes(document.getvalue())


def _map(A: npt.ArrayLike) -> Floats:
    weights = np.asarray(reals(A, "attention weights"), np.float64)
    if weights.ndim != 2 or weights.shape[0] != weights.shape[1]:
        raise InputError(
            f"An attention map has shape {weights.shape}; give one head's, (query, key), square."
        )
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        i, j = (int(at) for at in np.argwhere(bad)[0])
        raise InputError(
            f"Attention [{i}, {j}] is {weights[i, j]}; expected a finite number from 0 up: "
            "give the map as it leaves its softmax."
        )
    return weights


def _graph(graph: Any, weights: Floats, tokens: Sequence[str] | None, threshold: float) -> Any:
    names = list(tokens) if tokens is not None else [str(i) for i in range(len(weights))]
    if len(names) != len(weights):
        raise InputError(f"{len(names)} tokens came for a map of {len(weights)}; give one each.")
    graph.add_nodes_from((i, {"token": name, "position": i}) for i, name in enumerate(names))
    queries, keys = np.nonzero((weights > 0) & (weights >= threshold))
    edges = zip(queries.tolist(), keys.tolist(), weights[queries, keys].tolist(), strict=True)
    graph.add_weighted_edges_from(edges)
    return graph


def _without_what_xml_forbids(graph: Any) -> Any:
    copy = graph.copy()
    for _, values in copy.nodes(data=True):
        values.update({key: _for_xml(value) for key, value in values.items()})
    return copy


def _for_xml(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return "".join(c if _in_xml(c) else c.encode("unicode_escape").decode() for c in value)


def _in_xml(character: str) -> bool:
    # XML 1.0, production 2; without the carriage return, which a reader turns into a newline.
    if character < "\x20":
        return character in "\t\n"
    return not "\ud800" <= character <= "\udfff" and character not in "\ufffe\uffff"


# ---------------------------------------------------------------- clusters


def merge_tree(D: npt.ArrayLike) -> Floats:
    """Single-linkage tree of a distance matrix: (n - 1, 4), as scipy.cluster.hierarchy has it.

    Row by row the two clusters that merge, the scale at which they do, and the size of the
    new one; scales ascend. Raises InputError where D is no distance matrix.
    """
    from scipy.cluster.hierarchy import linkage

    lengths = _distances(D)
    if len(lengths) == 1:
        return np.empty((0, 4))
    above = np.triu_indices(len(lengths), 1)
    return np.asarray(linkage(lengths[above], "single"), np.float64)


def cluster_labels(tree: Floats, scale: float) -> Integers:
    """The cluster of each point at a scale: (n,), counted from 0 in the order of first members.

    Points i and j share a cluster where a path of steps of at most the scale joins them.
    """
    from scipy.cluster.hierarchy import fcluster

    _check_scales([scale])
    if not len(tree):
        return np.zeros(1, np.int64)
    _, first, found = np.unique(
        fcluster(tree, scale, "distance"), return_index=True, return_inverse=True
    )
    return np.argsort(np.argsort(first))[found].astype(np.int64)


def cluster_curve(tree: Floats) -> tuple[Floats, Integers]:
    """The scales at which the number of clusters changes, and the number from each one on.

    Both (steps,): scales ascend from 0, numbers fall to 1. Between two scales the number
    stays; every scale but 0 is a death of the dimension-0 diagram.
    """
    heights = np.sort(tree[:, 2])
    scales = np.unique(np.append(heights, 0.0))
    return scales, len(heights) + 1 - np.searchsorted(heights, scales, "right")


def representatives(D: npt.ArrayLike, labels: npt.ArrayLike) -> Integers:
    """The medoid of each cluster, by label: its member nearest, on average, to the others.

    D: (n, n); labels: (n,), those there are from 0 up. Of members as near but for TIE of the
    longest distance of D, the first, so that rounding does not choose among them.
    """
    lengths, groups = _distances(D), np.asarray(labels, np.int64)
    longest = lengths.max()
    shift = _shift(longest, len(lengths))
    found = []
    for label in range(int(groups.max()) + 1):
        members = np.flatnonzero(groups == label)
        within = ((lengths[np.ix_(members, members)] + shift) - shift).sum(axis=1)
        tied = within <= within.min() + TIE * longest * (len(members) - 1)
        found.append(members[np.argmax(tied)])
    return np.array(found, np.int64)


def reduction(labels: npt.ArrayLike) -> float:
    """Clusters for each token: what is left if a representative stands for its cluster."""
    groups = np.asarray(labels)
    return len(np.unique(groups)) / len(groups)


def clusters(D: npt.ArrayLike, scales: Sequence[float]) -> Clusters:
    """The clusters of each distance matrix at each scale, with medoids, for bulk work.

    D: (heads, n, n), scales in any order. The same as cluster_labels and representatives.
    Raises InputError for a scale below 0, and where a matrix is no distance matrix.
    """
    lengths = np.require(reals(D, "distances"), np.float64, ["C", "A", "W"])
    if lengths.ndim != 3 or lengths.shape[1] != lengths.shape[2] or not lengths.shape[1]:
        raise InputError(f"Distances have shape {lengths.shape}; give (heads, n, n), n from 1 up.")
    heads, n, _ = lengths.shape
    found = np.empty((2, heads * len(scales) * n), np.int64)
    doubtful = np.empty((2, heads * len(scales)), np.int64)
    offsets = np.zeros(heads * len(scales) + 1, np.int64)
    bad = _all_clusters(lengths, _check_scales(scales), *found, *doubtful, offsets)
    if bad >= 0:
        _complain(lengths[bad], f"distance matrix {bad}")
    medoids, sizes = found[:, : offsets[-1]].copy()
    shape = heads, len(scales)
    largest = np.maximum.reduceat(sizes, offsets[:-1]) if len(offsets) > 1 else offsets[:0]
    near, unsure = doubtful.reshape(2, *shape)
    number = np.diff(offsets).reshape(shape)
    return Clusters(number, largest.reshape(shape), near, unsure, medoids, sizes, offsets)


def _check_scales(scales: Sequence[float]) -> Floats:
    checked = np.array(scales, np.float64)
    for scale in checked.tolist():
        if not scale >= 0:
            raise InputError(f"The scale is {scale}; give a distance, from 0 up.")
    return checked


def _distances(D: npt.ArrayLike) -> Floats:
    lengths = np.require(reals(D, "distances"), np.float64, ["C", "A", "W"])
    if lengths.ndim != 2 or lengths.shape[0] != lengths.shape[1] or not len(lengths):
        raise InputError(f"A distance matrix has shape {lengths.shape}; give (n, n), n from 1 up.")
    if _longest(lengths) <= LONGEST:
        return lengths
    # Symmetric but for rounding, as matrices of other libraries are.
    lengths = mended(lengths, "the distance matrix", ROUNDING)
    if not _longest(lengths) <= LONGEST:
        _complain(lengths, "the distance matrix")
    return lengths


def _complain(D: Floats, name: str) -> None:
    """Raise InputError for the first entry that makes this no distance matrix."""
    diagonal = np.eye(len(D), dtype=bool) & (D != 0)
    wrong = ~((D >= 0) & (LONGEST >= D)) | diagonal | (D != D.T)
    i, j = (int(at) for at in np.argwhere(wrong)[0])
    if D[i, j] == np.inf and D[j, i] == np.inf:
        raise InputError(
            f"Entry [{i}, {j}] of {name} is inf: a missing edge, which diagrams.rips takes and "
            "this function does not. Give missing edges a length above all others."
        )
    raise InputError(
        f"Entry [{i}, {j}] of {name} is {D[i, j]} and [{j}, {i}] is {D[j, i]}; a distance is the "
        "same both ways, 0 on the diagonal, finite and not negative: mend what made it."
    )


@njit(cache=True, nogil=True)
def _longest(D: Floats) -> float:
    """The longest distance of a matrix, or NaN where it is no distance matrix."""
    n, sound, longest = len(D), True, 0.0
    for i in range(n):
        sound &= D[i, i] == 0.0
        for j in range(i):
            length = D[i, j]
            sound &= (length >= 0.0) & (length <= LONGEST) & (length == D[j, i])
            longest = length if length > longest else longest
    return longest if sound else math.nan


@njit(cache=True, nogil=True)
def _shift(longest: float, n: int) -> float:
    """A number s for which (d + s) - s rounds distances d so far that n of them sum exactly.

    Sums are then the same in whatever order, and equal where distances are the same, so that
    the first of equals is the first, whichever way one adds up.
    """
    _, octave = math.frexp(longest)
    doublings = 2
    while 1 << doublings < n:
        doublings += 1
    return math.ldexp(1.5, octave + doublings - 1)


@njit(cache=True, nogil=True)
def _all_clusters(
    D: Floats,
    scales: Floats,
    medoids: Integers,
    sizes: Integers,
    near: Integers,
    unsure: Integers,
    offsets: Integers,
) -> int:
    """Write the clusters of every head at every scale; the index of a bad matrix, or -1."""
    heads, n, _ = D.shape
    order, heights, sums = np.empty(n, np.int64), np.empty(n), np.zeros((n + 1, n))
    by_first, nearest, within = np.empty((2, n), np.int64), np.empty(n), np.empty(n)
    at = 0
    for head in range(heads):
        longest = _longest(D[head])
        if not longest <= LONGEST:
            return head
        _visit(D[head], _shift(longest, n), order, heights, sums, nearest)
        for scale in scales:
            near[at] = 0
            for height in heights[1:]:
                near[at] += abs(height - scale) <= MOVE * longest
            unsure[at] = _at_scale(order, heights, sums, scale, longest, within, by_first)
            last = offsets[at]
            for first in range(n):
                if by_first[0, first]:
                    sizes[last], medoids[last] = by_first[0, first], by_first[1, first]
                    last += 1
            at += 1
            offsets[at] = last
    return -1


@njit(cache=True, nogil=True)
def _visit(
    D: Floats, shift: float, order: Integers, heights: Floats, sums: Floats, nearest: Floats
) -> None:
    """Prim's algorithm from point 0: the order of visits and the step to each.

    A component at any scale is entered once and left when all of it has been visited, so it is
    a run of visits, and longer steps stand at its ends. sums[t] is how far the first t visited
    are, in sum, from each point.
    """
    n = len(D)
    nearest[:] = math.inf
    point, step = 0, math.inf
    for t in range(n):
        order[t], heights[t] = point, step
        row, before, after = D[point], sums[t], sums[t + 1]
        for j in range(n):
            after[j] = before[j] + ((row[j] + shift) - shift)
            nearest[j] = row[j] if row[j] < nearest[j] else nearest[j]
        # Visited points are not to be visited again: NaN is less than nothing.
        nearest[point] = math.nan
        point, step = -1, math.inf
        for j in range(n):
            if nearest[j] < step:
                point, step = j, nearest[j]


@njit(cache=True, nogil=True)
def _at_scale(
    order: Integers,
    heights: Floats,
    sums: Floats,
    scale: float,
    longest: float,
    within: Floats,
    by_first: Integers,
) -> int:
    """Write the clusters at a scale; how many medoids there may be others.

    by_first[:, i]: of the cluster whose first member is i, its size and its medoid; elsewhere 0.
    """
    n, unsure = len(order), 0
    by_first[0] = 0
    begin = 0
    for end in range(1, n + 1):
        if end < n and heights[end] <= scale:
            continue
        first, least = n, math.inf
        for t in range(begin, end):
            within[t] = sums[end, order[t]] - sums[begin, order[t]]
            first, least = min(first, order[t]), min(least, within[t])
        # Where every distance moves by MOVE, a member's sum and the least may come nearer or
        # draw apart by twice that for each of the others.
        part = longest * (end - begin - 1)
        early = medoid = late = n
        for t in range(begin, end):
            beyond = within[t] - least
            if beyond <= (TIE + 2.0 * MOVE) * part:
                early = min(early, order[t])
            if beyond <= (TIE - 2.0 * MOVE) * part:
                late = min(late, order[t])
            if within[t] <= least + TIE * part:
                medoid = min(medoid, order[t])
        unsure += early != late
        by_first[0, first], by_first[1, first] = end - begin, medoid
        begin = end
    return unsure


# ---------------------------------------------------------------- simplices


def simplices(D: npt.ArrayLike, max_length: float = math.inf) -> Simplices:
    """Edges and triangles of the Rips complex of a distance matrix, from GUDHI's simplex tree.

    An edge enters at its length, a triangle with its longest edge; those longer than max_length
    are left out. There are n (n - 1) (n - 2) / 6 triangles in all. Raises InputError where D is
    no distance matrix, or max_length is below 0.
    """
    import gudhi

    lengths = _distances(D)
    _check_scales([max_length])
    complex_ = gudhi.RipsComplex(distance_matrix=lengths, max_edge_length=max_length)
    # By a name: its iterator does not keep it alive, and would read freed memory.
    tree = complex_.create_simplex_tree(max_dimension=2)
    found: dict[int, list[tuple[Any, ...]]] = {1: [], 2: [], 3: []}
    for members, scale in tree.get_simplices():
        found[len(members)].append((scale, *members))
    edges, at = _sorted(found[2], 2)
    triangles, scales = _sorted(found[3], 3)
    return Simplices(np.arange(len(lengths)), edges, at, triangles, scales)


def _sorted(rows: list[tuple[Any, ...]], vertices: int) -> tuple[Integers, Floats]:
    rows = sorted(rows)
    members = np.array([row[1:] for row in rows], np.int64).reshape(-1, vertices)
    return members, np.array([row[0] for row in rows], np.float64)
