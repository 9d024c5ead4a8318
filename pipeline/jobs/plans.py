"""A frozen plan: the parts that were missing, cut into tasks, for processes that come later.

A plan is a folder of the work folder, named by the digest of what it holds: the composed
configuration, what made each job, and the digests of the parts of each task. A task makes its
jobs again from the configuration, and does nothing where they have come out otherwise.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import config, files, jobs, store
from pipeline.config import Config
from pipeline.errors import InputError
from pipeline.work.parts import Job, Part

PLAN = "plan.json"
SEEN = "inputs.json"  # the inputs as they were hashed, with their sizes and times


class Cell(NamedTuple):
    """What a bulk stage does for one model, or, where it has no cells, for all."""

    stage: str
    model: str | None

    def __str__(self) -> str:
        return f"{self.stage} {self.model}" if self.model else self.stage


class Task(NamedTuple):
    """Parts, by digest, of one job of a cell.

    wave   0; 1 where they read parts of the cell's other tasks, those of wave 0
    """

    cell: Cell
    wave: int
    digests: list[str]


@dataclass(frozen=True)
class Plan:
    """Tasks to do, and the stages that are to be joined when they are done.

    stages   the bulk stages that are joined
    then     the bulk stages that come after these
    made_by  what made each job, by its title
    """

    composed: Mapping[str, Any]
    stages: Sequence[str]
    then: Sequence[str]
    made_by: Mapping[str, Any]
    tasks: Sequence[Task]

    @property
    def contents(self) -> dict[str, Any]:
        """All that a plan is, as JSON has it."""
        return {**vars(self), "tasks": [[*task.cell, *task[1:]] for task in self.tasks]}

    @property
    def digest(self) -> str:
        """Of the contents."""
        return store.digest(self.contents)

    @property
    def folder(self) -> Path:
        """Where the plan, its scripts and its logs are."""
        return home() / self.digest

    @property
    def settings(self) -> Config:
        """The configuration, checked; a task has the cores and the memory it asks for."""
        settings = config.check(self.composed, run_folder(self.composed))
        asked, workers = settings.cluster, settings.engine.workers
        threads = max(asked.cpus // workers, 1)
        memory = asked.memory_mb and max(asked.memory_mb // workers, 1)
        engine = replace(settings.engine, threads=threads, memory_mb=memory)
        return replace(settings, engine=engine)


def run_folder(composed: Mapping[str, Any]) -> Path:
    """Where the corpus and the tables of a configuration are, whoever does its parts."""
    decides = {key: value for key, value in composed.items() if key not in ("engine", "cluster")}
    return store.work_folder() / "runs" / store.digest(decides)[:16]


def home() -> Path:
    """The folder of all plans."""
    return store.work_folder() / "plans"


def cells(settings: Config, stages: Iterable[str]) -> list[Cell]:
    """The cells of bulk stages."""
    return [Cell(stage, model) for stage in stages for model in jobs.models(settings, stage)]


def of(cell: Cell, settings: Config) -> list[Job]:
    """The jobs of a cell."""
    return list(jobs.of(settings, *cell))


def tasks(cell: Cell, found: Sequence[Job], held: Collection[str], size: int) -> Iterator[Task]:
    """The parts of a cell's jobs that are neither on the shelf nor held, so many a task.

    A job without outputs is there for those behind it: alone, it is not missed.
    """
    absent = [[part for part in job.missing() if part.digest not in held] for job in found]
    if not any(parts for job, parts in zip(found, absent, strict=True) if job.outputs):
        return
    wave = 0
    for job, parts in zip(found, absent, strict=True):
        for start in range(0, len(parts), size):
            yield Task(cell, wave, [part.digest for part in parts[start : start + size]])
        wave = wave if job.outputs else 1


def freeze(plan: Plan) -> Path:
    """Write a plan, unless it is there, and what its inputs were; return its folder."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    if not (plan.folder / PLAN).is_file():
        text = store.canonical_json(plan.contents).decode()
        store.write_text(plan.folder / PLAN, text)
    seen = store.canonical_json(files.inputs_seen()).decode()
    store.write_text(plan.folder / SEEN, seen)
    return plan.folder


def trust_inputs(folder: Path) -> None:
    """Hash no input of a plan again that is as it was then, by size and time.

    The join behind the tasks hashes them all.
    """
    try:
        files.trust(json.loads((folder / SEEN).read_bytes()))
    except (OSError, ValueError, TypeError, AttributeError):
        return  # of an earlier version, or damaged: they are hashed again


def load(folder: Path) -> Plan:
    """Read a frozen plan; raises InputError where it is not whole, or not what it was."""
    try:
        held = json.loads((folder / PLAN).read_bytes())
        tasks = [Task(Cell(*words[:2]), *words[2:]) for words in held.pop("tasks")]
        plan = Plan(**held, tasks=tasks)
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise InputError(
            f"There is no plan in {folder} ({error}). `python -m commands.submit` freezes one."
        ) from error
    if plan.digest != folder.name:
        raise InputError(
            f"The plan in {folder} is not what was frozen: its digest is {plan.digest[:16]}. "
            "Remove that folder and submit again; finished parts are kept."
        )
    return plan


def chosen(plan: Plan, task: Task) -> list[tuple[Job, list[Part]]]:
    """A task's jobs, made again, and its parts of each, the plan's and no others.

    Raises InputError, saying what has changed, where they are not those that were frozen.
    """
    found = of(task.cell, plan.settings)
    wanted = set(task.digests)
    together = [(job, [p for p in job.parts if p.digest in wanted]) for job in found]
    if sum(len(parts) for _, parts in together) < len(wanted):
        raise InputError(
            f"The parts of {task.cell} are not those of the plan: {_changed(plan, found)} changed "
            "since it was frozen. Put that back, or submit again: what is done and still fits is "
            "kept."
        )
    return together


def _changed(plan: Plan, found: Sequence[Job]) -> str:
    names = sorted({name for job in found for name in _differing(plan.made_by, job)})
    return ", ".join(names) or "how parts are cut"


def _differing(made_by: Mapping[str, Any], job: Job) -> Iterator[str]:
    then, now = made_by.get(job.title, {}), job.made_by
    yield from (f"its {key}" for key in {*then, *now} if then.get(key) != now.get(key))


def covered(held: Iterable[tuple[str, int]]) -> set[str]:
    """The parts that tasks do, given as (the start of a plan's digest, the task's number)."""
    numbers: dict[str, list[int]] = {}
    for start, number in held:
        numbers.setdefault(start, []).append(number)
    found: set[str] = set()
    for start, tasks_held in numbers.items():
        for folder in home().glob(f"{start}*"):
            tasks_there = load(folder).tasks
            found.update(d for number in tasks_held for d in tasks_there[number].digests)
    return found
