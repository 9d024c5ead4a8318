"""What is missing, as SLURM jobs: frozen into a plan, sent as arrays, and a join behind them."""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import jobs, store
from pipeline.config import Config
from pipeline.console import say
from pipeline.errors import InputError
from pipeline.jobs import plans
from pipeline.jobs.plans import Cell, Plan, Task
from pipeline.work import slurm
from pipeline.work.parts import Job
from pipeline.work.slurm import Queued

SUBMITTED = "submitted.jsonl"
SCRIPTS = {"tasks": "tasks.sh", "join": "join.sh"}
# The start of a plan's digest in a job's name tells its jobs from all others.
SHOWN = 16


class Wanted(NamedTuple):
    """What is asked for, and how far it is.

    now    stages whose parts are known, and their jobs
    then   stages whose parts are known when those are joined
    """

    composed: dict[str, Any]
    settings: Config
    now: dict[str, dict[Cell, list[Job]]]
    then: list[str]

    def jobs(self) -> Iterator[Job]:
        """All jobs whose parts are known."""
        for together in self.now.values():
            for found in together.values():
                yield from found


def wanted(composed: dict[str, Any], settings: Config, stages: Sequence[str]) -> Wanted:
    """Which of the stages can be cut into parts now.

    The parts of the comparison are made by the diagrams: there are none before all are joined.
    """

    def made(names: Iterable[str]) -> dict[str, dict[Cell, list[Job]]]:
        return {
            name: {cell: plans.of(cell, settings) for cell in plans.cells(settings, [name])}
            for name in names
        }

    first = made(stage for stage in stages if stage != "comparison")
    if "comparison" not in stages:
        return Wanted(composed, settings, first, [])
    before = first.get("diagrams") or made(["diagrams"])["diagrams"]
    if all(job.joined() for found in before.values() for job in found):
        return Wanted(composed, settings, first | made(["comparison"]), [])
    if "diagrams" not in stages:
        raise InputError(
            "comparison needs the diagrams of all models, joined, and they are not: submit "
            "`--stage diagrams --stage comparison`."
        )
    return Wanted(composed, settings, first, ["comparison"])


class Queue:
    """What of ours waits or runs on the cluster."""

    def __init__(self) -> None:
        self._jobs = [job for job in slurm.queued() if _plan_of(job)]

    @cached_property
    def parts(self) -> set[str]:
        """The parts that tasks there are to do."""
        arrays = [job for job in self._jobs if job.place is not None]
        return plans.covered((_plan_of(job), _offset(job) + (job.place or 0)) for job in arrays)

    @cached_property
    def joins(self) -> dict[int, Plan]:
        """The jobs that will look for parts and join them, and what they know."""
        folders = {job.job: _folder(job) for job in self._jobs if job.place is None}
        return {number: plans.load(folder) for number, folder in folders.items()}

    def related(self, plan: Plan) -> list[int]:
        """The numbers of the jobs that do or join anything of what a plan is of."""

        def shares(folder: Path) -> bool:
            made_by = plans.load(folder).made_by
            return any(made_by.get(title) == value for title, value in plan.made_by.items())

        folders = {_folder(job) for job in self._jobs}
        ours = {folder for folder in folders if shares(folder)}
        return sorted({job.job for job in self._jobs if _folder(job) in ours})

    def will_join(self, what: Wanted, waiting: Sequence[Job]) -> bool:
        """Whether the joins are of all that waits for one, and submit what comes then."""
        run = plans.run_folder(what.composed)
        joins = [one for one in self.joins.values() if plans.run_folder(dict(one.composed)) == run]
        follow = {stage for one in joins for stage in one.then}
        return follow >= set(what.then) and all(
            any(one.made_by.get(job.title) == job.made_by for one in joins) for job in waiting
        )


def submit(what: Wanted, queue: Queue) -> None:
    """Freeze what is neither done nor queued and submit it, and a job that joins all."""
    for job in what.jobs():
        say(f"{job.title}: {len(job.parts) - len(job.missing())} of {len(job.parts)} parts done")
    waiting = [job for job in what.jobs() if not job.joined()]
    plan = frozen(what, queue)
    if plan.tasks or not queue.will_join(what, waiting):
        send(plan, queue)
    elif waiting:
        say("Nothing is submitted: what is missing is queued or running (`squeue --me`).")
    else:
        say(f"Nothing is missing: all tables are in {what.settings.root / store.OUTPUTS}.")
        say("`dvc exp run` with the same words, or `dvc repro`, finds the parts and records.")


def frozen(what: Wanted, queue: Queue) -> Plan:
    """The plan of what is neither done nor queued."""
    size = what.settings.cluster.parts_per_task
    tasks: list[Task] = []
    for together in what.now.values():
        for cell, found in together.items():
            tasks += plans.tasks(cell, found, queue.parts, size)
    made_by = {job.title: job.made_by for job in what.jobs()}
    return Plan(what.composed, list(what.now), what.then, made_by, tasks)


