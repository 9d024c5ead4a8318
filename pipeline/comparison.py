"""Persistence diagrams -> bottleneck and Wasserstein distances between them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from pipeline.errors import InputError

Floats = npt.NDArray[np.float64]
Diagrams = Sequence[npt.ArrayLike]


def bottleneck(a: Diagrams, b: Diagrams | None = None) -> Floats:
    """Bottleneck distance of every diagram of a from every diagram of b (of a, without b).

    Each diagram is (bars, 2): births and deaths, in any order, births of any sign.
    Bars that never end (death inf) match only each other, in order of birth; diagrams with
    different numbers of them are at distance inf.

    Returns (len(a), len(b)) float64, exact: one of the differences or half-lengths.
    Raises InputError for NaN, infinite births and deaths before births.
    """
    rows = [_diagram(bars, index) for index, bars in enumerate(a)]
    columns = rows if b is None else [_diagram(bars, index) for index, bars in enumerate(b)]
    return np.array([[_bottleneck(x, y) for y in columns] for x in rows]).reshape(
        len(rows), len(columns)
    )


def bottleneck_pairs(
    points: npt.ArrayLike, offsets: npt.ArrayLike, first: npt.ArrayLike, second: npt.ArrayLike
) -> Floats:
    """Bottleneck distance between the packed diagrams first[i] and second[i].

    points: (bars, 2), all diagrams one after another; diagram d holds the bars
    offsets[d] to offsets[d + 1] (without the last). Returns (len(first),) float64.
    """
    flat, ends = np.asarray(points, np.float64), np.asarray(offsets)
    diagrams = [_diagram(flat[ends[d] : ends[d + 1]], d) for d in range(len(ends) - 1)]
    pairs = zip(np.asarray(first), np.asarray(second), strict=True)
    return np.array([_bottleneck(diagrams[i], diagrams[j]) for i, j in pairs], np.float64)


def wasserstein(a: Diagrams, b: Diagrams | None = None, order: float = 1.0) -> Floats:
    """Wasserstein distance of every diagram of a from every one of b, ground metric max-norm.

    Shapes, infinite bars and errors as in bottleneck.
    """
    rows = [_diagram(bars, index) for index, bars in enumerate(a)]
    columns = rows if b is None else [_diagram(bars, index) for index, bars in enumerate(b)]
    return np.array([[_wasserstein(x, y, order) for y in columns] for x in rows]).reshape(
        len(rows), len(columns)
    )


def _bottleneck(a: Floats, b: Floats) -> float:
    from gudhi import hera

    return max(_endless(a, b), float(hera.bottleneck_distance(_finite(a), _finite(b), 0.0)))


def _wasserstein(a: Floats, b: Floats, order: float) -> float:
    endless_a, endless_b = np.sort(a[np.isinf(a[:, 1]), 0]), np.sort(b[np.isinf(b[:, 1]), 0])
    if len(endless_a) != len(endless_b):
        return float("inf")
    a, b = _finite(a), _finite(b)
    between = np.abs(a[:, None] - b[None]).max(-1, initial=0.0) ** order
    to_a, to_b = ((a[:, 1] - a[:, 0]) / 2) ** order, ((b[:, 1] - b[:, 0]) / 2) ** order
    gain = np.minimum(between - to_a[:, None] - to_b, 0.0)
    i, j = linear_sum_assignment(gain)
    used = gain[i, j] < 0
    i, j = i[used], j[used]
    total = between[i, j].sum() + np.delete(to_a, i).sum() + np.delete(to_b, j).sum()
    return float((total + (np.abs(endless_a - endless_b) ** order).sum()) ** (1 / order))


def _endless(a: Floats, b: Floats) -> float:
    births_a, births_b = np.sort(a[np.isinf(a[:, 1]), 0]), np.sort(b[np.isinf(b[:, 1]), 0])
    if len(births_a) != len(births_b):
        return float("inf")
    return float(np.abs(births_a - births_b).max(initial=0.0))


def _finite(bars: Floats) -> Floats:
    return bars[np.isfinite(bars[:, 1]) & (bars[:, 1] > bars[:, 0])]


def _diagram(bars: npt.ArrayLike, index: int) -> Floats:
    flat = np.asarray(bars, np.float64)
    if flat.size == 0:
        return np.empty((0, 2))
    if flat.ndim != 2 or flat.shape[1] != 2:
        raise InputError(f"Diagram {index} has shape {flat.shape}; give it as (bars, 2).")
    bad = ~np.isfinite(flat[:, 0]) | ~(flat[:, 1] >= flat[:, 0])
    if bad.any():
        row = int(bad.argmax())
        raise InputError(
            f"Bar {row} of diagram {index} is {flat[row].tolist()}; births must be finite and "
            "deaths not before them (inf for a bar that never ends): mend or leave out the bar."
        )
    return flat
