"""Whether a run moved what git keeps of it, and by how much: in a line."""

import io
from pathlib import Path

import pyarrow.parquet as pq

from pipeline import store
from pipeline.errors import InputError
from pipeline.runs import differences
from stages.repository import git

LOCK = "dvc.lock"


def told() -> str:
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
    most = max(move for move in moves if move is not None)
    return (
        f"{LOCK} and {len(samples)} samples are changed by rounding alone, at most {most:.1e}: "
        "this processor is of another kind than the one they were committed from. "
        f"`git checkout {LOCK} {store.SAMPLES}` puts them back"
    )


def _move(name: str) -> float | None:
    """The largest move of a sample's values since the last commit; None beyond the tolerance."""
    before = git.committed(name)
    if before is None:
        return None
    try:
        recorded = pq.read_table(io.BytesIO(before))
        found = differences.difference(recorded, store.read(Path(name)))
    except (InputError, OSError, ValueError):
        return None
    numbers = [column.distance for column in found.columns if column.kind in ("number", "diagram")]
    return None if found.verdict == "different" else max(numbers, default=0.0)
