"""What tests of a model's jobs share."""

from dataclasses import replace

import pytest

from pipeline import models
from tests import tiny


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
