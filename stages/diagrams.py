"""Corpus and one model -> the texts, tokens, heads and diagrams tables of that model."""

import pyarrow.compute as pc

from pipeline import engine, store
from pipeline.config import Config
from pipeline.errors import InputError
from pipeline.jobs import diagrams
from stages.app import model_stage


def run(settings: Config, model: str) -> str:
    """Do the missing parts of one model, join them, and say what came out."""
    engine.run(diagrams.job(settings, model))
    texts = store.read(store.model_path(model, "texts"))
    aside = len(texts) - texts["reason"].null_count
    if aside == len(texts):
        reasons = sorted(set(texts["reason"].to_pylist()))
        raise InputError(
            f"Model '{model}' could use none of the {len(texts)} texts ({'; '.join(reasons[:3])}). "
            "Check the corpus and the model's configuration."
        )
    cut, tokens = (pc.sum(texts[name]).as_py() for name in ("cut", "tokens"))
    home = store.model_path(model, "diagrams").parent
    return f"{len(texts) - aside} texts, {tokens} tokens, {cut} cut, {aside} set aside -> {home}"


main = model_stage(run)

if __name__ == "__main__":
    main()
