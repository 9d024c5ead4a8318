"""Corpus and one model -> the attention maps of a few texts, kept whole for pictures.

Reads data/corpus/CORPUS.parquet and the model; writes outputs/attention/MODEL. Takes
+model=NAME, one of params.yaml, and `attention`: which texts.
"""

from collections.abc import Iterator
from dataclasses import asdict

from pipeline import console, maps, models, store
from pipeline.config import Config
from stages.app import model_stage


def run(settings: Config, model: str) -> str:
    """Keep the chosen texts' maps of one model, write them, and say what was skipped."""
    spec, corpus = settings.models[model], settings.path("corpus")
    provenance = {
        "code": store.code_digest("pipeline.maps"),
        "config": {"model": asdict(spec), "attention": asdict(settings.attention)},
        "corpus": store.sha256(corpus),
        "weights": {model: models.identify(model, spec)},
        "device": models.device_named(settings.engine.device),
        "libraries": store.libraries(),
    }
    loaded = models.load(model, spec, store.work_folder(), settings.engine.device)
    kept = maps.keep(loaded, _texts(settings), settings.attention)
    for text_id, reason in kept.skipped.items():
        console.say(f"attention {model}: text {text_id} skipped: {reason}")
    path = settings.path("attention", model)
    rows = store.write(path, "attention", kept.tables, provenance)
    return f"{len(kept.tables)} texts, {rows} maps, {len(kept.skipped)} skipped -> {path}"


def _texts(settings: Config) -> Iterator[tuple[str, str | bytes]]:
    # The column image is there in a corpus of images alone, and is read where it is.
    table = store.read(settings.path("corpus"), ["text_id", "text", "image"])
    for row in table.to_pylist():
        yield row["text_id"], row.get("image") or row["text"]


main = model_stage(run)

if __name__ == "__main__":
    main()
