"""Whole runs by Hydra alone."""

import shutil
import sys
from dataclasses import replace

import pytest
import yaml

from pipeline import store
from pipeline.errors import InputError
from stages import sweep


def test_it_does_what_dvc_does_in_an_order_that_works():
    found = dict(sweep.stages())
    written = yaml.safe_load((store.ROOT / "dvc.yaml").read_text())["stages"]
    made = {name: entry for name, entry in written.items() if "outs" in entry.get("do", entry)}
    assert found == {name: "foreach" in entry for name, entry in made.items()}
    order = list(found)
    chain = ["corpus", "diagrams", "comparison", "report"]
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
    folder = sweep.folder_of(overrides)
    assert folder.parent == sweep.RUNS
    assert len(folder.name) < 150
    if name:
        assert folder.name == name
    assert folder != sweep.folder_of(overrides + "_")


def test_relative_paths_mean_the_same_from_a_runs_folder(tmp_path, settings):
    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "data/raw/parallel.jsonl").write_text("{}")
    folder = tmp_path / "multirun/x"
    folder.mkdir(parents=True)
    sweep.lend(settings, tmp_path, folder)
    sweep.lend(settings, tmp_path, folder)
    assert (folder / "data/raw/parallel.jsonl").read_text() == "{}"
    assert not (folder / "data/corpus").exists()
    outside = replace(settings, corpus=replace(settings.corpus, path="../mine.txt"))
    with pytest.raises(InputError, match="leaves the folder of the project"):
        sweep.lend(outside, tmp_path, folder)


@pytest.mark.integration
def test_a_sweep_gives_the_tables_that_dvc_gives(ran, tmp_path):
    words = (sys.executable, "-m", "stages.sweep", "-m", "distance=jensen_shannon,nowhere")
    try:
        answer = ran.say(*words)
        assert answer.returncode == 1
        assert "Could not find 'distance/nowhere'" in answer.stderr
        words = (*words[:-1], "distance=jensen_shannon,notebook")
        ran.run(*words, "homology.max_dimension=1")
        runs = {path.name: path for path in (ran.folder / "multirun").iterdir()}
        assert sorted(runs) == [
            "distance=jensen_shannon,homology.max_dimension=1",
            "distance=notebook,homology.max_dimension=1",
        ]
        for name in ("head_distances", "text_distances"):
            table = store.table_path(name)
            first, second = (store.sha256(run / table) for _, run in sorted(runs.items()))
            assert first == store.sha256(ran.folder / table) != second
        listed = ran.run(sys.executable, "-m", "stages.compare", *map(str, sorted(runs.values())))
        assert "spearman" in listed
        assert "distance=notebook,homology.max_dimension=1" in listed
    finally:
        shutil.rmtree(ran.folder / "multirun", ignore_errors=True)
