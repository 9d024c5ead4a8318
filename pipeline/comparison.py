"""Persistence diagrams -> bottleneck and Wasserstein distances between them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.arrays import array, reals
from pipeline.errors import InputError
from pipeline.kernels import bottleneck as kernel
from pipeline.kernels import wasserstein as moving
from pipeline.kernels.threads import share

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Diagrams = Sequence[npt.ArrayLike]
Apart = Callable[[Integers, Integers], Floats]

BLOCK = 4096  # pairs that one thread takes at a time
WORK = 1 << 21  # bars against bars, of the longest diagrams, that one thread takes at a time
SHARES = 16  # of a few pairs, so that threads end together
BARS = 1 << 15  # bars that one thread lays out at a time
FEW = 512  # of a table's pairs, whose rows go together: a call costs as much as some hundred


def bottleneck(a: Diagrams, b: Diagrams | None = None, threads: int | None = None) -> Floats:
    """Bottleneck distance of each diagram of a from each of b, or of a where b is not given.

    Each diagram is (bars, 2): births and deaths in any order, births of any sign. A bar that
    never ends (death inf) matches only such bars, in order of birth: diagrams with different
    numbers of them are at distance inf. threads: how many at most; the result is the same.

    Returns (len(a), len(b)) float64, exact: a difference of two births or deaths, or half
    the length of a bar. Raises InputError for NaN, infinite births, and deaths before births.
    """
    prepared = _prepare(*_pack([*a, *(() if b is None else b)]), threads)
    return _compared(prepared.apart, a, b, threads)


def bottleneck_pairs(
    points: npt.ArrayLike,
    offsets: npt.ArrayLike,
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    threads: int | None = None,
) -> Floats:
    """Bottleneck distances between the packed diagrams first[i] and second[i], for bulk work.

    points: (bars, 2), all diagrams one after another: diagram d is
    points[offsets[d] : offsets[d + 1]]. first, second: (pairs,). Returns (pairs,) float64.
    """
    packed, (left, right) = _packed(points, offsets), _places(first, second, offsets)
    return _compared_pairs(_prepare(*packed, threads).apart, left, right, BLOCK, threads)


def wasserstein(
    a: Diagrams, b: Diagrams | None = None, order: float = 1.0, threads: int | None = None
) -> Floats:
    """Wasserstein distance of each diagram of a from each of b, or of a where b is not given.

    The root of degree order (at least 1) of the least sum of the powers of the distances, in
    the maximum norm, that bars are moved: to each other or to the diagonal. Exact but for
    rounding at any order, and the same to the bit from either side; all else as in bottleneck.
    """
    _check_order(order)
    prepared = _prepare(*_pack([*a, *(() if b is None else b)]), threads).settled()
    return _compared(lambda i, j: prepared.moved(i, j, order), a, b, threads)


def wasserstein_pairs(
    points: npt.ArrayLike,
    offsets: npt.ArrayLike,
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    order: float = 1.0,
    threads: int | None = None,
) -> Floats:
    """Wasserstein distances between packed diagrams; all else as in bottleneck_pairs."""
    _check_order(order)
    packed, (left, right) = _packed(points, offsets), _places(first, second, offsets)
    prepared = _prepare(*packed, threads).settled()
    size = prepared.block(len(left))
    return _compared_pairs(lambda i, j: prepared.moved(i, j, order), left, right, size, threads)


def _check_order(order: float) -> None:
    if not 1 <= order < np.inf:
        raise InputError(f"order is {order}; give a number from 1 up (bottleneck is order inf).")


def _compared(apart: Apart, a: Diagrams, b: Diagrams | None, threads: int | None) -> Floats:
    """The table of the distances of a from b, counted through both, or of a from itself."""
    out = np.zeros((len(a), len(a if b is None else b)))

    def some(rows: range) -> None:
        others = [_opposite(i, a, b) for i in rows]
        counts = [len(row) for row in others]
        values = apart(np.repeat(rows, counts), np.concatenate(others))
        for i, found in zip(rows, np.split(values, np.cumsum(counts)[:-1]), strict=True):
            out[i, out.shape[1] - len(found) :] = found

    runs = _runs(len(out), 1 + FEW // max(1, out.shape[1]))
    share(lambda k: some(runs[k]), len(runs), threads)
    return out + out.T if b is None else out


def _runs(rows: int, size: int) -> list[range]:
    return [range(start, min(start + size, rows)) for start in range(0, rows, size)]


def _compared_pairs(
    apart: Apart, first: Integers, second: Integers, size: int, threads: int | None
) -> Floats:
    """The distances between first[k] and second[k], so many at a time in each thread."""
    out = np.empty(len(first))

    def block(k: int) -> None:
        part = slice(k * size, (k + 1) * size)
        out[part] = apart(first[part], second[part])

    share(block, -(-len(out) // size), threads)
    return out


class _Prepared(NamedTuple):
    """Packed diagrams, laid out as the kernel wants them."""

    starts: Integers
    births: Floats
    deaths: Floats
    halves: Floats
    finite: Integers
    endless: Integers
    at_zero: npt.NDArray[np.bool_]

    def apart(self, first: Integers, second: Integers) -> Floats:
        """Distances between the diagrams first[k] and second[k], in this thread."""
        out, most = np.empty(len(first)), int(self.finite.max(initial=0)) + 1
        scratch = np.empty((3, most), np.int64), np.empty(most)
        kernel.pairs(first, second, *self, *scratch, out)
        return out

    def settled(self) -> "_Prepared":
        """These diagrams, once their bars of one length are in one order, whatever was given."""
        moving.settle(self.starts, self.births, self.deaths, self.halves, self.finite)
        return self

    def moved(self, first: Integers, second: Integers, order: float) -> Floats:
        """Wasserstein distances between the settled diagrams first[k] and second[k]."""
        out, most = np.empty(len(first)), int(self.finite.max(initial=0)) + 1
        general = int(self.finite[~self.at_zero].max(initial=0))
        ints, floats = np.empty((4, most), np.int64), np.empty((5, most))
        work = np.empty(moving.PARTS * moving.LANES * (most + 1))
        queue, ends = np.empty(len(out), np.int64), np.empty(most, np.int64)
        scratch = ints, floats, np.empty(general * most), work, queue, ends
        moving.pairs(first, second, *self, float(order), *scratch, out)
        return out

    def block(self, pairs: int) -> int:
        """How many of these pairs one thread takes at a time: fewer where bars are many."""
        most = int(self.finite.max(initial=0))
        return max(1, min(BLOCK, WORK // (1 + most * most), max(FEW, pairs // SHARES)))


def _prepare(points: Floats, offsets: Integers, threads: int | None) -> _Prepared:
    count = len(offsets) - 1
    births, deaths, halves = np.empty((3, len(points)))
    finite, endless = np.zeros((2, count), np.int64)
    prepared = _Prepared(offsets, births, deaths, halves, finite, endless, np.empty(count, bool))
    block = 1 + BARS * count // max(1, len(points))

    def lay_out(k: int) -> int:
        return int(kernel.prepare(points, *prepared, k * block, min(count, (k + 1) * block)))

    bad = [bar for bar in share(lay_out, -(-count // block), threads) if bar >= 0]
    if bad:
        _complain(points, offsets, bad[0])
    return prepared


def _complain(points: Floats, offsets: Integers, bar: int) -> None:
    d = int(np.searchsorted(offsets, bar, "right")) - 1
    raise InputError(
        f"Bar {bar - offsets[d]} of diagram {d} is {points[bar].tolist()}; a birth must be "
        "finite and a death not before it (inf: it never ends): mend the bar or leave it out."
    )


def _opposite(i: int, a: Diagrams, b: Diagrams | None) -> Integers:
    """Which diagrams, counted through a and then b, the i-th of a is compared with."""
    return np.arange(i + 1, len(a)) if b is None else np.arange(len(a), len(a) + len(b))


def _pack(diagrams: Diagrams) -> tuple[Floats, Integers]:
    arrays = [_bars(bars, f"Diagram {index}") for index, bars in enumerate(diagrams)]
    ends = np.cumsum([0, *(len(bars) for bars in arrays)])
    return np.concatenate([np.empty((0, 2)), *arrays]), ends.astype(np.int64)


def _bars(bars: npt.ArrayLike, name: str) -> Floats:
    found = reals(bars, f"The bars of {name}")
    if found.size and (found.ndim != 2 or found.shape[1] != 2):
        raise InputError(f"{name} has shape {found.shape}; give (bars, 2).")
    # The kernel is compiled for arrays that it may write to; to these it never does.
    return np.require(found.reshape(-1, 2), np.float64, ["C", "A", "W"])


def _packed(points: npt.ArrayLike, offsets: npt.ArrayLike) -> tuple[Floats, Integers]:
    bars, starts = _bars(points, "Points"), _integers(offsets, "offsets")
    if not (len(starts) and starts[0] == 0 and starts[-1] == len(bars) and _ascends(starts)):
        raise InputError(
            f"offsets must go from 0 to the {len(bars)} bars there are, and never down."
        )
    return bars, starts


def _ascends(starts: Integers) -> bool:
    return bool((np.diff(starts) >= 0).all())


def _places(
    first: npt.ArrayLike, second: npt.ArrayLike, offsets: npt.ArrayLike
) -> tuple[Integers, Integers]:
    left, right = _integers(first, "first"), _integers(second, "second")
    if len(left) != len(right):
        raise InputError(f"first has {len(left)} diagrams, second {len(right)}; give pairs.")
    count = np.size(offsets) - 1
    for name, places in (("first", left), ("second", right)):
        wrong = places[(places < 0) | (places >= count)]
        if len(wrong):
            raise InputError(f"{name} has {wrong[0]}; the diagrams are 0 to {count - 1}.")
    return left, right


def _integers(values: npt.ArrayLike, name: str) -> Integers:
    found = array(values)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise InputError(
            f"{name} has shape {found.shape} and type {found.dtype}; give integers in a row."
        )
    return np.require(found, np.int64, ["C", "A", "W"])
