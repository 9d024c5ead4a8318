"""The maps of a few texts: those of the model, kept whole; long texts skipped."""

import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline import attention, maps, store
from pipeline.errors import InputError
from pipeline.maps import AttentionSpec
from stages import attention as stage

TEXTS = {"t0": "", "t1": "the cat sat", "t2": "the dog " * 40, "t3": "a dog", "t4": "שלום"}
# bert: 3 layers of 4 heads; t2 is cut to 48 tokens, whose maps take 12 * 48 * 48 * 4 bytes.
SPEC = AttentionSpec(texts=2, text_ids=(), max_megabytes=1)


@pytest.fixture(scope="module")
def bert(made):
    return made("bert")


def kept(model, **changes) -> tuple[list[str], dict[str, str]]:
    found = maps.keep(model, TEXTS.items(), replace(SPEC, **changes))
    return [table["text_id"][0].as_py() for table in found.tables], found.skipped


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({}, ["t1", "t2"]),
        ({"texts": 0}, []),
        ({"texts": 9}, ["t1", "t2", "t3", "t4"]),
        ({"texts": 0, "text_ids": ("t4", "t3")}, ["t3", "t4"]),
        ({"texts": 1, "text_ids": ("t1",)}, ["t1", "t2"]),
    ],
)
def test_the_first_texts_that_can_be_used_and_those_named(bert, changes, texts):
    assert kept(bert, **changes)[0] == texts


def test_a_text_that_cannot_be_used_is_skipped_with_the_reason(bert):
    assert list(kept(bert)[1]) == ["t0"]
    assert "no tokens of its own" in kept(bert)[1]["t0"]


def test_a_text_whose_maps_are_too_large_is_skipped(bert, monkeypatch):
    monkeypatch.setattr(maps, "VALUE", 40)
    texts, aside = kept(bert)
    assert texts == ["t1", "t3"]
    assert aside["t2"] == "its maps take 1 MB, more than attention.max_megabytes, 1"


def test_a_text_that_is_not_there_is_an_error(bert):
    with pytest.raises(InputError, match="no text nope, which"):
        kept(bert, text_ids=("t1", "nope"))


@pytest.mark.parametrize("changes", [{"texts": -1}, {"max_megabytes": 0}, {"max_megabytes": 2000}])
def test_a_spec_that_cannot_be(changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        replace(SPEC, **changes)


def test_the_stage_writes_what_the_model_attends_to(bert, settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATTENTION_TOPOLOGY_WORK", str(tmp_path / "work"))
    small = replace(settings, models={"m": bert.spec}, attention=SPEC)
    rows = [
        {"text_id": key, "text": text, "language": None, "group": None, "source": "x#0"}
        for key, text in TEXTS.items()
    ]
    corpus = pa.Table.from_pylist(rows, store.SCHEMAS["corpus"])
    store.write(store.path("corpus", settings.corpus.name), "corpus", [corpus], {})
    assert "2 texts, 24 maps, 1 skipped -> outputs/attention/m" in stage.run(small, "m")
    frame = store.read(store.path("attention", "m")).to_pandas()
    keys = [(layer, head) for layer in range(3) for head in range(4)]
    assert list(zip(frame["layer"], frame["head"], strict=True)) == 2 * keys
    for row in frame.to_dict("records"):
        encoding = attention.encode(bert, TEXTS[row["text_id"]])
        A = attention.attention_of(bert, encoding, row["layer"])[row["head"]]
        assert row["tokens"] == len(A)
        assert np.array_equal(row["attention"], A.astype(np.float32).ravel())
    before = store.sha256(store.path("attention", "m"))
    stage.run(small, "m")
    assert store.sha256(store.path("attention", "m")) == before


def test_an_image_is_kept_like_a_text(made):
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "PNG")
    vit = made("vit")
    found = maps.keep(vit, [("i", file.getvalue())], SPEC)
    tokens = len(attention.encode(vit, file.getvalue()).token_ids)
    assert len(found.tables[0]) == vit.layers * vit.heads
    assert set(found.tables[0]["tokens"].to_pylist()) == {tokens}
    assert {len(A) for A in found.tables[0]["attention"].to_pylist()} == {tokens**2}