def send(plan: Plan, queue: Queue) -> None:
    """Submit a plan's arrays, and its join behind them and whatever of ours is queued."""
    spec, folder = plan.settings.cluster, plans.freeze(plan)
    (folder / "logs").mkdir(exist_ok=True)
    for mode, name in SCRIPTS.items():
        text = slurm.batch_script(spec, Path.cwd(), _environment(spec), _words(mode, folder))
        store.write_text(folder / name, text)
    arrays, sent = _arrays(plan), dict[Array, int]()
    try:
        for array in arrays:
            sent[array] = _send_array(
                plan, array, [sent[other] for other in sent if array.needs(other)]
            )
        last = _send_join(plan, [*queue.related(plan), *sent.values()])
    except InputError as error:
        raise InputError(_refused(error, len(arrays), list(sent.values()))) from error
    parts = sum(len(task.digests) for task in plan.tasks)
    numbers = ", ".join(map(str, sent.values())) or "none"
    say(f"{parts} parts in {len(plan.tasks)} tasks: jobs {numbers};")
    say(f"job {last} joins them{' and submits ' + ', '.join(plan.then) if plan.then else ''}.")
    say(f"plan and logs: {folder}")


class Array(NamedTuple):
    """Tasks of one stage and wave, which stand together in a plan."""

    stage: str
    wave: int
    first: int
    length: int

    def needs(self, other: "Array") -> bool:
        """Whether these tasks read parts of the other's."""
        return other.stage == self.stage and other.wave < self.wave


def _arrays(plan: Plan) -> list[Array]:
    """The tasks as arrays, none longer than the cluster takes."""
    longest, found, first = slurm.longest_array(), list[Array](), 0
    for (stage, wave), run in groupby(plan.tasks, lambda task: (task.cell.stage, task.wave)):
        left = len(list(run))
        while left:
            found.append(Array(stage, wave, first, min(left, longest)))
            first, left = first + found[-1].length, left - found[-1].length
    return found


def _send_array(plan: Plan, array: Array, after: Sequence[int]) -> int:
    spec, folder, first = plan.settings.cluster, plan.folder, str(array.first)
    options = [
        *slurm.options(spec, _name(plan, first), folder / f"logs/task-{first}+%a.log"),
        *([f"--gpus={spec.gpus}"] if spec.gpus and jobs.BULK[array.stage] else []),
        *_behind(after),
        slurm.array(array.length, spec),
    ]
    return _record(plan, slurm.submit(folder / SCRIPTS["tasks"], [first], options), array.first)


def _send_join(plan: Plan, after: Sequence[int]) -> int:
    spec, folder = plan.settings.cluster, plan.folder
    options = slurm.options(spec, _name(plan, "join"), folder / "logs/join-%j.log")
    job = slurm.submit(folder / SCRIPTS["join"], [], [*options, *_behind(after)])
    return _record(plan, job, None)


def _behind(after: Sequence[int]) -> list[str]:
    # Whatever becomes of them: what is on the shelves decides, no state of a job.
    return [f"--dependency=afterany:{':'.join(map(str, after))}"] if after else []


def _record(plan: Plan, job: int, offset: int | None) -> int:
    with (plan.folder / SUBMITTED).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"job": job, "first_task": offset}) + "\n")
    return job


def _refused(error: InputError, arrays: int, sent: Sequence[int]) -> str:
    which = f"array {len(sent) + 1} of {arrays}" if len(sent) < arrays else "the job that joins"
    kept = f" Jobs {', '.join(map(str, sent))} are in, and go on." if sent else ""
    return (
        f"The cluster refused {which}. {error}{kept} Then submit again: what is done or queued "
        "is not submitted twice."
    )


def _environment(spec: slurm.ClusterSpec) -> dict[str, str]:
    """What a task needs to know of where it was submitted."""
    code = [str(store.ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, code)),
        "ATTENTION_TOPOLOGY_WORK": str(store.work_folder()),
        # A task has these cores, however many its node has.
        "NUMBA_NUM_THREADS": str(spec.cpus),
        "OMP_NUM_THREADS": str(spec.cpus),
    }


def _words(mode: str, folder: Path) -> list[str]:
    last = ["--join"] if mode == "join" else []
    return [sys.executable, "-m", "commands.task", str(folder), *last]


def _name(plan: Plan, what: str) -> str:
    return f"topology-{plan.digest[:SHOWN]}-{what}"


def _plan_of(job: Queued) -> str:
    """The start of the digest of the plan of a job; "" where it is none of ours."""
    first, _, rest = job.name.partition("-")
    digest = rest.partition("-")[0]
    ours = first == "topology" and len(digest) == SHOWN and any(plans.home().glob(f"{digest}*"))
    return digest if ours else ""


def _offset(job: Queued) -> int:
    return int(job.name.rpartition("-")[2])


def _folder(job: Queued) -> Path:
    return next(plans.home().glob(f"{_plan_of(job)}*"))
