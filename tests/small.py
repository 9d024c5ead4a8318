"""A whole run on two tiny models and five texts: all tables of the report, in a second or two."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline import store
from pipeline.config import Config
from pipeline.nulls import NullSpec
from stages import attention, comparison, context, diagrams, equivariance, head_tests, nulls
from tests import tiny

# Of two groups; the empty one is skipped, the long one is cut.
TEXTS = {
    "t0": ("<script>alert('text')</script> the cat sat on the mat", "g"),
    "t1": ("the dog sat on the cat <b>and</b> a %{x}", "g"),
    "t2": ("", "g"),
    "t3": ("שלום עולם the cat", "h"),
    "t4": ("attention is a distribution over the tokens of a text " * 8, "h"),
}
REJECT = {"source": "x#9", "reason": "not UTF-8", "excerpt": "<script>alert('reject')</script>"}


def run_in(folder: Path, settings: Config) -> Config:
    """Make all tables in a folder; returns the configuration they came from."""
    models = {kind: tiny.spec(tiny.save(kind, folder / kind)) for kind in ("bert", "gpt2")}
    few = replace(settings.equivariance, permutations=1, max_tokens=8)
    accepting = replace(settings.engine, max_aside=1.0)
    chance = {"rows_shuffled": NullSpec("rows_shuffled", 0)}
    small = replace(settings, models=models, nulls=chance, equivariance=few, engine=accepting)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ATTENTION_TOPOLOGY_WORK", str(folder / "work"))
        _corpus(small.corpus.name)
        for stage in (diagrams, attention, context, equivariance):
            for model in models:
                stage.run(small, model)
        for model in small.of_null("rows_shuffled"):
            nulls.run(small, model)
        comparison.run(small)
        head_tests.run(small)
    return small


def _corpus(name: str) -> None:
    rows = [
        {"text_id": text_id, "text": text, "language": "xx", "group": group, "source": "x#0"}
        for text_id, (text, group) in TEXTS.items()
    ]
    corpus = pa.Table.from_pylist(rows, store.SCHEMAS["corpus"])
    rejects = pa.Table.from_pylist([REJECT], store.SCHEMAS["rejects"])
    made = {"code": "c0de"}
    store.write(store.path("corpus", name), "corpus", [corpus], made)
    store.write(store.path("rejects", name), "rejects", [rejects], made)
