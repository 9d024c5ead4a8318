"""Jensen-Shannon distances of whole heads: ours beside SciPy and fastjsd.

All get the same float64 rows, divided by their sum beforehand, and the same number of
threads (`numba.get_num_threads()`).
"""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import pdist, squareform

from benchmarks.race import OURS, Side, peer, race
from pipeline.information import jensen_shannon, resoftmax

Floats = npt.NDArray[np.float64]
Peer = Callable[[Floats], Any]


def run(
    heads_by_tokens: dict[tuple[str, int], npt.NDArray[Any]], repeats: int = 7
) -> list[dict[str, Any]]:
    """Time a head, in milliseconds, by every implementation on attention and its softmax.

    Takes attention maps (heads, n, n) by model and number of tokens. One row for each
    model, number of tokens, distribution and implementation.
    """
    with ExitStack() as stack:
        peers = dict(_peers(stack))
        return [
            {"model": model, "tokens": tokens, "distribution": distribution, **row}
            for (model, tokens), maps in heads_by_tokens.items()
            for distribution, rows in _distributions(maps)
            for row in _race(peers, rows, repeats)
        ]


def _distributions(maps: npt.NDArray[Any]) -> Iterator[tuple[str, Floats]]:
    rows = maps.astype(np.float64)
    yield "attention", rows / rows.sum(axis=-1, keepdims=True)
    yield "resoftmax", resoftmax(maps)


def _peers(stack: ExitStack) -> Iterator[tuple[str, Peer]]:
    yield OURS, jensen_shannon
    workers = numba.get_num_threads()
    pools: dict[str, Executor] = {
        "threads": ThreadPoolExecutor(workers),
        "processes": ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")),
    }
    for kind, pool in pools.items():
        yield f"SciPy pdist, {kind}", partial(_scipy, stack.enter_context(pool))
    fastjsd = peer("fastjsd")
    if fastjsd is not None:
        yield "fastjsd", partial(_fastjsd, fastjsd.jsd_matrix)


def _scipy(pool: Executor, rows: Floats) -> list[Floats]:
    return [squareform(condensed) for condensed in pool.map(_one_scipy, rows)]


def _one_scipy(rows: Floats) -> Floats:
    return np.asarray(pdist(rows, "jensenshannon") / np.sqrt(np.log(2.0)))


def _fastjsd(matrix: Callable[[Floats], Floats], rows: Floats) -> list[Floats]:
    return [matrix(one) for one in rows]


def _race(peers: dict[str, Peer], rows: Floats, repeats: int) -> Iterator[dict[str, Any]]:
    ours = peers[OURS](rows)
    common = {"heads": len(rows), "threads": numba.get_num_threads()}
    sides = {name: Side(partial(side, rows), len(rows)) for name, side in peers.items()}
    for row in race(sides, repeats):
        apart = np.abs(peers[row["implementation"]](rows) - ours).max()
        yield common | row | {"largest_difference": float(apart)}
