"""The whole job, by us, by the founding notebook's method, and by the best libraries."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from benchmarks import inputs, sides
from benchmarks.inputs import Load
from benchmarks.record import usable_cores
from benchmarks.sides import DIMENSIONS, Found, Side, Work
from pipeline.console import say
from pipeline.errors import InputError
from tests import reference

Row = dict[str, Any]

# SciPy's divergences of near rows are some 1e-16 off, so their roots, the distances, some 1e-8.
TOLERANCE = 1e-7
WARM_UP_TOKENS = 8


class Job(NamedTuple):
    """A size of the whole job; where a side would take minutes, it does a sample of it."""

    models: tuple[str, ...]
    tokens: int
    texts: int = 1
    notebook_heads: int | None = None  # heads, and all pairs of these; None: all
    library_pairs: int | None = None  # pairs of all heads; None: all


JOBS = (
    Job(("minilm", "smollm2"), 64, notebook_heads=48, library_pairs=4800),
    Job(("minilm",), 128),
    Job(("minilm", "smollm2"), 128, notebook_heads=24, library_pairs=2400),
)
QUICK = (Job(("minilm",), 32, notebook_heads=12, library_pairs=300),)


def run(load: Load, jobs: Sequence[Job], repeats: int) -> list[Row]:
    """Rows for each job and side, best and median seconds, ratios round by round.

    Every round runs all sides one after another, so that what else the machine does meets
    them alike. Raises InputError where a side's numbers are not ours.
    """
    workers = usable_cores()
    rows = []
    with _pool(workers) as libraries:
        for job in jobs:
            rows += _job(load, job, libraries, workers, repeats)
    return rows


def prepare(load: Load, job: Job) -> Work:
    """The models, cut to the job's tokens, and its texts."""
    models = [inputs.cut(load(name), job.tokens) for name in job.models]
    # Ten sentences on, so that texts of the usual sizes do not overlap.
    texts = [inputs.text(models, job.tokens, 10 * number) for number in range(job.texts)]
    return sides.whole(models, texts)


@contextmanager
def _pool(workers: int) -> Iterator[Side]:
    with sides.worker_pool(workers) as pool:
        yield sides.libraries(pool, workers)


def _job(load: Load, job: Job, libraries: Side, workers: int, repeats: int) -> list[Row]:
    work = prepare(load, job)
    names = {
        "ours": sides.ours,
        f"SciPy, GUDHI, Hera: {workers} processes": libraries,
        "notebook": sides.notebook,
    }
    _warm_up(work, list(names.values()))
    rounds = [_round(job, work, names, number) for number in range(repeats)]
    return [_row(job, work, name, rounds) for name in names]


def _warm_up(work: Work, every: Sequence[Side]) -> None:
    """Compile and import all that compiles and imports itself at first use."""
    models = [inputs.cut(model, WARM_UP_TOKENS) for model in work.models]
    small = sides.some_heads(sides.whole(models, work.texts), 2, 0)
    sides.ours(sides.whole(models, work.texts))
    for side in every[1:]:
        side(small)


def _round(job: Job, work: Work, names: dict[str, Side], number: int) -> dict[str, Found]:
    ours, libraries, notebook = names
    samples = {
        ours: work,
        libraries: sides.some_pairs(work, job.library_pairs, number),
        notebook: sides.some_heads(work, job.notebook_heads, number),
    }
    found = {}
    for name, side in names.items():
        found[name] = side(samples[name])
        say(f"whole, {_title(job)}, round {number + 1}: {name} {found[name].seconds:.2f} s")
    check_diagrams(found[ours], found[libraries], libraries)
    check_diagrams(found[ours], found[notebook], notebook)
    check_distances(found[ours], found[libraries], libraries)
    return found


def _title(job: Job) -> str:
    return f"{' and '.join(job.models)}, {job.tokens} tokens"


# ---- the same numbers -----------------------------------------------------------------------


def check_diagrams(ours: Found, other: Found, name: str) -> None:
    """Raise InputError unless all diagrams of the other side are ours, by Hera's exact distance."""
    for text, shapes in enumerate(other.shapes):
        for head, shape in zip(other.work.heads.tolist(), shapes, strict=True):
            for dimension in DIMENSIONS:
                mine = ours.shapes[text][head][dimension]
                apart = _apart(mine, shape[dimension])
                if not apart <= TOLERANCE:
                    raise InputError(
                        f"Benchmark: text {text}, head {head}, dimension {dimension}: the diagram "
                        f"by {name} is {apart:.3g} from ours; the limit is {TOLERANCE}."
                    )


def check_distances(ours: Found, other: Found, name: str) -> None:
    """Raise InputError unless all distances of the other side between heads are ours."""
    off = off_distances(ours, other)
    if off.any():
        raise InputError(
            f"Benchmark: {off.sum()} of {off.size} distances between heads by {name} are more "
            f"than {TOLERANCE} from ours."
        )


def off_distances(ours: Found, other: Found) -> np.ndarray:
    """Which of the other side's distances are not ours: (text, dimension, pair)."""
    heads = len(ours.work.heads)
    matrix = np.full((*ours.distances.shape[:2], heads, heads), np.nan)
    matrix[..., ours.work.first, ours.work.second] = ours.distances
    mine = matrix[..., other.work.first, other.work.second]
    return ~(np.abs(mine - other.distances) <= TOLERANCE)


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    endless = [bars[np.isinf(bars[:, 1]), 0].tolist() for bars in (a, b)]
    if endless[0] != endless[1]:
        return float("inf")
    return reference.hera_bottleneck(sides.finite(a), sides.finite(b))


# ---- the rows -------------------------------------------------------------------------------


def _row(job: Job, work: Work, name: str, rounds: Sequence[dict[str, Found]]) -> Row:
    seconds = np.array([found[name].seconds for found in rounds])
    ours = np.array([found["ours"].seconds for found in rounds])
    done = rounds[0][name].work
    off = np.array([off_distances(found["ours"], found[name]) for found in rounds])
    return {
        "models": ", ".join(job.models),
        "tokens": job.tokens,
        "texts": job.texts,
        "heads": len(work.heads),
        "pairs": len(work.first),
        "implementation": name,
        "best_s": float(seconds.min()),
        "median_s": float(np.median(seconds)),
        "ratio": float(np.median(seconds) / np.median(ours)),
        "ratio_min": float((seconds / ours).min()),
        "ratio_max": float((seconds / ours).max()),
        "sampled": "" if done is work else f"{len(done.heads)} heads, {len(done.first)} pairs",
        "distances_not_ours": f"{off.sum()} of {off.size}",
    }
