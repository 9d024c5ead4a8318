"""Entropy, Kullback-Leibler and Jensen-Shannon of rows of probabilities."""

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.kernels.jensen_shannon import divergences

Floats = npt.NDArray[np.float64]

_SUM_TOLERANCE = 1e-6


def entropy(p: npt.ArrayLike, base: float = 2.0) -> Floats:
    """Shannon entropy of each row, (..., n, k) -> (..., n)."""
    rows = _normalised(p)
    logs = np.log(np.where(rows > 0, rows, 1.0))
    return np.asarray(-np.sum(rows * logs, axis=-1) / np.log(base)) + 0.0


def kl_divergence(p: npt.ArrayLike, base: float = 2.0) -> Floats:
    """Kullback-Leibler divergence of each pair of rows, (..., n, k) -> (..., n, n)."""
    rows = _normalised(p)
    out = np.empty((*rows.shape[:-1], rows.shape[-2]))
    for index in np.ndindex(*rows.shape[:-1]):
        mine, others = rows[index], rows[index[:-1]]
        with np.errstate(divide="ignore"):
            ratio = np.where(mine > 0, mine / np.where(mine > 0, others, 1.0), 1.0)
            out[index] = np.sum(mine * np.log(ratio), axis=-1)
    return np.asarray(np.maximum(out, 0.0) / np.log(base))


def jensen_shannon(p: npt.ArrayLike, base: float = 2.0) -> Floats:
    """Jensen-Shannon distance of each pair of rows, (..., n, k) -> (..., n, n)."""
    rows = _checked(p)
    *lead, n, k = rows.shape
    flat = np.ascontiguousarray(rows.reshape(-1, n, k))
    sums = flat.sum(axis=-1)
    out = np.empty((len(flat), n, n))
    divergences(flat, (1.0 - sums) / sums, out)
    limit = np.log(2.0) / np.log(base)
    distances = np.sqrt(np.minimum(out / (4.0 * np.log(base)), limit))
    return np.asarray(distances.reshape(*lead, n, n))


def resoftmax(p: npt.ArrayLike) -> Floats:
    """Softmax of each row once more, (..., n, k) -> (..., n, k)."""
    rows = _checked(p)
    weights = np.exp(rows - rows.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def _normalised(p: npt.ArrayLike) -> Floats:
    rows = _checked(p)
    return np.asarray(rows / rows.sum(axis=-1, keepdims=True))


def _checked(p: npt.ArrayLike) -> Floats:
    rows: npt.NDArray[Any] = np.asarray(p, dtype=np.float64)
    if rows.ndim < 2 or rows.shape[-1] == 0:
        raise InputError(
            f"probabilities have shape {rows.shape}; expected (..., n, k) with k >= 1: "
            "give one row of probabilities for each token"
        )
    bad = ~(np.isfinite(rows) & (rows >= 0))
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InputError(
            f"entry {index} is {rows[index]}; expected a finite probability >= 0: "
            "give attention after its softmax, computed in float32 or float64"
        )
    sums = rows.sum(axis=-1)
    off = ~(np.abs(sums - 1.0) <= _SUM_TOLERANCE)
    if off.any():
        index = tuple(int(i) for i in np.argwhere(off)[0])
        raise InputError(
            f"row {index} sums to {sums[index]!r}; expected 1 within {_SUM_TOLERANCE}: "
            "divide each row by its sum, in float64, first"
        )
    return rows
