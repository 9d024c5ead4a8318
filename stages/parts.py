"""The parts that are kept in the work folder, and how to be rid of them.

    python -m stages.parts list
    python -m stages.parts clear [--all | --aside] [--dry-run]

`list` says for each bulk stage how many parts there are, and which belong to the configuration
in params.yaml. `clear` removes those that do not, which queued experiments and other branches
may still want; --all removes every part, --aside those in which a text was set aside because it
killed its worker, so that the next run tries it again. A part that is being done is left alone.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from omegaconf import OmegaConf

from pipeline import config, drafts, jobs, leases, store
from pipeline.config import Config
from pipeline.errors import InputError
from pipeline.parts import Shelf
from stages.app import params, sentences

WORDS = {"list": set[str](), "clear": {"--all", "--aside", "--dry-run"}}


class Kept(NamedTuple):
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
    kept: list[Kept]
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
        Kept(digest, _size(shelf.folder / digest), digest in current, bool(shelf.aside(digest)))
        for digest in sorted(shelf.names())
    ]
    held = {digest for digest, holder in leases.held(shelf.folder) if holder is not None}
    return Stock(stage, shelf, kept, held, unknown)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir()) if folder.is_dir() else 0


def told(found: Stock) -> str:
    """One line on a shelf."""
    current = [one for one in found.kept if one.current]
    which = f"{len(current)} of this configuration, {len(found.kept) - len(current)} old"
    if found.unknown:
        which = f"which are of this configuration cannot be told yet ({found.unknown})"
    aside = sum(one.aside for one in found.kept)
    return (
        f"{found.stage}: {_parts(found.kept)}: {which}; {aside} with a text set aside; "
        f"{len(found.held)} being done"
    )


def _parts(kept: Sequence[Kept]) -> str:
    return f"{len(kept)} parts, {sum(one.size for one in kept) / 2**20:.1f} MB"


def clear(found: Stock, options: set[str]) -> str:
    """Remove parts from a shelf as the options say; return one line on what went."""
    if found.unknown and "--all" not in options and "--aside" not in options:
        return f"{found.stage}: nothing cleared, for which parts are old cannot be told yet"
    gone = [
        one
        for one in found.kept
        if one.digest not in found.held
        and ("--all" in options or (one.aside if "--aside" in options else not one.current))
    ]
    if "--dry-run" in options:
        return f"{found.stage}: would clear {_parts(gone)}"
    for one in gone:
        found.shelf.drop(one.digest)
    drafts.sweep(found.shelf.folder)
    return f"{found.stage}: cleared {_parts(gone)}"


def main(words: Sequence[str]) -> None:
    """List, or clear."""
    command, options = words[0] if words else "", set(words[1:])
    if unknown := [command] * (command not in WORDS) or sorted(options - WORDS[command]):
        raise InputError(
            f"'{unknown[0]}' is not known: python -m stages.parts list, or clear "
            "[--all | --aside] [--dry-run]."
        )
    settings = config.check(OmegaConf.to_container(params(), resolve=True))
    for stage in jobs.BULK:
        found = stock(settings, stage)
        print(told(found) if command == "list" else clear(found, options))
    print(f"in {store.work_folder()}")


if __name__ == "__main__":
    with sentences():
        main(sys.argv[1:])
