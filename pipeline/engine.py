"""Who does the parts: this process, or a local pool of worker processes.

One process does its parts one after the other, each under a lease, so that any number of
processes, here or on other hosts, can do parts of one job at once. Manifests decide what is
done, and the joined bytes depend on none of this.
"""

import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tqdm import tqdm

from pipeline import drafts, leases, store
from pipeline.errors import InputError
from pipeline.leases import Holder
from pipeline.parts import Job, Part

if TYPE_CHECKING:  # the schema imports the specs of all domains
    from pipeline.config import EngineSpec

# Its own lock is one between processes, of which a killed process leaves a semaphore behind.
tqdm.set_lock(threading.RLock())

WAIT = 2.0  # seconds before a part that another process holds is looked at again
# What no part could be written through: to go on would only lose work.
OF_THE_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


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
Heard = Callable[[Outcome], None]


class Do(Protocol):
    """What does some parts of a job, and returns those that failed."""

    def __call__(
        self, job: Job, parts: Sequence[Part], heard: Heard | None = None
    ) -> list[Failure]:
        """heard: is told what came of each part."""


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
    missing = job.missing()
    _sweep(job, missing)
    if len(missing) < len(job.parts):
        say(f"{job.title}: {len(job.parts) - len(missing)} of {len(job.parts)} parts done before")
    with Progress(job.title, len(missing)) as progress:
        failures = do(job, missing, progress.heard)
    if failures:
        raise UnfinishedError(_summed_up(job, failures))
    return job.join()


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
    from pipeline import workers
    from pipeline.kernels import threads

    def by_workers(job: Job, parts: Sequence[Part], heard: Heard | None = None) -> list[Failure]:
        return workers.do_parts(pool, job, parts, spec.workers, heard)

    def here(job: Job, parts: Sequence[Part], heard: Heard | None = None) -> list[Failure]:
        left = {digest for digest, holder in leases.held(job.shelf.folder) if holder is None}
        left_behind = [part for part in parts if part.digest in left]
        others = [part for part in parts if part.digest not in left]
        failures = workers.do_parts(pool, job, left_behind, 1, heard)
        pool.keep(0)
        threads.use(spec.threads)
        return failures + do_parts(job, others, heard)

    with workers.Pool(spec.threads or max(cores() // spec.workers, 1)) as pool:
        yield by_workers if spec.workers > 1 else here


def do_parts(job: Job, parts: Sequence[Part], heard: Heard | None = None) -> list[Failure]:
    """Do some parts of a job in this process, one after the other; return those that failed.

    Each is done under a lease. One that another process holds is left for later, and at the
    end waited for. Raises OSError where the shelf cannot be written, for then none can.
    """
    if parts:
        job.prepare()
    return told(until_none_is_held(job, parts, lambda few: (attempt(job, p) for p in few)), heard)


def told(outcomes: Iterable[Outcome], heard: Heard | None) -> list[Failure]:
    """Pass each outcome on as it comes; return the failures."""
    failures = []
    for outcome in outcomes:
        if heard is not None:
            heard(outcome)
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
            if traceback_wanted() or _of_the_place(error):
                raise
            job.shelf.note(part, sentence(error))
            return Failure(part, sentence(error))
    return Done(part)


def _sweep(job: Job, missing: Sequence[Part]) -> None:
    """Remove what killed processes left; but the lease of a part that is not done says who fell."""
    drafts.sweep(job.shelf.folder)
    done = {part.digest for part in job.parts} - {part.digest for part in missing}
    for digest, _ in leases.held(job.shelf.folder):
        if digest in done:
            leases.forget(job.shelf.folder, digest)


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


class Progress:
    """A bar with an estimate on a terminal, one line a part elsewhere."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._done = title, total, 0
        self._started = time.perf_counter()
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total, desc=title, disable=not self._terminal, unit="part", leave=False
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def heard(self, outcome: Outcome) -> None:
        """Show what came of a part."""
        self._done += 1
        self._bar.update()
        if not self._terminal:
            spent = time.perf_counter() - self._started
            left = spent / self._done * (self._total - self._done)
            failed = "failed, " if isinstance(outcome, Failure) else ""
            what = f"{self._done}/{self._total} {outcome.part.label}, {failed}"
            say(f"{self._title}: {what}about {left:.0f} s left")


def sentence(error: BaseException) -> str:
    """An error in words, with the cure where we know one."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, MemoryError):
        return (
            f"There was too little memory ({error or 'none was left'}). Lower max_tokens of the "
            "model, or engine.workers, or use a machine with more."
        )
    if isinstance(error, OSError) and error.errno in OF_THE_PLACE:
        return _of_a_place(error)
    return (
        f"{type(error).__name__}: {error}. This is not an error we foresaw; "
        "ATTENTION_TOPOLOGY_TRACEBACK=1 before the command shows where it arose."
    )


def _of_a_place(error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    what = "The disk is full" if full else "A file could not be written or read"
    return (
        f"{what} ({error}). {'Free some space' if full else 'Give yourself the right to it'}, or "
        f"set ATTENTION_TOPOLOGY_WORK to a folder elsewhere (it is {store.work_folder()}), and "
        "run again: what was finished there is kept."
    )


def _of_the_place(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in OF_THE_PLACE


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def traceback_wanted() -> bool:
    """Whether a person wants to see where an error came from, and not a sentence."""
    return os.environ.get("ATTENTION_TOPOLOGY_TRACEBACK") == "1"


def say(line: str) -> None:
    """One line for the person at the terminal."""
    tqdm.write(line, file=sys.stderr)
    sys.stderr.flush()
