"""A few texts measured -> what a whole corpus will take: seconds, bytes, and how long on nodes.

The time of a text grows with its tokens n as a + b n + c n^2 + d n^3, none negative: model,
pairs of tokens, and the homology of the rare text whose triangles outnumber all else. What a
part costs beside its texts (files, their sync) is estimated from the same texts in one part and in
many.
"""

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls

Floats = NDArray[np.float64]
POWERS = 4


class Line(NamedTuple):
    """So much for each part, and so much for each unit of what is in it."""

    part: float
    unit: float

    def at(self, parts: float, units: float) -> float:
        """The whole of so many parts with so many units in all."""
        return self.part * parts + self.unit * units


def line(many: float, one: float, parts: int, units: float) -> Line:
    """The line through the same units in many parts, and in one."""
    part = max((many - one) / (parts - 1), 0.0) if parts > 1 else 0.0
    return Line(part, max(one - part, 0.0) / units if units else 0.0)


class Curve(NamedTuple):
    """Seconds of a text by its tokens: coefficients of 1, n, n^2, n^3."""

    coefficients: tuple[float, ...]

    def at(self, tokens: ArrayLike) -> Floats:
        """Seconds of each text."""
        return np.asarray(_powers(np.asarray(tokens, np.float64)) @ np.array(self.coefficients))


def curve(tokens: ArrayLike, seconds: ArrayLike) -> Curve:
    """The curve that is nearest to what was measured, each text by its own measure."""
    measured = np.maximum(np.asarray(seconds, np.float64), 1e-9)
    powers = _powers(np.asarray(tokens, np.float64))
    # Relative: a long text must not decide alone, nor a short one be off by tenfold. Scaled, so
    # that the solver sees columns of one size.
    scale = np.maximum(powers.max(0), 1.0)
    found, _ = nnls(powers / scale / measured[:, None], np.ones(len(measured)))
    return Curve(tuple((found / scale).tolist()))


def _powers(tokens: Floats) -> Floats:
    return np.vander(tokens, POWERS, increasing=True)


def spread(sizes: ArrayLike, count: int) -> NDArray[np.int64]:
    """So many places of a list, from its smallest to its largest by even steps of rank."""
    order = np.argsort(np.asarray(sizes), kind="stable")
    steps = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(np.int64)
    return np.asarray(order[steps], np.int64)


def makespan(tasks: Sequence[float], nodes: int) -> float:
    """When the last task ends, where each goes to the first node that is free, in their order."""
    free = [0.0] * nodes
    for seconds in tasks:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)
