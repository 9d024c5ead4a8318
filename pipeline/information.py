"""Entropy, Kullback-Leibler and Jensen-Shannon of rows of probabilities.

Everywhere p is (..., n, k): n rows that are k probabilities each, as floats or integers,
in any memory layout; it is never changed. A row that sums to 1 within 1e-6 is divided by
its sum first: to 22 digits where k is at most 4,096. Errors are stated against exact
arithmetic on the numbers as they came, subnormal ones too.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.arrays import reals
from pipeline.errors import InputError
from pipeline.kernels import jensen_shannon as kernel
from pipeline.kernels.threads import count, share

Floats = npt.NDArray[np.float64]
Maps = npt.NDArray[Any]
Write = Callable[[kernel.Rows, int, int, int, Floats], None]

_SUM_TOLERANCE = 1e-6
_WORKSPACE = 2**26  # bytes for the prepared maps that are in work at one time
_NEAR = 2**19  # bytes of prepared maps that a core works on at one time: its second cache
_SMALL = 500_000  # numbers looked at; less than this is done before a thread wakes up
_PARTS_PER_THREAD = 4  # so that a thread that lost its core to others delays little


def entropy(p: npt.ArrayLike, base: float = 2.0) -> Floats:
    """Shannon entropy of each row, (..., n, k) -> (..., n).

    In bits, or to another base. Off by at most (4 + k / 8) 1e-15 bits, for k up to 32,768:
    of 64 numbers 1.2e-14, of 4,096 numbers 5.2e-13, reached where one of them is nearly 1. An
    entropy below 1e-15 bits is given as 0. Raises InputError for what is not a row of
    probabilities.
    """
    unit = math.log(2.0) / math.log(_checked_base(base))

    def write(rows: kernel.Rows, k: int, part: int, parts: int, out: Floats) -> None:
        kernel.entropies(rows, k, unit, part, parts, out.reshape(-1))

    maps = _as_maps(p)
    return _written(maps, write, np.empty(maps.shape[:-1]))


def kl_divergence(p: npt.ArrayLike, base: float = 2.0, epsilon: float = 0.0) -> Floats:
    """Kullback-Leibler divergence of each two rows, (..., n, k) -> (..., n, n).

    [..., i, j] is KL(p_i || p_j), in bits or to another base; inf where p_j lacks
    support. An epsilon > 0 is added inside each logarithm, sum of p_i log((p_i + epsilon)
    / (p_j + epsilon)), as the founding notebook does: then it is always finite, not quite
    a divergence, and can fall below 0. Raises InputError for what is not a row of
    probabilities.
    """
    unit = 1.0 / math.log(_checked_base(base))
    if not (math.isfinite(epsilon) and epsilon >= 0.0):
        raise InputError(f"epsilon is {epsilon}; expected a small number >= 0, such as 1e-9")
    if epsilon > 0.0:
        return _smoothed_divergences(_checked(p), epsilon) * unit

    def write(rows: kernel.Rows, k: int, part: int, parts: int, out: Floats) -> None:
        kernel.divergences(rows, unit, part, parts, out)

    maps = _as_maps(p)
    return _written(maps, write, _between_rows(maps))


def kl_mean(p: npt.ArrayLike, base: float = 2.0, epsilon: float = 1e-9) -> Floats:
    """Mean of the smoothed divergence over ordered pairs of different rows, (..., n, k) -> (...).

    The mean of what kl_divergence gives with this epsilon > 0 off its diagonal, without the
    pairs: with L = log(p + epsilon), the sum over all i, j is n * sum of p L less the sum over
    columns of (sum of p) (sum of L). Off by at most (100 + 4 k) 1e-15 bits, for an epsilon
    from 1e-9 on and k up to 4,096; 0 for a single row. Raises InputError for what is not a
    row of probabilities.
    """
    unit = math.log(2.0) / math.log(_checked_base(base))
    if not (math.isfinite(epsilon) and epsilon > 0.0):
        raise InputError(f"epsilon is {epsilon}; expected a small number > 0, such as 1e-9")

    def write(rows: kernel.Rows, k: int, part: int, parts: int, out: Floats) -> None:
        kernel.mean_divergences(rows, epsilon, unit, part, parts, out)

    maps = _as_maps(p)
    return _written(maps, write, np.empty(maps.shape[:-2]))


def jensen_shannon(p: npt.ArrayLike, base: float = 2.0) -> Floats:
    """Jensen-Shannon distance of each two rows, (..., n, k) -> (..., n, n).

    The root of the divergence: a metric, in [0, 1] at base 2. Off by at most 1e-12 of itself
    from 1e-16 on, and by 1e-22 below, for k up to 4,096 (see `pipeline.kernels.
    jensen_shannon`): rows that are equal once divided by their sums may be as far apart as
    that. Symmetric to the bit, 0 between equal rows; the same bits whatever the number of
    threads and whatever other maps there are. Raises InputError for what is not a row of
    probabilities.
    """
    unit = math.sqrt(math.log(2.0) / math.log(_checked_base(base)))

    def write(rows: kernel.Rows, k: int, part: int, parts: int, out: Floats) -> None:
        kernel.distances(rows, k, unit, part, parts, out)

    maps = _as_maps(p)
    return _written(maps, write, _between_rows(maps))


def resoftmax(p: npt.ArrayLike) -> Floats:
    """Softmax of each row once more, (..., n, k) -> (..., n, k).

    What the founding notebook does to attention, which is a softmax already. Raises
    InputError for what is not a row of probabilities.
    """
    weights = _checked(p).astype(np.float64)
    np.exp(weights, out=weights)
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights


def _smoothed_divergences(maps: Maps, epsilon: float) -> Floats:
    rows = maps / maps.sum(axis=-1, dtype=np.float64, keepdims=True)
    logs = np.log(rows + epsilon)
    out = np.empty((*maps.shape[:-1], maps.shape[-2]))
    for *lead, i in np.ndindex(maps.shape[:-1]):
        mine = (*lead, i)
        out[mine] = ((logs[mine] - logs[*lead]) * rows[mine]).sum(axis=-1)
    return out


def _between_rows(maps: Maps) -> Floats:
    return np.empty((*maps.shape[:-1], maps.shape[-2]))


def _written(maps: Maps, write: Write, out: Floats) -> Floats:
    """Let write fill out, from all maps; raise InputError for what is not a distribution."""
    *_, n, k = maps.shape
    if out.size:
        flat = maps.reshape(-1, n, k)
        results = out.reshape(len(flat), *out.shape[maps.ndim - 2 :])
        threads = 1 if max(out.size, len(flat) * n) * k < _SMALL else count()
        size = max(1, _NEAR // (32 * n * k))
        enough, small = len(flat) >= threads * size, threads * size * 32 * n * k <= _WORKSPACE
        by = _map_by_map if enough and small else _part_by_part
        if not by(flat, write, results, size, threads):
            _checked(maps)
    return out


def _map_by_map(maps: Maps, write: Write, out: Floats, size: int, threads: int) -> bool:
    """Each thread takes a few maps at a time, prepared where its core has them at hand."""
    spare = [kernel.empty_rows(size, *maps.shape[1:]) for _ in range(threads)]

    def work(task: int) -> bool:
        some = slice(task * size, min((task + 1) * size, len(maps)))
        rows = spare.pop()
        try:
            return _write_part(maps[some], rows, write, out[some])
        finally:
            spare.append(rows)

    return all(share(work, -(-len(maps) // size), threads))


def _write_part(maps: Maps, rows: kernel.Rows, write: Write, out: Floats) -> bool:
    number, n, k = maps.shape
    used = number * n + kernel.QUAD - 1
    if used < len(rows.high):
        rows = kernel.first_rows(rows, used)
    sound = kernel.prepare(_plain(maps).reshape(-1, k), rows, 0, 1)
    if sound:
        write(rows, k, 0, 1, out)
    return bool(sound)


def _part_by_part(maps: Maps, write: Write, out: Floats, size: int, threads: int) -> bool:
    """All threads work on the same few maps, at most so many at a time as memory is bounded."""
    _, n, k = maps.shape
    at_once = max(1, _WORKSPACE // (32 * n * k))
    chunks = (slice(first, first + at_once) for first in range(0, len(maps), at_once))
    return all(_in_parts(_plain(maps[some]), write, out[some], threads) for some in chunks)


def _in_parts(maps: Maps, write: Write, out: Floats, threads: int) -> bool:
    number, n, k = maps.shape
    parts = 1 if threads == 1 else _PARTS_PER_THREAD * threads
    rows = kernel.empty_rows(number, n, k)
    p = maps.reshape(-1, k)
    sound = share(lambda part: kernel.prepare(p, rows, part, parts), parts, threads)
    if all(sound):
        share(lambda part: write(rows, k, part, parts, out), parts, threads)
    return all(sound)


def _plain(maps: Maps) -> Maps:
    # The two kinds of array that the kernels are compiled for.
    kind = np.float32 if maps.dtype == np.float32 else np.float64
    return np.require(maps, kind, ["C", "A", "W"])


def _as_maps(p: npt.ArrayLike) -> Maps:
    maps = reals(p, "probabilities")
    if maps.ndim < 2 or maps.shape[-1] == 0:
        raise InputError(
            f"probabilities of shape {maps.shape} came; expected (..., n, k) with k >= 1: "
            "give one row of probabilities for each token"
        )
    return maps


def _checked(p: npt.ArrayLike) -> Maps:
    # In one order in memory, because NumPy adds up in the order of memory.
    maps = np.ascontiguousarray(_as_maps(p))
    if maps.size == 0:
        return maps
    lowest = maps.min(axis=-1)
    sums = maps.sum(axis=-1, dtype=np.float64)
    faults = ~((lowest >= 0) & (np.abs(sums - 1.0) <= _SUM_TOLERANCE))
    if faults.any():
        raise _fault(maps, tuple(int(i) for i in np.argwhere(faults)[0]), sums)
    return maps


def _fault(maps: Maps, row: tuple[int, ...], sums: Floats) -> InputError:
    bad = ~(np.isfinite(maps[row]) & (maps[row] >= 0))
    if bad.any():
        entry = (*row, int(np.argmax(bad)))
        return InputError(
            f"probability {list(entry)} is {maps[entry]}; expected a finite number >= 0: "
            "give attention as it leaves its softmax, computed in float32 or float64"
        )
    return InputError(
        f"row {list(row)} sums to {sums[row]:.9g}; expected 1 within {_SUM_TOLERANCE}: "
        "divide each row by its sum, in float64, first"
    )


def _checked_base(base: float) -> float:
    if not (math.isfinite(base) and base > 1.0):
        raise InputError(f"base is {base}; expected a number > 1: 2 for bits, math.e for nats")
    return base
