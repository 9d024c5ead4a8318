"""Heads against their nulls: statistics of a head on a text, and what tests say of them.

A head, or a pair of heads, is measured on every text, and the same head or pair under a null on
the same text; what is tested is the difference, over clusters of texts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import statistics
from pipeline.diagrams import Packed
from pipeline.errors import InputError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Of pairs of heads, how far apart their diagrams are; the second is of order 1.
Distance = Literal["bottleneck", "wasserstein"]
DISTANCES: tuple[Distance, ...] = ("bottleneck", "wasserstein")
SIGNIFICANT = 0.05  # q below which a head or pair counts as differing
# Nearer than that, relative above 1, two values are equal: another processor moves them by more.
EQUAL = 1e-6
# What a value may move by from one processor to another, relative above 1: docs/reproduce.md.
MOVES = 2e-5
LEAST = 1e-3  # distance: a shorter loop counts in part, for rounding may make or end the shortest


@dataclass(frozen=True)
class TestsSpec:
    """How heads are tested against their nulls: conf/tests/*.yaml.

    permutations  sign patterns that are tried; all of them, where there are no more
    seed          of what is random
    confidence    of the intervals of differences
    interval      t: Student's, cluster-robust; percentile, bca: bootstrap over clusters
    resamples     of a bootstrap
    """

    __test__ = False  # no test of pytest's

    permutations: int
    seed: int
    confidence: float
    interval: Literal["t", "percentile", "bca"]
    resamples: int

    def __post_init__(self) -> None:
        for name, least in (("permutations", 99), ("resamples", 100), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if not 0 < self.confidence < 1:
            raise InputError(f"confidence is {self.confidence}; it must lie between 0 and 1")


class Measured(NamedTuple):
    """One statistic of some rows (heads, or pairs of heads) on every text.

    observed, null  (rows, texts): NaN where the text was skipped
    """

    statistic: str
    dimension: int | None
    observed: Floats
    null: Floats


# ---- a head on a text ---------------------------------------------------------------------


def of_diagrams(packed: Packed, dimension: int, tokens: Integers) -> Iterator[tuple[str, Floats]]:
    """Statistics of diagrams in one dimension, by name: (diagrams,) each.

    tokens   (diagrams,): points of the metric space

    total_persistence    sum of the lengths of the bars that end
    tree                 dimension 0: that sum over (tokens - 1), the mean edge of the minimum
                         spanning tree
    bars                 from dimension 1 on: how many; one shorter than LEAST, by its share of that
    longest              from dimension 1 on: the longest
    persistence_entropy  of the lengths over their sum, in bits; 0 without bars
    """
    lengths = packed.points[:, 1] - packed.points[:, 0]
    finite = np.isfinite(lengths)
    lengths = np.where(finite, lengths, 0.0)
    which = np.repeat(np.arange(len(packed.offsets) - 1), np.diff(packed.offsets))
    size = len(packed.offsets) - 1
    total = _added(which, lengths, size)
    yield "total_persistence", total
    if dimension == 0:
        yield "tree", total / np.maximum(tokens - 1, 1)
    else:
        yield "bars", _added(which, np.minimum(lengths / LEAST, 1.0), size)
        longest = np.zeros(size)
        np.maximum.at(longest, which, lengths)
        yield "longest", longest
    shares = np.divide(lengths, total[which], out=np.zeros_like(lengths), where=lengths > 0)
    logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    yield "persistence_entropy", 0.0 - _added(which, shares * logs, size)


def _added(which: Integers, values: NDArray[Any], size: int) -> Floats:
    return np.bincount(which, values, size).astype(np.float64)


# ---- tests --------------------------------------------------------------------------------


def tested(measured: Measured, clusters: Integers, spec: TestsSpec) -> dict[str, Any]:
    """Columns of the tables of tests, but for q: a value for each row of a statistic.

    Where all texts but one cluster were skipped there is a difference and no interval; without
    texts there is nothing.
    """
    differences = _differences(measured)
    both = ~np.isnan(differences)
    sums = statistics.by_cluster(differences, clusters)
    low, high = _interval(sums, spec)
    margin = MOVES * np.nansum(_sizes(measured), 1)
    flipped = statistics.sign_flip_test(sums, spec.permutations, spec.seed, margin)
    observed, null = (
        _mean(np.where(both, values, np.nan)) for values in (measured.observed, measured.null)
    )
    spread = _std(np.where(both, measured.null, np.nan))
    known = {
        "observed": observed,
        "null_mean": null,
        "difference": sums.mean,
        "ci_low": low,
        "ci_high": high,
        "null_std": spread,
        "p": flipped.p,
        "p_near": flipped.near,
    }
    return {
        "statistic": pa.repeat(measured.statistic, len(both)),
        "dimension": pa.array([measured.dimension] * len(both), pa.int32()),
        "texts": both.sum(1),
        "clusters": (sums.counts > 0).sum(1),
        **{
            name: pa.array(values, pa.float64(), from_pandas=True) for name, values in known.items()
        },
    }


def _sizes(measured: Measured) -> Floats:
    """From where on values are compared relatively: NaN where a text was skipped."""
    return np.maximum(1.0, np.maximum(np.abs(measured.observed), np.abs(measured.null)))


def _differences(measured: Measured) -> Floats:
    found = measured.observed - measured.null
    found[np.abs(found) <= EQUAL * _sizes(measured)] = 0.0
    return found


def _interval(sums: statistics.Sums, spec: TestsSpec) -> tuple[Floats, Floats]:
    if spec.interval == "t":
        return statistics.t_interval(sums, spec.confidence)
    corrected = spec.interval == "bca"
    return statistics.bootstrap_interval(
        sums, spec.confidence, spec.resamples, spec.seed, corrected
    )


def _mean(values: Floats) -> Floats:
    count = (~np.isnan(values)).sum(1)
    total = np.nansum(values, 1)
    found = np.full(len(count), np.nan)
    np.divide(total, count, out=found, where=count > 0)
    return found


def _std(values: Floats) -> Floats:
    count = (~np.isnan(values)).sum(1)
    squares = np.nansum((values - _mean(values)[:, None]) ** 2, 1)
    found = np.full(len(count), np.nan)
    np.divide(squares, count - 1, out=found, where=count > 1)
    return np.asarray(np.sqrt(found))


def with_q(table: pa.Table) -> pa.Table:
    """Rows of one kind (heads, or pairs) under one null, with both q over all of them."""
    p = table["p"].to_numpy(zero_copy_only=False).astype(float)
    for name, dependent in (("q", False), ("q_dependent", True)):
        values = statistics.false_discovery(p, dependent)
        place = table.column_names.index(name)
        table = table.set_column(place, name, pa.array(values, pa.float64(), from_pandas=True))
    return table


def shares(table: pa.Table) -> Mapping[str, float]:
    """Of rows of one statistic: the shares that lie above and below their null at q < .05."""
    q = table["q"].to_numpy(zero_copy_only=False).astype(float)
    sign = np.sign(table["difference"].to_numpy(zero_copy_only=False).astype(float))
    known = max(int((~np.isnan(q)).sum()), 1)
    found = np.nan_to_num(q, nan=1.0) < SIGNIFICANT
    return {
        "above": float((found & (sign > 0)).sum() / known),
        "below": float((found & (sign < 0)).sum() / known),
    }
