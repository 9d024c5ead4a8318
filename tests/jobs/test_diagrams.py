"""The diagrams job: a part reads its own rows of the corpus, and the cut changes no byte."""

from dataclasses import replace

import pyarrow as pa
import pytest

from pipeline import heads, models, store
from pipeline.jobs import context, diagrams
from pipeline.work import engine
from stages import attention
from stages import diagrams as stage
from tests.jobs.test_context import corpus

TEXTS = ["the cat sat on the mat", "a dog", "", "the cat", "the dog sat on the cat"]


@pytest.fixture
def small(place, row_groups, settings, bert):
    """Five texts, two in a row group, of which a tiny model can use four."""
    row_groups("corpus", 2)
    corpus(TEXTS, None)
    accepting = replace(settings.engine, max_aside=1.0)
    return replace(settings, models={"m": bert.spec}, engine=accepting)


def cut(settings, size: int):
    return replace(settings, engine=replace(settings.engine, part_texts=size))


def made() -> dict[str, str]:
    return {name: store.sha256(store.path(name, "m")) for name in diagrams.TABLES}


def test_the_tables_do_not_depend_on_the_cut(small):
    engine.run(diagrams.job(small, "m"))
    before = made()
    for size in (1, 2, 3):
        engine.run(diagrams.job(cut(small, size), "m"))
        assert made() == before
    assert store.read(store.path("texts", "m"))["text_id"].to_pylist() == [
        f"t{i}" for i in range(5)
    ]


def test_a_part_reads_its_own_texts_alone(small, monkeypatch):
    read: list[int] = []
    of_group = store.Rows._group

    def watched(self, number: int) -> pa.Table:
        read.append(number)
        return of_group(self, number)

    seen: list[list[str]] = []
    monkeypatch.setattr(store.Rows, "_group", watched)
    monkeypatch.setattr(
        heads, "text_tables", lambda model, texts, *_: seen.append([t.text for t in texts]) or {}
    )
    job = diagrams.job(cut(small, 2), "m")
    job.do(job.parts[1])
    assert (seen, read) == ([TEXTS[2:4]], [1])
    job.do(job.parts[2])
    assert (seen[1], read) == (TEXTS[4:], [1, 2])
    assert [part.inputs for part in job.parts] == [(0, 2), (2, 4), (4, 5)]


def test_the_stage_counts_row_group_by_row_group(small, row_groups):
    whole = stage.run(small, "m")
    assert "4 texts, " in whole
    assert ", 1 skipped -> outputs/diagrams/m" in whole
    row_groups("texts", 2)
    assert stage.run(small, "m") == whole


def on(settings, device: str):
    return replace(settings, engine=replace(settings.engine, device=device))


@pytest.mark.parametrize("make", [diagrams.job, context.job])
def test_the_device_as_found_is_in_digests_and_provenance(small, monkeypatch, make):
    """Parts of a CPU and of a GPU are never joined, whatever "auto" finds where."""
    cpu = make(on(small, "cpu"), "m")
    gpu = make(on(small, "cuda"), "m")  # named where there is none, as before a submission
    assert (cpu.provenance["device"], gpu.provenance["device"]) == ("cpu", "cuda")
    assert not {part.digest for part in cpu.parts} & {part.digest for part in gpu.parts}
    for found, same in (("cpu", cpu), ("cuda", gpu)):
        monkeypatch.setattr(models, "device", lambda asked, found=found: found)
        auto = make(on(small, "auto"), "m")
        assert [part.digest for part in auto.parts] == [part.digest for part in same.parts]
        assert auto.provenance == same.provenance


def test_the_stages_of_a_model_load_it_where_the_configuration_says(small, monkeypatch):
    asked = []
    load = models.load
    monkeypatch.setattr(models, "load", lambda *given: asked.append(given[3:]) or load(*given))
    attention.run(on(small, "cuda"), "m")
    assert asked == [("cuda",)]
    made = store.read_provenance(store.path("attention", "m"))
    assert made["device"] == "cuda"
