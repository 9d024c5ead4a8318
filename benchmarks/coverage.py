"""How often 95 % intervals cover: Student's t and two bootstraps over clusters, by simulation.

    python -m benchmarks.coverage

Values of texts in clusters of 1 to 8, alike within a cluster, normal or skewed; each interval is
computed as the tables' are, for 4,000 rows whose true mean is known. Prints a table in Markdown.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline import statistics

Floats = NDArray[np.float64]

ROWS, RESAMPLES, NOMINAL = 4000, 2000, 0.95
CLUSTERS = (9, 20, 57, 500)
LARGEST = 8  # texts of a cluster


def _skewed(random: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Exponential, about its mean: skewness 2."""
    return np.asarray(random.exponential(size=shape) - 1)


def _normal(random: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return random.standard_normal(shape)


VALUES: dict[str, Callable[[np.random.Generator, tuple[int, int]], Floats]] = {
    "normal": _normal,
    "skewed": _skewed,
}


def drawn(kind: str, clusters: int, seed: int) -> statistics.Sums:
    """Rows of texts in clusters, three quarters of whose variance is their cluster's."""
    random = np.random.default_rng(seed)
    sizes = random.integers(1, LARGEST + 1, clusters)
    of = np.repeat(np.arange(clusters), sizes)
    shared = VALUES[kind](random, (ROWS, clusters))[:, of]
    own = VALUES[kind](random, (ROWS, len(of)))
    return statistics.by_cluster(np.sqrt(0.75) * shared + 0.5 * own, of)


def covered(sums: statistics.Sums) -> Iterator[float]:
    """The shares of rows whose interval holds 0, for t, percentile and BCa."""
    yield _share(*statistics.t_interval(sums, NOMINAL))
    for corrected in (False, True):
        yield _share(*statistics.bootstrap_interval(sums, NOMINAL, RESAMPLES, 0, corrected))


def _share(low: Floats, high: Floats) -> float:
    return float(((low <= 0) & (high >= 0)).mean())


def main() -> None:
    """Print the table."""
    print("| values | clusters of texts | t | percentile | bca |\n|---|--:|--:|--:|--:|")
    for kind in VALUES:
        for clusters in CLUSTERS:
            shares = [f"{100 * share:.1f} %" for share in covered(drawn(kind, clusters, clusters))]
            print(f"| {kind} | {clusters} | {' | '.join(shares)} |")


if __name__ == "__main__":
    main()
