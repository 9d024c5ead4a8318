"""`pipeline.nulls`: what stands in for a trained model."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import attention, heads, models, nulls
from pipeline.diagrams import HomologySpec
from pipeline.distances import DistanceSpec
from pipeline.errors import InputError
from pipeline.heads import Text
from pipeline.models import model_files
from tests import tiny

JS = DistanceSpec("jensen_shannon", {"base": 2.0})
RIPS = HomologySpec(1, 2, 0.0)
TEXT = "the cat sat on the mat and the dog sat on the cat"


@pytest.fixture(scope="module", params=["bert", "gpt2"])
def spec(request, tmp_path_factory):
    return tiny.spec(tiny.save(request.param, tmp_path_factory.mktemp(request.param)))


def place(layer: int, head: int) -> nulls.Place:
    return nulls.Place(0, layer, head, b"text")


def entropies(maps: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return -np.nansum(maps * np.log2(maps), axis=-1)


def maps(spec, **changes) -> list[np.ndarray]:
    model = models.load("m", replace(spec, **changes))
    encoding = attention.encode(model, TEXT)
    return [attention.attention_of(model, encoding, layer) for layer in range(model.layers)]


def test_shuffled_rows_hold_the_same_weights_within_the_mask(spec):
    causal = models.load("m", spec).causal
    trained, shuffled = maps(spec), maps(spec, null_rule="rows_shuffled")
    for before, after in zip(trained, shuffled, strict=True):
        assert np.array_equal(np.sort(before, axis=-1), np.sort(after, axis=-1))
        assert not np.array_equal(before, after)
        if causal:
            assert not np.triu(after.max(axis=0), 1).any()


def test_a_seed_gives_the_same_shuffle_and_another_another(spec):
    first, same, other = (
        maps(spec, null_rule="rows_shuffled", null_seed=seed) for seed in (0, 0, 1)
    )
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


@given(st.integers(1, 9), st.integers(0, 3))
def test_a_head_is_shuffled_alike_whatever_is_beside_it(n, first):
    P = np.random.default_rng(n).dirichlet(np.ones(n), (4, n))
    for rule in nulls.MAPS:
        every, alone = (
            nulls.maps(rule, P[start:stop].copy(), False, np.zeros(n, bool), place(2, start))
            for start, stop in ((0, 4), (first, first + 1))
        )
        np.testing.assert_allclose(every[first], alone[0], rtol=0, atol=1e-12)


def test_a_shuffle_is_uniform():
    """Each weight of a causal row comes to each place it may have, one time in as many."""
    n, draws = 4, 6000
    P = np.tile(np.tril(np.arange(1, n + 1)).astype(float), (draws, 1, 1))
    found = nulls.maps("rows_shuffled", P, True, np.zeros(n, bool), nulls.Place(3, 0, 0, b""))
    for place in range(n):
        counts = np.bincount(found[:, -1, place].astype(int), minlength=n + 1)[1:]
        # Chi-squared with 3 degrees of freedom is above 16.3 once in a thousand.
        assert ((counts - draws / n) ** 2 / (draws / n)).sum() < 16.3


def test_the_sink_and_the_special_tokens_keep_their_weights(spec):
    model = models.load("m", spec)
    special = attention.encode(model, TEXT).special
    stay = special | (np.arange(len(special)) == 0)
    trained, shuffled = maps(spec), maps(spec, null_rule="rows_shuffled_sink")
    for before, after in zip(trained, shuffled, strict=True):
        assert np.array_equal(before[:, :, stay], after[:, :, stay])
        assert np.array_equal(np.sort(before, axis=-1), np.sort(after, axis=-1))
        assert not np.array_equal(before, after)


def test_uniform_rows_are_uniform_over_what_the_mask_allows(spec):
    causal = models.load("m", spec).causal
    for found in maps(spec, null_rule="uniform"):
        n = found.shape[-1]
        for row in range(n):
            seen = row + 1 if causal else n
            assert (found[:, row, :seen] == 1 / seen).all()
            assert not found[:, row, seen:].any()


def test_rows_of_dirichlet_have_the_entropy_of_the_trained_row(spec):
    causal = models.load("m", spec).causal
    for before, after in zip(maps(spec), maps(spec, null_rule="dirichlet"), strict=True):
        assert entropies(after) == pytest.approx(entropies(before), abs=1e-6)
        assert after.sum(-1) == pytest.approx(1, abs=1e-12)
        assert not (causal and np.triu(after.max(axis=0), 1).any())


def test_random_weights_at_the_trained_entropy(spec):
    """Of each head the mean entropy of its rows."""
    random = maps(spec, null_rule="random_weights")
    scaled = maps(spec, null_rule="random_weights_entropy")
    for trained, plain, found in zip(maps(spec), random, scaled, strict=True):
        assert entropies(found).mean(1) == pytest.approx(entropies(trained).mean(1), abs=1e-6)
        # A power keeps which weight of a row is larger than which.
        order = np.argsort(plain, axis=-1, kind="stable")
        ranked = np.take_along_axis(found, order, -1)
        assert (np.diff(ranked, axis=-1) >= -1e-12).all()


@pytest.mark.parametrize(("entropy", "reached"), [(0.0, 0.0), (9.0, np.log2(5)), (1.0, 1.0)])
def test_an_entropy_is_met_as_far_as_it_can_be(entropy, reached):
    P = np.random.default_rng(0).dirichlet(np.ones(5), (2, 5))
    found = nulls.scaled(P, np.full(2, entropy))
    assert nulls.mean_entropy(found) == pytest.approx(reached, abs=2e-7)
    assert found.sum(-1) == pytest.approx(1)


def test_zeros_stay_and_one_hot_rows_stay(spec):
    P = np.eye(4)[None].repeat(2, 0)
    assert np.array_equal(nulls.scaled(P, np.array([0.0, 1.5])), P)
    masked = np.tril(np.random.default_rng(1).random((1, 6, 6)) + 0.1)
    masked /= masked.sum(-1, keepdims=True)
    assert not np.triu(nulls.scaled(masked, np.array([1.2]))[0], 1).any()


def test_tokens_are_shuffled_and_special_ones_stay(spec):
    plain = models.load("m", spec)
    shuffled = models.load("m", replace(spec, null_rule="tokens_shuffled"))
    before, after = (attention.encode(model, TEXT) for model in (plain, shuffled))
    assert sorted(before.token_ids) == sorted(after.token_ids)
    assert list(before.token_ids) != list(after.token_ids)
    assert np.array_equal(before.special, after.special)
    assert np.array_equal(before.token_ids[before.special], after.token_ids[after.special])
    assert sorted(before.tokens) == sorted(after.tokens)
    names = dict(zip(before.token_ids.tolist(), before.tokens, strict=True))
    assert [names[i] for i in after.token_ids.tolist()] == after.tokens
    again = attention.encode(shuffled, TEXT)
    assert np.array_equal(after.token_ids, again.token_ids)


def test_random_weights_are_those_the_class_begins_with(spec):
    trained = models.load("m", spec)
    first, same, other = (
        models.load("m", replace(spec, null_rule="random_weights", null_seed=seed))
        for seed in (0, 0, 1)
    )
    kept = dict(trained.network.named_parameters())
    for name, weights in first.network.named_parameters():
        assert weights.shape == kept[name].shape
        assert weights.equal(dict(same.network.named_parameters())[name])
        if weights.std() > 0:  # not a norm's ones, or a bias of zeros
            assert not weights.equal(kept[name])
            assert not weights.equal(dict(other.network.named_parameters())[name])
            if weights.numel() > 1000:
                spread = first.network.config.initializer_range
                assert float(weights.detach().std()) < 1.3 * spread
    assert not first.network.training
    assert first.network.config._attn_implementation == "eager"


def test_a_null_goes_the_way_of_every_model(spec):
    trained = models.load("m", spec)
    shuffled = models.load("m-rows_shuffled", replace(spec, null_rule="rows_shuffled"))
    made = [heads.text_tables(model, [Text("t", TEXT)], JS, RIPS) for model in (trained, shuffled)]
    before, after = (tables["heads"].to_pandas() for tables in made)
    assert set(after["model"]) == {"m-rows_shuffled"}
    assert after["entropy_mean"].to_numpy() == pytest.approx(before["entropy_mean"], abs=1e-12)
    assert (after["distance_mean"] != before["distance_mean"]).all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"null_rule": "shuffled"}, "null_rule is 'shuffled': set it to one of"),
        ({"null_seed": -1}, "null_seed is -1: set it to 0 or more"),
    ],
)
def test_a_null_that_cannot_be_is_refused(spec, changes, sentence):
    with pytest.raises(InputError, match=sentence):
        model_files.check_spec("m", replace(spec, **changes))
