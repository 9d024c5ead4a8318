"""Reference implementations: plain, slow, obvious."""

from collections.abc import Sequence
from itertools import combinations

import mpmath as mp
import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

DIGITS = 50
Floats = npt.NDArray[np.float64]


def kl_divergence(p: npt.ArrayLike, q: npt.ArrayLike, base: float = 2.0) -> mp.mpf:
    """Kullback-Leibler divergence of two rows divided by their sums, to 50 digits."""
    with mp.workdps(2 * DIGITS):
        return _kl(_normalised(p), _normalised(q)) / mp.log(mp.mpf(base))


def entropy(p: npt.ArrayLike, base: float = 2.0) -> mp.mpf:
    """Shannon entropy of a row divided by its sum, to 50 digits."""
    with mp.workdps(2 * DIGITS):
        return -mp.fsum(x * mp.log(x) for x in _normalised(p) if x) / mp.log(mp.mpf(base))


def jensen_shannon(p: npt.ArrayLike, q: npt.ArrayLike, base: float = 2.0) -> mp.mpf:
    """Jensen-Shannon distance of two rows divided by their sums, to 50 digits or 1e-50."""
    # A distance of 1e-15 is the root of what cancels to 1e-30.
    with mp.workdps(2 * DIGITS):
        a, b = _normalised(p), _normalised(q)
        middle = [(x + y) / 2 for x, y in zip(a, b, strict=True)]
        # Of rows closer than 1e-50, what is left may be below 0.
        divergence = max((_kl(a, middle) + _kl(b, middle)) / 2, mp.mpf(0))
        return mp.sqrt(divergence / mp.log(mp.mpf(base)))


def kl_mean(rows: npt.ArrayLike, epsilon: float) -> mp.mpf:
    """Mean over ordered pairs of different rows of the divergence with an epsilon, in bits."""
    with mp.workdps(2 * DIGITS):
        P = [_normalised(row) for row in np.asarray(rows)]
        L = [[mp.log(x + mp.mpf(epsilon)) for x in row] for row in P]
        pairs = [(i, j) for i in range(len(P)) for j in range(len(P)) if i != j]
        sums = (
            mp.fsum(p * (a - b) for p, a, b in zip(P[i], L[i], L[j], strict=True)) for i, j in pairs
        )
        return mp.fsum(sums) / len(pairs) / mp.log(2)


def notebook_distances(A: npt.ArrayLike) -> Floats:
    """The founding notebook's distances between attention rows: softmax again, natural log."""
    P = _softmax_again(A)
    D = np.zeros((len(P), len(P)))
    for i in range(len(P)):
        for j in range(i):
            m = (P[i] + P[j]) / 2
            kl = [(p * np.log(p / m)).sum() for p in (P[i], P[j])]
            D[i, j] = D[j, i] = np.sqrt(max(sum(kl) / 2, 0.0))
    return D


def notebook_divergences(A: npt.ArrayLike) -> Floats:
    """Its Kullback-Leibler divergences: softmax again, log2, 1e-9 added inside each log."""
    P = _softmax_again(A)
    return np.array([[(p * (np.log2(p + 1e-9) - np.log2(q + 1e-9))).sum() for q in P] for p in P])


def _softmax_again(A: npt.ArrayLike) -> Floats:
    E = np.exp(np.asarray(A, float))
    return np.asarray(E / E.sum(axis=1, keepdims=True), np.float64)


def _normalised(row: npt.ArrayLike) -> list[mp.mpf]:
    numbers = [mp.mpf(float(x)) for x in np.asarray(row)]
    total = mp.fsum(numbers)
    return [x / total for x in numbers]


def _kl(a: list[mp.mpf], b: list[mp.mpf]) -> mp.mpf:
    if any(x > 0 and y == 0 for x, y in zip(a, b, strict=True)):
        return mp.inf
    # What is added and taken away sums to nothing, and keeps what 1 - 1e-300 cannot.
    return mp.fsum((x * mp.log(x / y) if x else 0) - x + y for x, y in zip(a, b, strict=True))


def rips(D: npt.ArrayLike) -> list[Floats]:
    """Bars of positive length of the Rips filtration in dimensions 0 and 1, over Z/2.

    The textbook: every simplex up to triangles in order, every column of the boundary matrix
    reduced from the left.
    """
    D = np.asarray(D, float)
    order = sorted(
        (max((D[e] for e in combinations(simplex, 2)), default=0.0), size, simplex)
        for size in (1, 2, 3)
        for simplex in combinations(range(len(D)), size)
    )
    place = {simplex: k for k, (_, _, simplex) in enumerate(order)}
    columns: dict[int, set[int]] = {}
    death: dict[int, int] = {}
    for k, (_, size, simplex) in enumerate(order):
        column = {place[face] for face in combinations(simplex, size - 1) if face}
        while column and max(column) in columns:
            column ^= columns[max(column)]
        if column:
            columns[max(column)] = column
            death[max(column)] = k
    killers = set(death.values())
    bars: list[list[tuple[float, float]]] = [[], []]
    for k, (birth, size, _) in enumerate(order):
        if size < 3 and k not in killers:
            end = order[death[k]][0] if k in death else np.inf
            if end > birth:
                bars[size - 1].append((birth, end))
    return [np.array(sorted(found)).reshape(-1, 2) for found in bars]


