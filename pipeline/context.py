"""Contextual mappings: what a token's vector owes to the text around it.

A mapping of texts to vectors is contextual where (1) the vectors of one text are distinct
and (2) so are the vectors of two different texts (Yun et al. 2020, Are Transformers universal
approximators of sequence-to-sequence functions?, Definition 3.1). Here both are counted, at
tolerances, beside the cosine of each token's vectors in two texts that share it.

A causal model cannot see what follows: where two texts start with the same tokens (their
shared prefix), its vectors are the same in both, so those pairs are counted by themselves.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from math import inf, isqrt
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from pipeline import attention
from pipeline.attention import Encoding
from pipeline.cache import Cache
from pipeline.errors import InputError, TextError
from pipeline.models import Model

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Pair = tuple[str, str]
Name = TypeVar("Name")

# Hidden states kept for the texts that come again, in bytes: a longer text is run again.
KEPT = 512 * 2**20
# How far ||u - v|| moves from one processor to another, in parts of the longer of the two: each
# vector moves by 2.7e-5 of its largest entry at most, as measured (docs/reproduce.md).
ROUNDING = 6e-5
LEAST = 1e-4  # what is equal but for rounding on one processor is so on all
# Distances in one go: bounds the memory whatever the length of a text.
DISTANCES_AT_ONCE = 2**20
COUNTS = ("pairs", "equal", "near")
PLACES = ("within", "across", "prefix")
SUMS = ("text_pairs", "texts", *(f"{place}_{count}" for place in PLACES for count in COUNTS))


@dataclass(frozen=True)
class ContextSpec:
    """Which pairs of texts, and what counts as equal: conf/context/*.yaml.

    text_pairs   group: texts that share a group (translations of one another); all
    pairs        at most so many, drawn without replacement; 0: none
    seed         of the draw
    tolerances   ascending, from LEAST on; u and v count as equal where
                 ||u - v|| <= t max(||u||, ||v||)
    """

    text_pairs: Literal["group", "all"]
    pairs: int
    seed: int
    tolerances: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("pairs", "seed"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; it cannot be negative")
        if not self.tolerances:
            raise InputError("tolerances is empty; give at least one, such as 1e-4")
        if not all(LEAST <= tolerance < inf for tolerance in self.tolerances):
            raise InputError(
                f"tolerances are {list(self.tolerances)}; give finite ones from {LEAST:g} on: "
                "below, rounding decides, and each processor rounds in its own way"
            )
        if sorted(set(self.tolerances)) != list(self.tolerances):
            raise InputError(f"tolerances are {list(self.tolerances)}; give each once, ascending")


class View(NamedTuple):
    """One text as a model sees it."""

    encoding: Encoding
    states: Floats  # (layers + 1, tokens, width): see `attention.hidden_states`


# ---- which pairs of texts -----------------------------------------------------------------


def text_pairs(
    ids: Sequence[Name], groups: Sequence[str | None], spec: ContextSpec
) -> list[tuple[Name, Name]]:
    """Draw pairs of texts, in the order of the corpus; all of them where there are no more.

    ids: what the texts are called.

    The candidates are never listed, so memory follows the texts and the pairs drawn.
    """
    members = _members(groups, spec)
    sizes = np.array([len(found) for found in members], np.int64)
    ends = np.cumsum(sizes * (sizes - 1) // 2)
    total = int(ends[-1]) if len(ends) else 0
    random, count = np.random.default_rng(spec.seed), min(spec.pairs, total)
    ranks: list[int] = random.choice(total, count, replace=False).tolist() if count else []
    drawn = []
    for rank in ranks:
        group = int(np.searchsorted(ends, rank, side="right"))
        first, second = _unrank(rank - (int(ends[group - 1]) if group else 0))
        drawn.append((members[group][first], members[group][second]))
    return [(ids[first], ids[second]) for first, second in sorted(drawn)]


def _members(groups: Sequence[str | None], spec: ContextSpec) -> list[list[int]]:
    if spec.text_pairs == "all":
        return [list(range(len(groups)))]
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        if group is not None:
            members.setdefault(group, []).append(index)
    return list(members.values())


def _unrank(rank: int) -> tuple[int, int]:
    """The pair i < j of a rank, counting (0, 1), (0, 2), (1, 2), (0, 3), ..."""
    second = (1 + isqrt(1 + 8 * rank)) // 2
    return rank - second * (second - 1) // 2, second


# ---- tokens that two texts share ----------------------------------------------------------


def view(model: Model, text: str) -> View:
    """Run a text through a model.

    Raises TextError where the model cannot use it: no tokens, not Unicode, values overflow.
    """
    encoding = attention.encode(model, text)
    return View(encoding, attention.hidden_states(model, encoding))


def shared_tokens(a: Integers, b: Integers) -> tuple[Integers, Integers]:
    """Positions in two texts' token ids: the k-th occurrence in one with the k-th in the other."""
    places: dict[tuple[int, int], int] = {
        occurrence: position for position, occurrence in enumerate(_occurrences(b))
    }
    found = [
        (position, places[occurrence])
        for position, occurrence in enumerate(_occurrences(a))
        if occurrence in places
    ]
    first, second = np.array(found, np.int64).reshape(-1, 2).T
    return first, second


def _occurrences(token_ids: Integers) -> Iterator[tuple[int, int]]:
    """Each token as (id, how many of this id came before)."""
    seen: dict[int, int] = {}
    for token_id in token_ids.tolist():
        seen[token_id] = seen.get(token_id, -1) + 1
        yield token_id, seen[token_id]


def shared_prefix(a: Integers, b: Integers) -> int:
    """The number of leading tokens that two texts have in common."""
    shorter = min(len(a), len(b))
    differ = np.flatnonzero(a[:shorter] != b[:shorter])
    return int(differ[0]) if len(differ) else shorter


def cosines(model: Model, text_a: str, text_b: str) -> pa.Table:
    """Cosine of the vectors of every token that two texts share, in every layer.

    A row is a shared token in a layer, with the columns of the context table but for the
    names of the model and the texts. Raises TextError where the model cannot use a text.
    """
    return _shared(view(model, text_a), view(model, text_b))


def _shared(a: View, b: View) -> pa.Table:
    first, second = shared_tokens(a.encoding.token_ids, b.encoding.token_ids)
    layers, prefix = len(a.states), shared_prefix(a.encoding.token_ids, b.encoding.token_ids)
    tokens = pa.array([a.encoding.tokens[position] for position in first], pa.string())
    special = a.encoding.special[first] | b.encoding.special[second]
    rows = np.tile(np.arange(len(first)), layers)
    return pa.table(
        {
            "token": tokens.take(pa.array(rows)),
            "special": special[rows],
            "position_a": first[rows],
            "position_b": second[rows],
            "prefix": first[rows] < prefix,
            "layer": np.repeat(np.arange(layers), len(first)),
            "cosine": pa.array(
                cosine(a.states[:, first], b.states[:, second]).ravel(), from_pandas=True
            ),
        }
    )


def cosine(u: Floats, v: Floats) -> Floats:
    """Cosines (layers, tokens) of vectors (layers, tokens, width); NaN where one is zero."""
    sizes = np.linalg.norm(u, axis=-1) * np.linalg.norm(v, axis=-1)
    products = np.einsum("ltw,ltw->lt", u, v)
    found = np.divide(products, sizes, out=np.full(sizes.shape, np.nan), where=sizes > 0)
    # Rounding can lead beyond 1 by a last bit.
    return np.asarray(np.clip(found, -1.0, 1.0))


# ---- Definition 3.1, counted --------------------------------------------------------------


def equal_pairs(u: Floats, v: Floats, prefix: int, tolerances: Sequence[float]) -> Integers:
    """Count the pairs of rows that are equal, and nearly so, at each tolerance t.

    Returns (2, 2, tolerances). [0] counts the pairs (i, i) with i < prefix, [1] all others;
    of these [0] counts the equal ones, ||u_i - v_j|| <= t max(||u_i||, ||v_j||), and [1] those
    within ROUNDING max(||u_i||, ||v_j||) of that bound, on either side, which another processor
    may count otherwise. The difference is taken before it is squared, so that what is left of
    nearly equal vectors is not lost to cancellation.
    """
    left, right = np.linalg.norm(u, axis=1), np.linalg.norm(v, axis=1)
    size = max(DISTANCES_AT_ONCE // len(v), 1)
    found = np.zeros((2, 2, len(tolerances)), np.int64)
    for start in range(0, len(u), size):
        distances = cdist(u[start : start + size], v)
        longer = np.maximum.outer(left[start : start + size], right)
        for column, tolerance in enumerate(tolerances):
            beyond = distances - tolerance * longer
            for count, held in enumerate((beyond <= 0, np.abs(beyond) <= ROUNDING * longer)):
                inside = np.count_nonzero(np.diagonal(held, start)[: max(prefix - start, 0)])
                found[:, count, column] += (inside, np.count_nonzero(held) - inside)
    return found


def within(states: Floats, tolerances: Sequence[float]) -> Integers:
    """Count the pairs of one text's vectors that are equal, and nearly so.

    Returns (2, layers + 1, tolerances): see `equal_pairs`.
    """
    # Every vector is equal to itself, and (i, j) counts as (j, i) does.
    found = [equal_pairs(layer, layer, layer.shape[0], tolerances)[1] // 2 for layer in states]
    return np.stack(found, axis=1)


def across(a: View, b: View, tolerances: Sequence[float]) -> Integers:
    """Count the pairs across two texts that are equal, and nearly so.

    Returns (2, 2, layers + 1, tolerances). [0] counts the pairs of the same position of their
    shared prefix, [1] all others; of these [0] the equal ones, [1] the near: see `equal_pairs`.
    """
    prefix = shared_prefix(a.encoding.token_ids, b.encoding.token_ids)
    layers = zip(a.states, b.states, strict=True)
    return np.stack([equal_pairs(u, v, prefix, tolerances) for u, v in layers], axis=2)


class _Counts:
    """Sums over texts and pairs of texts, from which the rows of context_equal are made."""

    def __init__(self, layers: int, tolerances: Sequence[float]) -> None:
        self._tolerances = tolerances
        self._sums = {name: np.zeros((layers, len(tolerances)), np.int64) for name in SUMS}

    def add_text(self, seen: View) -> None:
        n = len(seen.encoding.token_ids)
        equal, near = within(seen.states, self._tolerances)
        pairs = n * (n - 1) // 2
        self._add(texts=1, within_pairs=pairs, within_equal=equal, within_near=near)

    def add_pair(self, a: View, b: View) -> None:
        prefix = shared_prefix(a.encoding.token_ids, b.encoding.token_ids)
        every = len(a.encoding.token_ids) * len(b.encoding.token_ids)
        same_place, others = across(a, b, self._tolerances)
        self._add(text_pairs=1, across_pairs=every - prefix, prefix_pairs=prefix)
        self._add(across_equal=others[0], across_near=others[1])
        self._add(prefix_equal=same_place[0], prefix_near=same_place[1])

    def _add(self, **counts: Any) -> None:
        for name, count in counts.items():
            self._sums[name] += count

    def table(self, model: str) -> pa.Table:
        layers, tolerances = self._sums["texts"].shape
        columns = {
            "model": pa.repeat(model, layers * tolerances),
            "layer": np.repeat(np.arange(layers), tolerances),
            "tolerance": np.tile(np.array(self._tolerances, np.float64), layers),
        }
        return pa.table(columns | {name: sums.ravel() for name, sums in self._sums.items()})


def total(counts: pa.Table) -> pa.Table:
    """Sum rows of context_equal that have the same model, layer and tolerance."""
    keys = ["model", "layer", "tolerance"]
    summed = counts.group_by(keys).aggregate([(name, "sum") for name in SUMS])
    summed = summed.rename_columns([name.removesuffix("_sum") for name in summed.column_names])
    return summed.sort_by([(key, "ascending") for key in keys])


# ---- many pairs of texts ------------------------------------------------------------------


def context_tables(
    model: Model,
    texts: Mapping[str, str],
    pairs: Sequence[Pair],
    counted_elsewhere: Set[str],
    tolerances: Sequence[float],
) -> dict[str, pa.Table]:
    """The context and context_equal tables of some pairs of texts under one model.

    texts               by text_id: at least those of the pairs
    pairs               of text_ids
    counted_elsewhere   text_ids whose own vectors are not to be compared with one another
                        here, so that the counts of many calls can be added up: see `total`

    Left out are texts that the model cannot use, their pairs, and pairs of texts that are
    the same tokens to it. Without rows, context is left out.
    """
    counts = _Counts(model.layers + 1, tolerances)
    views: Cache[View | None] = Cache(KEPT, _bytes)

    def view_of(text_id: str) -> View | None:
        return views.get(text_id, lambda: _usable(model, texts[text_id]))

    done, pages = set(counted_elsewhere), []
    for text_a, text_b in pairs:
        a, b = view_of(text_a), view_of(text_b)
        for text_id, seen in ((text_a, a), (text_b, b)):
            if seen is not None and text_id not in done:
                done.add(text_id)
                counts.add_text(seen)
        if a is not None and b is not None and _differ(a, b):
            counts.add_pair(a, b)
            names = {"model": model.name, "text_a": text_a, "text_b": text_b}
            pages.append(_page(names, _shared(a, b)))
    made = {"context_equal": counts.table(model.name)}
    return made | ({"context": pa.concat_tables(pages)} if pages else {})


def _differ(a: View, b: View) -> bool:
    return not np.array_equal(a.encoding.token_ids, b.encoding.token_ids)


def _page(names: Mapping[str, str], rows: pa.Table) -> pa.Table:
    columns = {name: pa.repeat(value, len(rows)) for name, value in names.items()}
    return pa.table(columns | dict(zip(rows.column_names, rows.columns, strict=True)))


def _usable(model: Model, text: str) -> View | None:
    try:
        return view(model, text)
    except TextError:
        return None


def _bytes(seen: View | None) -> int:
    return 0 if seen is None else seen.states.nbytes
