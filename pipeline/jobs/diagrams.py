"""The job that makes one model's tables: a part is a run of texts."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from pipeline import heads, models, store
from pipeline.config import Config
from pipeline.files import input_sha256
from pipeline.jobs import memory
from pipeline.models import Model
from pipeline.work.parts import Job, Part, Shelf

TABLES = [name for name in store.TABLES if store.folder(name) == store.folder("diagrams")]


@dataclass(frozen=True)
class ModelJob(Job):
    """A job of one model on the texts of the corpus."""

    settings: Config
    model: str

    @cached_property
    def ids(self) -> pa.ChunkedArray:
        """The text_id of each text of the corpus."""
        return text_ids(self.settings)

    @cached_property
    def loaded(self) -> Model:
        """The model, on the configured device."""
        spec, device = self.settings.every_model[self.model], self.settings.engine.device
        return models.load(self.model, spec, store.work_folder(), device)

    def prepare(self) -> None:
        """Load the model."""
        _ = self.loaded


@dataclass(frozen=True)
class DiagramsJob(ModelJob):
    """One model's tables (see TABLES); a part is a run of texts.

    basis   digest of what makes every part, but for its texts
    """

    basis: str

    @cached_property
    def records(self) -> store.Rows:
        """The corpus; its column image is there in one of images alone."""
        return store.Rows(self.settings.path("corpus"), list(heads.Text._fields))

    def prepare(self) -> None:
        """Load the model; memory that a text frees goes back."""
        memory.return_early()
        super().prepare()

    def do(self, part: Part) -> Mapping[str, pa.Table]:
        """All tables of some texts."""
        settings, engine = self.settings, self.settings.engine
        texts = [heads.Text(**row) for row in self.records.between(*part.inputs).to_pylist()]
        memory.check(self.loaded, texts, engine.memory_mb, engine.workers)
        return _tables(heads.text_tables(self.loaded, texts, settings.distance, settings.homology))

    def split(self, part: Part) -> list[Part]:
        """Each text by itself."""
        return [_part(self.basis, self.ids, (text, text + 1)) for text in range(*part.inputs)]

    def skip(self, part: Part, reason: str) -> Mapping[str, pa.Table]:
        """A row of the text, and the reason."""
        return _tables(heads.skipped(self.model, self.ids[part.inputs[0]].as_py(), reason))


def job(settings: Config, model: str) -> DiagramsJob:
    """The job of one model."""
    spec = settings.every_model[model]
    provenance = {
        "code": store.code_digest("pipeline.heads"),
        "config": {
            "model": asdict(spec),
            "distance": asdict(settings.distance),
            "homology": asdict(settings.homology),
        },
        "weights": {model: models.identify(model, spec)},
        "device": models.device_named(settings.engine.device),
        "libraries": store.libraries(),
    }
    # What lays a part out is this file, which the digest of the science does not cover.
    basis = store.digest([provenance, store.sha256(Path(__file__))])
    ids = text_ids(settings)
    return DiagramsJob(
        title=f"diagrams {model}",
        shelf=Shelf(store.work_folder() / "diagrams"),
        parts=[_part(basis, ids, run) for run in runs(len(ids), settings.engine.part_texts)],
        outputs={name: settings.path(name, model) for name in TABLES},
        provenance={
            **provenance,
            "corpus": input_sha256(settings.path("corpus")),
        },
        settings=settings,
        model=model,
        basis=basis,
    )


def _part(basis: str, ids: pa.ChunkedArray, run: tuple[int, int]) -> Part:
    texts = ids[slice(*run)].to_pylist()
    return Part(store.digest([basis, texts]), f"{len(texts)} texts", run)


def text_ids(settings: Config) -> pa.ChunkedArray:
    """The text_id of each text of the corpus, in its order."""
    return store.read(settings.path("corpus"), ["text_id"])["text_id"]


def _tables(made: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    return {name: _table(made.get(name), name) for name in TABLES}


def _table(made: pa.Table | None, name: str) -> pa.Table:
    schema = store.SCHEMAS[name]
    return schema.empty_table() if made is None else made.select(schema.names)


def runs(count: int, size: int) -> Iterator[tuple[int, int]]:
    """Where runs of a size start and stop among so many things; the last may be shorter."""
    return ((start, min(start + size, count)) for start in range(0, count, size))
