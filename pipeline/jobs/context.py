"""The job that follows one model's vectors from text to text: a part is a run of text pairs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline import context, models, store
from pipeline.config import Config
from pipeline.context import Pair
from pipeline.parts import Job, Part, Shelf, runs

TABLES = ("context", "context_equal")
TEXT_PAIRS_A_PART = 256


class Run(NamedTuple):
    """Pairs of text_ids, and those of their texts that an earlier run counts."""

    pairs: list[Pair]
    counted: list[str]


@dataclass(frozen=True)
class CountingJob(Job):
    """A job whose parts each hold counts of the same things, which the join adds up."""

    def join(self) -> dict[str, int]:
        """Write the rows of context as they are, and the sums of context_equal."""
        counts = [_empty("context_equal"), *self.shelf.tables(self.parts, "context_equal")]
        sums = _shaped("context_equal", context.total(pa.concat_tables(counts)))
        rows = self.shelf.tables(self.parts, "context")
        return {
            name: store.write(self.outputs[name], name, chunks, self.provenance)
            for name, chunks in (("context", rows), ("context_equal", [sums]))
        }


def pairs(settings: Config) -> list[Pair]:
    """The pairs of text_ids that the configuration draws from its corpus.

    None of a corpus of images: a patch has no vocabulary, so no two images share a token.
    """
    if of_images(settings):
        return []
    columns = _records(settings, ["text_id", "group"])
    return context.text_pairs(columns["text_id"], columns["group"], settings.context)


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
    columns = _records(settings, ["text_id", "text"])
    texts = dict(zip(columns["text_id"], columns["text"], strict=True))
    loaded = cache(lambda: models.load(model, spec, store.work_folder()))

    def do(part: Part) -> Mapping[str, pa.Table]:
        pairs, counted = part.inputs
        made = context.context_tables(loaded(), texts, pairs, set(counted), tolerances)
        return {
            name: _shaped(name, made[name]) if name in made else _empty(name) for name in TABLES
        }

    return CountingJob(
        title=f"context {model}",
        shelf=Shelf(store.work_folder() / "context"),
        parts=[
            Part(store.digest([made_by, run]), f"{len(run.pairs)} text pairs", run)
            for run in _runs(pairs(settings))
        ],
        do=do,
        outputs={name: store.context_path(model, name) for name in TABLES},
        provenance={**provenance, "corpus": store.sha256(_corpus(settings))},
    )


def _runs(drawn: list[Pair]) -> list[Run]:
    found, before = [], set[str]()
    for run in runs(drawn, TEXT_PAIRS_A_PART):
        texts = {text for pair in run for text in pair}
        found.append(Run(run, sorted(texts & before)))
        before |= texts
    return found


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


def _records(settings: Config, columns: list[str]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = store.read(_corpus(settings), columns).to_pydict()
    return found


def _empty(table: str) -> pa.Table:
    return store.SCHEMAS[table].empty_table()


def _shaped(table: str, rows: pa.Table) -> pa.Table:
    return rows.select(store.SCHEMAS[table].names).cast(store.SCHEMAS[table])
