"""Disks: full, failing, or with a largest file, at each call by which a run changes one.

The run must end in a sentence that names the file, or do without what failed; the next run, on a
disk that is sound, must end well with the bytes of an undisturbed run and leave nothing behind.
"""

import errno
import os
import resource
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.soak import Attack, run
from benchmarks.soak.kills import STAGES, surveyed, watched
from benchmarks.soak.points import Moment
from benchmarks.soak.run import Ended, Snapshots

# What a disk answers, and by which calls.
TAKES_ROOM = ("open", "write", "write_table", "close", "mkdir", "fsync", "rename", "replace")
WRITES = ("write", "write_table", "close")
ANSWERS = {errno.ENOSPC: TAKES_ROOM, errno.EFBIG: WRITES, errno.EIO: None}
NAMELESS = ("write", "write_table", "close", "fsync")  # whose errors name no file
TRUE = 0.15  # of the attacks, with the limit of a file's size; and as many on a small disk
LEAST = 3000  # bytes, so that what the run says can be written
ROOM = 1 << 26


class Fault(NamedTuple):
    """A stage, and what its disk answers from a moment on; or the size of the largest file there

    may be, or the room that a true disk has, in bytes.
    """

    stage: str
    number: int
    moment: Moment | None = None
    limit: int = 0
    room: int = 0

    def __str__(self) -> str:
        if self.moment:
            return f"{self.stage}, {errno.errorcode[self.number]} {self.moment}"
        what = f"files of {self.limit} bytes" if self.limit else f"a disk with {self.room} bytes"
        return f"{self.stage}, {what}"


def attack(
    count: int,
    folder: Path,
    seed: int,
    say: Callable[[str], None],
    stages: Sequence[str] = STAGES,
) -> Attack:
    """Let so many disks fail under these stages."""
    del seed  # the moments are spread evenly
    found = Attack("disks")
    snapshots = run.undisturbed(folder.parent / "run")
    faults = _chosen(count, snapshots, folder, tuple(stages))
    how: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for number, fault in enumerate(faults):
        say(f"disks: {number}/{len(faults)} {fault}")
        wrong, ended = _trial(fault, snapshots, folder)
        found.tried += 1
        kinds[errno.errorcode[fault.number] + ("" if fault.moment else ", true")] += 1
        how["ended in a sentence" if ended.status else "did without what failed"] += 1
        found.wrong += [f"{fault}: {what}" for what in wrong]
    found.figures = [
        ", ".join(f"{kind} {number}" for kind, number in sorted(kinds.items())),
        ", ".join(f"{number} {words}" for words, number in how.items()),
    ]
    return found


def _chosen(count: int, snapshots: Snapshots, folder: Path, stages: tuple[str, ...]) -> list[Fault]:
    """Faults of each kind, spread over the moments of all stages; and true ones."""
    true = [*_limits(snapshots, stages, round(count * TRUE))]
    if _mounts(folder):
        true += _rooms(snapshots, stages, round(count * TRUE))
    moments = surveyed(snapshots, stages)
    every = wrapped(moments)
    return [every[number] for number in run.spread(len(every), count - len(true))] + true


def wrapped(moments: dict[str, list[Moment]]) -> list[Fault]:
    """Every answer of a disk at every call that may get it."""
    return [
        Fault(stage, number, moment)
        for stage, of_stage in moments.items()
        for moment in of_stage
        if moment.before
        for number, calls in ANSWERS.items()
        if calls is None or moment.call in calls
    ]


