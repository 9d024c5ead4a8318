"""The texts in data/raw and the configurations in conf/corpus hold what they promise."""

import unicodedata
from collections import Counter
from dataclasses import fields
from pathlib import Path

import datasets
import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from pipeline import images
from pipeline.corpus import CorpusSpec, read
from pipeline.errors import InputError
from stages import compose

ROOT = Path(__file__).parents[1]
CONFIGS = compose.choices("corpus", ROOT / "conf")
LANGUAGES = ("de", "en", "es", "fr", "he", "yi")
HEBREW_SCRIPT = ("he", "yi")
NOTEBOOK = (
    "Quantum information theory is interesting",
    "Quantum information theory is fascinating",
    "Quantum information theory allows us to study attention using entanglement",
)


def spec_of(name: str) -> CorpusSpec:
    values = compose.as_written("corpus", name, ROOT / "conf")
    values["watch"] = values["watch"].replace("${.path}", values["path"])
    assert set(values) == {field.name for field in fields(CorpusSpec)}
    return CorpusSpec(**values)


def rows_of(name: str, tmp_path: Path, monkeypatch) -> list[dict]:
    monkeypatch.chdir(ROOT)
    records, rejects = read(spec_of(name), tmp_path)
    assert rejects.num_rows == 0
    return records.to_pylist()


@pytest.fixture
def parallel(tmp_path, monkeypatch) -> list[dict]:
    return rows_of("parallel", tmp_path, monkeypatch)


def letters(text: str) -> list[str]:
    return [c for c in text if unicodedata.category(c).startswith("L")]


def test_there_are_enough_texts_each_with_its_own_name(parallel):
    assert len(parallel) == 57
    assert len({row["text_id"] for row in parallel}) == 57
    assert len({row["text"] for row in parallel}) == 57


def test_each_group_is_in_all_six_languages(parallel):
    groups = {row["group"] for row in parallel} - {"quantum"}
    assert len(groups) == 9
    found = Counter((row["group"], row["language"]) for row in parallel if row["group"] in groups)
    assert found == {(group, language): 1 for group in groups for language in LANGUAGES}


def test_the_texts_are_sorted_by_group_then_language(parallel):
    order = [(row["group"], row["language"]) for row in parallel]
    assert order == sorted(order)


def test_each_sentence_has_8_to_25_words(parallel):
    words = {row["text"]: len(row["text"].split()) for row in parallel if row["group"] != "quantum"}
    assert {text: count for text, count in words.items() if not 8 <= count <= 25} == {}


def test_each_language_is_in_its_script_and_normal_form(parallel):
    for row in parallel:
        assert unicodedata.is_normalized("NFC", row["text"])
        script = "HEBREW" if row["language"] in HEBREW_SCRIPT else "LATIN"
        assert {unicodedata.name(c).split()[0] for c in letters(row["text"])} == {script}


def test_yiddish_has_the_marks_of_its_standard_spelling_and_hebrew_none(parallel):
    """YIVO spells with alef pasekh or alef komets, and with fe rafe; plain Hebrew has no points."""
    alef_pasekh, alef_komets = "\u05d0\u05b7", "\u05d0\u05b8"
    for row in parallel:
        text = row["text"]
        if row["language"] == "yi":
            assert alef_pasekh in text or alef_komets in text
            # A pe is pey with a dot or fey with a bar, never bare.
            assert all(text[i + 1] in "\u05bc\u05bf" for i, c in enumerate(text) if c == "\u05e4")
        if row["language"] == "he":
            assert not any(unicodedata.category(c) == "Mn" for c in text)


def test_the_sentences_vary(parallel):
    english = {row["group"]: row["text"] for row in parallel if row["language"] == "en"}
    assert english["library"].endswith("?")
    assert english["moon"].count("“") == 2
    assert english["bread"].count(",") == 4
    assert english["rain"].startswith("Although")


def test_the_notebook_sentences_are_exact(parallel, tmp_path, monkeypatch):
    rows = rows_of("notebook", tmp_path, monkeypatch)
    assert tuple(row["text"] for row in rows) == NOTEBOOK
    assert {(row["language"], row["group"]) for row in rows} == {("en", "quantum")}
    quantum = [row["text_id"] for row in parallel if row["group"] == "quantum"]
    assert quantum == [row["text_id"] for row in rows]


def test_the_photographs_are_those_that_scikit_learn_loads(tmp_path, monkeypatch):
    rows = rows_of("photographs", tmp_path, monkeypatch)
    assert [row["text"] for row in rows] == ["china.jpg", "flower.jpg"]
    for row in rows:
        pixels = np.asarray(images.picture(row["image"]))
        assert np.array_equal(pixels, load_sample_image(row["text"]))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_is_named_as_its_file(name):
    spec = spec_of(name)
    assert spec.name == name
    expected = f"conf/corpus/{name}.yaml" if spec.format == "hub" else spec.path
    # What a package carries is known by the package's version.
    assert spec.watch == ("constraints.txt" if spec.path.startswith("package:") else expected)


@pytest.mark.parametrize("name", ["text", "jsonl", "csv", "parquet", "images"])
def test_a_config_without_a_path_says_how_to_give_one(name, tmp_path):
    with pytest.raises(InputError, match=r"corpus.path=FILE"):
        read(spec_of(name), tmp_path)


def test_the_hub_example_is_pinned_and_passes_the_door(tmp_path, monkeypatch):
    asked = []

    def load_dataset(path, **kwargs):
        asked.append((path, kwargs["name"], kwargs["split"]))
        return datasets.IterableDataset.from_list([{"text": ""}, {"text": " = Title = \n"}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    records, rejects = read(spec_of("wikitext"), tmp_path)
    assert asked == [("Salesforce/wikitext", "wikitext-2-raw-v1", "test")]
    assert records["text"].to_pylist() == ["= Title ="]
    assert rejects["reason"].to_pylist() == ["empty"]
