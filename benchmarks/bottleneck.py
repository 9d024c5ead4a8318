"""Bottleneck distances between all pairs of heads: ours beside GUDHI, Hera, persim and Topp.

The peers take a pair at a time, so each gets a sample of the pairs, over as many threads as
ours where it releases the interpreter's lock; ours does all pairs in one call, as it is used:
of packed diagrams, as the comparison stage does, and of a list of arrays.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gudhi
import numba
import numpy as np
import numpy.typing as npt
from gudhi import hera

from benchmarks.race import OURS, Side, peer, race
from pipeline.comparison import bottleneck, bottleneck_pairs
from pipeline.diagrams import rips
from tests.reference import scaled_up

Floats = npt.NDArray[np.float64]
Pair = Callable[[int, int], float]

# Pairs that the peers do, by tokens: Hera and GUDHI take milliseconds for a long one.
SAMPLE = {128: 100, 256: 24, 512: 8}
MOST_SAMPLE = 200
PERSIM_TOKENS = 128  # beyond, it takes seconds a pair
TOLERANCE = 1e-9


def run(heads: dict[tuple[str, int], Floats], repeats: int = 5) -> list[dict[str, Any]]:
    """Time a pair, in microseconds, by every implementation, in dimensions 0 and 1.

    Takes distance matrices (heads, n, n) by model and number of tokens; their diagrams are
    made beforehand. `differ` counts sampled pairs more than 1e-9 from ours.
    """
    rows = []
    with ThreadPoolExecutor(numba.get_num_threads()) as pool:
        for (model, tokens), D in heads.items():
            for dimension, diagrams in enumerate(zip(*rips(D), strict=True)):
                common = {"model": model, "tokens": tokens, "dimension": dimension}
                rows += [common | row for row in _rows(list(diagrams), tokens, pool, repeats)]
    return rows


def _rows(
    diagrams: list[Floats], tokens: int, pool: ThreadPoolExecutor, repeats: int
) -> list[dict[str, Any]]:
    pairs = np.column_stack(np.triu_indices(len(diagrams), 1))
    sample = np.random.default_rng(0).permutation(pairs)[: SAMPLE.get(tokens, MOST_SAMPLE)]
    exact = bottleneck(diagrams)[tuple(sample.T)]
    points, offsets = np.concatenate(diagrams), np.cumsum([0, *map(len, diagrams)])
    first, second = np.ascontiguousarray(pairs.T)
    sides = {
        OURS: Side(lambda: bottleneck_pairs(points, offsets, first, second), len(pairs)),
        f"{OURS}, a list of arrays": Side(lambda: bottleneck(diagrams), len(pairs)),
    }
    differ = dict.fromkeys(sides, 0)
    for name, pair in _peers(diagrams, tokens):

        def side(pair: Pair = pair) -> list[float]:
            return list(pool.map(lambda ij: pair(*ij), sample.tolist()))

        sides[name] = Side(side, len(sample))
        differ[name] = int((np.abs(np.array(side()) - exact) > TOLERANCE).sum())
    rows = race(sides, repeats, "us")
    return [row | {"differ": f"{differ[row['implementation']]} of {len(sample)}"} for row in rows]


def _peers(diagrams: list[Floats], tokens: int) -> Iterator[tuple[str, Pair]]:
    yield "GUDHI", lambda i, j: gudhi.bottleneck_distance(diagrams[i], diagrams[j])
    large, factor = scaled_up(diagrams)
    yield "Hera", lambda i, j: hera.bottleneck_distance(large[i], large[j], 0.0) / factor
    persim = peer("persim")
    if persim is not None and tokens <= PERSIM_TOKENS:
        # It leaves out bars without an end, with a warning each time.
        ended = [bars[np.isfinite(bars[:, 1])] for bars in diagrams]
        yield "persim", lambda i, j: persim.bottleneck(ended[i], ended[j])
    topp = peer("topp")
    if topp is not None:
        prepared = [topp.prepare_diagram(bars) for bars in diagrams]
        yield "Topp", lambda i, j: topp.bottleneck_distance(prepared[i], prepared[j])
