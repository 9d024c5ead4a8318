"""Plans: what they hold, that they are what was frozen, and that parts are still theirs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import store
from pipeline.errors import InputError
from pipeline.jobs import plans
from pipeline.jobs.plans import Cell, Plan, Task
from pipeline.work.parts import Job, Part, Shelf
from tests.light import DoneBy

CELL = Cell("diagrams", "minilm")


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ATTENTION_TOPOLOGY_WORK", str(tmp_path))
    return tmp_path


def job(folder: Path, title: str, count: int, outputs: bool = True) -> Job:
    parts = [Part(f"{title}{number}", f"part {number}", number) for number in range(count)]
    table = store.SCHEMAS["rejects"].empty_table()
    return DoneBy(
        title=title,
        shelf=Shelf(folder / "shelf"),
        parts=parts,
        by=lambda part: {"rejects": table},
        outputs={"rejects": folder / f"{title}.parquet"} if outputs else {},
        provenance={"code": "c", "config": {"scales": (0.1, 0.2)}},
    )


def plan(composed: dict, *tasks: Task) -> Plan:
    made_by = {"a": {"code": "c", "config": {"scales": [0.1, 0.2]}}}
    return Plan(composed, ["diagrams"], ["comparison"], made_by, tasks)


def test_a_plan_is_read_as_it_was_frozen(composed):
    before = plan(composed, Task(CELL, 0, ["a0", "a1"]), Task(Cell("comparison", None), 1, ["b"]))
    folder = plans.freeze(before)
    after = plans.load(folder)
    assert after.contents == before.contents
    assert after.tasks == list(before.tasks)
    assert folder.name == after.digest
    assert after.settings.cluster.cpus == composed["cluster"]["cpus"]


def test_a_task_has_the_cores_and_the_memory_it_asks_for(composed):
    asked = composed | {
        "cluster": composed["cluster"] | {"cpus": 8, "memory_mb": 4000},
        "engine": composed["engine"] | {"workers": 2},
    }
    engine = plan(asked).settings.engine
    assert (engine.workers, engine.threads, engine.memory_mb) == (2, 4, 2000)


def test_a_plan_that_was_altered_is_refused(composed):
    folder = plans.freeze(plan(composed, Task(CELL, 0, ["a0"])))
    held = json.loads((folder / plans.PLAN).read_text())
    held["tasks"][0][-1] = ["a1"]
    (folder / plans.PLAN).write_text(json.dumps(held))
    with pytest.raises(InputError, match="is not what was frozen"):
        plans.load(folder)


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"tasks": []}', '{"tasks": [[1]]}'])
def test_what_is_no_plan_is_refused(text, tmp_path):
    folder = tmp_path / "plan"
    folder.mkdir()
    if text is not None:
        (folder / plans.PLAN).write_text(text)
    with pytest.raises(InputError, match="There is no plan in"):
        plans.load(folder)


def test_tasks_are_the_missing_parts_that_nobody_holds(tmp_path):
    one = job(tmp_path, "a", 7)
    one.shelf.put(one.parts[1], one.do(one.parts[1]))
    found = list(plans.tasks(CELL, [one], {"a4"}, 2))
    assert [task.digests for task in found] == [["a0", "a2"], ["a3", "a5"], ["a6"]]
    assert {task.wave for task in found} == {0}


def test_parts_that_others_read_go_first(tmp_path):
    first, second = job(tmp_path, "a", 2, outputs=False), job(tmp_path, "b", 1)
    found = list(plans.tasks(CELL, [first, second], (), 9))
    assert [(task.wave, task.digests) for task in found] == [(0, ["a0", "a1"]), (1, ["b0"])]
    # When all that read them are there, they are not missed.
    second.shelf.put(second.parts[0], second.do(second.parts[0]))
    assert list(plans.tasks(CELL, [first, second], (), 9)) == []


def test_a_task_gets_its_parts_and_no_others(tmp_path, composed, monkeypatch):
    monkeypatch.setattr(plans, "of", lambda cell, settings: [job(tmp_path, "a", 4)])
    [(found, parts)] = plans.chosen(plan(composed), Task(CELL, 0, ["a1", "a3"]))
    assert found.title == "a"
    assert [part.digest for part in parts] == ["a1", "a3"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"provenance": {"code": "d", "config": {"scales": (0.1, 0.2)}}}, "its code changed"),
        ({"provenance": {"code": "c", "config": {"scales": (0.1,)}}}, "its config changed"),
        ({}, "how parts are cut changed"),
    ],
)
def test_parts_that_came_out_otherwise_are_refused(change, says, tmp_path, composed, monkeypatch):
    other = replace(job(tmp_path, "a", 2), **change)
    monkeypatch.setattr(plans, "of", lambda cell, settings: [other])
    with pytest.raises(InputError, match=says):
        plans.chosen(plan(composed), Task(CELL, 0, ["a0", "elsewhere"]))


def test_parts_of_queued_tasks_are_covered(composed):
    one = plan(composed, Task(CELL, 0, ["a0", "a1"]), Task(CELL, 0, ["a2"]))
    folder = plans.freeze(one)
    assert plans.covered([(folder.name[:16], 1)]) == {"a2"}
    assert plans.covered([(folder.name[:16], 0), (folder.name[:16], 1)]) == {"a0", "a1", "a2"}
    assert plans.covered([]) == set()
