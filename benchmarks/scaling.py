"""How cost grows with tokens: the exponent k of time = c tokens^k, fitted to the kernel timings."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.errors import InputError

Row = dict[str, Any]
# What tells one series of timings from another, beside the benchmark; the rest is measured.
SERIES = ("model", "implementation", "distribution", "dimension", "threads")


def run(results: Mapping[str, Sequence[Row]]) -> list[Row]:
    """Exponents for each series of the kernels that work on one head of n tokens.

    results: rows by benchmark; those of jensen_shannon and rips are used. A series needs three
    sizes. Least squares of log(median time) on log(tokens); the error is that of the slope.
    """
    rows = []
    for benchmark in ("jensen_shannon", "rips"):
        for series, points in _series(results.get(benchmark, ())).items():
            if len(points) > 2:
                rows.append({"kernel": benchmark, **dict(series), **_fit(points)})
    return rows


def _series(rows: Sequence[Row]) -> dict[tuple[tuple[str, Any], ...], dict[int, float]]:
    found: dict[tuple[tuple[str, Any], ...], dict[int, float]] = defaultdict(dict)
    for row in rows:
        time = median(row)
        if time is not None:
            series = tuple((key, row[key]) for key in SERIES if key in row)
            _check_new(found[series], row)
            found[series][int(row["tokens"])] = time
    return found


def _check_new(points: Mapping[int, float], row: Row) -> None:
    if row["tokens"] in points:
        raise InputError(
            f"Two rows of timings have the same {', '.join(SERIES)} and tokens, one is {row}; "
            "name what tells them apart in benchmarks.scaling.SERIES."
        )


def median(row: Row) -> float | None:
    """The median time of a row, whatever its unit; None where it holds none.

    Raises InputError where no column, or more than one, is called a median.
    """
    names = [key for key in row if "median" in key and "ratio" not in key]
    if len(names) != 1:
        raise InputError(
            f"A row of timings has columns {', '.join(row)}; one of them must say median."
        )
    value = row[names[0]]
    return None if value is None or not np.isfinite(value) else float(value)


def _fit(points: Mapping[int, float]) -> Row:
    x, y = np.log(list(points)), np.log(list(points.values()))
    slope, intercept = np.polyfit(x, y, 1)
    free = y - (slope * x + intercept)
    error = np.sqrt((free**2).sum() / (len(x) - 2) / ((x - x.mean()) ** 2).sum())
    return {
        "sizes": ", ".join(str(tokens) for tokens in sorted(points)),
        "exponent": float(slope),
        "standard_error": float(error),
    }
