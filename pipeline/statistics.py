"""Tests and intervals over texts, where the texts of one cluster are not independent.

Everywhere a row is one quantity (a pair of heads, say), measured on every text, and texts come
in clusters: translations of one sentence, or a text alone. What is resampled, or has its signs
flipped, is the clusters, never the rows: pairs of heads share heads, and texts do not.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit
from scipy.stats import false_discovery_control

from pipeline.errors import InputError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Numbers of a page of the matrix products: bounds the memory, changes no bit of a row.
AT_ONCE = 2**24
# What two sums of the same numbers in other orders may differ by, in parts of their sizes.
ROUNDING = 1e-12


class Sums(NamedTuple):
    """Values (rows, texts) by cluster: their sums and counts, (rows, clusters)."""

    sums: Floats
    counts: Floats

    @property
    def mean(self) -> Floats:
        """Over all texts, (rows,); NaN for a row without any."""
        counts = self.counts.sum(1)
        found = np.full(len(counts), np.nan)
        np.divide(self.sums.sum(1), counts, out=found, where=counts > 0)
        return found


def by_cluster(values: Floats, clusters: Integers) -> Sums:
    """Values (rows, texts), NaN where there is none, added up over the texts of each cluster."""
    if values.shape[1] != len(clusters):
        raise InputError(
            f"values are of {values.shape[1]} texts, and clusters of {len(clusters)}: give "
            "the cluster of every text"
        )
    present = ~np.isnan(values)
    member = np.zeros((len(clusters), int(clusters.max(initial=-1)) + 1))
    member[np.arange(len(clusters)), clusters] = 1.0
    return Sums(np.where(present, values, 0.0) @ member, present @ member)


# ---- is it zero? --------------------------------------------------------------------------


def sign_flips(clusters: int, permutations: int, seed: int) -> tuple[Floats, bool]:
    """Signs (flips, clusters) for `sign_flip_test`, and whether they are all there are.

    All, where they are no more than permutations + 1: one cluster's sign stays, for all signs
    reversed give the same two-sided statistic. Otherwise so many at random, without the
    observed one.
    """
    if clusters - 1 < 60 and 2 ** max(clusters - 1, 0) <= permutations + 1:
        codes = np.arange(2 ** max(clusters - 1, 0))
        bits = codes[:, None] >> np.arange(clusters) & 1
        bits[:, -1:] = 0
        return np.asarray(1.0 - 2.0 * bits, np.float64), True
    random = np.random.default_rng(seed)
    drawn = random.integers(0, 2, (permutations, clusters))
    return np.asarray(1.0 - 2.0 * drawn, np.float64), False


class Tested(NamedTuple):
    """p of each row, and by how much it may be otherwise where rounding is: (rows,) each."""

    p: Floats
    near: Floats


def sign_flip_test(
    differences: Sums, permutations: int, seed: int, margin: Floats | float = 0.0
) -> Tested:
    """Whether the differences of each row's clusters lie around 0, two-sided.

    Where observed and null are exchangeable on every cluster, the sign of a cluster's sum is
    a toss of a coin. The statistic is the sum over clusters; p is the share of sign patterns
    that give one as large, exactly where they are few, else (b + 1) / (m + 1) with m random
    patterns, the same for all rows. near is the share of other patterns whose statistic is within
    margin (of each row) of the observed one. NaN for a row without texts.
    """
    sums = differences.sums
    rows, clusters = sums.shape
    signs, exact = sign_flips(clusters, permutations, seed)
    hits, near = np.empty((2, rows))
    slack = ROUNDING * np.abs(sums).sum(1)
    observed = np.abs(sums.sum(1)) - slack
    wide = np.broadcast_to(np.asarray(margin), (rows,)) + slack
    size = max(AT_ONCE // max(len(signs), 1), 1)
    for start in range(0, rows, size):
        page = slice(start, start + size)
        beyond = np.abs(signs @ sums[page].T)
        beyond -= observed[page]
        hits[page] = (beyond >= 0).sum(0)
        near[page] = (np.abs(beyond, out=beyond) <= wide[page]).sum(0)
    # All patterns include the observed one, which is near itself and cannot move.
    if exact:
        hits, near = hits / len(signs), (near - 1.0) / len(signs)
    else:
        hits, near = (hits + 1.0) / (len(signs) + 1.0), near / (len(signs) + 1.0)
    none = differences.counts.sum(1) == 0
    hits[none] = near[none] = np.nan
    return Tested(hits, near)


def false_discovery(p: Floats, dependent: bool = False) -> Floats:
    """q of each p, NaN left out: Benjamini-Hochberg, or Benjamini-Yekutieli where dependent.

    The second holds whatever the dependence between the tests; the first where it is positive.
    """
    q = np.full(p.shape, np.nan)
    known = ~np.isnan(p)
    if known.any():
        q[known] = false_discovery_control(p[known], method="by" if dependent else "bh")
    return q


# ---- how large is it? ---------------------------------------------------------------------


def t_interval(values: Sums, confidence: float) -> tuple[Floats, Floats]:
    """Student's interval of the mean with a cluster-robust standard error, (rows,) each.

    se^2 = g / (g - 1) * sum over clusters (sum of x - mean)^2 / texts^2, g - 1 degrees (Liang
    and Zeger 1986): the usual interval where every text is its own cluster. NaN below two.
    """
    mean, texts = values.mean, values.counts.sum(1)
    groups = (values.counts > 0).sum(1)
    free = np.maximum(groups - 1, 1)
    deviations = values.sums - values.counts * np.nan_to_num(mean)[:, None]
    error = np.sqrt(groups / free * (deviations**2).sum(1)) / np.maximum(texts, 1)
    half = np.where(groups > 1, stdtrit(free, (1 + confidence) / 2) * error, np.nan)
    return mean - half, mean + half


def bootstrap_interval(
    values: Sums, confidence: float, resamples: int, seed: int, corrected: bool = True
) -> tuple[Floats, Floats]:
    """Bootstrap interval of the mean over clusters drawn with replacement, (rows,) each.

    corrected   BCa (Efron 1987): the quantiles moved for bias and skew; else plain percentiles

    The same draws serve all rows. NaN below two clusters.
    """
    rows, clusters = values.sums.shape
    random = np.random.default_rng(seed)
    draws = random.multinomial(clusters, np.full(clusters, 1 / clusters), resamples).astype(float)
    low, high = np.full((2, rows), np.nan)
    size = max(AT_ONCE // resamples, 1)
    for start in range(0, rows, size):
        page = slice(start, start + size)
        low[page], high[page] = _page(
            Sums(*(part[page] for part in values)), draws, confidence, corrected
        )
    return low, high


def _page(values: Sums, draws: Floats, confidence: float, corrected: bool) -> tuple[Floats, Floats]:
    texts = values.counts @ draws.T
    means = np.divide(
        values.sums @ draws.T, texts, out=np.full(texts.shape, np.nan), where=texts > 0
    )
    means.sort(axis=1)  # NaN last
    known = (~np.isnan(means)).sum(1)
    ends = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    shares = np.broadcast_to(ends, (len(means), 2))
    if corrected:
        shares = _corrected(values, means, known, ends)
    found = _quantiles(means, known, shares)
    found[(values.counts > 0).sum(1) < 2] = np.nan
    return found[:, 0], found[:, 1]


def _corrected(values: Sums, means: Floats, known: Integers, ends: Floats) -> Floats:
    """The shares whose quantiles are BCa's ends, (rows, 2)."""
    mean = values.mean[:, None]
    width = ROUNDING * np.abs(mean)
    below = (means < mean - width).sum(1) + (np.abs(means - mean) <= width).sum(1) / 2
    some = np.maximum(known, 1)
    bias = ndtri(np.clip(below / some, 0.5 / some, 1 - 0.5 / some))[:, None]
    left = values.counts.sum(1)[:, None] - values.counts
    without = np.divide(
        values.sums.sum(1)[:, None] - values.sums, left, out=np.zeros_like(left), where=left > 0
    )
    used = (values.counts > 0) & (left > 0)
    centre = np.where(used, without, 0.0).sum(1) / np.maximum(used.sum(1), 1)
    away = np.where(used, centre[:, None] - without, 0.0)
    spread = (away**2).sum(1) ** 1.5
    skew = np.divide((away**3).sum(1), 6 * spread, out=np.zeros(len(spread)), where=spread > 0)[
        :, None
    ]
    z = bias + ndtri(ends)[None, :]
    return np.asarray(ndtr(bias + z / (1 - skew * z)))


def _quantiles(ranked: Floats, known: Integers, shares: Floats) -> Floats:
    """Linear between ranks, as numpy.quantile has it; the first `known` of each row are ranked."""
    last = np.maximum(known - 1, 0)[:, None]
    at = np.clip(shares * last, 0, last)
    below = np.floor(at).astype(np.int64)
    above = np.minimum(below + 1, last)
    low, high = (np.take_along_axis(ranked, index, axis=1) for index in (below, above))
    return np.asarray(low + (high - low) * (at - below))
