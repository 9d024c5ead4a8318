"""Wasserstein distances between all pairs of heads: ours beside Hera, GUDHI with POT, and SciPy.

The peers take a pair at a time, so each gets a sample of the pairs, over as many threads as
ours where it releases the interpreter's lock; ours does all pairs in one call, as it is used.
Hera stops within delta, relative, of the least: 0.01 unless told; with 0 it does not end.
SciPy's side is the reference of the tests: a plain bottleneck distance is in its time.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from gudhi import hera

from benchmarks.race import OURS, Side, peer, race
from pipeline.comparison import wasserstein_pairs
from pipeline.diagrams import rips
from tests import reference

Floats = npt.NDArray[np.float64]
Pair = Callable[[int, int], float]

ORDERS = (1.0, 2.0)
# Pairs that the peers do, by tokens: an assignment takes milliseconds for a long one.
SAMPLE = {128: 50, 256: 12, 512: 4}
MOST_SAMPLE = 200
TOLERANCE = 1e-9
DELTAS = (0.01, TOLERANCE)


def run(heads: dict[tuple[str, int], Floats], repeats: int = 5) -> list[dict[str, Any]]:
    """Time a pair, in microseconds, by every implementation, in dimensions 0 and 1.

    Takes distance matrices (heads, n, n) by model and number of tokens; their diagrams are
    made beforehand. `differ` counts sampled pairs farther from ours, relative, than 1e-9, or
    than delta where that is more.
    """
    rows = []
    with ThreadPoolExecutor(numba.get_num_threads()) as pool:
        for (model, tokens), D in heads.items():
            for dimension, diagrams in enumerate(zip(*rips(D), strict=True)):
                for order in ORDERS:
                    common = {"model": model, "tokens": tokens, "dimension": dimension}
                    common |= {"order": order}
                    found = _rows(list(diagrams), tokens, order, pool, repeats)
                    rows += [common | row for row in found]
    return rows


def _rows(
    diagrams: list[Floats], tokens: int, order: float, pool: ThreadPoolExecutor, repeats: int
) -> list[dict[str, Any]]:
    pairs = np.column_stack(np.triu_indices(len(diagrams), 1))
    sample = np.random.default_rng(0).permutation(pairs)[: SAMPLE.get(tokens, MOST_SAMPLE)]
    points, offsets = np.concatenate(diagrams), np.cumsum([0, *map(len, diagrams)])
    first, second = np.ascontiguousarray(pairs.T)
    exact = wasserstein_pairs(points, offsets, sample[:, 0], sample[:, 1], order)
    sides = {
        OURS: Side(lambda: wasserstein_pairs(points, offsets, first, second, order), len(pairs))
    }
    differ = {OURS: 0}
    for name, delta, pair in _peers(diagrams, order):

        def side(pair: Pair = pair) -> list[float]:
            return list(pool.map(lambda ij: pair(*ij), sample.tolist()))

        sides[name] = Side(side, len(sample))
        differ[name] = int((np.abs(np.array(side()) - exact) > 1.001 * delta * exact).sum())
    rows = race(sides, repeats, "us")
    return [row | {"differ": f"{differ[row['implementation']]} of {len(sample)}"} for row in rows]


def _peers(diagrams: list[Floats], order: float) -> Iterator[tuple[str, float, Pair]]:
    """Name, how near the least each comes, and how it does a pair."""
    large, factor = reference.scaled_up(diagrams)
    for delta in DELTAS:
        options = {"order": order, "internal_p": np.inf, "delta": delta}

        def by_hera(i: int, j: int, options: dict[str, float] = options) -> float:
            return float(hera.wasserstein_distance(large[i], large[j], **options)) / factor

        yield f"Hera, delta {delta:g}", delta, by_hera
    pot = peer("gudhi.wasserstein")
    if pot is not None:
        by_pot = pot.wasserstein_distance
        yield (
            "GUDHI with POT",
            TOLERANCE,
            lambda i, j: by_pot(diagrams[i], diagrams[j], order=order, internal_p=np.inf),
        )
    yield (
        "SciPy, an assignment",
        TOLERANCE,
        lambda i, j: reference.wasserstein(diagrams[i], diagrams[j], order),
    )
