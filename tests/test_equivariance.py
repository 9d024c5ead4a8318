"""What the order of tokens changes: by the formulas, and in networks broken on purpose."""

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline import equivariance, models, store, vision
from pipeline.attention import encode
from pipeline.equivariance import EquivarianceSpec, permutations
from pipeline.errors import InputError
from pipeline.models import Model
from tests import packaged, tiny

SPEC = EquivarianceSpec(
    text="the cat sat on the mat and the dog sat on the cat",
    max_tokens=16,
    permutations=3,
    seed=20,
    tolerance=1e-4,
)
KINDS = (*tiny.ENCODERS, *tiny.DECODERS, "gpt_oss")
CAUSAL = (*tiny.DECODERS, "gpt_oss")
PARTS = ("attention", "multi-head attention with residual", "block")
NETWORK = ("attention in the model", "model")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    """Tiny models, each made once; not to be changed."""
    kept: dict[str, Model] = {}

    def make(kind: str) -> Model:
        if kind not in kept:
            kept[kind] = tiny.make(kind, tmp_path_factory.mktemp("models") / kind)
        return kept[kind]

    return make


def frame(model: Model, spec: EquivarianceSpec = SPEC) -> pd.DataFrame:
    return equivariance.table(model, spec).to_pandas()


def part(rows: pd.DataFrame, positions: str, mask: str, *components: str) -> pd.DataFrame:
    """The rows of one setting; all components where none is named."""
    chosen = rows[(rows.positions == positions) & (rows["mask"] == mask)]
    return chosen[chosen.component.isin(components)] if components else chosen


# ---------------------------------------------------------------- what holds, what does not


@pytest.mark.parametrize("kind", KINDS)
def test_without_positions_and_mask_every_part_is_equivariant(made, kind):
    rows = part(frame(made(kind)), "without", "none")
    assert rows.holds.all()
    assert rows.reason.isna().all()
    assert rows.relative.max() < 1e-5
    for name in set(equivariance.COMPONENTS) - {"model"}:
        assert rows[rows.component == name].layer.tolist() == [0, 1, 2]
    assert rows[rows.component == "model"].layer.isna().tolist() == [True]


@pytest.mark.parametrize("kind", ["bert", "gpt2"])  # Llama's softmax is float32 whatever comes
def test_what_is_left_is_rounding(tmp_path, kind):
    """In float64 the errors are as much smaller as float64 is finer."""
    rows = part(frame(tiny.make(kind, tmp_path, dtype="float64")), "without", "none")
    assert rows.relative.max() < 1e-13


@pytest.mark.parametrize("kind", KINDS)
def test_positions_break_the_whole_network(made, kind):
    rows = frame(made(kind))
    broken = rows[(rows.positions == "with") & rows.component.isin(NETWORK)]
    assert not broken.holds.any()
    assert broken.relative.min() > 0.1


@pytest.mark.parametrize("kind", [*tiny.ENCODERS, "gpt2"])
def test_positions_in_the_embeddings_move_with_the_hidden_states(made, kind):
    """So attention and block, as functions of hidden states, stay equivariant."""
    assert part(frame(made(kind)), "with", "none", *PARTS).holds.all()


@pytest.mark.parametrize("kind", ["smollm2", "gpt_oss"])
def test_rotary_positions_break_every_attention_and_block(made, kind):
    rows = part(frame(made(kind)), "with", "none", *PARTS)
    assert len(rows) == 9
    assert not rows.holds.any()


@pytest.mark.parametrize("kind", CAUSAL)
def test_the_mask_alone_breaks_every_attention_and_block(made, kind):
    rows = part(frame(made(kind)), "without", "causal", *PARTS, *NETWORK)
    assert len(rows) == 13
    assert not rows.holds.any()


@pytest.mark.parametrize("kind", tiny.ENCODERS)
def test_a_model_without_a_causal_mask_is_not_tried_with_one(made, kind):
    assert set(frame(made(kind))["mask"]) == {"none"}


@pytest.mark.parametrize("kind", KINDS)
def test_feed_forward_networks_and_diagrams_never_mind(made, kind):
    rows = frame(made(kind))
    assert rows[rows.component == "feed-forward"].holds.all()
    assert rows[rows.component == "feed-forward"].scale.min() > 1e-3
    diagrams = rows[rows.component == "diagrams"]
    assert diagrams.holds.all()
    assert set(diagrams.error_max) == {0.0}
    assert diagrams.scale.min() > 1e-3


