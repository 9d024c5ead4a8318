"""Whether a run moved what git keeps of it, and by how much: in a line."""

import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import store
from pipeline.errors import InputError
from pipeline.runs import differences
from stages.repository import git

LOCK = "dvc.lock"
CONTINUOUS = ("number", "diagram")


def explanation() -> str:
    """Why git has changes after a run that changed nothing else; "" where there is nothing to say.

    Another kind of processor rounds otherwise: then dvc.lock and the samples are other bytes and
    the same values.
    """
    changed = git.changed()
    samples = [name for name in changed if name.startswith(f"{store.SAMPLES}/")]
    if not samples or {*changed} - {*samples, LOCK}:
        return ""
    moves = [_move(name) for name in samples]
    if None in moves:
        return (
            f"{len(samples)} samples are not as the last commit has them, beyond rounding: "
            "`python -m commands.reproduce --rev HEAD` says which values and why"
        )
    found = [move for move in moves if move is not None]
    most = max(move.most for move in found)
    if not all(move.made_alike for move in found):
        return (
            f"{LOCK} and {len(samples)} samples say that other code made them than the last "
            f"commit's (values moved by {most:.1e} at most): commit them with that code"
        )
    return (
        f"{LOCK} and {len(samples)} samples are changed by rounding alone, at most {most:.1e}: "
        "this processor is of another kind than the one they were committed from. "
        f"`git checkout {LOCK} {store.SAMPLES}` puts them back"
    )


class Move(NamedTuple):
    """The largest move of a sample's values, and whether what made them is the same."""

    most: float
    made_alike: bool


def _move(name: str) -> Move | None:
    """How a sample moved since the last commit; None beyond the tolerance."""
    before = git.committed(name)
    if before is None:
        return None
    try:
        recorded, found = pq.read_table(io.BytesIO(before)), store.read(Path(name))
        difference = differences.difference(recorded, found)
    except (InputError, OSError, ValueError):
        return None
    numbers = [moved.distance for moved in difference.columns if moved.kind in CONTINUOUS]
    made = [_made_by(table) for table in (recorded, found)]
    if difference.verdict == "different":
        return None
    return Move(max(numbers, default=0.0), made[0] == made[1])


def _made_by(table: pa.Table) -> dict[str, Any]:
    """A table's provenance without the bytes of its inputs, which rounding moves too."""
    made = json.loads((table.schema.metadata or {}).get(store.PROVENANCE, b"{}"))
    return {key: value for key, value in made.items() if key != "diagrams"}
