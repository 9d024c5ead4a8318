"""What tests of a model's jobs share."""

from dataclasses import replace

import pytest

from pipeline import jobs, models
from tests import light, tiny

WORDS = ("a", "b", "c", "d")


@pytest.fixture(scope="session")
def bert(tmp_path_factory):
    return tiny.make("bert", tmp_path_factory.mktemp("bert"))


@pytest.fixture
def place(tmp_path, monkeypatch, bert):
    """An empty folder, with a work folder, where every model is the tiny one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATTENTION_TOPOLOGY_WORK", str(tmp_path / "work"))
    monkeypatch.setattr(models, "load", lambda name, spec, *_: replace(bert, name=name))
    return tmp_path


@pytest.fixture
def work(tmp_path, monkeypatch, settings):
    """A work folder, and one stage whose job is light."""
    monkeypatch.setenv("ATTENTION_TOPOLOGY_WORK", str(tmp_path))
    monkeypatch.setattr(jobs, "BULK", {"shelf": False})
    monkeypatch.setattr(
        jobs, "of", lambda settings, stage, model=None: [light.make(tmp_path, WORDS)]
    )
    return tmp_path
