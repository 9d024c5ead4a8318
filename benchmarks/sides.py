"""The three ways through the whole job: texts -> attention -> distances -> diagrams -> pairs.

Each side takes loaded models and texts, and gives the seconds it took with all that it found,
so that no side is fast by doing something else.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.inputs import DISTANCE
from pipeline import diagrams, heads, pairs
from pipeline.diagrams import HomologySpec
from pipeline.models import Model
from pipeline.pairs import ComparisonSpec
from tests import reference

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Shape = list[Floats]  # a head's diagrams, by dimension

# As conf/homology/rips.yaml has it; the clusters are work that only our side does.
HOMOLOGY = HomologySpec(1, 2, 0.0, cluster_scales=(0.1, 0.2, 0.3, 0.4, 0.5))
COMPARISON = ComparisonSpec("bottleneck", order=1.0, text_pairs="none", confidence=0.95)
DIMENSIONS = range(HOMOLOGY.max_dimension + 1)
# Enough that no worker waits long for the last one.
CHUNKS_A_WORKER = 4


class Work(NamedTuple):
    """What a side does: heads count through the models in their order, each layer by layer."""

    models: Sequence[Model]
    texts: Sequence[str]
    heads: Integers  # those whose diagrams are made, in order
    first: Integers  # pairs of heads to compare, in each dimension
    second: Integers


class Found(NamedTuple):
    """What a side made of some work, and how long it took (extrapolated if work was left out)."""

    seconds: float
    work: Work
    shapes: list[list[Shape]]  # by text, by head of the work
    distances: Floats  # (text, dimension, pair)


Side = Callable[[Work], Found]


def total_heads(models: Sequence[Model]) -> int:
    """Heads of all models together."""
    return sum(model.layers * model.heads for model in models)


def whole(models: Sequence[Model], texts: Sequence[str]) -> Work:
    """All heads, and all pairs of them."""
    total = total_heads(models)
    return Work(models, texts, np.arange(total), *np.triu_indices(total, 1))


def some_heads(work: Work, count: int | None, seed: int) -> Work:
    """Heads drawn at random, and all pairs of these."""
    if count is None or count >= len(work.heads):
        return work
    chosen = np.sort(np.random.default_rng(seed).choice(work.heads, count, replace=False))
    first, second = np.triu_indices(count, 1)
    return work._replace(heads=chosen, first=chosen[first], second=chosen[second])


def some_pairs(work: Work, count: int | None, seed: int) -> Work:
    """All heads, and pairs of them drawn at random."""
    if count is None or count >= len(work.first):
        return work
    chosen = np.random.default_rng(seed).choice(len(work.first), count, replace=False)
    return work._replace(first=work.first[chosen], second=work.second[chosen])


# ---- ours -----------------------------------------------------------------------------------


def ours(work: Work) -> Found:
    """The functions that the diagrams and comparison stages call, tables and summary included."""
    started = time.perf_counter()
    texts = [heads.Text(str(index), text) for index, text in enumerate(work.texts)]
    made = [heads.text_tables(model, texts, DISTANCE, HOMOLOGY) for model in work.models]
    packs = [
        [_pack(one["diagrams"], index, len(texts)) for one in made] for index in range(len(texts))
    ]
    values = [_compare(work, packs, dimension) for dimension in DIMENSIONS]
    for value in values:
        pairs.summarise(value, np.arange(len(texts)), COMPARISON.confidence)
    seconds = time.perf_counter() - started
    shapes = [[shape for pack in of_text for shape in _unpack(pack)] for of_text in packs]
    return Found(seconds, work, shapes, np.stack(values).transpose(2, 0, 1))


def _pack(table: pa.Table, index: int, texts: int) -> diagrams.Packed:
    rows = len(table) // texts
    return pairs.pack(table.slice(index * rows, rows))


def _unpack(pack: diagrams.Packed) -> Iterator[Shape]:
    bars = [pack.points[a:b] for a, b in zip(pack.offsets, pack.offsets[1:], strict=False)]
    return (bars[at : at + len(DIMENSIONS)] for at in range(0, len(bars), len(DIMENSIONS)))


def _compare(work: Work, packs: Sequence[Sequence[diagrams.Packed]], dimension: int) -> Floats:
    a, b = (side * len(DIMENSIONS) + dimension for side in (work.first, work.second))
    runs = (_one_text(pairs.join(of_text)) for of_text in packs)
    pages = [[*pairs.distances_over_texts(run, a, b, COMPARISON)] for run in runs]
    return np.hstack([np.vstack(of_run) for of_run in pages])


def _one_text(pack: diagrams.Packed) -> pairs.HeadMajor:
    return pairs.HeadMajor(pack, np.ones((len(pack.offsets) - 1, 1), np.bool_))


# ---- the founding notebook's method ---------------------------------------------------------


def notebook(work: Work) -> Found:
    """One process: loops over pairs of tokens, simplex trees, gudhi.bottleneck_distance.

    Its rule and field are the default ones here (attention as it is, base 2, Z/2), so that its
    diagrams can be compared; this changes no time. Of each pair it computes one direction.
    """
    clock = [time.perf_counter()]
    maps = [_forward(work.models, text) for text in work.texts]
    clock.append(time.perf_counter())
    shapes = [[_by_simplex_tree(of_text[head]) for head in work.heads] for of_text in maps]
    clock.append(time.perf_counter())
    distances = np.array([_by_gudhi(work, of_text) for of_text in shapes])
    clock.append(time.perf_counter())
    forward, by_head, by_pair = np.diff(clock)
    total = total_heads(work.models)
    seconds = (
        forward
        + by_head * _times(total, work.heads)
        + by_pair * _times(total * (total - 1) // 2, work.first)
    )
    return Found(float(seconds), work, shapes, distances)


def _by_simplex_tree(A: Floats) -> Shape:
    import gudhi
    from scipy.spatial.distance import jensenshannon

    D = np.zeros((len(A), len(A)))
    for i in range(len(A)):
        for j in range(i):
            D[i, j] = D[j, i] = jensenshannon(A[i], A[j], base=2)
    # SciPy gives NaN where rounding makes the divergence of near rows negative.
    skeleton = gudhi.RipsComplex(distance_matrix=np.nan_to_num(D))
    tree = skeleton.create_simplex_tree(max_dimension=2)
    tree.persistence(homology_coeff_field=2)
    return [tree.persistence_intervals_in_dimension(dimension) for dimension in DIMENSIONS]


def _by_gudhi(work: Work, shapes: list[Shape]) -> list[list[float]]:
    import gudhi

    place = {head: index for index, head in enumerate(work.heads.tolist())}
    pairs = [(place[i], place[j]) for i, j in zip(work.first, work.second, strict=True)]
    return [
        [gudhi.bottleneck_distance(shapes[i][d], shapes[j][d]) for i, j in pairs]
        for d in DIMENSIONS
    ]


# ---- the best assembly of libraries ---------------------------------------------------------


def libraries(pool: Executor, workers: int) -> Side:
    """SciPy's pdist, GUDHI's RipsPersistence and Hera's exact distance, over worker processes."""

    def side(work: Work) -> Found:
        started = time.perf_counter()
        # The workers take up one text's heads while the next goes through the model.
        waiting = [
            pool.map(_by_libraries, _forward(work.models, text), chunksize=4) for text in work.texts
        ]
        shapes = [list(of_text) for of_text in waiting]
        clock = time.perf_counter()
        distances = np.array([_by_hera(pool, workers, work, of_text) for of_text in shapes])
        ended = time.perf_counter()
        total = len(work.heads)
        scale = _times(total * (total - 1) // 2, work.first)
        return Found(clock - started + (ended - clock) * scale, work, shapes, distances)

    return side


def worker_pool(workers: int) -> ProcessPoolExecutor:
    """Worker processes that have imported what they use."""
    # A fork of a process with threads (torch's, numba's) may hang.
    pool = ProcessPoolExecutor(workers, get_context("spawn"))
    one = np.array([[0.5, 0.5], [1.0, 0.0]])
    list(pool.map(_by_libraries, [one] * workers * 4))
    return pool


def _by_libraries(A: Floats) -> Shape:
    from gudhi.sklearn import RipsPersistence
    from scipy.spatial.distance import pdist, squareform

    D = np.nan_to_num(squareform(pdist(A, "jensenshannon") / np.sqrt(np.log(2))))
    engine = RipsPersistence(
        homology_dimensions=list(DIMENSIONS),
        input_type="full distance matrix",
        homology_coeff_field=2,
    )
    return [np.asarray(bars) for bars in engine.fit_transform([D])[0]]


def _by_hera(pool: Executor, workers: int, work: Work, shapes: list[Shape]) -> Floats:
    chunks = workers * CHUNKS_A_WORKER
    first, second = (np.array_split(side, chunks) for side in (work.first, work.second))
    found = []
    for dimension in DIMENSIONS:
        diagrams = [finite(shape[dimension]) for shape in shapes]
        found.append(np.concatenate(list(pool.map(_exact, repeat(diagrams), first, second))))
    return np.stack(found)


def _exact(diagrams: list[Floats], first: Integers, second: Integers) -> Floats:
    from gudhi import hera

    large, factor = reference.scaled_up(diagrams)
    pairs = zip(first, second, strict=True)
    # Hera's default is an approximation, within 1%.
    found = [hera.bottleneck_distance(large[i], large[j], 0.0) for i, j in pairs]
    return np.array(found) / factor


# ---- what the last two share ----------------------------------------------------------------


def finite(bars: Floats) -> Floats:
    """The bars that end; of Rips the one that does not begins at 0 in every diagram."""
    return bars[np.isfinite(bars[:, 1])]


def _forward(models: Sequence[Model], text: str) -> list[Floats]:
    import torch

    maps: list[Any] = []
    for model in models:
        batch = model.tokenizer(
            text, truncation=True, max_length=model.spec.max_tokens, return_tensors="pt"
        )
        with torch.inference_mode():
            output = model.network(
                input_ids=batch["input_ids"], output_attentions=True, use_cache=False
            )
        maps += [head.double().numpy() for layer in output.attentions for head in layer[0]]
    return [A / A.sum(1, keepdims=True) for A in maps]


def _times(total: int, done: Integers) -> float:
    """How many times more there would be to do without sampling."""
    return total / len(done)
