"""The context job: cut anywhere, the tables are the same to the byte."""

from dataclasses import replace

import pyarrow as pa
import pytest

from pipeline import store
from pipeline.jobs import context
from pipeline.work import engine
from stages import context as stage

TEXTS = ["the cat sat on the mat", "the cat sat on the dog", "", "The cat sat on the mat", "a dog"]


@pytest.fixture
def small(place, settings, bert):
    """Five texts in one group, of which a tiny model can use four."""
    corpus([*TEXTS], "g")
    return replace(settings, models={"m": bert.spec})


def corpus(texts: list[str], group: str | None) -> None:
    rows = [
        {"text_id": f"t{i}", "text": text, "language": None, "group": group, "source": f"x#{i}"}
        for i, text in enumerate(texts)
    ]
    table = pa.Table.from_pylist(rows, store.SCHEMAS["corpus"])
    store.write(store.path("corpus", "parallel"), "corpus", [table], {})


def made() -> dict[str, str]:
    return {name: store.sha256(store.path(name, "m")) for name in context.TABLES}


def test_the_tables_do_not_depend_on_the_cut(small, monkeypatch):
    rows = engine.run(context.job(small, "m"))
    assert rows["context_equal"] == 4 * len(small.context.tolerances)
    before = made()
    monkeypatch.setattr(context, "TEXT_PAIRS_A_PART", 3)
    cut = context.job(small, "m")
    assert [part.label for part in cut.parts] == ["3 text pairs"] * 3 + ["1 text pairs"]
    assert len(cut.missing()) == 4
    assert engine.run(cut) == rows
    assert made() == before
    assert context.job(small, "m").missing() == []


def test_the_counts_are_of_all_texts_once(small):
    engine.run(context.job(small, "m"))
    counts = store.read(store.path("context_equal", "m")).to_pylist()
    assert {(row["texts"], row["text_pairs"]) for row in counts} == {(4, 5)}
    keys = [(row["layer"], row["tolerance"]) for row in counts]
    assert keys == [(layer, t) for layer in range(4) for t in small.context.tolerances]


def test_a_part_depends_on_what_makes_it(small):
    def names(settings) -> list[str]:
        return [part.digest for part in context.job(settings, "m").parts]

    before = names(small)
    same = replace(small, context=replace(small.context, seed=1, pairs=999, text_pairs="all"))
    assert names(same) == before
    for other in ({"tolerances": (0.5,)}, {"pairs": 3}):
        assert names(replace(small, context=replace(small.context, **other))) != before


def test_the_stage_counts_what_it_left_out(small):
    line = stage.run(small, "m")
    assert "5 text pairs, 5 left out, 1 texts skipped -> outputs/context/m" in line


def test_a_corpus_without_groups_gives_empty_tables(small):
    corpus(TEXTS, None)
    assert "0 rows of shared tokens, 0 text pairs, 0 left out, 0 texts" in stage.run(small, "m")
    assert len(store.read(store.path("context_equal", "m"))) == 0
