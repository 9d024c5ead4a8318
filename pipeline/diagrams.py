"""Distance matrices -> Vietoris-Rips persistence diagrams."""

import itertools
from collections.abc import Callable, Sequence
from math import comb
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.kernels.rips import persistence_0, persistence_01, workspace
from pipeline.kernels.threads import count, share

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Result = TypeVar("Result")
Matrices = npt.NDArray[Any] | Sequence[npt.ArrayLike]

MOST_POINTS = 1 << 15  # the kernel keeps an edge's two ends in 16 bits each, signed
WORTH = (1 << 18, 1 << 15)  # matrix entries that are worth a thread's while, by dimension
WORTH_WORKERS = 1 << 22  # simplices that are worth the start of worker processes


class Packed(NamedTuple):
    """Diagrams one after another: diagram d is points[offsets[d] : offsets[d + 1]]."""

    points: Floats
    offsets: Integers

    def unpack(self) -> list[Floats]:
        """The diagrams one by one, each in memory of its own."""
        ends = self.offsets.tolist()
        return [self.points[a:b].copy() for a, b in itertools.pairwise(ends)]


def rips(
    distances: Matrices,
    max_dimension: int = 1,
    coefficient_field: int = 2,
    threads: int | None = None,
) -> list[list[Floats]]:
    """Persistence diagrams of the Vietoris-Rips filtration of each distance matrix.

    distances: (matrices, points, points), or a list of square matrices of any sizes:
    finite, symmetric, not negative, 0 on the diagonal. The triangle inequality is not
    needed. An edge that is missing (inf) is not taken: give it a length above all others.
    max_dimension: the last homology dimension, counted from 0.
    coefficient_field: the prime p of the field Z/p. Z/2 in dimensions 0 and 1 is computed
    here, all else by GUDHI.
    threads: how many at most; None is one a core. Their number changes nothing else.

    Returns a list by matrix of lists by dimension of (bars, 2) float64 arrays: births and
    deaths, entries of the matrix unchanged, sorted by (birth, death). The class that never
    ends has death inf; bars of length 0 are left out.
    Raises InputError, naming the entry, where a matrix breaks a condition above.
    """
    _check(max_dimension, coefficient_field)
    if coefficient_field == 2 and max_dimension < 2:
        packed = rips_packed(distances, max_dimension, threads)
        return [list(dims) for dims in zip(*(p.unpack() for p in packed), strict=True)]
    matrices = _split(*_flatten(distances))
    for index, D in enumerate(matrices):
        _complain(D, index)
    return _by_gudhi(matrices, max_dimension, coefficient_field, threads)


def rips_packed(
    distances: Matrices, max_dimension: int = 1, threads: int | None = None
) -> list[Packed]:
    """The same diagrams over Z/2, as one Packed for each dimension: for bulk work.

    max_dimension: 0 or 1; the rest as in rips.
    """
    if max_dimension not in (0, 1):
        raise InputError(f"max_dimension is {max_dimension}; give 0 or 1, or call rips.")
    lengths, sizes = _flatten(distances)
    starts, bits = _offsets(sizes**2), lengths.view(np.int64)

    def work(first: int, last: int) -> tuple[Any, ...]:
        batch, most = (bits, starts[first:last], sizes[first:last]), int(max(sizes[first:last]))
        if max_dimension == 0:
            *found, wrong = persistence_0(*batch, np.empty(3 * most, np.int64))
        else:
            *found, wrong = persistence_01(*batch, *workspace(most))
        return *found, first + wrong if wrong >= 0 else None

    results = _in_blocks(work, len(sizes), WORTH[max_dimension] / max(1, len(bits)), threads)
    wrong = [result[-1] for result in results if result[-1] is not None]
    if wrong:
        _complain(_split(lengths, sizes)[wrong[0]], wrong[0])
        # Only the sign of a zero was wrong: the kernel reads bit patterns.
        return rips_packed(_split(lengths + 0.0, sizes), max_dimension, threads)
    return [_join(results, dimension) for dimension in range(max_dimension + 1)]


def _check(max_dimension: int, coefficient_field: int) -> None:
    if not isinstance(max_dimension, int | np.integer) or max_dimension < 0:
        raise InputError(f"max_dimension is {max_dimension}; give an integer from 0 up.")
    p = coefficient_field
    if p not in range(2, 46338) or any(p % divisor == 0 for divisor in range(2, int(p**0.5) + 1)):
        raise InputError(f"coefficient_field is {p}; give a prime up to 46337, the most of GUDHI.")


