"""Two tables that should be one -> how far apart their values are; two provenances -> why.

A table is the recorded one or the one found now. Their rows are matched by the columns that
say what a row is of, so another order is no difference, and a row that only one table has is
one. A float may move within a tolerance, relative above 1 and absolute below; a diagram is
compared by the bottleneck distance, which is at most the largest move of a distance between
two tokens (stability; docs/reproduce.md states the moves that were measured).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.comparison import bottleneck_pairs
from pipeline.store.schemas import TABLES, Column

Floats = npt.NDArray[np.float64]

# Moves of a value across instruction sets, measured: docs/reproduce.md.
TOLERANCE = 1e-4
# In tables of earlier versions, which do not say what stands near, what that decides flips in so
# large a share of rows at most.
FLIPS = 0.01
WORST = 5


class Move(NamedTuple):
    """One value that is not what was recorded, and the row it stands in."""

    row: dict[str, Any]
    column: str
    recorded: Any
    found: Any
    distance: float


class Moved(NamedTuple):
    """How far one column is from what was recorded.

    kind   "diagram" (bottleneck distance), "number", "counted" (parts of what may move, or
           inf where a decision may not flip), "margin" (what may move, of "counted"),
           "decided" or "exact"
    rows   rows whose values are not equal
    distance  the largest distance; inf: of another kind or length
    fits   whether that is within the tolerance
    """

    name: str
    kind: str
    rows: int
    distance: float
    fits: bool


@dataclass(frozen=True)
class Difference:
    """How a table found now differs from the recorded one.

    rows     rows that both have
    lost     rows that only the recorded table has
    gained   rows that only the found table has
    dropped  columns that only the recorded table has
    added    columns that only the found table has
    columns  those compared that are not equal throughout
    worst    the values furthest apart, worst first
    """

    rows: int
    lost: int
    gained: int
    dropped: list[str]
    added: list[str]
    columns: list[Moved]
    worst: list[Move]

    @property
    def verdict(self) -> str:
        """Whether the values are "equal", "within" the tolerance, or "different"."""
        if self.lost or self.gained or not all(column.fits for column in self.columns):
            return "different"
        return "within" if self.columns else "equal"


def difference(recorded: pa.Table, found: pa.Table, tolerance: float = TOLERANCE) -> Difference:
    """Compare two tables value by value in the columns that both have.

    What these mean is what they mean in that of store.TABLES which has most of them.
    """
    names = [name for name in recorded.column_names if name in found.column_names]
    known = _known(names)
    identity = [name for name in names if known[name].key]
    rows = _matched(recorded, found, identity)
    a, b = (
        table.select(names).take(which)
        for table, which in zip((recorded, found), rows, strict=True)
    )
    distances = dict(_distances(a, b, [one for one in known.values() if not one.key]))
    columns = [
        Moved(name, kind, int((d > 0).sum()), float(d.max()), _fits(kind, d, tolerance))
        for (name, kind), d in distances.items()
        if len(d) and d.max() > 0
    ]
    return Difference(
        rows=len(a),
        lost=len(recorded) - len(a),
        gained=len(found) - len(a),
        dropped=[name for name in recorded.column_names if name not in names],
        added=[name for name in found.column_names if name not in names],
        columns=sorted(columns, key=lambda column: (column.fits, -column.distance)),
        worst=_worst(a, b, distances, tolerance),
    )


def _known(names: Iterable[str]) -> dict[str, Column]:
    """Columns of a table, by name, as the table of TABLES that has most of them has them."""
    tables = [{one.name: one for one in table.columns} for table in TABLES.values()]
    likest = max(tables, key=lambda columns: len(columns.keys() & set(names)))
    return {name: likest.get(name, Column(name, pa.null(), "")) for name in names}


def _fits(kind: str, moved: Floats, tolerance: float) -> bool:
    if kind == "exact":
        return False
    if kind == "margin":
        return True
    if kind == "counted":
        return bool(moved.max() <= 1)
    if kind == "decided":
        return bool((moved > 0).mean() <= FLIPS)
    return bool(moved.max() <= tolerance)


def _matched(recorded: pa.Table, found: pa.Table, keys: list[str]) -> tuple[Any, Any]:
    """The places of the rows that both tables have, in the order of the recorded one."""
    a, b = (_keys(table, keys) for table in (recorded, found))
    if a.equals(b):
        return np.arange(len(a)), np.arange(len(b))
    both = a.assign(a=np.arange(len(a))).merge(b.assign(b=np.arange(len(b))), on=list(a.columns))
    both = both.sort_values("a")
    return both["a"].to_numpy(), both["b"].to_numpy()


def _keys(table: pa.Table, keys: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame(table.select(keys).to_pandas(), index=range(len(table)))
    # Rows of one key are matched in their order.
    count = frame.groupby(keys, dropna=False).cumcount() if keys else range(len(frame))
    return frame.assign(place=count)


def _distances(
    a: pa.Table, b: pa.Table, columns: Iterable[Column]
) -> Iterator[tuple[tuple[str, str], Floats]]:
    left = {one.name: one for one in columns if not one.follows}
    margins = {near for one in left.values() for near in (one.counted_by, *one.decided_by)}
    if {"birth", "death"} <= left.keys():
        yield ("birth, death", "diagram"), _bottleneck(a, b)
        del left["birth"], left["death"]
    for name, one in left.items():
        x, y = a[name].combine_chunks(), b[name].combine_chunks()
        if one.counted_by in left:
            moves = np.abs(_floats(x) - _floats(y))
            yield (name, "counted"), _in_parts(moves, _near(a, b, [one.counted_by]))
        elif one.decided_by and left.keys() >= set(one.decided_by):
            flips, near = _unequal(x, y), _near(a, b, one.decided_by)
            yield (name, "counted"), _in_parts(flips, np.minimum(near, 1))
        elif name in margins:
            yield (name, "margin"), _unequal(x, y)
        elif one.decided_by or not (_floating(x.type) and _floating(y.type)):
            yield (name, "decided" if one.decided_by else "exact"), _unequal(x, y)
        elif pa.types.is_list(x.type) and pa.types.is_list(y.type):
            yield (name, "number"), _list_distances(x, y)
        else:
            yield (name, "number"), _number_distances(_floats(x), _floats(y), _sizes(a, one.size))


def _near(a: pa.Table, b: pa.Table, names: Sequence[str]) -> Floats:
    """What stands near a threshold, in the table where more does; null is nothing."""
    found = [_floats(side[name].combine_chunks()) for side in (a, b) for name in names]
    return np.asarray(np.nan_to_num(found).max(axis=0), np.float64)


def _in_parts(moves: Floats, most: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(moves == 0, 0.0, moves / most)


def _sizes(table: pa.Table, size: str) -> Floats | float:
    """From where on a column's values are compared relatively: 1, or the size of each."""
    if size not in table.column_names:
        return 1.0
    return np.asarray(np.fmax(1, np.abs(_floats(table[size].combine_chunks()))), np.float64)


