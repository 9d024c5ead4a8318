"""The whole pipeline through DVC, in a fresh clone, on two texts and two real models."""

import shutil
import sys
from pathlib import Path

import gudhi
import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist, squareform

from pipeline import models, store
from tests import packaged, reference
from tests.clone import Clone, stages_run

pytestmark = [pytest.mark.integration, pytest.mark.model]

TABLES = (
    "data/corpus/parallel.parquet",
    "outputs/diagrams/minilm/diagrams.parquet",
    "outputs/diagrams/smollm2/diagrams.parquet",
    "outputs/attention/minilm/attention.parquet",
    "outputs/attention/smollm2/attention.parquet",
    "outputs/context/minilm/context.parquet",
    "outputs/context/smollm2/context_equal.parquet",
    "outputs/tables/head_distances.parquet",
    "outputs/tables/text_distances.parquet",
    "outputs/equivariance/minilm.parquet",
    "outputs/equivariance/smollm2.parquet",
    "outputs/report/index.html",
)


NULLS_OF_MINILM = (
    "nulls@minilm-rows_shuffled_sink",
    "nulls@minilm-random_weights_entropy",
)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    # To convert the GGUF takes half a minute; the tests of models did it already.
    shutil.copytree(packaged.smollm2_cache(), folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, work: Path) -> Clone:
    """A clone in which the default pipeline ran once on the first two texts."""
    clone = Clone(tmp_path_factory.mktemp("clone"), work)
    clone.identify()
    clone.first = clone.run("dvc", "exp", "run", "-S", "corpus.limit=2")
    return clone


def hashes(clone: Clone) -> dict[str, str]:
    return {name: store.sha256(clone.folder / name) for name in TABLES}


def test_everything_runs_once(clone):
    assert stages_run(clone.first) == [
        "conf",
        "corpus",
        "diagrams@minilm",
        "diagrams@smollm2",
        *NULLS_OF_MINILM,
        "nulls@smollm2-rows_shuffled_sink",
        "nulls@smollm2-random_weights_entropy",
        "attention@minilm",
        "attention@smollm2",
        "context@minilm",
        "context@smollm2",
        "comparison",
        "head_tests",
        "equivariance@minilm",
        "equivariance@smollm2",
        "report",
        "samples",
    ]
    heads = clone.frame("outputs/tables/head_distances.parquet")
    count = 6 * 12 + 30 * 9
    assert len(heads) == 2 * count * (count - 1) // 2
    assert set(heads.texts) == {2}
    texts = clone.frame("outputs/tables/text_distances.parquet")
    assert len(texts) == 2 * count
    assert "JavaScript" in (clone.folder / "outputs/report/index.html").read_text()


def test_rows_at_random_come_out_of_scipy_simplex_tree_and_hera(clone, settings, work):
    """Token ids, through the plain model, to a mean distance: none of our numeric code."""
    tokens = {
        name: clone.frame(f"outputs/diagrams/{name}/tokens.parquet") for name in settings.models
    }
    maps = {}
    for name, frame in tokens.items():
        loaded = models.load(name, settings.models[name], work)
        for text, rows in frame.groupby("text_id"):
            maps[name, text] = plain_maps(loaded.network, rows.token_id.to_numpy())
    heads = clone.frame("outputs/tables/head_distances.parquet")
    texts = sorted({text for _, text in maps})
    for row in heads.sample(20, random_state=7).itertuples():
        found = [
            reference.hera_bottleneck(
                simplex_tree_bars(maps[row.model_a, text][row.layer_a][row.head_a], row.dimension),
                simplex_tree_bars(maps[row.model_b, text][row.layer_b][row.head_b], row.dimension),
            )
            for text in texts
        ]
        # pandas reads a column called mean, but a row's tuple has a method of that name.
        assert heads["mean"][row.Index] == pytest.approx(np.mean(found), abs=1e-7)
        assert row.max == pytest.approx(max(found), abs=1e-7)


