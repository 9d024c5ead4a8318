"""A task of a plan: what it does when SLURM asks it to stop, and how it ends."""

import os
import signal
from contextlib import nullcontext
from pathlib import Path

import pytest

from commands import task
from commands.whole_run import tasks
from pipeline import store
from pipeline.errors import InputError
from pipeline.jobs import plans
from pipeline.jobs.plans import Cell, Plan, Task
from pipeline.work import engine, slurm
from pipeline.work.attempts import Failure
from pipeline.work.parts import Job, Part, Shelf
from tests.light import DoneBy

CELL = Cell("diagrams", "minilm")


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A job of four parts, which is what every cell has."""
    table = store.SCHEMAS["rejects"].empty_table()
    one = DoneBy(
        title="a",
        shelf=Shelf(tmp_path / "shelf"),
        parts=[Part(f"a{number}", f"part {number}", number) for number in range(4)],
        by=lambda part: {"rejects": table},
        outputs={"rejects": tmp_path / "a.parquet"},
        provenance={},
    )
    monkeypatch.setattr(plans, "of", lambda cell, settings: [one])
    return one


@pytest.fixture
def plan(composed: dict) -> Plan:
    return Plan(composed, ["diagrams"], [], {}, [Task(CELL, 0, ["a0", "a1", "a2"])])


@pytest.fixture(autouse=True)
def requeued(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The jobs that were put back into the queue; signals are handled as before afterwards."""
    found: list[str] = []
    monkeypatch.setattr(slurm, "requeue", found.append)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    before = {kind: signal.getsignal(kind) for kind in (signal.SIGTERM, signal.SIGUSR1)}
    yield found
    for kind, handler in before.items():
        signal.signal(kind, handler)


def stopped_after(count: int, kind: signal.Signals):
    """An engine to which a signal comes when so many parts are done."""

    def do(job: Job, parts: list[Part]) -> list[Failure]:
        for part in parts[:count]:
            job.shelf.put(part, job.do(part))
        os.kill(os.getpid(), kind)
        raise AssertionError("not reached")

    return lambda spec: nullcontext(do)


def test_a_task_does_its_parts_and_no_others(job, plan, capsys):
    tasks.do(plan, 0)
    assert [part.digest for part in job.missing()] == ["a3"]
    assert capsys.readouterr().err.splitlines()[-1] == "task 0: done"


def test_a_task_whose_time_is_short_goes_back_into_the_queue(job, plan, monkeypatch, requeued):
    monkeypatch.setattr(engine, "crew", stopped_after(2, signal.SIGUSR1))
    with pytest.raises(SystemExit) as stop:
        tasks.do(plan, 0)
    assert requeued == ["12_3"]
    assert stop.value.code not in (0, None)


def test_a_task_that_did_nothing_in_its_time_says_so(job, plan, monkeypatch, requeued):
    monkeypatch.setattr(engine, "crew", stopped_after(0, signal.SIGUSR1))
    with pytest.raises(InputError, match="were too few for one part"):
        tasks.do(plan, 0)
    assert requeued == []


def test_a_task_that_is_cancelled_ends_and_stays_ended(job, plan, monkeypatch, requeued):
    monkeypatch.setattr(engine, "crew", stopped_after(1, signal.SIGTERM))
    with pytest.raises(SystemExit) as stop:
        tasks.do(plan, 0)
    assert stop.value.code == 128 + signal.SIGTERM
    assert requeued == []


def test_a_part_that_fails_is_an_error_of_the_task(job, plan, monkeypatch):
    failure = Failure(job.parts[1], "it cannot be done")
    monkeypatch.setattr(engine, "crew", lambda spec: nullcontext(lambda *_: [failure]))
    with pytest.raises(InputError, match=r"1 parts could not be done:\n  part 1: it cannot"):
        tasks.do(plan, 0)


def test_the_join_names_what_is_missing_and_joins_nothing(job, plan):
    job.shelf.put(job.parts[2], job.do(job.parts[2]))
    with pytest.raises(InputError) as told:
        tasks.join(plan)
    assert "a: 3 of 4 parts: part 0 (a0), part 1 (a1), part 3 (a3)" in str(told.value)
    assert not job.outputs["rejects"].exists()


def test_what_is_joined_is_not_joined_again(job, plan, monkeypatch, capsys):
    for part in job.parts:
        job.shelf.put(part, job.do(part))
    job.join()
    monkeypatch.setitem(tasks.STAGES, "diagrams", None)
    tasks.join(plan)
    assert "diagrams minilm: is there" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["plan"], ["plan", "3", "--join"]])
def test_a_task_or_the_join_and_not_both(words):
    with pytest.raises(InputError, match="Give the OFFSET of a task, or --join"):
        task.parse(words)
