"""Distance matrices -> Vietoris-Rips persistence diagrams."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.arrays import reals
from pipeline.errors import InputError
from pipeline.kernels.rips import persistence_0, persistence_01, workspace
from pipeline.kernels.threads import count, share

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Result = TypeVar("Result")
Matrices = npt.NDArray[Any] | Sequence[npt.ArrayLike]

MOST_POINTS = 1 << 15  # the kernel keeps an edge's two ends in 16 bits each, signed
# How far a matrix may be from its mirror, in parts of its longest distance: some units in the
# last place of float32. Diagrams move by half of it at most.
ROUNDING = 1e-6
WORTH = (1 << 18, 1 << 15)  # matrix entries that are worth a thread's while, by dimension
WORTH_WORKERS = 1 << 22  # simplices that are worth the start of worker processes


@dataclass(frozen=True)
class HomologySpec:
    """Which diagrams: conf/homology/*.yaml."""

    max_dimension: int
    coefficient_field: int
    min_persistence: float
    cluster_scales: tuple[float, ...] = ()  # distances at which clusters are counted

    def __post_init__(self) -> None:
        if not 0 <= self.max_dimension <= 3:
            raise InputError(f"max_dimension is {self.max_dimension}; it must be 0 to 3")
        if self.coefficient_field not in (2, 3, 5, 7, 11, 13):
            raise InputError(
                f"coefficient_field is {self.coefficient_field}; give a prime up to 13"
            )
        if not self.min_persistence >= 0:
            raise InputError(f"min_persistence is {self.min_persistence}; it cannot be negative")
        if not all(scale >= 0 for scale in self.cluster_scales):
            raise InputError(f"cluster_scales are {self.cluster_scales}; give distances from 0 up")


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
    rounding: float = ROUNDING,
) -> list[list[Floats]]:
    """Persistence diagrams of the Vietoris-Rips filtration of each distance matrix.

    distances: (matrices, points, points), or a list of square matrices of any sizes:
    symmetric, not negative, 0 on the diagonal. The triangle inequality is not needed. An edge
    of length inf is missing: a class that only it would end has death inf, so that there is
    one in dimension 0 for each component of the graph.
    max_dimension: the last homology dimension, counted from 0.
    coefficient_field: the prime p of the field Z/p. Z/2 in dimensions 0 and 1 is computed
    here, all else by GUDHI.
    threads: how many at most; None is one a core. Their number changes nothing else.
    rounding: how far entries may be from their mirror, and the diagonal from 0, in parts of the
    longest finite distance: their mean, and 0, are then taken. 0 takes a symmetric matrix only.

    Returns a list by matrix of lists by dimension of (bars, 2) float64 arrays: births and
    deaths, entries of the matrix unchanged, sorted by (birth, death). A class that never
    ends has death inf; bars of length 0 are left out.
    Raises InputError, naming the entry, where a matrix breaks a condition above.
    """
    _check(max_dimension, coefficient_field)
    if coefficient_field == 2 and max_dimension < 2:
        packed = rips_packed(distances, max_dimension, threads, rounding)
        return [list(dims) for dims in zip(*(p.unpack() for p in packed), strict=True)]
    matrices, beyond = _mended(_split(*_flatten(distances)), rounding)
    found = _by_gudhi(matrices, max_dimension, coefficient_field, threads)
    return [
        [_without_missing(bars, limit) for bars in dims]
        for dims, limit in zip(found, beyond, strict=True)
    ]


def rips_packed(
    distances: Matrices,
    max_dimension: int = 1,
    threads: int | None = None,
    rounding: float = ROUNDING,
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
        matrices, beyond = _mended(_split(lengths, sizes), rounding)
        found = rips_packed(matrices, max_dimension, threads, 0.0)
        return [_all_without_missing(packed, beyond) for packed in found]
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
        return _flat(reals(distances, "Distances")), _checked(sizes)
    matrices = [_square(D, f"Distance matrix {index}") for index, D in enumerate(distances)]
    sizes = np.array([len(D) for D in matrices], np.int64)
    return np.concatenate([np.empty(0), *(D.reshape(-1) for D in matrices)]), _checked(sizes)


def _square(matrix: npt.ArrayLike, name: str) -> Floats:
    try:
        D = reals(matrix, name)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{name} is ragged; give all its rows one length.") from error
    if D.ndim != 2 or D.shape[0] != D.shape[1]:
        raise InputError(f"{name} has shape {D.shape}; give it as (points, points).")
    return _flat(D).reshape(D.shape)


def _flat(values: npt.NDArray[Any]) -> Floats:
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


def _mended(matrices: list[Floats], rounding: float) -> tuple[list[Floats], Floats]:
    """Matrices as the kernel wants them, and of each the length that stands for missing edges."""
    found = [
        _with_ends(mended(D, f"distance matrix {k}", rounding)) for k, D in enumerate(matrices)
    ]
    return [D for D, _ in found], np.array([limit for _, limit in found], np.float64)


def _with_ends(D: Floats) -> tuple[Floats, float]:
    """Missing edges at a length just above all others; inf: none is missing."""
    missing = np.isinf(D)
    if not missing.any():
        return D, np.inf
    limit = np.nextafter(D[~missing].max(), np.inf)
    if np.isinf(limit):
        raise InputError(
            f"The longest edge is {D[~missing].max()}, so none can be longer: rescale."
        )
    return np.where(missing, limit, D), float(limit)


def _without_missing(bars: Floats, limit: float | Floats) -> Floats:
    """Bars of a graph whose missing edges came at this length: what they begin or end, undone."""
    ends = np.where(bars[:, 1] >= limit, np.inf, bars[:, 1])
    return np.column_stack([bars[:, 0], ends])[bars[:, 0] < limit]


def _all_without_missing(packed: Packed, beyond: Floats) -> Packed:
    counts = np.diff(packed.offsets)
    limit = np.repeat(beyond, counts)
    kept = np.bincount(
        np.repeat(np.arange(len(counts)), counts)[packed.points[:, 0] < limit],
        minlength=len(counts),
    )
    return Packed(_without_missing(packed.points, limit), _offsets(kept))


def mended(D: Floats, name: str, rounding: float) -> Floats:
    """A distance matrix that is its own mirror: means of entries that differ by rounding only.

    D: (points, points), inf where an edge is missing; rounding: as in rips. Raises InputError
    for the first entry that is further from its mirror, from 0 on the diagonal, or no distance.
    """
    _reject(D, np.isnan(D), name, "not a number: mend what made it")
    with np.errstate(invalid="ignore"):  # inf - inf, where both are
        off, diagonal = np.where(D == D.T, 0.0, np.abs(D - D.T)), np.abs(np.diag(D))
    most = rounding * np.where(np.isinf(D), 0.0, np.abs(D)).max(initial=0.0)
    too_far = np.diag(diagonal > most)
    _reject(
        D,
        too_far,
        name,
        f"not 0, as on a diagonal it must be but for {most:.2g}: set the diagonal to 0, "
        "or allow more by the argument rounding",
    )
    negative = (D < 0) & ~np.eye(len(D), dtype=bool)
    _reject(D, negative, name, "negative: distances start at 0")
    far = np.where(off > most)
    if len(far[0]):
        i, j = int(far[0][0]), int(far[1][0])
        raise InputError(
            f"Entry [{i}, {j}] of {name} is {D[i, j]}, not its mirror's value {D[j, i]}: they are "
            f"{off[i, j]:.2g} apart, and {most:.2g} is allowed. Take np.maximum(D, D.T)"
        )
    with np.errstate(over="ignore"):
        mean = np.where(D == D.T, D, D / 2 + D.T / 2) + 0.0  # no zero has a sign
    np.fill_diagonal(mean, 0.0)
    return mean


def _reject(D: Floats, bad: npt.NDArray[np.bool_], name: str, reason: str) -> None:
    if bad.any():
        i, j = (int(at) for at in np.argwhere(bad)[0])
        raise InputError(f"Entry [{i}, {j}] of {name} is {D[i, j]}, {reason}.")