def plain_maps(network, token_ids) -> list[np.ndarray]:
    with torch.inference_mode():
        answer = network(input_ids=torch.tensor(token_ids)[None], output_attentions=True)
    return [layer[0].double().numpy() for layer in answer.attentions]


def simplex_tree_bars(A: np.ndarray, dimension: int) -> np.ndarray:
    A = A / A.sum(1, keepdims=True)
    D = np.nan_to_num(squareform(pdist(A, "jensenshannon")) / np.sqrt(np.log(2)))
    tree = gudhi.RipsComplex(distance_matrix=D).create_simplex_tree(max_dimension=2)
    tree.compute_persistence(homology_coeff_field=2)
    return tree.persistence_intervals_in_dimension(dimension)


def test_a_second_run_does_nothing(clone):
    before = hashes(clone)
    assert stages_run(clone.run("dvc", "exp", "run", "-S", "corpus.limit=2")) == []
    assert hashes(clone) == before
    assert "up to date" in clone.run("dvc", "status")


def test_another_run_gives_the_same_bytes_without_a_git_identity(clone, tmp_path):
    """Another folder, no parts of before, no identity, by the command of `make demo`."""
    (tmp_path / "clone").mkdir()
    other = Clone(tmp_path / "clone", tmp_path / "work")
    shutil.copytree(packaged.smollm2_cache(), tmp_path / "work")
    said = other.run(sys.executable, "-m", "commands.demo", "corpus.limit=2", "engine.part_texts=1")
    assert hashes(other) == hashes(clone)
    assert "closest across models" in said
    assert "outputs/tables/head_distances.parquet" in said


def test_a_change_of_one_model_reruns_its_cells_and_what_follows(clone):
    said = clone.run(
        "dvc", "exp", "run", "-S", "corpus.limit=2", "-S", "models.minilm.max_tokens=8"
    )
    assert stages_run(said) == [
        "conf",
        "diagrams@minilm",
        *NULLS_OF_MINILM,
        "attention@minilm",
        "context@minilm",
        "comparison",
        "head_tests",
        "equivariance@minilm",
        "report",
        "samples",
    ]
    texts = clone.frame("outputs/diagrams/minilm/texts.parquet")
    assert texts.cut.all()
    assert set(texts.tokens) == {8}


def test_groups_and_values_can_be_set_and_a_model_taken_out(clone):
    sets = ("corpus.limit=2", "homology.max_dimension=0", "distance=notebook")
    model = ("-S", "~model@models.smollm2")
    said = clone.run("dvc", "exp", "run", *(f"-S={one}" for one in sets), *model)
    after = ["comparison", "head_tests", "report", "samples"]
    assert stages_run(said) == ["conf", "diagrams@minilm", *NULLS_OF_MINILM, *after]
    # DVC takes away the files, but not the folders they were in.
    for left in ("diagrams/smollm2", "attention/smollm2", "context/smollm2"):
        assert f"removed outputs/{left}" in said
        assert not (clone.folder / "outputs" / left).exists()
    assert not (clone.folder / "outputs/equivariance/smollm2.parquet").exists()
    heads = clone.frame("outputs/tables/head_distances.parquet")
    assert set(heads.dimension) == {0}
    assert set(heads.model_b) == {"minilm"}
    # Softmax once more squeezes what was up to 1 bit apart.
    assert clone.frame("outputs/diagrams/minilm/heads.parquet").distance_max.max() < 0.4
    assert "up to date" in clone.run("dvc", "status")


def test_what_we_did_not_write_is_not_removed(clone):
    foreign = clone.folder / "outputs/diagrams/notes"
    foreign.mkdir()
    (foreign / "mine.txt").write_text("keep")
    answer = clone.say("python", "-m", "stages.comparison")
    assert answer.returncode == 1
    assert "Move it elsewhere" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert (foreign / "mine.txt").read_text() == "keep"
    shutil.rmtree(foreign)