def _limits(snapshots: Snapshots, stages: Sequence[str], count: int) -> list[Fault]:
    """Largest files: from the least to the largest that a stage writes, its page aside."""
    most = max(
        path.stat().st_size
        for top in ("outputs/diagrams", "outputs/tables", run.WORK)
        for path in (snapshots.whole / top).rglob("*.parquet")
    )
    sizes = [LEAST + (most - LEAST) * number // max(count, 1) for number in range(count)]
    return [
        Fault(stages[number % len(stages)], errno.EFBIG, limit=size)
        for number, size in enumerate(sizes)
    ]


def _rooms(snapshots: Snapshots, stages: Sequence[str], count: int) -> list[Fault]:
    """Disks with room for none to all of what a stage writes."""
    faults = []
    for number in range(count):
        stage = stages[number % len(stages)]
        before, after = (
            _size(snapshots.before(one)) if one else _size(snapshots.whole)
            for one in (stage, _next(stage))
        )
        share = (number // len(stages) + 1) / (count // len(stages) + 2)
        faults.append(Fault(stage, errno.ENOSPC, room=round((after - before) * share)))
    return faults


def _next(stage: str) -> str:
    return [*run.STAGES, ""][run.STAGES.index(stage) + 1]


def _size(folder: Path) -> int:
    """Bytes of a folder on a disk whose blocks have 4,096."""
    return sum(-(-path.lstat().st_size // 4096) * 4096 + 4096 for path in folder.rglob("*"))


def _trial(fault: Fault, snapshots: Snapshots, folder: Path) -> tuple[list[str], Ended]:
    """What went wrong, and how the run with the fault ended."""
    if fault.room:
        return _on_a_small_disk(fault, snapshots, folder / "disk")
    trial = run.copy(snapshots.before(fault.stage), folder / "trial")
    first = run.ended(partial(_faulty, fault, trial), trial)
    return [*_ended_well(first, trial), *_after(fault, first, trial, snapshots)], first


def _faulty(fault: Fault, folder: Path) -> None:
    """Run a stage in this process on a disk with a fault."""
    if fault.limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.limit, fault.limit))
        run.do(fault.stage)
        return
    assert fault.moment is not None
    first, calls = fault.moment.number, ANSWERS[fault.number] or ()

    def act(moment: Moment) -> None:
        # A full disk stays full; a failure comes once.
        still = fault.number == errno.ENOSPC and moment.before and moment.call in calls
        if moment.number == first or (moment.number > first and still):
            name = () if moment.call in NAMELESS else (moment.path,)
            raise OSError(fault.number, os.strerror(fault.number), *name)

    watched(fault.stage, folder, act)


def _ended_well(first: Ended, folder: Path) -> list[str]:
    if first.status == 0:
        return []
    if not first.sentence:
        return [first.story]
    sentence = first.said.rpartition("error: ")[2]
    named = any(place in sentence for place in (str(folder), "outputs/", "data/", "'outputs'"))
    return [] if named else [f"no file is named: {first.story}"]


def _after(fault: Fault, first: Ended, folder: Path, snapshots: Snapshots) -> list[str]:
    """What is wrong when the disk is sound again."""
    made = snapshots.after(fault.stage)
    wrong = [f"{name} is there and not whole" for name in run.differ(folder, made, missing=False)]
    if first.status == 0:
        wrong += [f"{name} has other bytes" for name in run.differ(folder, made)]
    again = run.ended(partial(run.do, fault.stage), folder)
    if again.status:
        return [*wrong, f"the same command again: {again.story}"]
    wrong += [f"{name} has other bytes after it" for name in run.differ(folder, made)]
    return wrong + [f"{name} stayed" for name in run.drafts(folder)]


def _on_a_small_disk(fault: Fault, snapshots: Snapshots, mount: Path) -> tuple[list[str], Ended]:
    """The same on a true file system, which is full when the stage runs and larger afterwards."""
    before = snapshots.before(fault.stage)
    mount.mkdir(exist_ok=True)
    _call("mount", "-t", "tmpfs", "-o", f"size={ROOM}", "soak", str(mount))
    try:
        trial = run.copy(before, mount / "trial")
        used = os.statvfs(mount)
        full = (used.f_blocks - used.f_bfree) * used.f_frsize + fault.room
        _call("mount", "-o", f"remount,size={full}", str(mount))
        first = run.ended(partial(run.do, fault.stage), trial)
        _call("mount", "-o", f"remount,size={ROOM}", str(mount))
        return [*_ended_well(first, trial), *_after(fault, first, trial, snapshots)], first
    finally:
        _call("umount", str(mount))


def _mounts(folder: Path) -> bool:
    """Whether this process may mount a file system."""
    mount = folder / "disk"
    mount.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "soak", str(mount)]
    try:
        if subprocess.run(words, check=False, capture_output=True).returncode:
            return False
    except OSError:  # no such command
        return False
    _call("umount", str(mount))
    return True


def _call(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)
