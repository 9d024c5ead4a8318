"""Corpus and one model -> the texts, tokens, heads, clusters and diagrams tables of that model.

Reads data/corpus/CORPUS.parquet and the model; writes outputs/diagrams/MODEL. Takes
+model=NAME, one of params.yaml, `distance`, `homology`, and `engine`: with how many workers.
"""

from math import ceil
from pathlib import Path
from typing import NamedTuple

import pyarrow.compute as pc

from pipeline import jobs, store
from pipeline.config import Config
from pipeline.errors import InputError
from pipeline.work import engine
from stages.app import model_stage

REASONS = 3


class Count(NamedTuple):
    """What a texts table says, added up."""

    texts: int
    tokens: int
    cut: int
    skipped: int
    reasons: list[str]  # the first few of those for which a text was skipped


def run(settings: Config, model: str) -> str:
    """Do the missing parts of one model, join them, and say what came out."""
    (job,) = jobs.of(settings, "diagrams", model)
    engine.run(job, spec=settings.engine)
    found = _count(settings.path("texts", model))
    noun = "images" if settings.corpus.format == "images" else "texts"
    if found.skipped == found.texts:
        raise InputError(
            f"Model '{model}' could use none of the {found.texts} {noun} "
            f"({'; '.join(found.reasons)}). Check the corpus and the model's configuration."
        )
    _refuse_too_many(settings, model, found)
    home = settings.path("diagrams", model).parent
    return (
        f"{found.texts - found.skipped} {noun}, {found.tokens} tokens, {found.cut} cut, "
        f"{found.skipped} skipped -> {home}"
    )


def _refuse_too_many(settings: Config, model: str, found: Count) -> None:
    """The tables are written, to be looked at; the error keeps DVC from recording them."""
    share, most = found.skipped / found.texts, settings.engine.max_aside
    if share > most:
        raise InputError(
            f"Model '{model}': {found.skipped} of {found.texts} texts were skipped, {share:.1%}, "
            f"and engine.max_aside is {most:.1%} ({'; '.join(found.reasons)}). The reasons stand "
            f"in {settings.path('texts', model)}. Correct the corpus, or accept this with "
            f"engine.max_aside={_up(share)}, and run again: what is done is kept."
        )


def _up(share: float) -> float:
    return ceil(share * 100) / 100


def _count(texts: Path) -> Count:
    total = Count(0, 0, 0, 0, [])
    for rows in store.Rows(texts):
        reasons = {*total.reasons, *rows["reason"].drop_null().to_pylist()}
        total = Count(
            total.texts + len(rows),
            total.tokens + pc.sum(rows["tokens"]).as_py(),
            total.cut + pc.sum(rows["cut"]).as_py(),
            total.skipped + len(rows) - rows["reason"].null_count,
            sorted(reasons)[:REASONS],
        )
    return total


main = model_stage(run)

if __name__ == "__main__":
    main()
