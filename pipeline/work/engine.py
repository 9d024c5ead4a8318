"""Who does the parts: this process, or a local pool of worker processes.

One process does its parts one after the other, each under a lease, so that any number of
processes, here or on other hosts, can do parts of one job at once. Manifests decide what is
done, and the joined bytes depend on none of this.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from pipeline import files
from pipeline.console import Progress, say
from pipeline.errors import InputError
from pipeline.kernels import threads
from pipeline.work import leases, workers
from pipeline.work.attempts import Failure, Notify, Outcome, do_parts
from pipeline.work.parts import Job, Part, SpoiltError

if TYPE_CHECKING:  # the schema imports the specs of all domains
    from pipeline.config import EngineSpec


class Do(Protocol):
    """What does some parts of a job, and returns those that failed."""

    def __call__(
        self, job: Job, parts: Sequence[Part], notify: Notify | None = None
    ) -> list[Failure]:
        """notify: is called with what came of each part."""


class UnfinishedError(InputError):
    """Some parts could not be done, so nothing was joined."""


def run(*jobs: Job, spec: "EngineSpec | None" = None) -> dict[str, int]:
    """Do every part that is missing, job after job, join them, and return the rows of each table.

    Shows a bar with an estimate on a terminal, one line a part elsewhere. Raises UnfinishedError,
    with a sentence for each way to fail, where parts could not be done: the others are kept.
    """
    rows: dict[str, int] = {}
    with crew(spec) as do:
        for job in jobs:
            rows |= _run(job, do)
    return rows


def _run(job: Job, do: Do) -> dict[str, int]:
    """Do and join a job; a part that turns out spoilt is dropped, and done anew, once."""
    anew: set[str] = set()
    while True:
        try:
            _do(job, do)
            return job.join()
        except SpoiltError as error:
            if error.part.digest in anew:
                raise
            anew.add(error.part.digest)
            job.shelf.drop(error.part.digest)
            say(f"{job.title}: {error.part.label} {error.what}; it is done anew")


def _do(job: Job, do: Do) -> None:
    """Do the parts that are missing."""
    missing = job.missing()
    _sweep(job, missing)
    if len(missing) < len(job.parts):
        say(f"{job.title}: {len(job.parts) - len(missing)} of {len(job.parts)} parts done before")
    with Progress(job.title, len(missing)) as progress:

        def notify(outcome: Outcome) -> None:
            progress.step(outcome.part.label, isinstance(outcome, Failure))

        failures = do(job, missing, notify)
    if failures:
        raise UnfinishedError(_summed_up(job, failures))


@contextmanager
def crew(spec: "EngineSpec | None" = None) -> Iterator[Do]:
    """Who does parts as the engine is set: the same workers for all jobs of a stage.

    With one worker this process does them: a kill costs one part, and what is done is kept.
    But a part that a killed process left behind goes to a process of its own, so that one which
    kills again and again is found out, and ends no run.
    """
    if spec is None:
        yield do_parts
        return

    def by_workers(job: Job, parts: Sequence[Part], notify: Notify | None = None) -> list[Failure]:
        return workers.do_parts(pool, job, parts, spec.workers, notify)

    def here(job: Job, parts: Sequence[Part], notify: Notify | None = None) -> list[Failure]:
        left = {digest for digest, holder in leases.held(job.shelf.folder) if holder is None}
        left_behind = [part for part in parts if part.digest in left]
        others = [part for part in parts if part.digest not in left]
        failures = workers.do_parts(pool, job, left_behind, 1, notify)
        pool.keep(0)
        threads.use(spec.threads)
        return failures + do_parts(job, others, notify)

    with workers.Pool(spec.threads or max(cores() // spec.workers, 1)) as pool:
        yield by_workers if spec.workers > 1 else here


def _sweep(job: Job, missing: Sequence[Part]) -> None:
    """Remove what killed processes left; but the lease of a part that is not done says who fell."""
    files.sweep(job.shelf.folder)
    for path in job.outputs.values():
        files.sweep(path.parent)
    done = {part.digest for part in job.parts} - {part.digest for part in missing}
    for digest, _ in leases.held(job.shelf.folder):
        if digest in done:
            leases.forget(job.shelf.folder, digest)
    for digest in job.shelf.notes().keys() & done:
        job.shelf.forget(digest)


def _summed_up(job: Job, failures: Sequence[Failure]) -> str:
    """A sentence for each way to fail, and which parts did."""
    reasons: dict[str, list[str]] = {}
    for part, reason in failures:
        reasons.setdefault(reason, []).append(part.label)
    lines = [
        f"  {labels[0]}{f' and {len(labels) - 1} more' if labels[1:] else ''}: {reason}"
        for reason, labels in reasons.items()
    ]
    head = (
        f"{job.title}: {len(failures)} of {len(job.parts)} parts could not be done, so nothing "
        "was joined. The others are kept: mend this, and run again."
    )
    return "\n".join([head, *lines])


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
