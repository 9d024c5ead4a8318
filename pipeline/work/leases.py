"""Leases: who is doing a part, so that no two processes do the same one.

A lease is a file beside the part, made only where there is none, that holds host, process
and start; its holder touches it every few seconds. One that is not touched for a minute,
or whose process is dead on this very host, is taken over. (A time in the future, of a host whose
clock is wrong, says nothing: then it must be seen to change.) Leases only save work: should two
processes do one part after all, the shelf keeps the first that comes whole.
"""

import contextlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pipeline.files import alive, draft_of, host

BEAT = 5.0  # seconds between two touches
STALE = 60.0  # seconds without a touch, by the clock of the file system


class Holder(NamedTuple):
    """The process that holds a part."""

    host: str
    pid: int
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


NOBODY = Holder("?", 0, "?")
# Of each lease with a time in the future: that time, and when, by our clock, we saw it first.
_future: dict[Path, tuple[float, float]] = {}


def take(folder: Path, digest: str) -> "Lease | Holder":
    """A lease on a part, or who holds it. Raises OSError where the folder cannot be written."""
    file = _file(folder, digest)
    folder.mkdir(parents=True, exist_ok=True)
    for _ in range(2):
        with contextlib.suppress(FileExistsError):
            return Lease(file)
        holder = live(file)
        if holder is not None:
            return holder
        _remove_dead(file)
    with contextlib.suppress(FileExistsError):
        return Lease(file)
    return live(file) or NOBODY


def _remove_dead(file: Path) -> None:
    """Remove the lease of a dead process, and not one that was made in its place meanwhile."""
    dead, taken = _holder(file), draft_of(file)
    if live(file) is not None:
        return
    with contextlib.suppress(FileNotFoundError):
        file.rename(taken)  # of several processes that see it dead, one gets it
        if _holder(taken) != dead:
            with contextlib.suppress(FileExistsError):
                file.hardlink_to(taken)
        taken.unlink()


class Lease:
    """A part is ours while this context lasts."""

    def __init__(self, file: Path) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._file, self._over = file, threading.Event()
        self._holder = Holder(host(), os.getpid(), now)
        file.touch(exist_ok=False)
        try:
            file.write_text(json.dumps(self._holder._asdict()), "utf-8")
        except OSError:  # a full disk
            file.unlink(missing_ok=True)
            raise

    def __enter__(self) -> None:
        threading.Thread(target=self._beat, name="lease", daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if _holder(self._file) == self._holder:  # else it was taken over
            self._file.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(self._file)


def live(file: Path) -> Holder | None:
    """Who holds a lease now; None where there is none, or its holder is dead."""
    holder = _holder(file)
    if holder is None or (holder.host == host() and not alive(holder.pid)):
        return None
    return holder if _age(file) < STALE else None


def held(folder: Path) -> Iterator[tuple[str, Holder | None]]:
    """The digest of each part that has a lease, and who holds it; None where the holder died."""
    if folder.is_dir():
        # Only what starts with a dot: whole parts may be very many.
        for file in folder.glob(".*.lease"):
            yield file.name[1 : -len(".lease")], live(file)


def forget(folder: Path, digest: str) -> None:
    """Remove the lease on a part, if its holder is dead."""
    if live(_file(folder, digest)) is None:
        _file(folder, digest).unlink(missing_ok=True)


def _file(folder: Path, digest: str) -> Path:
    return folder / f".{digest}.lease"


def _holder(file: Path) -> Holder | None:
    """What a lease says; NOBODY where its maker has not written it yet."""
    try:
        return Holder(**json.loads(file.read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return NOBODY


def _age(file: Path) -> float:
    """Seconds since a file was touched; of a time in the future, since we saw it first."""
    try:
        with file.open("rb") as lease:  # a network file system asks its server only when opened
            touched = os.fstat(lease.fileno()).st_mtime
    except FileNotFoundError:
        return STALE
    age = _now(file.parent) - touched
    if age > -BEAT:
        _future.pop(file, None)
        return age
    seen, since = _future.get(file, (0.0, 0.0))
    if seen != touched:
        since = time.monotonic()
        _future[file] = touched, since
    return time.monotonic() - since


def _now(folder: Path) -> float:
    """The time by the clock of the file system, which may be another host's."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            return os.fstat(probe.fileno()).st_mtime
    except OSError:  # it cannot be written, and who only looks need not write
        return time.time()
