from dataclasses import replace

import pytest

from pipeline import store
from pipeline.errors import InputError
from pipeline.jobs import comparison


@pytest.fixture
def strays(tmp_path, monkeypatch, settings):
    """Diagrams of one model that is configured, and of one that no longer is."""
    monkeypatch.chdir(tmp_path)
    for model in ("minilm", "gone"):
        store.model_path(model, "texts").parent.mkdir(parents=True)
        store.model_path(model, "texts").touch()
    return replace(settings, models={"minilm": settings.models["minilm"]})


def test_the_diagrams_of_a_model_taken_out_are_removed(strays):
    assert comparison.drop_strays(strays) == [store.DIAGRAMS / "gone"]
    assert list(store.DIAGRAMS.iterdir()) == [store.DIAGRAMS / "minilm"]


def test_the_draft_that_a_killed_run_left_goes_with_them(strays):
    (store.DIAGRAMS / "gone" / ".texts.parquet.3784").touch()
    assert comparison.drop_strays(strays) == [store.DIAGRAMS / "gone"]


@pytest.mark.parametrize("name", ["notes.txt", "other.parquet", ".hidden.parquet.1"])
def test_what_we_did_not_write_stays(strays, name):
    (store.DIAGRAMS / "gone" / name).touch()
    with pytest.raises(InputError, match="Move it elsewhere"):
        comparison.drop_strays(strays)
    assert (store.DIAGRAMS / "gone" / name).exists()
