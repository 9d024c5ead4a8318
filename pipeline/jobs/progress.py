"""How far the jobs of a configuration are, from their shelves: whoever does the parts."""

from collections.abc import Iterator, Sequence
from itertools import islice
from statistics import fmean
from typing import NamedTuple

from pipeline import jobs
from pipeline.config import Config
from pipeline.errors import InputError
from pipeline.work import leases
from pipeline.work.leases import Holder
from pipeline.work.parts import Job

TIMED = 100  # manifests that are read for the time a part takes
SHOWN = 5  # running and failed parts that are named


class Progress(NamedTuple):
    """How far a job is: its parts, by label where they are not done."""

    total: int
    done: int
    running: list[tuple[str, Holder]]
    failed: list[tuple[str, str]]
    joined: bool
    seconds: float | None  # that are left, if those that run now go on alone


def progress(job: Job) -> Progress:
    """How far a job is, from its shelf."""
    labels = {part.digest: part.label for part in job.parts}
    done = job.shelf.names() & labels.keys()
    left = labels.keys() - done
    running = [
        (labels[digest], holder)
        for digest, holder in leases.held(job.shelf.folder)
        if holder is not None and digest in left
    ]
    notes = job.shelf.notes()
    failed = [(labels[digest], notes[digest]["reason"]) for digest in left & notes.keys()]
    spent = [job.shelf.seconds(digest) for digest in islice(sorted(done), TIMED)]
    seconds = fmean(spent) * len(left) / max(len(running), 1) if spent else None
    joined = not left and job.joined()
    return Progress(len(labels), len(done), running, sorted(failed), joined, seconds)


def lines(settings: Config) -> Iterator[str]:
    """What is said of each job of each bulk stage."""
    for stage in jobs.BULK:
        for model in jobs.models(settings, stage):
            try:
                for job in jobs.of(settings, stage, model):
                    yield from _of_job(job.title, progress(job))
            except InputError as error:
                yield f"{stage} {model or ''}".strip() + f": not yet: {error}"


def _of_job(title: str, found: Progress) -> Iterator[str]:
    counts = [f"{found.done} of {found.total} parts done"]
    counts += [f"{len(found.running)} running"] * bool(found.running)
    counts += [f"{len(found.failed)} failed"] * bool(found.failed)
    if found.done < found.total:
        counts.append(_left(found.seconds))
    else:
        counts.append("joined" if found.joined else "not joined")
    yield f"{title}: {', '.join(counts)}"
    yield from _some([f"  running: {label} ({holder})" for label, holder in found.running])
    yield from _some([f"  failed: {label}: {reason}" for label, reason in found.failed])


def _left(seconds: float | None) -> str:
    if seconds is None:
        return "time left unknown until a part is done"
    if seconds < 120:
        return f"about {seconds:.0f} s left"
    return (
        f"about {seconds / 60:.0f} min left" if seconds < 7200 else f"{seconds / 3600:.1f} h left"
    )


def _some(lines: Sequence[str]) -> Iterator[str]:
    yield from lines[:SHOWN]
    if len(lines) > SHOWN:
        yield f"  and {len(lines) - SHOWN} more"
