"""How far the bulk stages are: parts done, running, failed and why, and the time that is left.

    python -m stages.status

Of the configuration in params.yaml, whoever does the parts: this machine, or a cluster. Parts
are looked for by name, not checked byte by byte, as a run does.
"""

import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from statistics import fmean
from typing import NamedTuple

from omegaconf import OmegaConf

from pipeline import config, jobs, leases
from pipeline.config import Config
from pipeline.errors import InputError
from pipeline.leases import Holder
from pipeline.parts import Job
from stages.app import params, sentences

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
    for stage, by_model in jobs.BULK.items():
        for model in settings.models if by_model else [None]:
            try:
                for job in jobs.of(settings, stage, model):
                    yield from _of_job(job.title, progress(job))
            except InputError as error:
                yield f"{stage} {model or ''}".strip() + f": not yet: {error}"


def _of_job(title: str, found: Progress) -> Iterator[str]:
    told = [f"{found.done} of {found.total} parts done"]
    told += [f"{len(found.running)} running"] * bool(found.running)
    told += [f"{len(found.failed)} failed"] * bool(found.failed)
    if found.done < found.total:
        told.append(_left(found.seconds))
    else:
        told.append("joined" if found.joined else "not joined")
    yield f"{title}: {', '.join(told)}"
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


def _some(told: Sequence[str]) -> Iterator[str]:
    yield from told[:SHOWN]
    if len(told) > SHOWN:
        yield f"  and {len(told) - SHOWN} more"


def main() -> None:
    """Print how far everything is."""
    for line in lines(config.check(OmegaConf.to_container(params(), resolve=True))):
        print(line)


if __name__ == "__main__":
    with sentences():
        if sys.argv[1:]:
            raise InputError(f"'{sys.argv[1]}' is not known: stages.status takes no words.")
        main()
