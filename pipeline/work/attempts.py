"""One part after the other in this process, each under a lease, and what comes of each."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from pipeline.console import is_fatal, say, sentence, traceback_wanted
from pipeline.work import leases
from pipeline.work.leases import Holder
from pipeline.work.parts import Job, Part

WAIT = 2.0  # seconds before a part that another process holds is looked at again


class Done(NamedTuple):
    """A part is on the shelf."""

    part: Part


class Held(NamedTuple):
    """Another process does a part."""

    part: Part
    holder: Holder


class Failure(NamedTuple):
    """A part could not be done: a sentence says why."""

    part: Part
    reason: str


Outcome = Done | Held | Failure
Notify = Callable[[Outcome], None]


def do_parts(job: Job, parts: Sequence[Part], notify: Notify | None = None) -> list[Failure]:
    """Do some parts of a job in this process, one after the other; return those that failed.

    Each is done under a lease. One that another process holds is left for later, and at the
    end waited for. Raises OSError where the shelf cannot be written, for then none can.
    """
    if parts:
        job.prepare()
    return failures_of(
        until_none_is_held(job, parts, lambda few: (attempt(job, p) for p in few)), notify
    )


def failures_of(outcomes: Iterable[Outcome], notify: Notify | None) -> list[Failure]:
    """Pass each outcome on as it comes; return the failures."""
    failures = []
    for outcome in outcomes:
        if notify is not None:
            notify(outcome)
        if isinstance(outcome, Failure):
            failures.append(outcome)
    return failures


def attempt(job: Job, part: Part) -> Outcome:
    """Do one part in this process, unless another holds it."""
    lease = leases.take(job.shelf.folder, part.digest)
    if isinstance(lease, Holder):
        return Held(part, lease)
    with lease:
        try:
            if not job.shelf.has(part):
                started = time.perf_counter()
                tables = job.do(part)
                job.shelf.put(part, tables, time.perf_counter() - started)
        except Exception as error:
            if traceback_wanted() or is_fatal(error):
                raise
            job.shelf.note(part, sentence(error))
            return Failure(part, sentence(error))
    return Done(part)


def until_none_is_held(
    job: Job, parts: Sequence[Part], each: Callable[[Sequence[Part]], Iterable[Outcome]]
) -> Iterator[Outcome]:
    """What comes of the parts, those that other processes hold as often as it takes."""
    known: set[Holder] = set()
    while parts:
        held = []
        for outcome in each(parts):
            if isinstance(outcome, Held):
                held.append(outcome)
            else:
                yield outcome
        for holder in sorted({one.holder for one in held} - known):
            say(f"{job.title}: waits for parts that another run does ({holder})")
            known.add(holder)
        if len(held) == len(parts):
            time.sleep(WAIT)
        parts = [one.part for one in held]
