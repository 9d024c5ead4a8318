"""Whole runs by Hydra alone."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from commands.whole_run import runs
from pipeline import store
from stages import corpus


def test_it_does_what_dvc_does_in_an_order_that_works():
    found = dict(runs.stages())
    written = yaml.safe_load((store.ROOT / "dvc.yaml").read_text())["stages"]
    made = {name: entry for name, entry in written.items() if "outs" in entry.get("do", entry)}
    del made["conf"]  # a check of a run by DVC
    kinds = {"foreach": "models", "matrix": "nulls"}
    assert found == {
        name: next((kind for key, kind in kinds.items() if key in entry), "")
        for name, entry in made.items()
    }
    order = list(found)
    chain = ["corpus", "nulls", "head_tests", "report"]
    assert [name for name in order if name in chain] == chain
    assert order.index("corpus") < order.index("context")


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (
            "distance=notebook,homology.max_dimension=0",
            "distance=notebook,homology.max_dimension=0",
        ),
        ("corpus.path=../../x y", None),
        ("..", None),
        ("", None),
        ("a=" + "b" * 500, None),
    ],
)
def test_a_run_has_a_folder_of_its_own_in_multirun(overrides, name):
    folder = runs.folder_of(overrides)
    assert folder.parent == runs.RUNS
    assert len(folder.name) < 150
    if name:
        assert folder.name == name
    assert folder != runs.folder_of(overrides + "_")


def test_what_a_run_reads_is_found_from_here_and_what_it_makes_is_in_its_folder(
    tmp_path, monkeypatch, settings
):
    (tmp_path / "texts.txt").write_text("one\ntwo\n")
    monkeypatch.chdir(tmp_path)
    own = {"path": "texts.txt", "name": "mine", "language_column": None, "group_column": None}
    spec = replace(settings.corpus, format="text", **own)
    said = corpus.run(replace(settings, corpus=spec, root=Path("multirun/x")))
    assert said.startswith("2 texts, 0 records skipped")
    assert len(store.read(tmp_path / "multirun/x/data/corpus/mine.parquet")) == 2
    assert not (tmp_path / "data").exists()


@pytest.mark.integration
def test_a_sweep_gives_the_tables_that_dvc_gives(ran, tmp_path):
    words = (sys.executable, "-m", "commands.sweep", "-m", "distance=jensen_shannon,nowhere")
    try:
        answer = ran.say(*words)
        assert answer.returncode == 1
        assert "Could not find 'distance/nowhere'" in answer.stderr
        words = (*words[:-1], "distance=jensen_shannon,notebook")
        ran.run(*words, "homology.max_dimension=1")
        made = {path.name: path for path in (ran.folder / "multirun").iterdir()}
        assert sorted(made) == [
            "distance=jensen_shannon,homology.max_dimension=1",
            "distance=notebook,homology.max_dimension=1",
        ]
        for name in ("head_distances", "text_distances"):
            table = store.path(name)
            first, second = (store.sha256(run / table) for _, run in sorted(made.items()))
            assert first == store.sha256(ran.folder / table) != second
        listed = ran.run(sys.executable, "-m", "commands.compare", *map(str, sorted(made.values())))
        assert "spearman" in listed
        assert "distance=notebook,homology.max_dimension=1" in listed
    finally:
        shutil.rmtree(ran.folder / "multirun", ignore_errors=True)