def _in_blocks(
    work: Callable[[int, int], Result], total: int, least: float, threads: int | None
) -> list[Result]:
    """Results of work(first, last) over blocks of range(total), each at least this share of it.

    A few blocks a thread, so that none waits long for another.
    """
    size = max(1, int(least * total), total // (8 * (threads or count())))
    starts = range(0, total, size)
    return share(lambda k: work(starts[k], min(starts[k] + size, total)), len(starts), threads)


def _join(results: list[tuple[Any, ...]], dimension: int) -> Packed:
    points = [np.empty((0, 2), np.int64)] + [found[2 * dimension] for found in results]
    counts = [np.empty(0, np.int64)] + [np.diff(found[2 * dimension + 1]) for found in results]
    return Packed(np.concatenate(points).view(np.float64), _offsets(np.concatenate(counts)))


def _by_gudhi(
    matrices: list[Floats], max_dimension: int, coefficient_field: int, threads: int | None
) -> list[list[Floats]]:
    from joblib import Parallel, delayed

    simplices = sum(comb(len(D), max_dimension + 2) for D in matrices)
    workers = (threads or count()) if simplices > WORTH_WORKERS else 1
    one = delayed(_one_by_gudhi)
    return list(Parallel(workers)(one(D, max_dimension, coefficient_field) for D in matrices))


def _one_by_gudhi(D: Floats, max_dimension: int, coefficient_field: int) -> list[Floats]:
    # Late: scikit-learn takes a second to import, and the kernel needs none of it.
    from gudhi.sklearn import RipsPersistence

    engine = RipsPersistence(
        homology_dimensions=list(range(max_dimension + 1)),
        input_type="full distance matrix",
        homology_coeff_field=coefficient_field,
    )
    return [_tidy(bars) for bars in engine.fit_transform([D])[0]]


def _tidy(bars: npt.NDArray[Any]) -> Floats:
    kept = bars[bars[:, 1] > bars[:, 0]].astype(np.float64) + 0.0
    return kept[np.lexsort((kept[:, 1], kept[:, 0]))]


def _flatten(distances: Matrices) -> tuple[Floats, Integers]:
    """All entries in one row, and the number of points of each matrix."""
    if isinstance(distances, np.ndarray):
        if distances.ndim != 3 or distances.shape[1] != distances.shape[2]:
            raise InputError(
                f"Distances have shape {distances.shape}; give (matrices, points, points). "
                "One matrix alone goes in as distances[None]."
            )
        sizes = np.full(len(distances), distances.shape[1], np.int64)
        return _numbers(distances, "Distances"), _checked(sizes)
    matrices = [_square(D, f"Distance matrix {index}") for index, D in enumerate(distances)]
    sizes = np.array([len(D) for D in matrices], np.int64)
    return np.concatenate([np.empty(0), *(D.reshape(-1) for D in matrices)]), _checked(sizes)


def _square(matrix: npt.ArrayLike, name: str) -> Floats:
    try:
        D = np.asarray(matrix)
    except ValueError as error:
        raise InputError(f"{name} is ragged; give all its rows one length.") from error
    if D.ndim != 2 or D.shape[0] != D.shape[1]:
        raise InputError(f"{name} has shape {D.shape}; give it as (points, points).")
    return _numbers(D, name).reshape(D.shape)


def _numbers(values: npt.NDArray[Any], name: str) -> Floats:
    if values.dtype.kind not in "iuf":
        raise InputError(f"{name} hold {values.dtype}; give real numbers.")
    # The kernel is compiled for arrays that it may write to; it never does.
    return np.require(values, np.float64, ["C", "A", "W"]).reshape(-1)


def _checked(sizes: Integers) -> Integers:
    for index, size in enumerate(sizes.tolist()):
        if not 0 < size <= MOST_POINTS:
            raise InputError(
                f"Distance matrix {index} has {size} points; give 1 to {MOST_POINTS}: "
                "leave out what is empty, and sample points where there are more."
            )
    return sizes


def _offsets(counts: Integers) -> Integers:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])


def _split(lengths: Floats, sizes: Integers) -> list[Floats]:
    rows = np.split(lengths, np.cumsum(sizes**2)[:-1])
    return [row.reshape(n, n) for row, n in zip(rows, sizes.tolist(), strict=False)]


def _complain(D: Floats, index: int) -> None:
    """Raise InputError for the first entry that breaks a condition, if one does."""
    off_diagonal = np.eye(len(D), dtype=bool) & (D != 0)
    _reject(D, np.isnan(D), index, "not a number: mend what made it")
    _reject(D, np.isinf(D), index, "not finite: give missing edges a length above all others")
    _reject(D, D < 0, index, "negative: distances start at 0")
    _reject(D, off_diagonal, index, "not 0, as on a diagonal it must be: np.fill_diagonal(D, 0)")
    _reject(D, D != D.T, index, "not its mirror's value: take np.maximum(D, D.T)")


def _reject(D: Floats, bad: npt.NDArray[np.bool_], index: int, reason: str) -> None:
    if bad.any():
        i, j = (int(at) for at in np.argwhere(bad)[0])
        raise InputError(f"Entry [{i}, {j}] of distance matrix {index} is {D[i, j]}, {reason}.")
