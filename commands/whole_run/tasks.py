"""One job of a frozen plan: a task's parts, or the join behind all tasks."""

import os
import platform
import signal
from collections.abc import Sequence
from types import FrameType
from typing import Any

from pipeline.console import say
from pipeline.errors import InputError, some
from pipeline.jobs import plans, submission
from pipeline.jobs.plans import Cell, Plan
from pipeline.work import engine, slurm
from stages import comparison, context, diagrams

STAGES: dict[str, Any] = {"diagrams": diagrams, "context": context, "comparison": comparison}
NAMED = 5  # missing parts that the join names, of each job


class Stopped(SystemExit):
    """SLURM asks to stop: so that a part's lease is given back on the way out."""


def do(plan: Plan, number: int) -> None:
    """Do the parts of one task that are missing; go back into the queue when time is short."""
    for kind in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(kind, _stop)
    task = plan.tasks[number]
    plans.trust_inputs(plan.folder)
    say(
        f"task {number} of {len(plan.tasks)}: {len(task.digests)} parts of {task.cell}, "
        f"on {os.environ.get('SLURMD_NODENAME', platform.node())}"
    )
    together = plans.chosen(plan, task)
    before = _missing(together)
    try:
        with engine.crew(plan.settings.engine) as do_parts:
            failures = [f for job, parts in together for f in do_parts(job, parts)]
    except Stopped as stop:
        if stop.code == 128 + signal.SIGUSR1:
            _again(before - _missing(together), plan)
        raise
    if failures:
        reasons = sorted({f"{failure.part.label}: {failure.reason}" for failure in failures})
        raise InputError(f"{len(failures)} parts could not be done:\n  " + "\n  ".join(reasons))
    say(f"task {number}: done")


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(128 + number)


def _missing(together: Sequence[tuple[Any, Sequence[Any]]]) -> int:
    return sum(not job.shelf.has(part) for job, parts in together for part in parts)


def _again(done: int, plan: Plan) -> None:
    """Queue this task again, unless its time is too short for a single part."""
    if not done:
        raise InputError(
            f"{plan.settings.cluster.minutes} minutes were too few for one part. Give more with "
            "cluster.minutes=NUMBER, or cut the work finer with engine.part_texts=NUMBER."
        )
    say(f"time is short: {done} parts done; queued again for the rest")
    array, index = os.environ["SLURM_ARRAY_JOB_ID"], os.environ["SLURM_ARRAY_TASK_ID"]
    slurm.requeue(f"{array}_{index}")


def join(plan: Plan) -> None:
    """Join each cell whose parts are all there; fail naming what is missing of the others."""
    faults = {cell: _join(plan, cell) for cell in plans.cells(plan.settings, plan.stages)}
    lines = [line for found in faults.values() for line in found]
    whole = all(not found for cell, found in faults.items() if cell.stage == "diagrams")
    if plan.then and whole:
        what = submission.wanted(dict(plan.composed), plan.settings, plan.then)
        submission.submit(what, submission.Queue())
    if lines:
        raise InputError(
            "\n  ".join(["Not all is there. Submit again: only this goes in.", *lines])
            + f"\nWhy: {plan.folder}/logs"
        )


def _join(plan: Plan, cell: Cell) -> list[str]:
    """Join a cell, unless it is joined, or say what keeps it from that."""
    found, lines = plans.of(cell, plan.settings), []
    if all(job.joined() for job in found):
        say(f"{cell}: is there")
        return []
    for job in found:
        absent = job.missing() if job.outputs else []
        if absent:
            named = some([f"{part.label} ({part.digest[:12]})" for part in absent], NAMED)
            lines.append(f"{job.title}: {len(absent)} of {len(job.parts)} parts: {named}")
    if lines:
        return lines
    try:
        models = [cell.model] if cell.model else []
        say(f"{cell}: {STAGES[cell.stage].run(plan.settings, *models)}")
    except InputError as error:
        return [f"{cell}: {error}"]
    return []
