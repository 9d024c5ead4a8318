"""pipeline.jobs.submission: what is submitted, with commands that answer as SLURM's do."""

import json
import os
from pathlib import Path

import pytest

from pipeline import store
from pipeline.config import Config
from pipeline.errors import InputError
from pipeline.jobs import plans, submission
from pipeline.jobs.plans import Cell
from pipeline.jobs.submission import Queue, Wanted
from pipeline.work.parts import Job, Part, Shelf
from tests.light import DoneBy

CELLS = [Cell("diagrams", "minilm"), Cell("context", "minilm")]


class Scheduler:
    """Commands in a folder of their own: sbatch counts its calls, and refuses from one on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.longest, self.refuse_from = 1001, 99
        self.queue: list[str] = []

    def write(self) -> None:
        self.script("squeue", "".join(f"echo '{line}'\n" for line in self.queue))
        self.script("scontrol", f"echo 'MaxArraySize = {self.longest}'")
        self.script(
            "sbatch",
            f"""
            printf '%s\\n' "$*" >> {self.folder}/calls
            number=$(wc -l < {self.folder}/calls)
            if [ $number -ge {self.refuse_from} ]; then
              echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2; exit 1
            fi
            echo $((100 + number))
            """,
        )

    def script(self, name: str, body: str) -> None:
        (self.folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (self.folder / name).chmod(0o755)

    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.is_file() else []


@pytest.fixture
def scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scheduler:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ATTENTION_TOPOLOGY_WORK", str(tmp_path / "work"))
    found = Scheduler(tmp_path / "bin")
    found.write()
    return found


def job(folder: Path, cell: Cell, count: int) -> Job:
    table = store.SCHEMAS["rejects"].empty_table()
    title = str(cell)
    return DoneBy(
        title=title,
        shelf=Shelf(folder / "shelf"),
        parts=[Part(f"{cell.stage}{number}", f"part {number}", number) for number in range(count)],
        by=lambda part: {"rejects": table},
        outputs={"rejects": folder / f"{title}.parquet"},
        provenance={"code": title},
    )


@pytest.fixture
def wanted(tmp_path: Path, composed: dict, settings: Config) -> Wanted:
    """Nine parts of diagrams in three tasks, two of context in one."""
    composed = composed | {"cluster": composed["cluster"] | {"parts_per_task": 3}}
    from pipeline import config

    jobs = {
        cell.stage: {cell: [job(tmp_path, cell, count)]}
        for cell, count in zip(CELLS, (9, 2), strict=True)
    }
    return Wanted(composed, config.check(composed), jobs, ["comparison"])


def put(job: Job, *numbers: int) -> None:
    for number in numbers:
        job.shelf.put(job.parts[number], job.do(job.parts[number]))


def test_an_array_for_each_stage_and_a_join_behind_all(scheduler, wanted, capsys):
    submission.submit(wanted, Queue())
    first, second, join = scheduler.calls()
    assert "--array=0-2" in first.split() and first.endswith("tasks.sh 0")
    assert "--array=0-0" in second.split() and second.endswith("tasks.sh 3")
    assert "--dependency=afterany:101:102" in join.split() and join.endswith("join.sh")
    assert "--array" not in join
    said = capsys.readouterr().err
    assert "11 parts in 4 tasks: jobs 101, 102;" in said
    assert "job 103 joins them and submits comparison." in said


def test_no_array_is_longer_than_the_cluster_takes(scheduler, wanted):
    scheduler.longest = 2
    scheduler.write()
    submission.submit(wanted, Queue())
    offsets = [call.split()[-1] for call in scheduler.calls()[:-1]]
    assert offsets == ["0", "2", "3"]


def test_what_went_in_is_kept_when_the_next_is_refused(scheduler, wanted):
    scheduler.refuse_from = 2
    scheduler.write()
    with pytest.raises(InputError) as told:
        submission.submit(wanted, Queue())
    assert "refused array 2 of 2" in str(told.value)
    assert "QOSMaxSubmitJobPerUserLimit" in str(told.value)
    assert "cluster.parts_per_task=NUMBER" in str(told.value)
    assert "Jobs 101 are in, and go on." in str(told.value)
    [folder] = plans.home().iterdir()
    lines = (folder / submission.SUBMITTED).read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"job": 101, "first_task": 0}]


def name(call: str) -> str:
    return next(word for word in call.split() if word.startswith("--job-name=")).partition("=")[2]


def test_what_is_queued_or_done_is_not_submitted_again(scheduler, wanted, capsys):
    submission.submit(wanted, Queue())
    diagrams, context, join = map(name, scheduler.calls())
    queued = [f"101|{place}|PENDING|{diagrams}" for place in range(3)]
    scheduler.queue = [*queued, f"102|0|RUNNING|{context}", f"103|N/A|PENDING|{join}"]
    scheduler.write()
    submission.submit(wanted, Queue())
    assert len(scheduler.calls()) == 3
    assert "Nothing is submitted" in capsys.readouterr().err

    # One task is gone without having done anything; another had done all; one is another's job.
    scheduler.queue = [queued[0], f"103|N/A|PENDING|{join}", "7|0|RUNNING|topology-of-knots"]
    scheduler.write()
    found = wanted.now["context"][CELLS[1]][0]
    put(found, 0, 1)
    submission.submit(wanted, Queue())
    array, join = scheduler.calls()[3:]
    assert "--array=0-1" in array.split()
    [newest] = {task.digests[0] for task in newest_plan(array).tasks} - {"diagrams3"}
    assert newest == "diagrams6"
    # It waits for what was queued before, and for that join.
    assert "--dependency=afterany:101:103:104" in join.split()


def newest_plan(call: str) -> plans.Plan:
    start = name(call).split("-")[1]
    [folder] = plans.home().glob(f"{start}*")
    return plans.load(folder)


def test_parts_that_are_all_there_want_a_join_alone(scheduler, wanted, capsys):
    for together in wanted.now.values():
        for [one] in together.values():
            put(one, *range(len(one.parts)))
    submission.submit(wanted, Queue())
    [join] = scheduler.calls()
    assert join.endswith("join.sh")
    assert "--dependency" not in join


def test_tables_that_are_all_there_want_nothing(scheduler, wanted, capsys):
    for together in wanted.now.values():
        for [one] in together.values():
            put(one, *range(len(one.parts)))
            one.join()
    submission.submit(wanted._replace(then=[]), Queue())
    assert scheduler.calls() == []
    assert "Nothing is missing" in capsys.readouterr().err


def test_tables_of_other_code_are_not_these(tmp_path, wanted):
    [one] = wanted.now["context"][CELLS[1]]
    put(one, 0, 1)
    assert not one.joined()
    one.join()
    assert one.joined()
    one.provenance["code"] = "other"
    assert not one.joined()


def test_gpus_are_for_what_runs_a_model(scheduler, wanted, tmp_path):
    from pipeline import config

    composed = wanted.composed | {"cluster": wanted.composed["cluster"] | {"gpus": 1}}
    cell = Cell("comparison", None)
    now = {**wanted.now, "comparison": {cell: [job(tmp_path, cell, 2)]}}
    submission.submit(Wanted(composed, config.check(composed), now, []), Queue())
    diagrams, context, comparison, join = scheduler.calls()
    assert "--gpus=1" in diagrams and "--gpus=1" in context
    assert "--gpus" not in comparison + join
