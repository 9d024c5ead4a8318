"""Kernels that release the interpreter lock, run in a few threads.

Not numba's own parallel loops: their OpenMP threads spin while they wait, which costs
tenfold where cores are shared; their other layer aborts when two threads enter at once;
neither survives a fork; and they double the time to compile.
"""

import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import numba

# Without /dev/shm its lock is of threads alone, which is all that is asked of it here.
warnings.filterwarnings("ignore", category=numba.errors.NumbaSystemWarning)

T = TypeVar("T")
_set_to: list[int] = []


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(numba.config.NUMBA_NUM_THREADS, "kernel")


if hasattr(os, "register_at_fork"):
    # The threads do not live on in a child; without this it would wait for them forever.
    os.register_at_fork(after_in_child=_pool.cache_clear)


def use(threads: int | None) -> None:
    """Let the kernels of this process use so many threads from now on; None: as many as cores."""
    _set_to[:] = [] if threads is None else [threads]


def count() -> int:
    """How many threads the kernels use, unless a caller says otherwise."""
    return _set_to[0] if _set_to else int(numba.get_num_threads())


def share(work: Callable[[int], T], tasks: int, threads: int | None = None) -> list[T]:
    """The results of work(0) to work(tasks - 1), done in this thread and a few others.

    As many threads as `use` has set, unless given; which thread does which task is left to
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
