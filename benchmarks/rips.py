"""Rips diagrams of whole heads: ours beside GUDHI, ripser.py and giotto-ph.

Every implementation gets the same float64 matrices and may use two threads or more, as many
as ours: GUDHI and ripser.py over heads, giotto-ph within one.
"""

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from gudhi.sklearn import RipsPersistence

from benchmarks.race import OURS, Side, peer, race
from pipeline.diagrams import rips

Floats = npt.NDArray[np.float64]


def run(heads: dict[tuple[str, int], Floats], repeats: int = 5) -> list[dict[str, Any]]:
    """Time a head, in milliseconds, by every implementation, up to dimension 0 and up to 1.

    Takes distance matrices (heads, n, n) by model and number of tokens.
    """
    threads = numba.get_num_threads()
    rows = []
    with ThreadPoolExecutor(threads) as pool:
        for (model, tokens), D in heads.items():
            for dimension in (0, 1):
                calls = _sides(D, dimension, pool, threads)
                sides = {name: Side(call, len(D)) for name, call in calls}
                common = {
                    "model": model,
                    "tokens": tokens,
                    "dimension": "0" if dimension == 0 else "0 and 1",
                    "heads": len(D),
                    "threads": threads,
                }
                rows += [common | row for row in race(sides, repeats)]
    return rows


def _sides(
    D: Floats, dimension: int, pool: ThreadPoolExecutor, threads: int
) -> Iterator[tuple[str, Callable[[], Any]]]:
    yield OURS, lambda: rips(D, dimension)
    engine = RipsPersistence(
        homology_dimensions=list(range(dimension + 1)),
        input_type="full distance matrix",
        homology_coeff_field=2,
    )
    yield "GUDHI RipsPersistence", lambda: list(pool.map(lambda M: engine.fit_transform([M]), D))
    ripser = peer("ripser")
    if ripser is not None:
        single = D.astype(np.float32)

        def by_ripser(M: Any) -> Any:
            return ripser.ripser(M, distance_matrix=True, maxdim=dimension)

        yield "ripser.py", lambda: list(pool.map(by_ripser, single))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        giotto = peer("gph")
    if giotto is not None:

        def by_giotto() -> Any:
            options = {"metric": "precomputed", "maxdim": dimension, "n_threads": threads}
            return [giotto.ripser_parallel(M, **options) for M in D]

        yield "giotto-ph", by_giotto
