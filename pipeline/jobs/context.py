"""The job that follows one model's vectors from text to text: a part is a run of text pairs."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache, reduce
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline import context, models, store
from pipeline.config import Config
from pipeline.context import Pair
from pipeline.jobs.diagrams import runs
from pipeline.parts import Job, Part, Shelf

TABLES = ("context", "context_equal")
TEXT_PAIRS_A_PART = 256


Rows = tuple[int, int]  # a pair of texts, by their places in the corpus


class Run(NamedTuple):
    """Pairs of texts, and those of their texts that an earlier run counts."""

    pairs: list[Rows]
    counted: list[int]


@dataclass(frozen=True)
class CountingJob(Job):
    """A job whose parts each hold counts of the same things, which the join adds up."""

    def join(self) -> dict[str, int]:
        """Write the rows of context as they are, and the sums of context_equal."""
        sums = reduce(
            _added, self.shelf.tables(self.parts, "context_equal"), _empty("context_equal")
        )
        rows = self.shelf.tables(self.parts, "context")
        return {
            name: store.write(self.outputs[name], name, chunks, self.provenance)
            for name, chunks in (("context", rows), ("context_equal", [sums]))
        }


def pairs(settings: Config) -> list[Rows]:
    """The pairs of texts that the configuration draws from its corpus, by their places in it.

    None of a corpus of images: a patch has no vocabulary, so no two images share a token.
    """
    if of_images(settings):
        return []
    groups = store.read(_corpus(settings), ["group"])["group"].to_pylist()
    return context.text_pairs(range(len(groups)), groups, settings.context)


def of_images(settings: Config) -> bool:
    """Whether the corpus is one of images."""
    with store.open_table(_corpus(settings)) as file:
        return "image" in file.schema_arrow.names


def job(settings: Config, model: str) -> Job:
    """The context and context_equal tables of one model; a part is a run of text pairs."""
    spec, tolerances = settings.models[model], settings.context.tolerances
    provenance = _provenance(settings, model)
    # A part is made by its pairs, not by how they were drawn.
    made_by = [{**provenance, "config": {"model": asdict(spec), "tolerances": tolerances}}]
    # What lays a part out is this file, which the digest of the science does not cover.
    made_by.append({"layout": store.sha256(Path(__file__))})
    ids = store.read(_corpus(settings), ["text_id"])["text_id"]
    records = store.Rows(_corpus(settings), ["text_id", "text"])
    device = settings.engine.device
    loaded = cache(lambda: models.load(model, spec, store.work_folder(), device))

    def do(part: Part) -> Mapping[str, pa.Table]:
        pairs, counted = _named(part.inputs, ids)
        texts = dict(_texts(records, part.inputs))
        made = context.context_tables(loaded(), texts, pairs, set(counted), tolerances)
        return {
            name: _shaped(name, made[name]) if name in made else _empty(name) for name in TABLES
        }

    return CountingJob(
        title=f"context {model}",
        shelf=Shelf(store.work_folder() / "context"),
        parts=[
            Part(store.digest([made_by, _named(run, ids)]), f"{len(run.pairs)} text pairs", run)
            for run in _runs(pairs(settings))
        ],
        do=do,
        prepare=loaded,
        outputs={name: store.context_path(model, name) for name in TABLES},
        provenance={**provenance, "corpus": store.sha256(_corpus(settings))},
    )


def _runs(drawn: list[Rows]) -> list[Run]:
    found, before = [], set[int]()
    for start, stop in runs(len(drawn), TEXT_PAIRS_A_PART):
        texts = {text for pair in drawn[start:stop] for text in pair}
        found.append(Run(drawn[start:stop], sorted(texts & before)))
        before |= texts
    return found


def _named(run: Run, ids: pa.ChunkedArray) -> tuple[list[Pair], list[str]]:
    """The text_ids of a run: a part is made by its texts, wherever in a corpus they are."""
    pairs = [(ids[a].as_py(), ids[b].as_py()) for a, b in run.pairs]
    return pairs, sorted(ids[text].as_py() for text in run.counted)


def _texts(records: store.Rows, run: Run) -> Iterator[tuple[str, str]]:
    """The texts of a run by text_id, read in the order of the corpus."""
    rows = records.at(sorted({text for pair in run.pairs for text in pair}))
    return zip(*(rows[name].to_pylist() for name in ("text_id", "text")), strict=True)


def _provenance(settings: Config, model: str) -> dict[str, Any]:
    spec = settings.models[model]
    return {
        "code": store.code_digest("pipeline.context"),
        "config": {"model": asdict(spec), "context": asdict(settings.context)},
        "weights": {model: models.identify(model, spec)},
        "libraries": store.libraries(),
    }


def _corpus(settings: Config) -> Path:
    return store.corpus_path(settings.corpus.name)


def _empty(table: str) -> pa.Table:
    return store.SCHEMAS[table].empty_table()


def _shaped(table: str, rows: pa.Table) -> pa.Table:
    return rows.select(store.SCHEMAS[table].names).cast(store.SCHEMAS[table])


def _added(sums: pa.Table, counts: pa.Table) -> pa.Table:
    return _shaped("context_equal", context.total(pa.concat_tables([sums, counts])))