def test_a_recurrence_has_an_order_even_where_attention_has_none(made):
    """Every other layer of Jamba is a state space: it sees what came before."""
    rows = part(frame(made("jamba")), "without", "none")
    assert rows[rows.component == "attention"].layer.tolist() == [1, 3]
    assert rows[rows.component.isin(PARTS)].holds.all()
    assert not rows[rows.component == "model"].holds.any()


# ---------------------------------------------------------------- numbers from the formulas


def softmax(scores: np.ndarray) -> np.ndarray:
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def heads(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), 4, 8).transpose(1, 0, 2)


def normalised(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * weight + bias


def largest(maps: Callable[[np.ndarray], np.ndarray], tokens: int) -> float:
    """max |A(PX) - P A(X) P^T|, A = maps(order of the tokens)."""
    before = maps(np.arange(tokens))
    orders = permutations(tokens, SPEC.permutations, SPEC.seed)
    return max(np.abs(maps(order) - before[:, order][:, :, order]).max() for order in orders)


def weights(model: Model) -> dict[str, np.ndarray]:
    return {name: value.double().numpy() for name, value in model.network.state_dict().items()}


def tokens_of(model: Model) -> np.ndarray:
    limited = tiny.spec(Path(), max_tokens=SPEC.max_tokens)
    return encode(dataclasses.replace(model, spec=limited), SPEC.text).token_ids


def test_the_error_of_berts_first_attention_is_that_of_its_formula(made):
    """Word vectors move, position vectors stay: softmax(Q K^T / sqrt d) after LayerNorm."""
    model = made("bert")
    w, ids = weights(model), tokens_of(model)
    n = len(ids)
    words = w["embeddings.word_embeddings.weight"][ids]
    places = w["embeddings.position_embeddings.weight"][:n]
    norm = (w["embeddings.LayerNorm.weight"], w["embeddings.LayerNorm.bias"], 1e-12)
    name = "encoder.layer.0.attention.self"

    def attention(order: np.ndarray) -> np.ndarray:
        kind = w["embeddings.token_type_embeddings.weight"][0]
        H = normalised(words[order] + kind + places, *norm)
        Q, K = (
            heads(H @ w[f"{name}.{part}.weight"].T + w[f"{name}.{part}.bias"])
            for part in ("query", "key")
        )
        return softmax(Q @ K.transpose(0, 2, 1) / np.sqrt(8))

    row = part(frame(model), "with", "none", "attention in the model").iloc[0]
    assert row.tokens == n
    assert row.scale == pytest.approx(attention(np.arange(n)).max(), rel=1e-5)
    assert row.error_max == pytest.approx(largest(attention, n), rel=1e-4)


def test_the_error_of_gpt2s_masked_attention_is_that_of_its_formula(made):
    """Every token has the first position; the mask stays while tokens move."""
    model = made("gpt2")
    w, ids = weights(model), tokens_of(model)
    X = w["wte.weight"][ids] + w["wpe.weight"][0]
    H = normalised(X, w["h.0.ln_1.weight"], w["h.0.ln_1.bias"], 1e-5)
    above = np.triu(np.ones((len(ids), len(ids)), dtype=bool), 1)

    def attention(order: np.ndarray) -> np.ndarray:
        QKV = H[order] @ w["h.0.attn.c_attn.weight"] + w["h.0.attn.c_attn.bias"]
        Q, K, _ = (heads(third) for third in np.split(QKV, 3, axis=1))
        return softmax(np.where(above, -np.inf, Q @ K.transpose(0, 2, 1) / np.sqrt(8)))

    rows = part(frame(model), "without", "causal", "attention", "attention in the model")
    for row in rows[rows.layer == 0].itertuples():
        assert row.error_max == pytest.approx(largest(attention, len(ids)), rel=1e-4)
        assert row.scale == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["bert", "smollm2"])
def test_the_order_as_it_is_gives_no_error_at_all(made, kind):
    model = made(kind)
    encoding = encode(model, SPEC.text)
    rows = equivariance.rows(model, encoding, [np.arange(encoding.token_ids.size)], 1e-4)
    assert {(row["error_max"], row["relative"], row["holds"]) for row in rows} == {(0.0, 0.0, True)}


# ---------------------------------------------------------------- networks broken on purpose


