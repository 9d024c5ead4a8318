"""A pool of worker processes on this host, and what happens when one of them dies.

Workers are started afresh, not forked: a library's threads and locks do not live through a
fork. Each is sent a job once, loads its model once, and is handed parts one by one over a pipe.
(The standard library's pools give up as a whole when one worker dies.)

A worker that dies, killed for want of memory most likely, costs the part under way. Another
takes its place, and when all else is done the part is tried again while nothing else runs, for
the kernel may have killed another than the one that took too much. A part that kills its worker
twice is done piece by piece; a piece that does so is skipped.
"""

import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from typing import NamedTuple

import pyarrow as pa

from pipeline import files
from pipeline.console import say, sentence, traceback_wanted
from pipeline.errors import InputError
from pipeline.work import leases
from pipeline.work.attempts import (
    Done,
    Failure,
    Held,
    Notify,
    Outcome,
    attempt,
    failures_of,
    until_none_is_held,
)
from pipeline.work.parts import Job, Part


class Killed(NamedTuple):
    """A worker died while it did a part."""

    part: Part
    exit_code: int

    @property
    def how(self) -> str:
        """What became of the worker, in words."""
        if self.exit_code < 0:
            return f"was killed ({signal.Signals(-self.exit_code).name})"
        return f"ended (exit status {self.exit_code})"

    @property
    def likely(self) -> str:
        """Why, as far as one can tell."""
        return ", most likely for want of memory" if self.exit_code == -signal.SIGKILL else ""


class Ready(NamedTuple):
    """A worker is ready for parts of the job of this title."""

    title: str


class Stop(NamedTuple):
    """No part can be done: a sentence says why."""

    reason: str


def do_parts(
    pool: "Pool", job: Job, parts: Sequence[Part], workers: int, notify: Notify | None = None
) -> list[Failure]:
    """Do some parts of a job by so many workers of a pool; return those that failed."""
    killed: list[Killed] = []
    each = partial(pool.each, job, size=min(workers, len(parts)), killed=killed)
    failures = failures_of(until_none_is_held(job, parts, each), notify)
    if killed:
        say(f"{job.title}: {len(killed)} parts whose worker died are tried again, one by one")
        pool.keep(1)
    return failures + failures_of((_once_more(job, pool, one.part) for one in killed), notify)


def _once_more(job: Job, pool: "Pool", part: Part) -> Outcome:
    """Do a part that killed its worker while nothing else runs, and piece by piece at last."""
    outcome = pool.alone(job, part)
    if not isinstance(outcome, Killed):
        return outcome
    pieces = job.split(part)
    if not pieces:
        reason = (
            f"{_twice(outcome)}: make the parts smaller (engine.part_... in conf/config.yaml), "
            "lower max_tokens of the model, or use a machine with more memory."
        )
        job.shelf.note(part, reason)
        return Failure(part, reason)
    if [piece.digest for piece in pieces] == [part.digest]:
        return _skip(job, part, outcome)
    say(f"{job.title}: {part.label}: each is done by itself, to find what kills the worker")
    for piece in pieces:
        came = _piece(job, pool, piece)
        if isinstance(came, Failure):
            return Failure(part, came.reason)
    _put_together(job, part, pieces)
    return Done(part)


def _piece(job: Job, pool: "Pool", piece: Part) -> Outcome:
    outcome = pool.alone(job, piece)
    if isinstance(outcome, Killed):
        outcome = pool.alone(job, piece)
    return _skip(job, piece, outcome) if isinstance(outcome, Killed) else outcome


def _skip(job: Job, part: Part, killed: Killed) -> Done:
    say(f"{job.title}: {part.label}, skipped: {_twice(killed)}")
    job.shelf.put(part, job.skip(part, _twice(killed)), aside=[part.label])
    leases.forget(job.shelf.folder, part.digest)  # of the worker that died
    return Done(part)


def _put_together(job: Job, part: Part, pieces: Sequence[Part]) -> None:
    """Make a part of its pieces; what is skipped in them is so in it."""
    shelf, digests = job.shelf, [piece.digest for piece in pieces]
    tables = {name: pa.concat_tables(shelf.tables(pieces, name)) for name in job.outputs}
    aside = [label for digest in digests for label in shelf.aside(digest)]
    shelf.put(part, tables, sum(map(shelf.seconds, digests)), aside)
    leases.forget(shelf.folder, part.digest)
    for digest in digests:
        shelf.drop(digest)


def _never_began(job: Job, killed: Killed) -> str:
    return (
        f"{job.title}: a worker {killed.how} before it could begin{killed.likely}, and so did the "
        "one that took its place, with no other beside it. Lower engine.workers, for each loads "
        "the model, or use a machine with more memory."
    )


def _twice(killed: Killed) -> str:
    return f"its worker {killed.how} twice{killed.likely}"


# ---- the workers, seen from their parent ----------------------------------------------------


