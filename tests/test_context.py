"""Contextual mappings: against plain transformers, double loops, and what is known beforehand."""

import itertools
import json
import tracemalloc
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from pipeline import attention, context, store
from pipeline.attention import encode
from pipeline.context import ContextSpec, cosines, equal_pairs, text_pairs
from pipeline.errors import InputError, TextError
from pipeline.models import Model, load
from tests import packaged, tiny

pytestmark = pytest.mark.usefixtures("one_torch_thread")

SPEC = ContextSpec("group", 1000, 20, (1e-4, 1e-3, 1e-2, 0.1))
TOLERANCES = SPEC.tolerances
SAME_START = "the cat sat on the mat and the dog", "the cat sat on the dog and the cat"
# Token 1 is in both; of the notebook.
CAT = "The cat sat on the mat.", "The cat chased the mouse."


def counts(model: Model, *texts: str, tolerances=TOLERANCES) -> pa.Table:
    """The context_equal rows of all pairs of some texts."""
    named = {f"t{i}": text for i, text in enumerate(texts)}
    pairs = list(itertools.combinations(named, 2))
    return context.context_tables(model, named, pairs, set(), tolerances)["context_equal"]


def at(table: pa.Table, tolerance: float, column: str) -> list[int]:
    """A column at one tolerance, by layer."""
    frame = table.to_pandas()
    return frame[frame.tolerance == tolerance].sort_values("layer")[column].tolist()


# ---------------------------------------------------------------- cosines


@pytest.mark.parametrize("kind", tiny.DECODERS)
def test_a_causal_model_gives_a_shared_prefix_the_same_vectors(made, kind):
    frame = cosines(made(kind), *SAME_START).to_pandas()
    prefix, beyond = frame[frame.prefix], frame[~frame.prefix]
    assert set(prefix.layer) == {0, 1, 2, 3}
    # "the cat sat on the", or more pieces.
    assert len(prefix) >= 4 * 5
    np.testing.assert_allclose(prefix.cosine, 1, rtol=0, atol=1e-6)
    assert beyond[beyond.layer > 0].cosine.max() < 0.999


@pytest.mark.parametrize("kind", tiny.ENCODERS)
def test_an_encoder_does_not(made, kind):
    frame = cosines(made(kind), *SAME_START).to_pandas()
    prefix = frame[frame.prefix]
    np.testing.assert_allclose(prefix[prefix.layer == 0].cosine, 1, rtol=0, atol=1e-6)
    assert prefix[prefix.layer > 0].cosine.max() < 0.9999


def test_rows_are_the_k_th_occurrences_in_both_texts(made):
    model = made("bert")
    frame = cosines(model, *SAME_START).to_pandas()
    a, b = (encode(model, text) for text in SAME_START)
    first = frame[frame.layer == 0]
    expected = [
        (i, j)
        for i, j in itertools.product(range(len(a.tokens)), range(len(b.tokens)))
        if a.token_ids[i] == b.token_ids[j]
        and list(a.token_ids[:i]).count(a.token_ids[i])
        == list(b.token_ids[:j]).count(b.token_ids[j])
    ]
    assert list(zip(first.position_a, first.position_b, strict=True)) == expected
    assert first.token.tolist() == [a.tokens[i] for i, _ in expected]
    assert first.special.tolist() == [a.tokens[i] in ("[CLS]", "[SEP]") for i, _ in expected]
    assert frame.groupby("layer").position_b.apply(list).tolist() == [[j for _, j in expected]] * 4


def test_nothing_shared_is_no_rows(made):
    assert len(cosines(made("gpt2"), "a", "b")) == 0


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [([], [], 0), ([1], [2], 0), ([1, 2], [1, 2, 3], 2), ([1, 2, 3, 4], [1, 2, 5, 4], 2)],
)
def test_the_shared_prefix_ends_before_the_first_difference(a, b, expected):
    assert context.shared_prefix(np.array(a), np.array(b)) == expected