def add_position(_module, _inputs, output):
    """A position index, added to what a module gives."""
    return output + 0.1 * torch.arange(output.shape[1])[None, :, None]


def holds(rows: pd.DataFrame) -> dict[str, list[bool]]:
    chosen = part(rows, "without", "none")
    return chosen.groupby("component").holds.apply(list).to_dict()


def test_a_block_that_adds_positions_is_found(tmp_path):
    model = tiny.make("bert", tmp_path)
    model.network.encoder.layer[1].register_forward_hook(add_position)
    assert holds(frame(model)) == {
        "attention": [True] * 3,
        "multi-head attention with residual": [True] * 3,
        "feed-forward": [True] * 3,
        "block": [True, False, True],
        "diagrams": [True] * 3,
        "attention in the model": [True, True, False],
        "model": [False],
    }


@pytest.mark.parametrize(
    ("kind", "inner"),
    [
        ("bert", lambda network: network.encoder.layer[2].intermediate),
        ("distilbert", lambda network: network.transformer.layer[2].ffn.lin1),
        ("gpt2", lambda network: network.h[2].mlp.c_fc),
        ("smollm2", lambda network: network.layers[2].mlp.gate_proj),
    ],
)
def test_a_feed_forward_that_adds_positions_is_found(tmp_path, kind, inner):
    model = tiny.make(kind, tmp_path)
    inner(model.network).register_forward_hook(add_position)
    found = holds(frame(model))
    assert found["feed-forward"] == [True, True, False]
    assert found["block"] == [True, True, False]
    assert found["attention"] == [True] * 3
    assert found["model"] == [False]


def test_a_residual_that_adds_positions_is_found(tmp_path):
    """The maps do not see what is made of the values."""
    model = tiny.make("gpt2", tmp_path)
    model.network.h[0].attn.c_proj.register_forward_hook(add_position)
    found = holds(frame(model))
    assert found["attention"] == [True] * 3
    assert found["multi-head attention with residual"] == [False, True, True]


def test_a_token_of_huge_values_hides_nothing(tmp_path):
    def huge_and_broken(module, inputs, output):
        first = output[0, :, 0]
        moved = add_position(module, inputs, output)
        return torch.where((first == first.max())[None, :, None], 1e6 * output, moved)

    model = tiny.make("smollm2", tmp_path)
    model.network.layers[2].register_forward_hook(huge_and_broken)
    row = part(frame(model), "without", "none", "block").iloc[2]
    assert row.error_max / row.scale < SPEC.tolerance / 10
    assert not row.holds


def test_diagrams_are_compared_to_the_bit(made, monkeypatch):
    """An error far below any tolerance is one."""
    true = equivariance.rips

    def sloppy(D):
        place = np.arange(D.shape[-1])
        return true(D * (1 + 1e-14 * (place[:, None] + place)))

    monkeypatch.setattr(equivariance, "rips", sloppy)
    rows = frame(made("bert"))
    diagrams = rows[rows.component == "diagrams"]
    assert not diagrams.holds.any()
    assert diagrams.error_max.between(1e-16, 1e-12).all()


def test_a_lost_bar_is_an_error_without_bound(made, monkeypatch):
    true = equivariance.rips
    calls = []

    def forgetful(D):
        calls.append(D)
        return [[bars[len(calls) % 2 :] for bars in dims] for dims in true(D)]

    monkeypatch.setattr(equivariance, "rips", forgetful)
    rows = frame(made("bert"))
    assert set(rows[rows.component == "diagrams"].error_max) == {np.inf}


# ---------------------------------------------------------------- what cannot be had


