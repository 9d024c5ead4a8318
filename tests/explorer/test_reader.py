import numpy as np
import pytest

from pipeline import attention, context
from pipeline.diagrams import HomologySpec
from pipeline.distances import DistanceSpec, token_distances
from pipeline.errors import InputError, TextError
from pipeline.explorer import reader
from pipeline.explorer.reader import CHARACTERS, Reader
from tests import tiny

TEXT = "the cat sat on the mat"
JENSEN_SHANNON = DistanceSpec("jensen_shannon", {"base": 2.0})
RIPS = HomologySpec(1, 2, 0.0)


def look(seen, model, text, layer=0, head=0, spec=JENSEN_SHANNON):
    return seen.head(model, text, (layer, head), spec, RIPS)


def test_a_head_is_that_of_the_pipeline(made):
    model = made("bert")
    expected = attention.attention_of(model, attention.encode(model, TEXT), 1)[2]
    head = look(Reader(made), model, TEXT, 1, 2)
    assert np.abs(head.map - expected).max() < 1e-7
    assert head.labels[:2] == ["0 [CLS]", "1 the"]


@pytest.fixture
def runs(monkeypatch) -> list[str]:
    """What went through a model."""
    came = []

    def counted(function):
        def run(model, encoding, *rest):
            came.append(" ".join(encoding.tokens))
            return function(model, encoding, *rest)

        return run

    for name in ("for_each_layer", "hidden_states"):
        monkeypatch.setattr(attention, name, counted(getattr(attention, name)))
    return came


def test_another_head_or_layer_runs_no_model(made, runs):
    model, seen = made("bert"), Reader(made)
    for layer in range(model.layers):
        for head in range(model.heads):
            assert look(seen, model, TEXT, layer, head).distances.any()
    assert len(runs) == 1


def test_both_texts_stay_up_to_the_bound(made, runs):
    model = made("bert")
    # Six words and two special tokens; a token counts as 200 bytes.
    size = model.layers * model.heads * 8 * 8 * 4 + 200 * 8
    seen = Reader(made, memory=int(2.5 * size))
    for text in (TEXT, TEXT[::-1][:0] + "the dog sat on the cat", TEXT):
        look(seen, model, text)
    assert len(runs) == 2
    assert seen.bytes == 2 * size


def test_maps_that_would_drive_each_other_out_are_refused(made):
    with pytest.raises(TextError, match="shorten it"):
        look(Reader(made, memory=100), made("bert"), TEXT)


def test_maps_and_states_share_one_bound_while_they_are_made(made, monkeypatch):
    model, limit, most = made("bert"), 40_000, []
    seen = Reader(made, memory=limit)
    for name in ("for_each_layer", "hidden_states"):
        run = getattr(attention, name)

        def watched(*given, run=run):
            most.append(seen.bytes)  # the room of what is made now is counted before it is made
            return run(*given)

        monkeypatch.setattr(attention, name, watched)
    for number in range(3, 9):
        for make in (seen.maps, seen.states):
            make(model, " ".join(["cat"] * number))
    assert len(most) == 12
    assert limit / 2 < max(most) <= limit
    assert seen.bytes <= limit


def test_models_are_kept_by_what_they_weigh(made, monkeypatch):
    model = made("bert")
    weight = sum(p.numel() * p.element_size() for p in model.network.parameters())
    monkeypatch.setattr(reader, "WEIGHTS", weight)
    loaded: list[str] = []
    seen = Reader(lambda name: loaded.append(name) or model)
    for name in ("a", "a", "b", "a"):
        seen.model(name)
    assert loaded == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty: write one"),
        (b"", "none is chosen: choose one"),
        ("   ", "no tokens of its own"),
        ("x" * (CHARACTERS + 1), "200,001 characters, and 200,000 are the most"),
        ("\ud800", "not Unicode"),
    ],
)
def test_a_text_that_cannot_be_used_says_why(made, text, said):
    with pytest.raises(TextError, match=said):
        look(Reader(made), made("bert"), text)


@pytest.mark.parametrize(
    ("layer", "head", "said"),
    [(3, 0, "no layer 3: its layers are 0 to 2"), (0, 4, "no head 4: its heads are 0 to 3")],
)
def test_a_head_that_is_not_there_is_named(made, layer, head, said):
    with pytest.raises(InputError, match=said):
        look(Reader(made), made("bert"), TEXT, layer, head)


def test_one_token_has_no_distances(made):
    model, seen = made("gpt2"), Reader(made)
    head = look(seen, model, "a")
    assert len(head.labels) == 1
    with pytest.raises(TextError, match="1 token; a distance needs 2"):
        _ = head.distances


def test_distances_of_states_are_of_the_layer_whatever_the_head(made):
    model, seen = made("bert"), Reader(made)
    spec = DistanceSpec("hidden_cosine", {})
    states = context.view(model, TEXT).states
    D = look(seen, model, TEXT, 2, 3, spec).distances[0]
    assert np.array_equal(D, token_distances(states[2:3], "hidden_cosine", {})[0])


def test_a_model_loads_once(made):
    loaded = []
    seen = Reader(lambda name: loaded.append(name) or made(name))
    assert seen.model("bert") is seen.model("bert")
    assert loaded == ["bert"]


def test_attention_that_is_no_number_is_said(tmp_path):
    import torch

    model = tiny.make("bert", tmp_path / "broken")
    with torch.no_grad():
        next(model.network.parameters()).fill_(float("nan"))
    with pytest.raises(TextError, match="its attention is not finite"):
        look(Reader(lambda name: model), model, TEXT)


def test_keys_tell_models_and_kinds_of_content_apart(made):
    bert, gpt2 = made("bert"), made("gpt2")
    keys = {reader._key(bert, "a"), reader._key(gpt2, "a"), reader._key(bert, b"a")}
    assert len(keys) == 3
