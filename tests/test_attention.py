"""Attention, layer by layer: against plain transformers, and against what goes wrong."""

import dataclasses
import gc
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.attention import (
    CONTINUED,
    attention_of,
    encode,
    for_each_layer,
    hidden_states,
    points,
)
from pipeline.errors import InputError, TextError
from pipeline.models import Model, attention_modules, find, load
from tests import packaged, tiny

TEXT = "the cat sat on the mat and the dog sat on the cat"
KINDS = tiny.ENCODERS + tiny.DECODERS


pytestmark = pytest.mark.usefixtures("one_torch_thread")


def maps(model: Model, text: str = TEXT) -> np.ndarray:
    """Collect all layers: (layers, heads, query, key)."""
    kept: list[np.ndarray] = []
    for_each_layer(model, encode(model, text), lambda _, p: kept.append(p))
    return np.stack(kept)


def plain(model: Model, folder: str, text: str = TEXT) -> Any:
    """Run transformers as its manual says, all layers at once."""
    import torch
    from transformers import AutoModel

    network = AutoModel.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32, use_safetensors=None
    ).eval()
    ids = model.tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        return network(input_ids=ids, output_attentions=True, output_hidden_states=True)


# ---------------------------------------------------------------- against plain transformers


@pytest.mark.parametrize("kind", KINDS)
def test_maps_are_those_of_plain_transformers(made: Callable[[str], Model], kind: str) -> None:
    model = made(kind)
    expected = np.stack(
        [layer[0].numpy().astype(float) for layer in plain(model, model.spec.path).attentions]
    )
    found = maps(model)
    assert found.shape == (3, 4, *[len(encode(model, TEXT).tokens)] * 2)
    assert found.dtype == np.float64
    assert np.array_equal(found, expected / expected.sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_states_are_those_of_plain_transformers(
    made: Callable[[str], Model], kind: str
) -> None:
    model = made(kind)
    expected = [state[0].numpy() for state in plain(model, model.spec.path).hidden_states]
    found = hidden_states(model, encode(model, TEXT))
    assert found.dtype == np.float64
    assert np.array_equal(found, np.stack(expected))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_distributions_far_from_uniform(made: Callable[[str], Model], kind: str) -> None:
    p = maps(made(kind))
    assert p.min() >= 0
    np.testing.assert_allclose(p.sum(axis=-1), 1, rtol=0, atol=1e-15)
    assert p.std() > 0.05  # so that comparing maps of tiny models compares something


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_s_maps_do_not_depend_on_the_texts_around_it(
    made: Callable[[str], Model], kind: str
) -> None:
    model = made(kind)
    before = maps(model)
    for text in ("attention", "שלום עולם", "the dog " * 100):
        maps(model, text)
        hidden_states(model, encode(model, text))
        assert np.array_equal(maps(model), before)


@pytest.mark.parametrize("kind", tiny.DECODERS)
def test_causal_maps(made: Callable[[str], Model], kind: str) -> None:
    p = maps(made(kind))
    assert (p[:, :, 0, 0] == 1).all()
    assert (np.triu(p, 1) == 0).all()


@pytest.mark.parametrize("kind", tiny.DECODERS)
def test_a_causal_model_sees_a_shared_prefix_alike(made: Callable[[str], Model], kind: str) -> None:
    model, other = made(kind), "the cat sat on a distribution over the tokens of a text"
    mine, its = encode(model, TEXT), encode(model, other)
    differing = np.flatnonzero(
        mine.token_ids[: len(its.tokens)] != its.token_ids[: len(mine.tokens)]
    )
    shared = int(differing[0])
    assert shared >= 4
    p, q = maps(model)[:, :, :shared, :shared], maps(model, other)[:, :, :shared, :shared]
    np.testing.assert_allclose(p, q, rtol=0, atol=1e-6)
    x, y = (hidden_states(model, encoding)[:, :shared] for encoding in (mine, its))
    np.testing.assert_allclose(x, y, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", tiny.ENCODERS)
def test_an_encoder_sees_a_shared_prefix_apart(made: Callable[[str], Model], kind: str) -> None:
    model, other = made(kind), TEXT.replace("dog", "mat")
    shared = 3
    p, q = maps(model)[:, :, :shared, :shared], maps(model, other)[:, :, :shared, :shared]
    assert np.abs(p - q).max() > 1e-3


def test_no_two_layers_are_in_memory(
    made: Callable[[str], Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    softmax, born, alive = torch.nn.functional.softmax, [], []

    def counted(*arguments: Any, **keywords: Any) -> Any:
        result = softmax(*arguments, **keywords)
        born.append(weakref.ref(result))
        return result

    def use(layer: int, p: np.ndarray) -> None:
        gc.collect()
        alive.append(sum(ref() is not None for ref in born))
        born.append(weakref.ref(p))

    model = made("gpt2")
    maps(model)  # transformers sets its own hooks, which keep maps, when first run
    monkeypatch.setattr(torch.nn.functional, "softmax", counted)
    for_each_layer(model, encode(model, TEXT), use)
    assert len(born) == 6  # of each of three layers, the network's map and ours
    assert alive == [1, 1, 1]


def test_hidden_states_keep_no_maps(
    made: Callable[[str], Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    softmax, born, alive = torch.nn.functional.softmax, [], []

    def counted(*arguments: Any, **keywords: Any) -> Any:
        gc.collect()
        alive.append(sum(ref() is not None for ref in born))
        result = softmax(*arguments, **keywords)
        born.append(weakref.ref(result))
        return result

    model = made("gpt2")
    maps(model)
    monkeypatch.setattr(torch.nn.functional, "softmax", counted)
    hidden_states(model, encode(model, TEXT))
    assert alive == [0, 0, 0]


def test_layers_come_in_order_while_the_network_runs(made: Callable[[str], Model]) -> None:
    model, seen = made("bert"), []
    modules = [module for name, module in model.network.named_modules() if name.endswith(".output")]
    handles = [module.register_forward_hook(lambda *_: seen.append("out")) for module in modules]
    try:
        for_each_layer(model, encode(model, TEXT), lambda layer, _: seen.append(layer))
    finally:
        for handle in handles:
            handle.remove()
    assert [x for x in seen if x != "out"] == [0, 1, 2]
    assert seen[0] == 0 and "out" in seen[: seen.index(1)]


def test_an_error_of_the_caller_leaves_no_hook_behind(made: Callable[[str], Model]) -> None:
    model = made("gpt2")
    before = maps(model)
    hooks = [len(module._forward_hooks) for _, module in attention_modules(model.network)]

    def fail(*_: object) -> None:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        for_each_layer(model, encode(model, TEXT), fail)
    after = [len(module._forward_hooks) for _, module in attention_modules(model.network)]
    assert after == hooks
    assert np.array_equal(maps(model), before)


# ---------------------------------------------------------------- what goes wrong


def test_without_eager_attention_there_are_no_maps(tmp_path: Path) -> None:
    model = tiny.make("gpt2", tmp_path)
    model.network.config.output_attentions = False
    model.network.set_attn_implementation("sdpa")
    with pytest.raises(InputError, match="has 3 layers, but gave attention maps of no layer"):
        maps(model)


def test_a_hybrid_model_names_the_layers_that_came(tmp_path: Path) -> None:
    model = tiny.make("jamba", tmp_path)
    used: list[int] = []
    with pytest.raises(InputError, match="has 4 layers, but gave attention maps of layers 1, 3"):
        for_each_layer(model, encode(model, TEXT), lambda layer, _: used.append(layer))
    assert used == []


def test_a_band_is_no_map(tmp_path: Path) -> None:
    model = tiny.make("longformer", tmp_path)
    with pytest.raises(InputError, match="layer 0: its attention maps have the shape"):
        maps(model)


def test_sinks_are_refused(tmp_path: Path) -> None:
    model = tiny.make("gpt_oss", tmp_path)
    with pytest.raises(InputError, match=r"gpt_oss .*, layer 0: its attention rows sum to 0\."):
        maps(model)


def test_a_wrong_head_count_is_refused(made: Callable[[str], Model]) -> None:
    model = dataclasses.replace(made("bert"), heads=5)
    with pytest.raises(InputError, match=r"have the shape \(1, 4, \d+, \d+\), not \(1, 5,"):
        maps(model)


def test_a_wrong_layer_count_is_refused(made: Callable[[str], Model]) -> None:
    model = dataclasses.replace(made("bert"), layers=4)
    with pytest.raises(InputError, match="has 4 layers, but gave attention maps of layers 0, 1, 2"):
        maps(model)


def corrupted(monkeypatch: pytest.MonkeyPatch, model: Model, change: Callable[[Any], Any]) -> None:
    import torch

    softmax = torch.nn.functional.softmax
    monkeypatch.setattr(
        torch.nn.functional, "softmax", lambda *a, **k: change(softmax(*a, **k).clone())
    )


def test_a_negative_value_is_refused(
    made: Callable[[str], Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(p: Any) -> Any:
        p[..., 0, 0] += 0.25
        p[..., 0, 1] -= 0.25 + p[..., 0, 1]
        return p

    model = made("bert")
    corrupted(monkeypatch, model, change)
    with pytest.raises(InputError, match=r"layer 0: an attention value is -0\.25, below 0"):
        maps(model)


@pytest.mark.parametrize("excess", [1e-4, -1e-4, -1.0])
def test_rows_that_do_not_sum_to_1_are_refused(
    made: Callable[[str], Model], monkeypatch: pytest.MonkeyPatch, excess: float
) -> None:
    def change(p: Any) -> Any:
        p[0, 1, 2] *= 1 + excess
        return p

    model = made("bert")
    corrupted(monkeypatch, model, change)
    with pytest.raises(InputError, match=r"its attention rows sum to .*, not to 1"):
        maps(model)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_value_that_is_not_finite_sets_the_text_aside(
    made: Callable[[str], Model], monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    def change(p: Any) -> Any:
        p[0, 3, -1, 0] = value
        return p

    model = made("distilbert")
    with monkeypatch.context() as patch:
        corrupted(patch, model, change)
        with pytest.raises(TextError, match="not finite on this text in float32"):
            maps(model)
    assert np.isfinite(maps(model)).all()


def test_an_overflow_in_half_precision_sets_the_text_aside(tmp_path: Path) -> None:
    import torch

    model = tiny.make("gpt2", tmp_path, dtype="float16")
    with torch.no_grad():
        model.network.h[1].attn.c_attn.weight.mul_(60_000)
    with pytest.raises(TextError, match=r"layer 1: .* in float16; try dtype: float32"):
        maps(model)


@pytest.mark.parametrize("kind", ["bert", "smollm2", "gpt2"])
@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
def test_other_precisions_pass_and_come_close(
    made: Callable[[str], Model], kind: str, dtype: str
) -> None:
    single = made(kind)
    model = load(kind, dataclasses.replace(single.spec, dtype=dtype))
    p = maps(model)
    np.testing.assert_allclose(p.sum(axis=-1), 1, rtol=0, atol=1e-15)
    tolerance = {"float64": 1e-5, "float16": 0.05, "bfloat16": 0.4}[dtype]
    np.testing.assert_allclose(p, maps(single), rtol=0, atol=tolerance)


def test_a_causal_model_that_sees_ahead_is_refused(made: Callable[[str], Model]) -> None:
    model = dataclasses.replace(made("bert"), causal=True)
    with pytest.raises(InputError, match="a token attends to one that follows it"):
        maps(model)


def test_a_mask_lost_on_the_way_is_refused(tmp_path: Path) -> None:
    from transformers import AttentionInterface
    from transformers.models.gpt2.modeling_gpt2 import eager_attention_forward

    model = tiny.make("gpt2", tmp_path)
    AttentionInterface.register("unmasked", eager_attention_forward)
    model.network.config.output_attentions = False
    model.network.set_attn_implementation("unmasked")
    with pytest.raises(InputError, match="a token attends to one that follows it"):
        maps(model)


# ---------------------------------------------------------------- tokens


def test_word_pieces_are_shown_by_the_text_they_cover(made: Callable[[str], Model]) -> None:
    encoding = encode(made("bert"), "The cats sat 好")
    assert encoding.tokens[0] == "[CLS]"
    assert encoding.tokens[-2:] == ["[UNK]", "[SEP]"]
    assert "".join(encoding.tokens[1:-2]) == "Thecatssat"
    assert encoding.words[:2] == [None, 0]
    assert encoding.words[-1] is None
    assert encoding.special.tolist() == [True, *[False] * (len(encoding.tokens) - 2), True]


@pytest.mark.parametrize("kind", KINDS)
def test_every_list_has_a_row_for_each_token(made: Callable[[str], Model], kind: str) -> None:
    model = made(kind)
    encoding = encode(model, TEXT)
    assert encoding.token_ids.tolist() == model.tokenizer(TEXT)["input_ids"]
    assert encoding.token_ids.dtype == np.int64
    rows = encoding.token_ids.size
    assert (len(encoding.tokens), len(encoding.words), encoding.special.size) == (rows,) * 3
    assert (encoding.total_tokens, encoding.cut) == (rows, False)
    own = [word for word in encoding.words if word is not None]
    assert own == sorted(own)
    assert max(own) == TEXT.count(" ")


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_text_is_cut(made: Callable[[str], Model], kind: str) -> None:
    model = made(kind)
    long = " ".join([TEXT] * 20)
    encoding = encode(model, long)
    assert encoding.cut
    assert encoding.token_ids.size == model.spec.max_tokens
    assert encoding.total_tokens == len(model.tokenizer(long)["input_ids"])
    assert encoding.special[-1] == encoding.special[0] == (kind in tiny.ENCODERS)
    assert not encode(model, TEXT).cut  # a cut does not stay behind in the tokenizer


@pytest.mark.parametrize("kind", ["gpt2", "roberta", "smollm2"])
@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("😀", ["😀", CONTINUED, CONTINUED, CONTINUED]),
        ("ж", ["ж", CONTINUED]),
        ("\n", ["\\n"]),
        ("a  a", ["a", "␣", "␣", "a"]),
        ("\u200d", ["\\u200d", CONTINUED, CONTINUED]),
        ("\u0301", ["◌\u0301", CONTINUED]),
    ],
)
def test_byte_level_tokens_are_readable(
    made: Callable[[str], Model], kind: str, text: str, tokens: list[str]
) -> None:
    encoding = encode(made(kind), text)
    shown = [t for t, special in zip(encoding.tokens, encoding.special, strict=True) if not special]
    if text == "a  a":
        assert "".join(shown) == "a␣a"
    else:
        assert shown == tokens


@pytest.mark.parametrize("kind", ["gpt2", "roberta", "smollm2"])
@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Z", "M", "Cn", "Co"])))
def test_shown_tokens_spell_the_text(made: Callable[[str], Model], kind: str, text: str) -> None:
    model = made(kind)
    if not text or len(model.tokenizer(text)["input_ids"]) > model.spec.max_tokens:
        return
    encoding = encode(model, text)
    rows = zip(encoding.tokens, encoding.special, strict=True)
    spelt = "".join(t for t, special in rows if not special and t != CONTINUED)
    assert spelt == text.replace(CONTINUED, "")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["", "\ud800"])
def test_a_text_without_tokens_is_skipped(
    made: Callable[[str], Model], kind: str, text: str
) -> None:
    with pytest.raises(TextError, match="The text"):
        encode(made(kind), text)


@pytest.mark.parametrize("kind", tiny.ENCODERS[:4])
def test_a_blank_text_is_skipped(made: Callable[[str], Model], kind: str) -> None:
    with pytest.raises(TextError, match="no tokens of its own"):
        encode(made(kind), " \n\t ")


def test_an_unknown_character_without_a_token_for_such_sets_the_text_aside(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel

    tiny.save("bert", tmp_path)
    words = (tmp_path / "vocab.txt").read_text("utf-8").splitlines()
    known = {("[OTHER]" if word == "[UNK]" else word): at for at, word in enumerate(words)}
    tokenizer = Tokenizer(WordLevel(known))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    (tmp_path / "vocab.txt").unlink()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    model = load("m", tiny.spec(tmp_path))
    assert encode(model, "a b").tokens == ["a", "b"]
    with pytest.raises(TextError, match="Model m: its tokenizer cannot encode this text"):
        encode(model, "a 漢 b")


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    model = tiny.make("bert", tmp_path)
    model.tokenizer.add_tokens(["zebra"])
    assert encode(model, TEXT)
    with pytest.raises(InputError, match="use the tokenizer that belongs to these weights"):
        encode(model, "a zebra")


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_are_points_where_the_spec_says_so(
    made: Callable[[str], Model], kind: str
) -> None:
    model = made(kind)
    encoding = encode(model, TEXT)
    assert points(model, encoding).all()
    without = dataclasses.replace(model, spec=dataclasses.replace(model.spec, special_tokens=False))
    kept = points(without, encoding)
    assert (kept == ~encoding.special).all()
    assert kept.sum() == len(encoding.tokens) - (2 if kind in tiny.ENCODERS else 0)


def test_a_tokenizer_s_own_names_cannot_steer_a_terminal(
    made: Callable[[str], Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made("bert")
    name = "[\x1b[31m\u202e]"
    monkeypatch.setattr(model.tokenizer, "convert_ids_to_tokens", lambda ids: [name] * len(ids))
    tokens = encode(model, TEXT).tokens
    assert tokens[0] == tokens[-1] == r"[\x1b[31m\u202e]"


def test_one_layer_is_that_of_the_whole_run(made: Callable[[str], Model]) -> None:
    model = made("gpt2")
    encoding = encode(model, TEXT)
    expected = maps(model, TEXT)
    for layer in range(model.layers):
        assert np.array_equal(attention_of(model, encoding, layer), expected[layer])


@pytest.mark.parametrize("layer", [-1, 3])
def test_a_layer_that_is_not_there(made: Callable[[str], Model], layer: int) -> None:
    model = made("gpt2")
    with pytest.raises(InputError, match=f"no layer {layer}: its layers are 0 to 2"):
        attention_of(model, encode(model, TEXT), layer)


# ---------------------------------------------------------------- real weights


@pytest.mark.model
def test_minilm_s_maps_are_those_of_plain_transformers() -> None:
    model = load("minilm", packaged.spec("minilm"))
    text = "Quantum information theory is fascinating."
    output = plain(model, str(find("minilm", model.spec)), text)
    expected = np.stack([layer[0].numpy().astype(float) for layer in output.attentions])
    found = maps(model, text)
    assert found.shape == (6, 12, 8, 8)
    assert np.array_equal(found, expected / expected.sum(axis=-1, keepdims=True))


@pytest.mark.model
def test_smollm2_s_maps_are_those_of_plain_transformers() -> None:
    cache = packaged.smollm2_cache()
    model = load("smollm2", packaged.spec("smollm2"), cache)
    text = "Quantum information theory is fascinating."
    output = plain(model, str(next(cache.iterdir())), text)
    expected = np.stack([layer[0].numpy().astype(float) for layer in output.attentions])
    found = maps(model, text)
    assert np.array_equal(found, expected / expected.sum(axis=-1, keepdims=True))
    assert (found[:, :, 0, 0] == 1).all()
    assert (np.triu(found, 1) == 0).all()


@pytest.mark.model
def test_smollm2_s_tokens_are_readable() -> None:
    model = load("smollm2", packaged.spec("smollm2"), packaged.smollm2_cache())
    assert encode(model, "עולם 😀 אַ").tokens == [
        *["ע", CONTINUED, "ו", "ל", "ם", CONTINUED],
        *["😀", CONTINUED, "א", "◌ַ"],
    ]


# ---------------------------------------------------------------- the notebook's printed results


@pytest.mark.model
@pytest.mark.parametrize(("name", "expected"), [("bert", 0.8720442), ("gpt2", 0.99999988)])
def test_the_notebook_s_contextual_cosine(name: str, expected: float) -> None:
    model = packaged.at_hand(name)
    texts = "The cat sat on the mat.", "The cat chased the mouse."
    x, y = (hidden_states(model, encode(model, text))[-1, 1] for text in texts)
    assert x @ y / np.sqrt((x @ x) * (y @ y)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.model
def test_the_notebook_s_divergences_of_gpt2() -> None:
    model = packaged.at_hand("gpt2")
    text = "Quantum Information Theory provides ways to study attention using entanglement."
    softened = np.exp(maps(model, text)[0, 0])
    p = softened / softened.sum(axis=-1, keepdims=True)
    logs = np.log2(p + 1e-9)
    row = (p[0] * (logs[0] - logs)).sum(axis=-1)
    expected = [0, 0.00039808, 0.01222909, 0.01960545, 0.02434652, 0.03134007, 0.04848492]
    expected += [0.03427438, 0.07781303, 0.06014758, 0.04200178, 0.06383259, 0.06268326, 0.06864341]
    np.testing.assert_allclose(row, expected, rtol=0, atol=1e-6)


@pytest.mark.model
def test_the_number_of_torch_threads_changes_no_bit():
    import torch

    model = packaged.smollm2()
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(maps(model, "the cat sat on the mat"))
        assert torch.get_num_threads() == threads
    assert np.array_equal(*found)


@pytest.mark.model
@pytest.mark.parametrize(
    ("name", "marker"),
    [
        ("minilm", "[SEP]"),
        ("minilm", "[CLS]"),
        ("smollm2", "<|endoftext|>"),
        ("smollm2", "<|im_start|>"),
    ],
)
def test_the_name_of_a_special_token_within_a_text_is_plain_text(name, marker):
    model = packaged.smollm2() if name == "smollm2" else load(name, packaged.spec(name))
    text = f"one {marker} two"
    encoding = encode(model, text)
    marker_id = model.tokenizer.convert_tokens_to_ids(marker)
    assert marker_id in model.tokenizer.all_special_ids
    own = encoding.token_ids[~encoding.special].tolist()
    assert marker_id not in own
    assert model.tokenizer.decode(own).replace(" ", "") == text.replace(" ", "").lower() or (
        model.tokenizer.decode(own) == text
    )
    plain = "one two"
    ids = model.tokenizer(plain)["input_ids"]
    assert encode(model, plain).token_ids.tolist() == ids, "another text is what it was"