def without_keyword(network, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a network take no such keyword, as far as its signature says, and ignore it."""
    true = network.forward
    taken = inspect.signature(true)

    def forward(**given):
        return true(**{key: value for key, value in given.items() if key != name})

    parameters = [one for one in taken.parameters.values() if one.name != name]
    forward.__signature__ = taken.replace(parameters=parameters)
    monkeypatch.setattr(network, "forward", forward)


@pytest.mark.parametrize("kind", ["bert", "distilbert", "gpt2"])
def test_position_embeddings_are_held_still_where_position_ids_cannot_be_given(
    made, kind, monkeypatch
):
    told = frame(made(kind))
    without_keyword(made(kind).network, "position_ids", monkeypatch)
    pd.testing.assert_frame_equal(frame(made(kind)), told)


def test_where_positions_cannot_be_taken_out_the_rows_say_so(made, monkeypatch):
    without_keyword(made("smollm2").network, "position_ids", monkeypatch)
    rows = frame(made("smollm2"))
    for mask in ("causal", "none"):
        chosen = part(rows, "without", mask)
        assert set(chosen.component) == set(equivariance.COMPONENTS)
        assert chosen.reason.str.match("not possible: LlamaModel takes no position_ids").all()
        numbers = chosen[["layer", "error_max", "scale", "relative", "holds"]]
        assert numbers.isna().all(axis=None)
    assert part(rows, "with", "none").reason.isna().all()


def test_a_mask_that_is_not_heeded_is_noticed(made, monkeypatch):
    """From equal position_ids alone, transformers makes each token a text of its own."""
    without_keyword(made("gpt2").network, "attention_mask", monkeypatch)
    rows = frame(made("gpt2"))
    assert part(rows, "with", "causal").reason.isna().all()
    for setting in (("with", "none"), ("without", "causal"), ("without", "none")):
        reason = "not possible: GPT2Model does not heed the mask it is given"
        assert set(part(rows, *setting).reason) == {reason}


def test_a_network_that_refuses_a_mask_is_quoted(made, monkeypatch):
    true = made("gpt2").network.forward

    def forward(attention_mask=None, **rest):
        if attention_mask is not None:
            raise ValueError("two axes,\nnot four")
        return true(**rest)

    monkeypatch.setattr(made("gpt2").network, "forward", forward)
    rows = part(frame(made("gpt2")), "with", "none")
    assert set(rows.reason) == {"not possible: GPT2Model does not run so (two axes, not four)"}


@pytest.mark.parametrize(
    ("change", "components"),
    [
        (lambda network: network.ln_f.bias.data.fill_(torch.inf), {"model"}),
        (
            lambda network: network.h[2].attn.c_attn.bias.data.fill_(torch.nan),
            set(equivariance.COMPONENTS),
        ),
    ],
)
def test_values_that_are_not_finite_are_a_reason(tmp_path, change, components):
    model = tiny.make("gpt2", tmp_path)
    change(model.network)
    rows = part(frame(model), "without", "none")
    at_fault = rows[rows.reason.notna()]
    assert set(at_fault.component) == components
    assert set(at_fault.layer.dropna()) <= {2}
    assert at_fault.reason.str.contains("not finite in float32").all()
    assert at_fault.error_max.isna().all()
    assert rows[rows.reason.isna()].holds.all()


def test_a_feed_forward_of_no_known_name_is_a_reason(made, monkeypatch):
    monkeypatch.setattr(equivariance, "FEED_FORWARDS", (("other", None),))
    rows = frame(made("gpt2"))
    aside = rows[rows.component == "feed-forward"]
    assert aside.reason.str.match(r"GPT2Block calls no feed-forward .* \(other\)").all()
    assert rows[rows.component != "feed-forward"].reason.isna().all()


# ---------------------------------------------------------------- the network stays as it is


@pytest.mark.parametrize("kind", [*KINDS, *tiny.SEEING])
def test_the_network_is_left_as_it_was(made, kind):
    def state() -> tuple:
        network = made(kind).network
        hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in network.modules()]
        return {name: v.clone() for name, v in network.state_dict().items()}, hooks

    before, threads = state(), torch.get_num_threads()
    frame(made(kind))
    after = state()
    assert before[1] == after[1]
    assert all(torch.equal(value, after[0][name]) for name, value in before[0].items())
    assert torch.get_num_threads() == threads


def test_the_network_runs_on_one_thread(tmp_path, monkeypatch):
    model, counts = tiny.make("bert", tmp_path), set()
    model.network.register_forward_hook(lambda *_: counts.add(torch.get_num_threads()))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        frame(model)
    finally:
        torch.set_num_threads(before)
    assert counts == {1}


@pytest.mark.parametrize(
    ("relative", "holds", "near"),
    [
        (0.0, True, False),
        (2e-5, True, False),
        (3e-5, True, True),
        (3e-4, False, True),
        (5e-4, False, False),
    ],
)
def test_an_error_near_the_tolerance_is_marked(made, relative, holds, near):
    orders = [np.array([1, 0])]
    setting = equivariance.Setting("without", "none")
    trial = equivariance.Trial(made("bert"), setting, orders, 1e-4)
    row = trial.row("block", 0, relative, relative, 1.0)
    assert (row["holds"], row["near"]) == (holds, near)
    assert trial.refusal("block", 0, "why")["near"] is None


@pytest.mark.parametrize("kind", tiny.DECODERS)
def test_a_causal_mask_given_in_full_is_the_networks_own(made, kind, one_torch_thread):
    model = made(kind)
    trial = equivariance.Trial(model, equivariance.Setting("without", "causal"), [], 1e-4)
    with torch.inference_mode():
        X = model.network.get_input_embeddings()(torch.arange(5, 14)[None])
        mask = equivariance._options(trial, X)["attention_mask"]
        own, given = (
            model.network(inputs_embeds=X, attention_mask=m, use_cache=False)[0]
            for m in (None, mask)
        )
    assert torch.equal(own, given)


# ---------------------------------------------------------------- images


def seeing(kind: str, folder: Path) -> Model:
    """A tiny vision transformer; DeiT's positions, and the tokens of all, are zero when new."""
    model = tiny.make(kind, folder)
    torch.manual_seed(tiny.SEED)
    for name, value in model.network.named_parameters():
        if "position" in name or "token" in name:
            value.data.normal_()
    return model


@pytest.mark.parametrize("kind", tiny.SEEING)
def test_of_an_image_only_positions_break_only_the_whole_network(tmp_path, kind):
    """The text of the spec, and its max_tokens, are for others."""
    model = seeing(kind, tmp_path)
    rows = frame(model, dataclasses.replace(SPEC, text="", max_tokens=2))
    assert len(rows) == 2 * (6 * 2 + 1)
    assert rows.reason.isna().all()
    assert set(rows.tokens) == {len(encode(model, vision.noise(model.processor, 0)).tokens)}
    broken = (rows.positions == "with") & rows.component.isin(NETWORK)
    assert rows[~broken].holds.all()
    assert rows[~broken].relative.max() < 1e-5
    assert not rows[broken].holds.any()
    assert rows[broken].relative.min() > 0.1


def test_the_error_of_vits_first_attention_is_that_of_its_formula(tmp_path):
    """A patch's pixels, in the order channel, row, column, times the kernel of its convolution."""
    model = seeing("vit", tmp_path)
    w = weights(model)
    pixels = encode(model, vision.noise(model.processor, SPEC.seed)).pixels.astype(np.float64)
    patches = [
        pixels[:, 8 * r : 8 * r + 8, 8 * c : 8 * c + 8].ravel() for r in range(4) for c in range(4)
    ]
    kernel = w["embeddings.patch_embeddings.projection.weight"].reshape(32, -1)
    bias = w["embeddings.patch_embeddings.projection.bias"]
    X = np.vstack([w["embeddings.cls_token"][0], patches @ kernel.T + bias])
    norm = (*(w[f"layers.0.layernorm_before.{part}"] for part in ("weight", "bias")), 1e-12)
    name = "layers.0.attention"

    def attention(order: np.ndarray) -> np.ndarray:
        H = normalised(X[order] + w["embeddings.position_embeddings"][0], *norm)
        Q, K = (
            (H @ w[f"{name}.{part}.weight"].T + w[f"{name}.{part}.bias"])
            .reshape(17, 2, 16)
            .transpose(1, 0, 2)
            for part in ("q_proj", "k_proj")
        )
        return softmax(Q @ K.transpose(0, 2, 1) / np.sqrt(16))

    row = part(frame(model), "with", "none", "attention in the model").iloc[0]
    assert row.tokens == 17
    assert row.scale == pytest.approx(attention(np.arange(17)).max(), rel=1e-4)
    assert row.error_max == pytest.approx(largest(attention, 17), rel=1e-4)


@pytest.mark.parametrize("kind", tiny.SEEING)
def test_tokens_and_positions_of_an_image_are_what_the_network_itself_sees(
    tmp_path, kind, one_torch_thread
):
    model = seeing(kind, tmp_path)
    encoding = encode(model, vision.noise(model.processor, 1))
    with torch.inference_mode():
        X, image = equivariance._inputs(model, encoding)
        trial = equivariance.Trial(model, equivariance.Setting("with", "none"), [], 1e-4, image)
        own = model.network(pixel_values=torch.from_numpy(encoding.pixels)[None])[0]
        assert torch.equal(equivariance._forward(trial, X)[0], own)


def test_the_order_of_an_image_as_it_is_gives_no_error_at_all(tmp_path):
    model = seeing("vit", tmp_path)
    encoding = encode(model, vision.noise(model.processor, 1))
    rows = equivariance.rows(model, encoding, [np.arange(17)], 1e-4)
    assert {(row["error_max"], row["relative"], row["holds"]) for row in rows} == {(0.0, 0.0, True)}


def test_positions_of_an_image_outside_of_the_embeddings_are_a_reason(tmp_path):
    """As the relative positions of BEiT are."""
    model = seeing("vit", tmp_path)
    bias = torch.nn.Parameter(torch.zeros(1))
    model.network.layers[0].register_parameter("relative_position_bias", bias)
    rows = frame(model)
    assert part(rows, "with", "none").reason.isna().all()
    reason = "not possible: ViTModel keeps its positions, or some of them, outside of ViTEmbeddings"
    assert set(part(rows, "without", "none").reason) == {reason}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda network: network.embeddings.register_forward_hook(lambda *args: args[2] ** 2),
            "does more in ViTEmbeddings than to add positions to tokens",
        ),
        (
            lambda network: network.add_module("stem", network._modules.pop("embeddings")),
            "has no module called embeddings",
        ),
    ],
)
def test_embeddings_that_cannot_be_taken_apart_are_a_reason(tmp_path, change, says):
    model = seeing("vit", tmp_path)
    change(model.network)
    rows = frame(model)
    assert set(rows.reason) == {f"not possible: ViTModel {says}"}
    assert set(rows.component) == set(equivariance.COMPONENTS)


