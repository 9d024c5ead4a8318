"""The job that makes one model's tables: a part is a run of texts."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pyarrow as pa

from pipeline import heads, models, store
from pipeline.config import Config
from pipeline.parts import Job, Part, Shelf, runs

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
    # The column image is there in a corpus of images alone, and is read where it is.
    rows = store.read(corpus, list(heads.Text._fields)).to_pylist()
    texts = [heads.Text(**row) for row in rows]
    loaded = cache(lambda: models.load(model, spec, store.work_folder()))

    def do(part: Part) -> Mapping[str, pa.Table]:
        made = heads.text_tables(loaded(), part.inputs, settings.distance, settings.homology)
        return {name: made.get(name, store.SCHEMAS[name].empty_table()) for name in TABLES}

    return Job(
        title=f"diagrams {model}",
        shelf=Shelf(store.work_folder() / "diagrams"),
        parts=[
            Part(
                store.digest([provenance, layout, [text.text_id for text in run]]),
                f"{len(run)} texts",
                run,
            )
            for run in runs(texts, settings.engine.part_texts)
        ],
        do=do,
        outputs={name: store.model_path(model, name) for name in TABLES},
        provenance={**provenance, "corpus": store.sha256(corpus)},
    )
