"""Where our own time goes in the whole job: seconds spent in each step, not in those it calls.

In one thread: what of it others could do meanwhile is all but the forward pass, the pairs'
summary and the tables.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks import sides
from benchmarks.inputs import Load
from benchmarks.whole import Job, prepare
from pipeline import attention, diagrams, graphs, information, pairs
from pipeline.measures import block

Row = dict[str, Any]

STEPS: dict[str, tuple[Any, str]] = {
    "forward": (attention, "each_layer"),
    "maps in float64": (attention.LayerMaps, "of"),
    "Jensen-Shannon": (block, "token_distances"),
    "Rips": (diagrams, "rips"),
    "entropy": (information, "entropy"),
    "divergence": (information, "kl_mean"),
    "clusters": (graphs, "clusters"),
    "pairs of heads": (pairs, "compare"),
    "summary": (pairs, "summarise"),
}
REST = "tables and the rest"


class Clock:
    """Seconds by step: while one step calls another, only the inner one counts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open = [REST]
        self._since = time.perf_counter()

    def timed(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time put down to a step."""

        @wraps(function)
        def call(*values: Any, **named: Any) -> Any:
            self.turn()
            self._open.append(step)
            try:
                return function(*values, **named)
            finally:
                self.turn()
                self._open.pop()

        return call

    def turn(self) -> None:
        """Put down the time since the last turn to the step that is open."""
        now = time.perf_counter()
        self.seconds[self._open[-1]] += now - self._since
        self._since = now


def run(load: Load, jobs: Sequence[Job], repeats: int) -> list[Row]:
    """Rows for each job and step: median seconds over the rounds, and their share."""
    rows = []
    for job in jobs:
        work = prepare(load, job)
        sides.ours(work)
        rounds = [_seconds(work) for _ in range(repeats)]
        medians = {step: float(np.median([of[step] for of in rounds])) for step in (*STEPS, REST)}
        whole = sum(medians.values())
        about = {"models": ", ".join(job.models), "tokens": job.tokens, "texts": job.texts}
        rows += [
            {**about, "step": step, "median_s": seconds, "percent": 100 * seconds / whole}
            for step, seconds in medians.items()
        ]
    return rows


def _seconds(work: sides.Work) -> dict[str, float]:
    with _watched() as clock:
        sides.ours(work)
        clock.turn()
    return clock.seconds


@contextmanager
def _watched() -> Iterator[Clock]:
    with ExitStack() as stack:
        clock = Clock()
        for step, (module, name) in STEPS.items():
            function = clock.timed(step, getattr(module, name))
            stack.enter_context(patch.object(module, name, function))
        yield clock
