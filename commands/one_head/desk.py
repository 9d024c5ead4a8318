"""What the explorer's page is given: models, distances and texts of this folder."""

from typing import Any

from pipeline import config, corpus, models, store
from pipeline.config import Config
from pipeline.corpus import CorpusSpec
from pipeline.distances import DistanceSpec
from pipeline.explorer import MEMORY
from pipeline.explorer.app import Desk, Item
from pipeline.explorer.state import State
from pipeline.models import Model
from stages import compose

TEXTS = (
    "Quantum information theory is interesting",
    "Quantum information theory is fascinating",
)


def desk(values: dict[str, Any], memory: int = MEMORY) -> Desk:
    """What the page is given, from a composed configuration and the folder conf."""
    settings = config.check(values)
    specs = {**_group("model"), **values["models"]}
    distances = {name: _distance(found) for name, found in _group("distance").items()}
    named = (name for name, spec in distances.items() if spec == settings.distance)
    rule = next(named, "configured")
    first = next(iter(settings.models))

    def load(name: str) -> Model:
        spec = config.check(values | {"models": {name: specs[name]}, "nulls": {}}).models[name]
        return models.load(name, spec, store.work_folder(), settings.engine.device)

    texts, images = _items(settings)
    image_a, image_b = [*images, "", ""][:2]
    return Desk(
        load=load,
        models=[*settings.models, *sorted({*specs} - {*settings.models})],
        texts=texts,
        images=images,
        distances={rule: settings.distance, **distances},
        homology=settings.homology,
        default=State(first, rule, a=TEXTS[0], b=TEXTS[1], image_a=image_a, image_b=image_b),
        memory=memory,
    )


def _group(name: str) -> dict[str, Any]:
    """The choices of a folder of conf, by name."""
    return {choice: compose.values(name, choice) for choice in compose.choices(name)}


def _distance(values: Any) -> DistanceSpec:
    return DistanceSpec(values["rule"], values["options"])


def _items(settings: Config) -> tuple[dict[str, Item], dict[str, Item]]:
    """Texts and images by id: of the configured corpus, and the photographs that come along."""
    found = _records(settings.corpus)
    if settings.corpus.format == "images":
        return {}, found
    photographs = CorpusSpec(**compose.values("corpus", "photographs"))
    return found, _records(photographs)


def _records(spec: CorpusSpec) -> dict[str, Item]:
    """A corpus as `dvc repro` prepared it, or read now."""
    path = store.path("corpus", spec.name)
    table = store.read(path) if path.is_file() else corpus.read(spec, store.work_folder())[0]
    return {
        row["text_id"]: Item(row["text"], row["language"], row.get("image"))
        for row in table.to_pylist()
    }