class Pool:
    """Worker processes, each with one part at a time; they end with this context."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._workers: list[Worker] = []

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self.keep(0)

    def each(
        self, job: Job, parts: Sequence[Part], *, size: int, killed: list[Killed]
    ) -> Iterator[Outcome]:
        """What comes of each part, as it comes, so many at once; those that kill go to killed."""
        waiting = deque(parts)
        fell = False
        while waiting or self._busy():
            while waiting and len(self._busy()) < size:
                self._hand(job, waiting.popleft())
            for worker in self._answering():
                outcome = self._hear(worker)
                if isinstance(outcome, Killed) and job.title not in worker.ready:
                    size = len(self._busy())  # memory may do for fewer
                    if fell and not size:
                        raise InputError(_never_began(job, outcome))
                    fell, size = True, max(size, 1)
                    say(
                        f"{job.title}: a worker {outcome.how} before it could begin"
                        f"{outcome.likely}; another takes its place, of {size} at once"
                    )
                    waiting.append(outcome.part)
                elif isinstance(outcome, Killed):
                    killed.append(outcome)
                elif outcome is not None:
                    yield outcome

    def alone(self, job: Job, part: Part) -> Outcome | Killed:
        """What comes of one part while nothing else is done."""
        killed: list[Killed] = []
        each = partial(self.each, job, size=1, killed=killed)
        outcomes = list(until_none_is_held(job, [part], each))
        return outcomes[0] if outcomes else killed[0]

    def keep(self, number: int) -> None:
        """End all workers but so many."""
        self._workers, ended = self._workers[:number], self._workers[number:]
        for worker in ended:
            worker.process.terminate()
        for worker in ended:
            worker.process.join(5)
            worker.process.kill()
            worker.process.join()
            if worker.under_way is not None:
                job, part = worker.under_way
                leases.forget(job.shelf.folder, part.digest)

    def _busy(self) -> list["Worker"]:
        return [worker for worker in self._workers if worker.under_way is not None]

    def _hand(self, job: Job, part: Part) -> None:
        """Give a part to a worker that has none, or to a new one."""
        for worker in [worker for worker in self._workers if worker.under_way is None]:
            if worker.take(job, part):
                return
            self._workers.remove(worker)  # it died idle, which costs nothing
        self._workers.append(Worker(self._threads))
        self._workers[-1].take(job, part)

    def _answering(self) -> list["Worker"]:
        ready = connection.wait([worker.pipe for worker in self._busy()])
        return [worker for worker in self._workers if worker.pipe in ready]

    def _hear(self, worker: "Worker") -> Outcome | Killed | None:
        try:
            notify = worker.pipe.recv()
        except (EOFError, OSError):
            return self._bury(worker)
        match notify:
            case Stop():
                raise InputError(notify.reason)
            case Ready():
                worker.ready.add(notify.title)
                return None
            case Done() | Held() | Failure():
                worker.under_way = None
                return notify
        raise TypeError(f"a worker said {notify!r}")

    def _bury(self, worker: "Worker") -> Killed:
        worker.process.join()
        self._workers.remove(worker)
        assert worker.under_way is not None  # only busy ones are listened to
        job, part = worker.under_way
        killed = Killed(part, worker.process.exitcode or 0)
        if job.title in worker.ready:
            say(f"{job.title}: the worker of {part.label} {killed.how}{killed.likely}")
        return killed


class Worker:
    """A worker process, its pipe, the part that it does, and the jobs that it has and can do."""

    def __init__(self, threads: int) -> None:
        start = get_context("spawn")
        self.pipe, theirs = start.Pipe()
        self.process = start.Process(target=_work, args=(theirs, threads, files.what_is_trusted()))
        self.under_way: tuple[Job, Part] | None = None
        self.ready: set[str] = set()
        self._sent: set[str] = set()
        with _deaf_to_interrupts():
            self.process.start()
        theirs.close()

    def take(self, job: Job, part: Part) -> bool:
        """Send a part, and its job before its first; False where the worker is dead."""
        try:
            if job.title not in self._sent:
                self.pipe.send(job)
                self._sent.add(job.title)
            self.pipe.send((job.title, part))
        except OSError:
            self.process.join()
            return False
        self.under_way = job, part
        return True


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """What is started here never hears Ctrl-C: its parent does, and ends it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


# ---- a worker, seen from within -------------------------------------------------------------


def _work(pipe: Connection, threads: int, trusted: Mapping[str, files.Seen]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from pipeline.kernels import threads as kernel_threads

    try:
        files.trust(trusted)
        kernel_threads.use(threads)
        jobs = dict[str, Job]()
        while True:
            sent = pipe.recv()
            if isinstance(sent, Job):
                sent.prepare()
                jobs[sent.title] = sent
                pipe.send(Ready(sent.title))
            else:
                title, part = sent
                pipe.send(attempt(jobs[title], part))
    except (EOFError, BrokenPipeError):
        return  # the parent is gone
    except Exception as error:
        if traceback_wanted():
            traceback.print_exc()
        pipe.send(Stop(sentence(error)))


def _end_with_parent() -> None:
    """A parent that is killed cannot end its workers: they see to it themselves."""
    parent = parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
