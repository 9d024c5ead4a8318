"""The parts that are kept in the work folder: which are of this configuration, and which old."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipeline import files, jobs, store
from pipeline.config import Config
from pipeline.errors import InputError
from pipeline.work import leases
from pipeline.work.parts import Shelf


class StoredPart(NamedTuple):
    """A part on a shelf."""

    digest: str
    size: int
    current: bool
    aside: bool


@dataclass(frozen=True)
class Stock:
    """The shelf of a stage. unknown: why nobody can tell which parts are current, if so."""

    stage: str
    shelf: Shelf
    kept: list[StoredPart]
    held: set[str]
    unknown: str | None


def stock(settings: Config, stage: str) -> Stock:
    """What is on the shelf of a stage."""
    shelf = Shelf(store.work_folder() / stage)
    unknown, current = None, set[str]()
    try:
        current = {part.digest for job in jobs.of(settings, stage) for part in job.parts}
    except InputError as error:
        unknown = str(error)
    kept = [
        StoredPart(name, _size(shelf.folder / name), name in current, bool(shelf.aside(name)))
        for name in sorted(shelf.names())
    ]
    held = {digest for digest, holder in leases.held(shelf.folder) if holder is not None}
    return Stock(stage, shelf, kept, held, unknown)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir()) if folder.is_dir() else 0


def summary(found: Stock) -> str:
    """One line on a shelf."""
    current = [one for one in found.kept if one.current]
    which = f"{len(current)} of this configuration, {len(found.kept) - len(current)} old"
    if found.unknown:
        which = f"which are of this configuration is not known yet ({found.unknown})"
    aside = sum(one.aside for one in found.kept)
    return (
        f"{found.stage}: {_parts(found.kept)}: {which}; {aside} with a text skipped; "
        f"{len(found.held)} being done"
    )


def _parts(kept: Sequence[StoredPart]) -> str:
    return f"{len(kept)} parts, {sum(one.size for one in kept) / 2**20:.1f} MB"


def clear(found: Stock, which: str = "old", dry_run: bool = False) -> str:
    """Remove parts from a shelf, `old`, `aside` or `all`; return one line on what went."""
    if found.unknown and which == "old":
        return f"{found.stage}: nothing cleared, for which parts are old is not known yet"
    gone = [
        one
        for one in found.kept
        if one.digest not in found.held
        and {"all": True, "aside": one.aside, "old": not one.current}[which]
    ]
    if dry_run:
        return f"{found.stage}: would clear {_parts(gone)}"
    for one in gone:
        found.shelf.drop(one.digest)
    files.sweep(found.shelf.folder)
    return f"{found.stage}: cleared {_parts(gone)}"
