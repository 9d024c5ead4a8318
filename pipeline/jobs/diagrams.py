"""The job that makes one model's tables: a part is a run of texts."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pyarrow as pa

from pipeline import heads, memory, models, store
from pipeline.config import Config
from pipeline.models import Model
from pipeline.parts import Job, Part, Shelf

TABLES = ("texts", "tokens", "heads", "clusters", "diagrams")


def job(settings: Config, model: str) -> Job:
    """One model's tables (see TABLES); a part is a run of texts."""
    spec = settings.models[model]
    provenance = {
        "code": store.code_digest("pipeline.heads"),
        "config": {
            "model": asdict(spec),
            "distance": asdict(settings.distance),
            "homology": asdict(settings.homology),
        },
        "weights": {model: models.identify(model, spec)},
        "libraries": store.libraries(),
    }
    # What lays a part out is this file, which the digest of the science does not cover.
    layout = store.sha256(Path(__file__))
    corpus = store.corpus_path(settings.corpus.name)
    ids = store.read(corpus, ["text_id"])["text_id"]
    # The column image is there in a corpus of images alone, and is read where it is.
    records = store.Rows(corpus, list(heads.Text._fields))
    engine = settings.engine

    @cache
    def loaded() -> Model:
        memory.return_early()
        return models.load(model, spec, store.work_folder(), engine.device)

    def do(part: Part) -> Mapping[str, pa.Table]:
        texts = [heads.Text(**row) for row in records.between(*part.inputs).to_pylist()]
        memory.check(loaded(), texts, engine.memory_mb, engine.workers)
        return _tables(heads.text_tables(loaded(), texts, settings.distance, settings.homology))

    def cut(start: int, stop: int) -> Part:
        texts = ids[start:stop].to_pylist()
        return Part(store.digest([provenance, layout, texts]), f"{len(texts)} texts", (start, stop))

    def split(part: Part) -> list[Part]:
        return [cut(text, text + 1) for text in range(*part.inputs)]

    def aside(part: Part, reason: str) -> Mapping[str, pa.Table]:
        return _tables(heads.set_aside(model, ids[part.inputs[0]].as_py(), reason))

    return Job(
        title=f"diagrams {model}",
        shelf=Shelf(store.work_folder() / "diagrams"),
        parts=[cut(*run) for run in runs(len(ids), engine.part_texts)],
        do=do,
        prepare=loaded,
        split=split,
        aside=aside,
        outputs={name: store.model_path(model, name) for name in TABLES},
        provenance={**provenance, "corpus": store.sha256(corpus)},
    )


def _tables(made: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    return {name: made.get(name, store.SCHEMAS[name].empty_table()) for name in TABLES}


def runs(count: int, size: int) -> Iterator[tuple[int, int]]:
    """Where runs of a size start and stop among so many things; the last may be shorter."""
    return ((start, min(start + size, count)) for start in range(0, count, size))
