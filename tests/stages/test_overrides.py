"""The words that the page shows compose the very configuration they were derived from."""

import shlex

import pytest

from pipeline import store
from stages import compose
from stages.overrides import overrides


@pytest.fixture(autouse=True)
def at_the_top(monkeypatch):
    monkeypatch.chdir(store.ROOT)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ([], []),
        (["engine.part_texts=1"], []),
        (["distance=notebook"], ["distance=notebook"]),
        (["homology.max_dimension=0"], ["homology.max_dimension=0"]),
        (["~model@models.smollm2"], ["~model@models.smollm2"]),
        (["+model@models.gpt2=gpt2"], ["+model@models.gpt2=gpt2"]),
        (["models.minilm.max_tokens=64"], ["models.minilm.max_tokens=64"]),
        (["model@models.minilm=bert"], ["model@models.minilm=bert"]),
        (["corpus=text", "corpus.path=my.txt"], ["corpus=text", "corpus.path=my.txt"]),
        (
            ["experiment=notebook"],
            ["corpus=notebook", "distance=notebook", "homology=notebook"],
        ),
        (
            ["experiment=vision"],
            [
                "~model@models.minilm",
                "~model@models.smollm2",
                "+model@models.vit=vit",
                "corpus=photographs",
                "comparison.text_pairs=all",
            ],
        ),
        (["distance.options.base=10"], ["distance.options.base=10.0"]),
        (["~distance.options.base"], ["~distance.options.base"]),
        (["context.tolerances=[1e-3,1]"], ["context.tolerances=[0.001,1.0]"]),
        (["attention.text_ids=['0123',abc]"], ["attention.text_ids=['0123',abc]"]),
        (["corpus.language='true'"], ["corpus.language='true'"]),
    ],
)
def test_words_are_the_shortest(words, shown):
    assert overrides(compose.compose(words)[1]) == shown


@pytest.mark.parametrize(
    "text",
    [
        'It\'s <b>5 %</b>, "so"',
        "a\\",
        "a\\'b",
        "\\\\'",
        "קמח, מלח=1",
        "[1,2]",
        "1e5",
        "null",
        " x ",
    ],
)
def test_any_text_comes_back(text, settings):
    from dataclasses import replace

    wanted = replace(settings, equivariance=replace(settings.equivariance, text=text))
    words = overrides(wanted)
    assert len(words) == 1
    assert compose.compose(words)[1] == wanted


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["experiment=vision", "corpus=images", "corpus.path='my images'"],
        ["experiment=notebook", "+model@models.b=bert", "models.b.max_tokens=9"],
    ],
)
def test_words_compose_what_they_were_derived_from(words):
    written, settings = compose.compose(words)
    typed = shlex.split(shlex.join(overrides(settings)))
    assert compose.compose(typed) == (written, settings)