def _floating(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind.value_type if pa.types.is_list(kind) else kind))


def _unequal(x: pa.Array, y: pa.Array) -> Floats:
    if x.equals(y):
        return np.zeros(len(x))
    pairs = zip(x.to_pylist(), y.to_pylist(), strict=True)
    return np.array([float(p != q) for p, q in pairs], np.float64)


def _floats(values: pa.Array) -> Floats:
    return np.asarray(values.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def _number_distances(x: Floats, y: Floats, sizes: Floats | float = 1.0) -> Floats:
    """Absolute where both are below 1 (or a size), relative above; 0 for two nulls, inf for one."""
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    with np.errstate(invalid="ignore"):
        distances = np.abs(x - y) / np.maximum(sizes, np.maximum(np.abs(x), np.abs(y)))
    return np.where(same, 0.0, np.where(np.isfinite(distances), distances, np.inf))


def _list_distances(x: pa.Array, y: pa.Array) -> Floats:
    """The largest move in each row; inf where the lists are not of one length."""
    lengths = [np.asarray(pc.fill_null(pc.list_value_length(v), -1)) for v in (x, y)]
    alike = lengths[0] == lengths[1]
    out = np.where(alike, 0.0, np.inf)
    some = alike & (lengths[0] > 0)
    if some.any():
        p, q = (_floats(v.filter(pa.array(some)).flatten()) for v in (x, y))
        starts = np.concatenate([[0], np.cumsum(lengths[0][some])[:-1]])
        out[some] = np.maximum.reduceat(_number_distances(p, q), starts)
    return out


def _bottleneck(a: pa.Table, b: pa.Table) -> Floats:
    whole = pa.concat_tables([a.select(["birth", "death"]), b.select(["birth", "death"])])
    birth, death = (whole[name].combine_chunks() for name in ("birth", "death"))
    points = np.column_stack([_floats(birth.flatten()), _floats(death.flatten())])
    offsets = np.concatenate([[0], np.cumsum(np.asarray(pc.list_value_length(birth)))])
    first = np.arange(len(a))
    return np.asarray(bottleneck_pairs(points, offsets, first, first + len(a)), np.float64)


def _worst(
    a: pa.Table, b: pa.Table, distances: Mapping[tuple[str, str], Floats], tolerance: float
) -> list[Move]:
    """The furthest of each column, then of these: what fits no tolerance comes first."""
    moves = []
    for (name, kind), d in distances.items():
        furthest = [int(row) for row in np.argsort(-d, kind="stable")[:WORST] if d[row] > 0]
        fits = bool(furthest) and _fits(kind, d, tolerance)
        moves += [(fits, _move(a, b, row, name, float(d[row]))) for row in furthest]
    return [move for _, move in sorted(moves, key=lambda one: (one[0], -one[1].distance))][:WORST]


def _move(a: pa.Table, b: pa.Table, row: int, name: str, distance: float) -> Move:
    before, after = (table.slice(row, 1).to_pylist()[0] for table in (a, b))
    of = {key: before[key] for key, one in _known(before).items() if one.key} or {"row": row}
    recorded, found = (
        [side[part] for part in name.split(", ")] if ", " in name else side[name]
        for side in (before, after)
    )
    return Move(of, name, recorded, found, distance)


# ---------------------------------------------------------------- why

KINDS = {
    "code": "other code",
    "config": "other configuration",
    "corpus": "other corpus",
    "libraries": "other version of a library",
    "diagrams": "other diagrams",
}
OF_A_MODEL = {
    "weights_sha256": "other weights",
    "tokenizer_sha256": "other tokenizer",
    "config_sha256": "other configuration file of the model",
}


def causes(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """A sentence for each value of two provenances that is not the same."""
    lines = list(_causes(recorded, found))
    for model in sorted({*recorded.get("made_from", {}), *found.get("made_from", {})}):
        inner = [side.get("made_from", {}).get(model, {}) for side in (recorded, found)]
        lines += [f"{line} (in what it was made from: {model})" for line in causes(*inner)]
    return lines


def _causes(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    before, after = (
        flat({k: v for k, v in side.items() if k != "made_from"}) for side in (recorded, found)
    )
    for key in sorted({*before, *after}):
        if before.get(key, ABSENT) != after.get(key, ABSENT):
            yield f"{_kind(key)}: {changed(before, after, key)}"


def _kind(key: str) -> str:
    first, *rest = key.split(".")
    if first == "weights":
        return f"{OF_A_MODEL.get(rest[-1], f'other {rest[-1]}')} of {'.'.join(rest[:-1])}"
    name = f" {'.'.join(rest)}" if rest else ""
    return f"{KINDS.get(first, f'other {first}')}{name}"


class _Absent:
    def __repr__(self) -> str:
        return "none"


ABSENT = _Absent()


def changed(before: Mapping[str, Any], after: Mapping[str, Any], key: str) -> str:
    """What was recorded and what was found under one key, as "48 -> 40"."""
    return " -> ".join(_short(side.get(key, ABSENT)) for side in (before, after))


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    hexadecimal = len(text) >= 32 and set(text) <= set("0123456789abcdef")
    return f"{text[:12]}..." if hexadecimal else text


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots."""
    if not isinstance(value, Mapping) or not value:
        return {prefix.removesuffix("."): value}
    return {
        k: v for name, inner in value.items() for k, v in flat(inner, f"{prefix}{name}.").items()
    }
