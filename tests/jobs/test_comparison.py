"""The comparison's jobs: cut anywhere, the tables are those of a plain loop, to the byte."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest

from pipeline import comparison as distances
from pipeline import pairs, store
from pipeline.config import EngineSpec
from pipeline.errors import InputError
from pipeline.jobs import comparison
from pipeline.work import engine
from tests import test_store

TEXTS = 7
HEADS = {"m": 3, "n": 2}
ASIDE = {"m": [2], "n": [2, 3]}
WHOLE = EngineSpec(
    part_texts=8,
    part_pairs=1000,
    part_mb=64,
    part_disk_mb=64,
    workers=1,
    threads=None,
    memory_mb=None,
    max_aside=0.1,
    device="auto",
)


@pytest.fixture
def small(tmp_path, monkeypatch, row_groups, settings):
    """Diagrams of two models on seven texts, of which one skipped one and the other two."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATTENTION_TOPOLOGY_WORK", str(tmp_path / "work"))
    row_groups("diagrams", 5)
    groups = ["g", None, "g", "h", "h", "g", None]
    corpus = [
        {"text_id": f"t{i}", "text": "x", "language": None, "group": group, "source": f"x#{i}"}
        for i, group in enumerate(groups)
    ]
    table = pa.Table.from_pylist(corpus, store.SCHEMAS["corpus"])
    store.write(store.path("corpus", "parallel"), "corpus", [table], {})
    for name in HEADS:
        store.write(store.path("diagrams", name), "diagrams", [_diagrams(name)], {})
    models = dict.fromkeys(HEADS, settings.models["minilm"])
    return replace(settings, models=models, engine=WHOLE)


def _diagrams(name: str) -> pa.Table:
    rows = test_store.diagrams(TEXTS, HEADS[name], seed=len(name) + HEADS[name])
    # A bar that never ends would have no match in the other heads: let all end.
    ends = pa.array([[min(x, 2.0) for x in death] for death in rows["death"].to_pylist()])
    rows = rows.set_column(6, "death", ends).cast(store.SCHEMAS["diagrams"])
    kept = [int(text[1:]) not in ASIDE[name] for text in rows["text_id"].to_pylist()]
    return rows.filter(pa.array(kept))


def made(settings) -> dict[str, str]:
    for job in comparison.jobs(settings):
        engine.run(job)
    return {name: store.sha256(store.path(name)) for name in ("head_distances", "text_distances")}


def _bars(name: str, text: int, head: int, dimension: int) -> np.ndarray | None:
    for row in _diagrams(name).to_pylist():
        if (row["text_id"], row["head"], row["dimension"]) == (f"t{text}", head, dimension):
            return np.column_stack([row["birth"], row["death"]])
    return None


def test_pairs_of_heads_are_those_of_a_plain_loop(small):
    made(small)
    rows = iter(store.read(store.path("head_distances")).to_pylist())
    heads = [(name, head) for name, count in HEADS.items() for head in range(count)]
    for dimension in range(2):
        for (model_a, a), (model_b, b) in combinations(heads, 2):
            row = next(rows)
            keys = ("dimension", "model_a", "head_a", "model_b", "head_b")
            assert [row[key] for key in keys] == [dimension, model_a, a, model_b, b]
            sides = (
                (_bars(model_a, text, a, dimension), _bars(model_b, text, b, dimension))
                for text in range(TEXTS)
            )
            values = [
                distances.bottleneck([one], [other])[0, 0]
                for one, other in sides
                if one is not None and other is not None
            ]
            assert row["texts"] == len(values)
            assert row["median"] == np.median(values)
            assert (row["min"], row["max"]) == (min(values), max(values))
    assert next(rows, None) is None


@pytest.mark.parametrize(
    "cut", [{"part_pairs": 1}, {"part_pairs": 4, "part_mb": 8}, {"part_disk_mb": 28, "part_mb": 1}]
)
@pytest.mark.parametrize("at_once", [1, 3, 2**17])
def test_the_tables_do_not_depend_on_the_cut(small, cut, at_once, monkeypatch):
    whole = made(small)
    # As if there were a million times as many of each.
    monkeypatch.setattr(comparison, "BAR", 2**20)
    monkeypatch.setattr(comparison, "DISTANCE", 2**20)
    monkeypatch.setattr(pairs, "VALUES_AT_ONCE", at_once)
    monkeypatch.setattr(comparison, "ROWS_A_PART", 10 * at_once)
    again = replace(small, engine=replace(WHOLE, **cut))
    head_major, tiles, of_texts = comparison.jobs(again)
    assert len(head_major.parts) > 1
    assert len(tiles.parts) == 2 * (10 if cut == {"part_pairs": 1} else 5)
    assert len(of_texts.parts) > 1 or at_once > 3
    assert made(again) == whole


def test_a_tile_turns_the_diagrams_it_lacks(small):
    whole = made(small)
    head_major, tiles, _ = comparison.jobs(small)
    for job in (head_major, tiles):
        for part in job.parts:
            for file in (job.shelf.folder / part.digest).iterdir():
                file.unlink()
    assert len(head_major.missing()) == len(head_major.parts)
    engine.run(tiles)
    assert store.sha256(store.path("head_distances")) == whole["head_distances"]
    assert head_major.missing() == []


def test_nothing_is_left_beside_the_parts(small):
    made(small)
    names = {part.digest for job in comparison.jobs(small) for part in job.parts}
    assert {path.name for path in comparison._shelf().folder.iterdir()} == names


def test_all_pairs_of_texts_unless_they_are_absurdly_many(small, monkeypatch):
    every = replace(small, comparison=replace(small.comparison, text_pairs="all"))
    assert made(every)
    rows = store.read(store.path("text_distances"))
    ids = list(zip(rows["text_a"].to_pylist(), rows["text_b"].to_pylist(), strict=True))
    pairs = list(dict.fromkeys(ids))
    assert pairs == [
        (f"t{a}", f"t{b}") for a, b in combinations(range(TEXTS), 2) if 2 not in (a, b)
    ]
    monkeypatch.setattr(comparison, "MOST_ROWS", 21 * 10 - 1)
    with pytest.raises(InputError, match=r"21 pairs of texts .* 210 rows .* at most 209"):
        comparison.jobs(every)