def test_the_cosine_of_a_zero_vector_is_missing_and_none_is_beyond_1():
    u = np.array([[[0.0, 0.0], [3.0, 4.0], [0.1, 0.7]]])
    v = np.array([[[1.0, 0.0], [4.0, -3.0], [0.3, 2.1]]])
    np.testing.assert_array_equal(context.cosine(u, v), [[np.nan, 0.0, 1.0]])
    many = np.random.default_rng(0).normal(size=(1, 1000, 7))
    assert context.cosine(many, many).max() == 1


def test_a_text_that_cannot_be_used_is_a_text_error(made, tmp_path):
    with pytest.raises(TextError, match="no tokens of its own"):
        cosines(made("bert"), "the cat", "")
    model = tiny.make("bert", tmp_path)
    next(iter(model.network.encoder.layer)).output.dense.bias.data[0] = float("inf")
    with pytest.raises(TextError, match="hidden states are not finite on this text in float32"):
        cosines(model, "the cat", "the dog")


@pytest.mark.model
@pytest.mark.parametrize("name", ["minilm", "smollm2"])
def test_cosines_and_counts_are_those_of_plain_transformers(name):
    """Token ids through the plain network, then torch and loops: none of our numeric code."""
    import torch

    model = packaged.smollm2() if name == "smollm2" else load(name, packaged.spec(name))
    ids = [torch.tensor(model.tokenizer(text)["input_ids"])[None] for text in CAT]
    with torch.inference_mode():
        a, b = (model.network(input_ids=one, output_hidden_states=True) for one in ids)
    frame = cosines(model, *CAT).to_pandas()
    assert set(frame.layer) == set(range(model.layers + 1))
    for row in frame.sample(40, random_state=3).itertuples():
        u = a.hidden_states[row.layer][0, row.position_a].double()
        v = b.hidden_states[row.layer][0, row.position_b].double()
        expected = torch.nn.functional.cosine_similarity(u, v, dim=0).item()
        assert row.cosine == pytest.approx(expected, abs=1e-9)
    last = [state.hidden_states[-1][0].double().numpy() for state in (a, b)]
    tolerances = (0.0, 0.6, 0.9, 1.2)
    start = 3 if name == "minilm" else 2  # [CLS] the cat
    same, others = looped(*last, start, tolerances)
    table = counts(model, *CAT, tolerances=tolerances)
    assert others[-1] > others[0]
    assert [at(table, t, "prefix_equal")[-1] for t in tolerances] == same
    assert [at(table, t, "across_equal")[-1] for t in tolerances] == others


@pytest.mark.model
@pytest.mark.parametrize(("name", "expected"), [("bert", 0.8720442), ("gpt2", 0.99999988)])
def test_the_notebook_s_cosine(name, expected):
    frame = cosines(packaged.at_hand(name), *CAT).to_pandas()
    row = frame[(frame.layer == frame.layer.max()) & (frame.position_a == 1)]
    assert row.position_b.tolist() == [1]
    assert row.cosine.tolist() == [pytest.approx(expected, abs=1e-5)]


# ---------------------------------------------------------------- equal vectors


def looped(u, v, prefix: int, tolerances) -> tuple[list[int], list[int]]:
    """The counts of equal_pairs that are equal, from the definition."""
    same, others = [0] * len(tolerances), [0] * len(tolerances)
    for k, tolerance in enumerate(tolerances):
        for i, j, apart in relative(u, v):
            if apart <= tolerance:
                (same if i == j < prefix else others)[k] += 1
    return same, others


def relative(u, v):
    """How far apart two rows are, in parts of the longer."""
    for i, x in enumerate(u):
        for j, y in enumerate(v):
            longer = max(sum(x**2) ** 0.5, sum(y**2) ** 0.5)
            yield i, j, sum((x - y) ** 2) ** 0.5 / longer


