"""Where each artefact lives, and the folder of resumable work."""

import os
from collections.abc import Iterable
from pathlib import Path

from pipeline.store.schemas import TABLES

ROOT = Path(__file__).resolve().parents[2]


def path(table: str, of: str = "") -> Path:
    """Where a table lies, of a model or a corpus where there is one of each.

    Raises ValueError where it lies nowhere, or `of` is missing, or is one too many.
    """
    entry = TABLES[table]
    if not entry.path or bool(of) != bool(entry.per):
        needed = f"one of each {entry.per}" if entry.per else "one in all"
        raise ValueError(f"no path of {table} for {of!r}: {needed if entry.path else 'on a shelf'}")
    return Path(entry.path.format(model=of, corpus=of))


def paths(table: str, corpus: str, models: Iterable[str]) -> list[Path]:
    """Where a table lies in a run on one corpus; nowhere if on a shelf only."""
    of = {"model": models, "corpus": [corpus], "": [""] if TABLES[table].path else []}
    return [path(table, name) for name in of[TABLES[table].per]]


def folder(table: str) -> Path:
    """The folder below which a table lies of every model: DVC hashes it as a whole."""
    return Path(TABLES[table].path.partition("{")[0])


OUTPUTS = Path("outputs")
REPORT = Path("outputs/report/index.html")
PLOTS = Path("outputs/plots")
SAMPLES = Path("outputs/samples")  # of each corpus a folder, laid out as OUTPUTS, in git
LOGS = Path("outputs/logs")


def work_folder() -> Path:
    """The absolute folder of resumable work, the same for all queued experiments of a clone."""
    named = os.environ.get("ATTENTION_TOPOLOGY_WORK")
    if named:
        return Path(named).resolve()
    # A queued experiment runs in a copy below .dvc/tmp/exps: its work belongs to the clone.
    parts = ROOT.parts
    for at in range(len(parts) - 2):
        if parts[at : at + 3] == (".dvc", "tmp", "exps"):
            return Path(*parts[:at]) / ".parts"
    return ROOT / ".parts"
