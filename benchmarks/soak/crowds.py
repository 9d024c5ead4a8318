"""Crowds: several processes run one stage at once, in one folder.

All must end well, with the bytes of a run alone, and leave nothing behind. How many parts were
done by more than one is counted: leases are there to save that work, not to forbid it.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.soak import Attack, run
from benchmarks.soak.run import BULK, Snapshots

STAGES = ("corpus", *BULK, "report", "samples")
DONE = "done.txt"  # the digest of each part that a process wrote, a line each


def attack(
    count: int,
    folder: Path,
    seed: int,
    say: Callable[[str], None],
    sizes: Sequence[int] = (2, 4, 8),
    stages: Sequence[str] = STAGES,
) -> Attack:
    """Let crowds of these sizes run each of these stages, so many times."""
    del seed
    found = Attack("crowds")
    snapshots = run.undisturbed(folder.parent / "run")
    crowds = [(size, stage) for size in sizes for stage in stages] * count
    parts, twice = 0, 0
    for number, (size, stage) in enumerate(crowds):
        say(f"crowds: {number}/{len(crowds)} {size} run {stage}")
        wrong, done = _trial(size, stage, snapshots, folder / "trial")
        found.tried += 1
        parts += len({*done})
        twice += len(done) - len({*done})
        found.wrong += [f"{size} run {stage}: {what}" for what in wrong]
    found.figures = [
        f"{', '.join(map(str, sizes))} processes, {len(stages)} stages, {count} times each",
        f"{parts} parts done, {twice} of them once more by another process",
    ]
    return found


def _trial(
    size: int, stage: str, snapshots: Snapshots, folder: Path
) -> tuple[list[str], list[str]]:
    """What went wrong, and the digests of the parts that were written."""
    run.copy(snapshots.before(stage), folder)
    made = snapshots.after(stage)
    names = [f"said-{number}" for number in range(size)]
    crowd = [run.started(partial(_noted, stage), folder, name) for name in names]
    wrong = []
    for child, name in zip(crowd, names, strict=True):
        ended = run.wait(child, folder, name=name)
        if ended.status:
            wrong.append(ended.story)
    wrong += [f"{name} has other bytes" for name in run.differ(folder, made)]
    wrong += [f"{name} stayed" for name in run.drafts(folder)]
    noted = folder / DONE
    return wrong, noted.read_text().split() if noted.exists() else []


def _noted(stage: str) -> None:
    """Run a stage in this process, and note each part that it writes."""
    from pipeline.work.parts import Shelf

    put = Shelf.put

    def noting(shelf: Shelf, part: Any, *more: Any, **named: Any) -> None:
        put(shelf, part, *more, **named)
        file = os.open(DONE, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{part.digest}\n".encode())
        os.close(file)

    setattr(Shelf, "put", noting)  # noqa: B010 - mypy knows methods as they are written
    run.do(stage)
