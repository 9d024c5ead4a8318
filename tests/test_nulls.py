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
    every = nulls.rows_shuffled(P.copy(), False, (0, 2, 0), b"text")
    alone = nulls.rows_shuffled(P[first : first + 1].copy(), False, (0, 2, first), b"text")
    assert np.array_equal(every[first], alone[0])


def test_a_shuffle_is_uniform():
    """Each weight of a causal row comes to each place it may have, one time in as many."""
    n, draws = 4, 6000
    P = np.tile(np.tril(np.arange(1, n + 1)).astype(float), (draws, 1, 1))
    found = nulls.rows_shuffled(P, True, (3, 0, 0), b"")
    for place in range(n):
        counts = np.bincount(found[:, -1, place].astype(int), minlength=n + 1)[1:]
        # Chi-squared with 3 degrees of freedom is above 16.3 once in a thousand.
        assert ((counts - draws / n) ** 2 / (draws / n)).sum() < 16.3


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
