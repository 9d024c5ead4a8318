"""Kernels that release the interpreter lock, run in a few threads.

Not numba's own parallel loops: their OpenMP threads spin while they wait, which costs
tenfold where cores are shared; their other layer aborts when two threads enter at once;
neither survives a fork; and they double the time to compile.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Generic, Self, TypeVar

import numba

T = TypeVar("T")
_told: list[int] = []
_here = threading.local()  # whether the kernels of this thread use it alone


@cache
def _pool(threads: int | None = None) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads or numba.config.NUMBA_NUM_THREADS, "kernel")


if hasattr(os, "register_at_fork"):
    # The threads do not live on in a child; without this it would wait for them forever.
    os.register_at_fork(after_in_child=_pool.cache_clear)


def use(threads: int | None) -> None:
    """Let the kernels of this process use so many threads from now on; None: as many as cores."""
    _told[:] = [] if threads is None else [threads]


def count() -> int:
    """How many threads the kernels use, unless a caller says otherwise."""
    if getattr(_here, "alone", False):
        return 1
    return _told[0] if _told else int(numba.get_num_threads())


def share(work: Callable[[int], T], tasks: int, threads: int | None = None) -> list[T]:
    """The results of work(0) to work(tasks - 1), done in this thread and a few others.

    As many threads as `use` has set, unless told; which thread does which task is left to
    chance. The first error raised is raised here.
    """
    pending = iter(range(tasks))
    results: dict[int, T] = {}

    def drain() -> None:
        for task in pending:
            results[task] = work(task)

    threads = count() if threads is None else threads
    helpers = [_pool().submit(drain) for _ in range(min(threads, tasks) - 1)]
    try:
        drain()
    finally:
        # One that has not started by now, in a busy pool, has nothing left to do.
        started = [helper for helper in helpers if not helper.cancel()]
        for helper in started:
            helper.result()
    return [results[task] for task in range(tasks)]


@contextmanager
def alone() -> Iterator[None]:
    """Let the kernels that this thread calls use no other thread."""
    before, _here.alone = getattr(_here, "alone", False), True
    try:
        yield
    finally:
        _here.alone = before


class Queue(Generic[T]):
    """Work that a few threads do while this one finds more of it; each piece in one thread.

    As many threads as `use` has set, this one among them. Left by an error, it begins no more.
    """

    def __init__(self) -> None:
        self._threads = count()
        self._tasks: list[Future[T]] = []
        self._pending: deque[tuple[Future[T], Callable[[], T]]] = deque()

    def add(self, works: Sequence[Callable[[], T]]) -> None:
        """Take on more work, when all that came before is begun; raises what that has raised."""
        self._work()
        for task in self._tasks:
            if task.done():
                task.result()
        tasks: list[Future[T]] = [Future() for _ in works]
        self._tasks += tasks
        self._pending.extend(zip(tasks, works, strict=True))
        if self._threads == 1:
            self._work()
        for _ in range(min(self._threads - 1, len(works))):
            _pool(self._threads - 1).submit(self._work)

    def results(self) -> list[T]:
        """Of all work, in the order in which it came; the first error is raised."""
        self._work()
        return [task.result() for task in self._tasks]

    def _work(self) -> None:
        with alone():
            while self._pending:
                try:
                    task, work = self._pending.popleft()
                except IndexError:  # another thread took the last
                    return
                try:
                    task.set_result(work())
                except BaseException as error:
                    task.set_exception(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pending.clear()