@pytest.mark.parametrize("at_once", [1, 20, 2**20])
@pytest.mark.parametrize("prefix", [0, 3, 9])
def test_equal_pairs_are_those_of_a_double_loop(monkeypatch, at_once, prefix):
    monkeypatch.setattr(context, "DISTANCES_AT_ONCE", at_once)
    random = np.random.default_rng(5)
    u = random.normal(size=(9, 4))
    v = np.concatenate([u[:5] + random.normal(size=(5, 4)) * 3e-4, random.normal(size=(6, 4))])
    v[1], v[6], v[8] = u[1], u[1], u[7]
    found = equal_pairs(u, v, prefix, TOLERANCES)
    same, others = looped(u, v, prefix, TOLERANCES)
    assert found[:, 0].tolist() == [same, others]
    equal = found[:, 0].sum(0)
    assert equal[0] == 3
    assert equal[0] < equal[-1]
    near = [
        [abs(apart - t) <= context.ROUNDING for *_, apart in relative(u, v)] for t in TOLERANCES
    ]
    assert found[:, 1].sum(0).tolist() == [sum(one) for one in near]


@pytest.mark.parametrize(
    ("apart", "equal", "near"),
    [(0.0, 1, 0), (3e-5, 1, 0), (9e-5, 1, 1), (1.1e-4, 0, 1), (1.7e-4, 0, 0)],
)
def test_what_stands_within_rounding_of_a_tolerance_is_counted(apart, equal, near):
    u, v = np.array([[1.0, 0.0]]), np.array([[1.0, apart]])
    assert equal_pairs(u, v, 0, (1e-4,)).tolist() == [[[0], [0]], [[equal], [near]]]
    assert equal_pairs(u, v, 1, (1e-4,)).tolist() == [[[equal], [near]], [[0], [0]]]


def test_neighbouring_floats_are_not_equal_at_tolerance_0():
    """Where squares are taken first, the difference of these is lost."""
    u = np.array([[1.0, 3.0]])
    v = np.nextafter(u, 4)
    assert (u @ u.T + v @ v.T - 2 * u @ v.T).item() == 0
    assert equal_pairs(u, v, 0, (0.0, 1e-15))[:, 0].tolist() == [[0, 0], [0, 1]]
    assert equal_pairs(u, u, 0, (0.0,))[:, 0].tolist() == [[0], [1]]