def scaled_up(diagrams: Sequence[npt.ArrayLike]) -> tuple[list[Floats], float]:
    """Diagrams for Hera, times one power of 2, and that power: exact, and far above 1e-10.

    With delta 0, Hera's bottleneck distance is 0 for all that is nearer than about 1e-10. The
    largest end of a bar comes to 2^39 or more, so that differences in its last bit are seen.
    """
    arrays = [np.asarray(bars, float).reshape(-1, 2) for bars in diagrams]
    largest = max((np.abs(bars[np.isfinite(bars)]).max(initial=0) for bars in arrays), default=0)
    factor = 2.0 ** (40 - np.frexp(largest)[1]) if largest else 1.0
    return [bars * factor for bars in arrays], factor


def hera_bottleneck(A: npt.ArrayLike, B: npt.ArrayLike) -> float:
    """Bottleneck distance by Hera (gudhi.hera), exact at any scale."""
    from gudhi import hera

    (a, b), factor = scaled_up([A, B])
    return float(hera.bottleneck_distance(a, b, 0.0)) / factor


def bottleneck(A: npt.ArrayLike, B: npt.ArrayLike) -> float:
    """Bottleneck distance: the least candidate at which a perfect matching exists.

    Every bar may go to a place of its own on the diagonal, and places to places for nothing.
    """
    a, b = np.asarray(A, float).reshape(-1, 2), np.asarray(B, float).reshape(-1, 2)
    never = [np.sort(bars[np.isinf(bars[:, 1]), 0]) for bars in (a, b)]
    if len(never[0]) != len(never[1]):
        return float("inf")
    a, b = a[np.isfinite(a[:, 1])], b[np.isfinite(b[:, 1])]
    cost = np.full((len(a) + len(b),) * 2, np.inf)
    cost[: len(a), : len(b)] = np.abs(a[:, None] - b[None]).max(-1)
    cost[range(len(a)), range(len(b), len(a) + len(b))] = (a[:, 1] - a[:, 0]) / 2
    cost[range(len(a), len(a) + len(b)), range(len(b))] = (b[:, 1] - b[:, 0]) / 2
    cost[len(a) :, len(b) :] = 0
    candidates = np.unique(np.append(cost[np.isfinite(cost)], 0.0))
    low, high = 0, len(candidates) - 1
    while low < high:
        middle = (low + high) // 2
        matched = maximum_bipartite_matching(csr_array(cost <= candidates[middle]))
        low, high = (low, middle) if (matched >= 0).all() else (middle + 1, high)
    return float(np.abs(never[0] - never[1]).max(initial=candidates[low]))


def wasserstein(A: npt.ArrayLike, B: npt.ArrayLike, order: float = 1.0) -> float:
    """Wasserstein distance by an assignment on the full square of bars and places.

    Each bar has a place on the diagonal. In parts of the bottleneck distance, so that no power
    that shows leaves the doubles; what costs more than all bars at 1 is in no least matching.
    """
    a, b = np.asarray(A, float).reshape(-1, 2), np.asarray(B, float).reshape(-1, 2)
    never = [np.sort(bars[np.isinf(bars[:, 1]), 0]) for bars in (a, b)]
    farthest = bottleneck(a, b)
    if farthest in (0.0, np.inf):
        return farthest
    a, b = a[np.isfinite(a[:, 1])], b[np.isfinite(b[:, 1])]
    cost = np.zeros((len(a) + len(b),) * 2)
    cost[: len(a), : len(b)] = np.abs(a[:, None] - b[None]).max(-1, initial=0.0)
    cost[: len(a), len(b) :] = (a[:, 1:] - a[:, :1]) / 2
    cost[len(a) :, : len(b)] = (b[:, 1] - b[:, 0]) / 2
    with np.errstate(over="ignore", under="ignore"):
        powers = np.minimum((cost / farthest) ** order, 4.0 * len(cost))
        moves = np.append(cost[linear_sum_assignment(powers)], np.abs(never[0] - never[1]))
        longest = moves.max()
        return float(longest * np.sort((moves / longest) ** order).sum() ** (1 / order))


def wasserstein_of_all(A: npt.ArrayLike, B: npt.ArrayLike, order: float) -> float:
    """Wasserstein distance of a few bars that end: the least over all matchings, one by one."""
    a, b = (np.asarray(bars, float).reshape(-1, 2).tolist() for bars in (A, B))

    def least(one: list[list[float]], other: list[list[float]]) -> float:
        if not one:
            return float(sum(((d - c) / 2) ** order for c, d in other))
        (c, d), rest = one[0], one[1:]
        found = [((d - c) / 2) ** order + least(rest, other)]
        for k, (e, f) in enumerate(other):
            move = max(abs(c - e), abs(d - f)) ** order
            found.append(move + least(rest, other[:k] + other[k + 1 :]))
        return float(min(found))

    return float(least(a, b) ** (1 / order))


def hera_wasserstein(A: npt.ArrayLike, B: npt.ArrayLike, order: float, delta: float) -> float:
    """Wasserstein distance by Hera, at most delta more, relative, than the least; at any scale."""
    from gudhi import hera

    (a, b), factor = scaled_up([A, B])
    options = {"order": order, "internal_p": np.inf, "delta": delta}
    return float(hera.wasserstein_distance(a, b, **options)) / factor
