"""A folder of images through the stages, with a tiny vision transformer of one's own."""

import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline import store
from pipeline.config import Config
from pipeline.errors import InputError
from stages import (
    attention,
    comparison,
    compose,
    context,
    corpus,
    diagrams,
    equivariance,
    head_tests,
    nulls,
    report,
)
from tests import reference, tiny

pytestmark = pytest.mark.integration

OVERRIDES = (
    "experiment=vision",
    "corpus=images",
    "corpus.path=pictures",
    "models.vit.source=folder",
    "models.vit.path=vit",
    "models.vit.revision=null",
)


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(values).save(path)


@pytest.fixture(scope="module")
def settings() -> Config:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(store.ROOT)
        return compose.compose(OVERRIDES)[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, settings: Config) -> Path:
    """Three images and two files that are none, and what the stages made of them."""
    folder = tmp_path_factory.mktemp("run")
    for seed, name in enumerate(("a.png", "b.png", "sub/c.png")):
        draw(folder / "pictures" / name, seed)
    (folder / "pictures/README.md").write_text("no image")
    (folder / "pictures/broken.png").write_bytes((folder / "pictures/a.png").read_bytes()[:600])
    tiny.save("vit", folder / "vit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTENTION_TOPOLOGY_WORK", str(folder / "work"))
        patch.chdir(folder)
        assert corpus.run(settings).startswith("3 images, 1 records skipped")
        assert diagrams.run(settings, "vit").startswith("3 images, 51 tokens, 0 cut, 0 skipped")
        assert context.run(settings, "vit").startswith("0 rows of shared tokens")
        for name in settings.null_models:
            assert nulls.run(settings, name).startswith("3 images, 51 tokens, 0 cut, 0 skipped")
        comparison.run(settings)
        head_tests.run(settings)
        attention.run(settings, "vit")
        said = equivariance.run(settings, "vit")
        assert said.startswith("26 rows: 23 hold, 3 do not, 0 skipped")
        report.run(settings)
    return folder


def test_the_corpus_keeps_the_files_and_sets_the_broken_one_aside(folder):
    found = pd.read_parquet(folder / "data/corpus/images.parquet")
    assert found.text.tolist() == ["a.png", "b.png", "sub/c.png"]
    for row in found.itertuples():
        assert row.image == (folder / "pictures" / row.text).read_bytes()
    rejects = pd.read_parquet(folder / "data/corpus/images.rejects.parquet")
    assert rejects.source.tolist() == ["broken.png#0"]


def test_every_patch_is_a_token(folder):
    tokens = pd.read_parquet(folder / "outputs/diagrams/vit/tokens.parquet")
    assert tokens.groupby("text_id").size().tolist() == [17] * 3
    first = tokens[:17]
    assert first.token.tolist() == ["[CLS]", *(f"{r},{c}" for r in range(4) for c in range(4))]
    assert first.position.tolist() == first.token_id.tolist() == list(range(17))
    assert first.special.tolist() == [True] + [False] * 16
    assert first.word.isna().all()


def test_images_share_no_tokens(folder):
    for table in ("context", "context_equal"):
        assert len(store.read(folder / f"outputs/context/vit/{table}.parquet")) == 0


def test_only_positions_tell_patches_apart(folder):
    rows = pd.read_parquet(folder / "outputs/equivariance/vit.parquet")
    broken = rows[~rows.holds.astype(bool)]
    assert set(broken.component) == {"attention in the model", "model"}
    assert set(broken.positions) == {"with"}
    assert set(rows.tokens) == {17}


def test_distances_between_images_are_those_of_hera(folder):
    diagrams = pd.read_parquet(folder / "outputs/diagrams/vit/diagrams.parquet").set_index(
        ["text_id", "layer", "head", "dimension"]
    )
    texts = pd.read_parquet(folder / "outputs/tables/text_distances.parquet")
    assert len(texts) == 3 * 2 * 2 * 2  # pairs of images, layers, heads, dimensions
    for row in texts.itertuples():
        one, other = (
            np.column_stack([bars.birth, bars.death])
            for bars in (
                diagrams.loc[text, row.layer, row.head, row.dimension]
                for text in (row.text_a, row.text_b)
            )
        )
        assert row.distance == pytest.approx(reference.hera_bottleneck(one, other))
    heads = pd.read_parquet(folder / "outputs/tables/head_distances.parquet")
    assert set(heads.texts) == {3}


def test_a_second_reading_gives_the_same_bytes(folder, settings, tmp_path, monkeypatch):
    shutil.copytree(folder / "pictures", tmp_path / "pictures")
    monkeypatch.setenv("ATTENTION_TOPOLOGY_WORK", str(tmp_path / "work"))
    monkeypatch.chdir(tmp_path)
    corpus.run(settings)
    for name in ("images", "images.rejects"):
        paths = [where / f"data/corpus/{name}.parquet" for where in (folder, tmp_path)]
        assert store.sha256(paths[0]) == store.sha256(paths[1])


def test_a_model_of_texts_refuses_a_corpus_of_images(folder, settings, tmp_path, monkeypatch):
    """The default models, left in by oversight."""
    spec = tiny.spec(tiny.save("bert", tmp_path / "bert"))
    shutil.copytree(folder / "data", tmp_path / "data")
    monkeypatch.setenv("ATTENTION_TOPOLOGY_WORK", str(tmp_path / "work"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"bert .*reads texts, and the corpus is of images"):
        diagrams.run(replace(settings, models={"bert": spec}), "bert")
    assert not (tmp_path / "outputs").exists()


def test_images_are_written_in_small_groups(tmp_path):
    """Who reads one of them holds its whole group."""
    file = io.BytesIO()
    Image.new("RGB", (2, 2)).save(file, "PNG")
    row = {"text": "a", "language": None, "group": None, "source": "a", "image": file.getvalue()}
    rows = [{"text_id": f"{i:016x}", **row} for i in range(18)]
    table = pa.Table.from_pylist(rows, store.SCHEMAS["images"])
    store.write(tmp_path / "t.parquet", "images", [table], {})
    found = pq.ParquetFile(tmp_path / "t.parquet").metadata
    assert [found.row_group(i).num_rows for i in range(found.num_row_groups)] == [8, 8, 2]