def test_without_positions_a_repeated_token_enters_as_the_same_vector(made):
    text = tiny.SENTENCES[0]
    model = made("smollm2")
    repeats = Counter(encode(model, text).token_ids.tolist()).values()
    expected = sum(n * (n - 1) // 2 for n in repeats)
    assert expected > 0
    table = counts(model, text, "quantum")
    assert at(table, 1e-4, "within_equal") == [expected, 0, 0, 0]
    with_positions = counts(made("gpt2"), text, "quantum")
    assert at(with_positions, 1e-4, "within_equal") == [0, 0, 0, 0]


def test_with_relative_positions_alone_a_text_may_start_with_equal_vectors(made):
    """All that the second token sees is itself, twice: an average of equal values is that value."""
    text = "a a"
    model = made("smollm2")
    model = replace(model, tokenizer=without_blanks(model))
    assert len(set(encode(model, text).token_ids.tolist())) == 1
    assert at(counts(model, text, "b"), 1e-4, "within_equal") == [1, 1, 1, 1]


def without_blanks(model: Model):
    """The tokenizer of a model, but of letters alone."""
    import copy

    from tokenizers import Regex, pre_tokenizers

    tokenizer = copy.deepcopy(model.tokenizer)
    split = pre_tokenizers.Split(Regex(r"\s"), "removed")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    return tokenizer


def test_pairs_are_counted_in_full(made):
    texts = "the cat", "the dog", "the cat sat"
    model = made("bert")
    lengths = [len(encode(model, text).tokens) for text in texts]
    table = counts(model, *texts)
    row = table.to_pylist()[0]
    assert (row["texts"], row["text_pairs"]) == (3, 3)
    assert row["within_pairs"] == sum(n * (n - 1) // 2 for n in lengths)
    every = sum(m * n for m, n in itertools.combinations(lengths, 2))
    ids = [encode(model, text).token_ids for text in texts]
    prefix = sum(context.shared_prefix(a, b) for a, b in itertools.combinations(ids, 2))
    assert prefix >= 6
    assert (row["prefix_pairs"], row["across_pairs"]) == (prefix, every - prefix)
    assert at(table, 1e-4, "prefix_equal") == [prefix, 0, 0, 0]
    assert len(table) == 4 * len(TOLERANCES)


# ---------------------------------------------------------------- many texts


TEXTS = {
    "t0": "the cat sat on the mat",
    "t1": "The cat sat on the mat",
    "t2": "the dog",
    "t3": "",
    "t4": "attention is a distribution",
}
PAIRS = list(itertools.combinations(TEXTS, 2))


def test_what_cannot_be_compared_is_left_out(made):
    """t3 has no tokens; to a model of lower case, t0 and t1 are the same text."""
    tables = context.context_tables(made("bert"), TEXTS, PAIRS, set(), TOLERANCES)
    rows = tables["context"].to_pandas()
    assert list(dict.fromkeys(zip(rows.text_a, rows.text_b, strict=True))) == [
        pair for pair in PAIRS if "t3" not in pair and pair != ("t0", "t1")
    ]
    row = tables["context_equal"].to_pylist()[0]
    assert (row["texts"], row["text_pairs"]) == (4, 5)


def test_rows_of_many_are_those_of_one(made):
    rows = context.context_tables(made("gpt2"), TEXTS, PAIRS, set(), TOLERANCES)["context"]
    frame = rows.to_pandas()
    one = frame[(frame.text_a == "t0") & (frame.text_b == "t2")].reset_index(drop=True)
    alone = cosines(made("gpt2"), TEXTS["t0"], TEXTS["t2"]).to_pandas()
    assert one[alone.columns].equals(alone)
    assert set(frame.model) == {"gpt2"}


def test_nothing_usable_is_no_rows(made):
    tables = context.context_tables(made("bert"), TEXTS, [("t0", "t3")], {"t0"}, TOLERANCES)
    assert "context" not in tables
    assert set(tables["context_equal"]["texts"].to_pylist()) == {0}
    assert set(tables["context_equal"]["text_pairs"].to_pylist()) == {0}


def test_counts_of_parts_add_up_to_those_of_all(made):
    model = made("bert")
    whole = context.context_tables(model, TEXTS, PAIRS, set(), TOLERANCES)["context_equal"]
    pages, seen = [], set()
    for start in range(0, len(PAIRS), 3):
        run = PAIRS[start : start + 3]
        pages.append(context.context_tables(model, TEXTS, run, seen, TOLERANCES)["context_equal"])
        seen |= {text for pair in run for text in pair}
    assert context.total(pa.concat_tables(pages)).select(whole.column_names).equals(whole)


def test_a_text_goes_through_the_model_once(made, monkeypatch):
    model, seen = made("bert"), Counter()
    run = attention.hidden_states

    def spy(model, encoding):
        seen["".join(encoding.tokens)] += 1
        return run(model, encoding)

    monkeypatch.setattr(attention, "hidden_states", spy)
    texts = {f"t{i}": text for i, text in enumerate(tiny.SENTENCES)}
    pairs = list(itertools.combinations(texts, 2))
    whole = context.context_tables(model, texts, pairs, set(), TOLERANCES)
    assert len(seen) == len(texts)
    assert set(seen.values()) == {1}
    # With no room to keep any, they run again, to the same end.
    monkeypatch.setattr(context, "KEPT", 0)
    again = context.context_tables(model, texts, pairs, set(), TOLERANCES)
    assert sum(seen.values()) > 2 * len(texts)
    assert again["context"].equals(whole["context"])
    assert again["context_equal"].equals(whole["context_equal"])


# ---------------------------------------------------------------- which pairs


IDS = [f"t{i}" for i in range(12)]
GROUPS = ["x", "y", None, "x", "x", "y", "z", None, "x", "y", "w", "w"]


def spec(**changes) -> ContextSpec:
    return replace(SPEC, **changes)


def candidates(groups) -> list[tuple[str, str]]:
    return [
        (IDS[i], IDS[j])
        for i, j in itertools.combinations(range(len(groups)), 2)
        if groups[i] is not None and groups[i] == groups[j]
    ]


def test_all_candidates_are_drawn_where_there_are_no_more():
    assert text_pairs(IDS, GROUPS, SPEC) == candidates(GROUPS)
    assert text_pairs(IDS, GROUPS, spec(pairs=len(candidates(GROUPS)))) == candidates(GROUPS)
    assert text_pairs(IDS, GROUPS, spec(text_pairs="all")) == candidates(["x"] * 12)
    assert text_pairs(IDS, [None] * 12, SPEC) == []
    assert text_pairs([], [], spec(text_pairs="all")) == []
    assert text_pairs(IDS, GROUPS, spec(pairs=0)) == []


def test_a_seed_draws_the_same_pairs_in_the_order_of_the_corpus():
    every = candidates(["x"] * 12)
    drawn = {
        seed: text_pairs(IDS, GROUPS, spec(text_pairs="all", pairs=9, seed=seed))
        for seed in range(200)
    }
    for seed, pairs in drawn.items():
        assert pairs == text_pairs(IDS, GROUPS, spec(text_pairs="all", pairs=9, seed=seed))
        assert pairs == [pair for pair in every if pair in pairs]
        assert len(pairs) == 9
    times = Counter(pair for pairs in drawn.values() for pair in pairs)
    # 200 x 9 / 66 = 27.3 times each, with a standard deviation of 4.9.
    assert len(times) == len(every)
    assert min(times.values()) > 5
    assert max(times.values()) < 60


def test_a_rank_is_a_pair_and_the_other_way():
    pairs = sorted(itertools.combinations(range(60), 2), key=lambda pair: pair[::-1])
    assert [context._unrank(rank) for rank in range(len(pairs))] == pairs
    # Beyond what a double holds.
    big = 2**40
    assert context._unrank(big * (big - 1) // 2 - 1) == (big - 2, big - 1)
    assert context._unrank(big * (big - 1) // 2) == (0, big)


def test_of_a_million_texts_no_list_of_pairs_is_made():
    ids = list(map(str, range(10**6)))
    tracemalloc.start()
    drawn = text_pairs(ids, [None] * 10**6, spec(text_pairs="all"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(drawn)) == 1000
    assert all(int(a) < int(b) for a, b in drawn)
    assert peak < 100 * 10**6


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"pairs": -1}, "pairs is -1; it cannot be negative"),
        ({"seed": -3}, "seed is -3; it cannot be negative"),
        ({"tolerances": ()}, "tolerances is empty; give at least one"),
        ({"tolerances": (0.0, 0.1)}, "below, rounding decides"),
        ({"tolerances": (-0.1,)}, r"tolerances are \[-0.1\]; give finite ones from 0.0001 on"),
        ({"tolerances": (float("nan"),)}, "give finite ones from 0.0001 on"),
        ({"tolerances": (0.1, float("inf"))}, "give finite ones from 0.0001 on"),
        ({"tolerances": (0.2, 0.1)}, "give each once, ascending"),
        ({"tolerances": (0.1, 0.1)}, "give each once, ascending"),
    ],
)
def test_a_fault_of_the_spec_is_named(changes, says):
    with pytest.raises(InputError, match=says):
        spec(**changes)


def test_the_shipped_pairs_are_all_translations_of_one_another():
    lines = (store.ROOT / "data/raw/parallel.jsonl").read_text("utf-8").splitlines()
    groups = [json.loads(line)["group"] for line in lines]
    drawn = text_pairs(list(map(str, range(len(groups)))), groups, SPEC)
    assert len(drawn) == 9 * 15 + 3
    assert all(groups[int(a)] == groups[int(b)] for a, b in drawn)
