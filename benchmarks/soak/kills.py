"""Kills: a run is killed at every call by which it changes the disk, and at random times.

After each, what is at its final place must be whole, and the same command again must end well,
with the bytes of an undisturbed run, and leave nothing behind of the killed one.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.soak import Attack, run
from benchmarks.soak.points import Moment, Points
from benchmarks.soak.run import Ended, Snapshots

STAGES = ("corpus", "diagrams", "context", "comparison", "report", "samples")
# What makes a file be there, or last: each of these first, and of the others as many as are left.
FIRST = ("rename", "replace", "fsync", "link", "unlink", "remove")
RANDOM = 0.2  # of the kills, at random times
TRUE = 0.04  # of the kills, of commands that were started as a person starts them
# Of such a command, the seconds of its imports, within which little can happen.
IMPORTS = 4.0
LONG = 1.0  # seconds of a stage, about


class Kill(NamedTuple):
    """A stage, and when it is killed: at a moment of it, or after so many seconds."""

    stage: str
    moment: Moment | None = None
    seconds: float = 0.0
    true: bool = False

    def __str__(self) -> str:
        return f"{self.stage}, {self.moment or f'after {self.seconds:.2f} s'}"


def attack(
    count: int,
    folder: Path,
    seed: int,
    say: Callable[[str], None],
    stages: Sequence[str] = STAGES,
) -> Attack:
    """Kill so many runs of these stages."""
    found = Attack("kills")
    snapshots = run.undisturbed(folder.parent / "run")
    moments = surveyed(snapshots, tuple(stages))
    kills = _chosen(count, moments, random.Random(seed))
    calls: dict[str, int] = {}
    for number, kill in enumerate(kills):
        say(f"kills: {number}/{len(kills)} {kill}")
        wrong, killed = _trial(kill, snapshots, folder / "trial")
        found.tried += killed
        if kill.moment and killed:
            calls[kill.moment.call] = calls.get(kill.moment.call, 0) + 1
        found.wrong += [f"{kill}: {what}" for what in wrong]
    at = ", ".join(f"{call} {number}" for call, number in sorted(calls.items()))
    total = len(picked(moments, 10**9))
    found.figures = [
        f"{sum(calls.values())} of {total} places before a call that changes the disk ({at})",
        f"{sum(kill.moment is None for kill in kills)} at random times, "
        f"{sum(kill.true for kill in kills)} of these of commands as a person starts them",
    ]
    return found


@cache
def surveyed(snapshots: Snapshots, stages: tuple[str, ...]) -> dict[str, list[Moment]]:
    """The moments of each stage."""
    trial = snapshots.home / "trial"
    return {stage: survey(stage, run.copy(snapshots.before(stage), trial)) for stage in stages}


def survey(stage: str, folder: Path) -> list[Moment]:
    """Run a stage, and list its moments in their order."""
    listed = folder.parent / "moments.txt"
    listed.write_text("")
    home = str(folder.resolve()) + "/"

    def note(moment: Moment) -> None:
        line = f"{moment.call}\t{moment.before:d}\t{moment.path.removeprefix(home)}\n"
        file = os.open(listed, os.O_WRONLY | os.O_APPEND)
        os.write(file, line.encode())
        os.close(file)

    ended = run.ended(partial(watched, stage, folder, note), folder)
    if ended.status:
        raise RuntimeError(f"{stage} could not be watched: {ended.story}")
    lines = [line.split("\t") for line in listed.read_text().splitlines()]
    return [
        Moment(number, call, path, before == "1")
        for number, (call, before, path) in enumerate(lines)
    ]


def watched(stage: str, folder: Path, act: Callable[[Moment], object]) -> None:
    """Run a stage in this process, and tell an act its moments."""
    Points(folder, act)
    run.do(stage)


def _chosen(count: int, moments: dict[str, list[Moment]], draw: random.Random) -> list[Kill]:
    """So many kills, spread over the moments of all stages, and some at random times."""
    at_random = round(count * RANDOM)
    kills = [Kill(stage, moment) for stage, moment in picked(moments, count - at_random)]
    true = int(count * TRUE)
    for number in range(at_random):
        stage = [*moments][number % len(moments)]
        alive = number < true
        late = draw.uniform(0.0, LONG) + IMPORTS * alive
        kills.append(Kill(stage, None, late, alive))
    return kills


def picked(moments: Mapping[str, Sequence[Moment]], count: int) -> list[tuple[str, Moment]]:
    """So many moments before a call: of those that publish or sync, then of the others.

    After a call is before the next one, but for what is not on the disk.
    """
    every = [(stage, moment) for stage in moments for moment in moments[stage] if moment.before]
    first = [one for one in every if one[1].call in FIRST]
    others = [one for one in every if one[1].call not in FIRST]
    chosen = [first[number] for number in run.spread(len(first), count)]
    return chosen + [others[number] for number in run.spread(len(others), count - len(chosen))]


def _trial(kill: Kill, snapshots: Snapshots, folder: Path) -> tuple[list[str], bool]:
    """What went wrong, and whether the stage was killed before it ended."""
    made = snapshots.after(kill.stage)
    run.copy(snapshots.before(kill.stage), folder)
    first = _killed(kill, folder)
    if first.status not in (0, -signal.SIGKILL):
        return [first.story], True
    wrong = [f"{name} is there and not whole" for name in run.differ(folder, made, missing=False)]
    again = (
        run.heard(run.command(kill.stage, folder), folder) if kill.true else _again(kill, folder)
    )
    if again.status:
        wrong.append(f"the same command again: {again.story}")
    else:
        wrong += [f"{name} has other bytes after it" for name in run.differ(folder, made)]
        wrong += [f"{name} stayed" for name in run.drafts(folder)]
    return wrong, first.status != 0


def _again(kill: Kill, folder: Path) -> Ended:
    if kill.true:
        return run.heard(run.command(kill.stage, folder), folder)
    return run.ended(partial(run.do, kill.stage), folder)


def _killed(kill: Kill, folder: Path) -> Ended:
    if kill.moment is not None:
        number = kill.moment.number

        def act(moment: Moment) -> None:
            if moment.number == number:
                os.kill(os.getpid(), signal.SIGKILL)

        return run.ended(partial(watched, kill.stage, folder, act), folder)
    if kill.true:
        process = run.command(kill.stage, folder)
        time.sleep(kill.seconds)
        process.kill()
        return run.heard(process, folder)
    child = run.started(partial(run.do, kill.stage), folder)
    time.sleep(kill.seconds)
    os.kill(child, signal.SIGKILL)
    return run.wait(child, folder)
