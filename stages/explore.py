"""The live page: two texts under one head, on this machine only.

    python -m stages.explore [--port N] [--no-open]

Models are those of params.yaml and of conf/model, distances those of conf/distance; texts are
those of the configured corpus. The address it prints opens the page.
"""

import argparse
import sys
import webbrowser
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline import config, corpus, models, store
from pipeline.config import Config
from pipeline.corpus import CorpusSpec
from pipeline.distances import DistanceSpec
from pipeline.engine import say
from pipeline.explorer import app
from pipeline.explorer.app import Desk, Item
from pipeline.explorer.state import State
from pipeline.models import Model
from stages.app import load_yaml, params, sentences

PORT = 8050
TEXTS = (
    "Quantum information theory is interesting",
    "Quantum information theory is fascinating",
)


def main(words: list[str]) -> None:
    """Serve the page until it is interrupted."""
    options = _options(words)
    values: dict[str, Any] = OmegaConf.to_container(params(), resolve=True)
    server = app.listen(app.build(desk(values)), options.port)
    address = f"http://{server.host}:{server.port}/"
    say(f"explorer  {address}  (Ctrl+C ends it)")
    if options.open:
        webbrowser.open(address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        say("explorer ended")
    finally:
        server.server_close()


def _options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m stages.explore", description=__doc__)
    parser.add_argument("--port", type=int, default=PORT, help=f"(default {PORT}; 0: a free one)")
    parser.add_argument("--no-open", dest="open", action="store_false", help="open no browser")
    return parser.parse_args(words)


def desk(values: dict[str, Any]) -> Desk:
    """What the page is given, from a composed configuration and the folder conf."""
    settings = config.check(values)
    specs = {**_group("model"), **values["models"]}
    distances = {name: _distance(found) for name, found in _group("distance").items()}
    named = (name for name, spec in distances.items() if spec == settings.distance)
    rule = next(named, "configured")
    first = next(iter(settings.models))

    def load(name: str) -> Model:
        spec = config.check(values | {"models": {name: specs[name]}}).models[name]
        return models.load(name, spec, store.work_folder())

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
    )


def _group(name: str) -> dict[str, Any]:
    """The files of a folder of conf, by name."""
    return {file.stem: _file(file) for file in sorted(Path("conf", name).glob("*.yaml"))}


def _file(path: Path) -> Any:
    return OmegaConf.to_container(load_yaml(path, "Correct it."), resolve=True)


def _distance(values: Any) -> DistanceSpec:
    return DistanceSpec(values["rule"], values["options"])


def _items(settings: Config) -> tuple[dict[str, Item], dict[str, Item]]:
    """Texts and images by id: of the configured corpus, and the photographs that come along."""
    found = _records(settings.corpus)
    if settings.corpus.format == "images":
        return {}, found
    photographs = CorpusSpec(**_file(Path("conf/corpus/photographs.yaml")))
    return found, _records(photographs)


def _records(spec: CorpusSpec) -> dict[str, Item]:
    """A corpus as `dvc repro` prepared it, or read now."""
    path = store.corpus_path(spec.name)
    table = store.read(path) if path.is_file() else corpus.read(spec, store.work_folder())[0]
    return {
        row["text_id"]: Item(row["text"], row["language"], row.get("image"))
        for row in table.to_pylist()
    }


if __name__ == "__main__":
    with sentences():
        main(sys.argv[1:])
