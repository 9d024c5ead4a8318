"""The job that follows one model's vectors from text to text: a part is a run of text pairs."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, reduce
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline import context, models, store
from pipeline.config import Config
from pipeline.context import Pair
from pipeline.files import input_sha256
from pipeline.jobs.diagrams import ModelJob, runs, text_ids
from pipeline.work.parts import Part, Shelf

TABLES = ("context", "context_equal")
TEXT_PAIRS_A_PART = 256


TextPair = tuple[int, int]  # a pair of texts, by their places in the corpus


class PairsRun(NamedTuple):
    """Pairs of texts, and those of their texts that an earlier run counts."""

    pairs: list[TextPair]
    counted: list[int]


def pairs(settings: Config) -> list[TextPair]:
    """The pairs of texts that the configuration draws from its corpus, by their places in it.

    None of a corpus of images: a patch has no vocabulary, so no two images share a token.
    """
    if of_images(settings):
        return []
    groups = store.read(settings.path("corpus"), ["group"])["group"].to_pylist()
    return context.text_pairs(range(len(groups)), groups, settings.context)


def of_images(settings: Config) -> bool:
    """Whether the corpus is one of images."""
    with store.open_table(settings.path("corpus")) as file:
        return "image" in file.schema_arrow.names


@dataclass(frozen=True)
class ContextJob(ModelJob):
    """The context and context_equal tables of one model; a part is a run of text pairs."""

    @cached_property
    def records(self) -> store.Rows:
        """The corpus."""
        return store.Rows(self.settings.path("corpus"), ["text_id", "text"])

    def do(self, part: Part) -> Mapping[str, pa.Table]:
        """The tokens that the texts of each pair share, and how many vectors are equal."""
        pairs, counted = _named(part.inputs, self.ids)
        texts = dict(_texts(self.records, part.inputs))
        tolerances = self.settings.context.tolerances
        made = context.context_tables(self.loaded, texts, pairs, set(counted), tolerances)
        return {
            name: _shaped(name, made[name]) if name in made else _empty(name) for name in TABLES
        }

    def join(self) -> dict[str, int]:
        """Write the rows of context as they are, and the sums of context_equal."""
        counts = self.shelf.tables(self.parts, "context_equal")
        sums = reduce(_added, counts, _empty("context_equal"))
        rows = self.shelf.tables(self.parts, "context")
        return {
            name: store.write(self.outputs[name], name, chunks, self.provenance)
            for name, chunks in (("context", rows), ("context_equal", [sums]))
        }


def job(settings: Config, model: str) -> ContextJob:
    """The job of one model."""
    provenance = _provenance(settings, model)
    # A part is made by its pairs, not by how they were drawn.
    config = {
        "model": asdict(settings.models[model]),
        "tolerances": settings.context.tolerances,
    }
    # What lays a part out is this file, which the digest of the science does not cover.
    basis = store.digest([{**provenance, "config": config}, store.sha256(Path(__file__))])
    ids = text_ids(settings)
    return ContextJob(
        title=f"context {model}",
        shelf=Shelf(store.work_folder() / "context"),
        parts=[
            Part(store.digest([basis, _named(run, ids)]), f"{len(run.pairs)} text pairs", run)
            for run in _runs(pairs(settings))
        ],
        outputs={name: settings.path(name, model) for name in TABLES},
        provenance={
            **provenance,
            "corpus": input_sha256(settings.path("corpus")),
        },
        settings=settings,
        model=model,
    )


def _runs(drawn: list[TextPair]) -> list[PairsRun]:
    found, before = [], set[int]()
    for start, stop in runs(len(drawn), TEXT_PAIRS_A_PART):
        texts = {text for pair in drawn[start:stop] for text in pair}
        found.append(PairsRun(drawn[start:stop], sorted(texts & before)))
        before |= texts
    return found


def _named(run: PairsRun, ids: pa.ChunkedArray) -> tuple[list[Pair], list[str]]:
    """The text_ids of a run: a part is made by its texts, wherever in a corpus they are."""
    pairs = [(ids[a].as_py(), ids[b].as_py()) for a, b in run.pairs]
    return pairs, sorted(ids[text].as_py() for text in run.counted)


def _texts(records: store.Rows, run: PairsRun) -> Iterator[tuple[str, str]]:
    """The texts of a run by text_id, read in the order of the corpus."""
    rows = records.at(sorted({text for pair in run.pairs for text in pair}))
    return zip(*(rows[name].to_pylist() for name in ("text_id", "text")), strict=True)


def _provenance(settings: Config, model: str) -> dict[str, Any]:
    spec = settings.models[model]
    return {
        "code": store.code_digest("pipeline.context"),
        "config": {"model": asdict(spec), "context": asdict(settings.context)},
        "weights": {model: models.identify(model, spec)},
        "device": models.device_named(settings.engine.device),
        "libraries": store.libraries(),
    }


def _empty(table: str) -> pa.Table:
    return store.SCHEMAS[table].empty_table()


def _shaped(table: str, rows: pa.Table) -> pa.Table:
    return rows.select(store.SCHEMAS[table].names).cast(store.SCHEMAS[table])


def _added(sums: pa.Table, counts: pa.Table) -> pa.Table:
    return _shaped("context_equal", context.total(pa.concat_tables([sums, counts])))