# ---------------------------------------------------------------- what comes in


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"permutations": 0}, "permutations is 0; it must be at least 1"),
        ({"max_tokens": 1}, "max_tokens is 1; it must be at least 2"),
        ({"seed": -1}, "seed is -1"),
        ({"tolerance": 0.0}, "tolerance is 0.0; it must lie between 0 and 1"),
        ({"tolerance": float("nan")}, "tolerance is nan"),
    ],
)
def test_a_value_out_of_range_is_named(change, says):
    with pytest.raises(InputError, match=says):
        EquivarianceSpec(**(vars(SPEC) | change))


@pytest.mark.parametrize(("text", "says"), [("", "no tokens"), ("a", "has only one order")])
def test_a_text_of_fewer_than_two_tokens_is_refused(made, text, says):
    with pytest.raises(InputError, match=says):
        frame(made("gpt2"), EquivarianceSpec(**(vars(SPEC) | {"text": text})))


def test_orders_are_drawn_by_the_seed_and_move_something():
    first, again, other = (permutations(9, 5, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert {tuple(order) for order in permutations(2, 6, 0)} == {(1, 0)}
    assert all(sorted(order) == list(range(9)) for order in first)


def test_the_table_fits_its_schema(made, tmp_path):
    path = tmp_path / "table.parquet"
    written = store.write(path, "equivariance", [equivariance.table(made("bert"), SPEC)], {})
    read = store.read(path)
    assert read.schema.remove_metadata() == store.SCHEMAS["equivariance"].remove_metadata()
    assert len(read) == written == 2 * (6 * 3 + 1)
    assert set(read["tokens"].to_pylist()) == {15}
    assert set(read["permutations"].to_pylist()) == {3}


# ---------------------------------------------------------------- real models


@pytest.mark.model
def test_minilm_as_the_mathematics_says(settings):
    model = models.load("minilm", packaged.spec("minilm"))
    rows = frame(model, settings.equivariance)
    assert len(rows) == 2 * (6 * 6 + 1)
    assert rows.reason.isna().all()
    broken = (rows.positions == "with") & rows.component.isin(NETWORK)
    assert rows[~broken].holds.all()
    assert rows[~broken].relative.max() < 1e-5
    assert not rows[broken].holds.any()
    assert rows[broken].relative.min() > 1


@pytest.mark.model
def test_smollm2_as_the_mathematics_says(settings):
    rows = frame(packaged.smollm2(), settings.equivariance)
    assert len(rows) == 4 * (6 * 30 + 1)
    assert rows.reason.isna().all()
    free = (rows.positions == "without") & (rows["mask"] == "none")
    kept = free | rows.component.isin(("feed-forward", "diagrams"))
    assert rows[kept].holds.all()
    assert not rows[~kept].holds.any()
    # What breaks is far from what rounds, on either side of the tolerance.
    assert rows[kept].relative.max() < 3e-5
    assert rows[~kept].relative.min() > 3e-4
