"""A part made by other code of its job is another part."""

from dataclasses import replace

import pyarrow as pa
import pytest

from pipeline import models, store
from pipeline.jobs import comparison, context, diagrams
from tests import test_store

MAKERS = {
    "diagrams": (diagrams, lambda settings: diagrams.job(settings, "m")),
    "context": (context, lambda settings: context.job(settings, "m")),
    "by_head": (comparison, lambda settings: comparison.jobs(settings)[0]),
    "head_distances": (comparison, lambda settings: comparison.jobs(settings)[1]),
    "text_distances": (comparison, lambda settings: comparison.jobs(settings)[2]),
}


@pytest.fixture
def small(tmp_path, monkeypatch, settings):
    """A corpus of three texts and the diagrams of one model on them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(models, "identify", lambda name, spec: {})
    rows = [
        {"text_id": f"t{i}", "text": "x", "language": None, "group": "g", "source": f"x#{i}"}
        for i in range(3)
    ]
    corpus = pa.Table.from_pylist(rows, store.SCHEMAS["corpus"])
    store.write(store.path("corpus", "parallel"), "corpus", [corpus], {})
    store.write(store.path("diagrams", "m"), "diagrams", [test_store.diagrams()], {})
    return replace(settings, models={"m": settings.models["minilm"]})


@pytest.mark.parametrize("table", MAKERS)
def test_a_part_is_named_by_its_job_too(table, small, tmp_path, monkeypatch):
    module, make = MAKERS[table]

    def names() -> list[str]:
        return [part.digest for part in make(small).parts]

    before = names()
    assert before
    assert names() == before
    (tmp_path / "edited.py").write_text("# otherwise\n")
    monkeypatch.setattr(module, "__file__", str(tmp_path / "edited.py"))
    assert not set(names()) & set(before)
