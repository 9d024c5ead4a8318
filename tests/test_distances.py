from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.special import softmax
from scipy.stats import entropy

from pipeline.distances import RULES, DistanceSpec, token_distances
from pipeline.errors import InputError, TextError

ROWS = np.random.default_rng(0).dirichlet(np.full(6, 0.3), size=(2, 5))


def by_formula(p: np.ndarray, q: np.ndarray, base: float) -> float:
    m = (p + q) / 2
    return np.sqrt((entropy(p, m, base) + entropy(q, m, base)) / 2)


@pytest.mark.parametrize("base", [2.0, np.e])
def test_jensen_shannon_is_the_root_of_the_divergence(base):
    found = token_distances(ROWS, "jensen_shannon", {"base": base})
    for head in range(2):
        for i in range(5):
            for j in range(5):
                expected = by_formula(ROWS[head, i], ROWS[head, j], base)
                assert found[head, i, j] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_resoftmax_is_the_notebooks():
    found = token_distances(ROWS, "resoftmax", {})
    again = softmax(ROWS, axis=-1)
    for i in range(5):
        expected = by_formula(again[1, i], again[1, 4], np.e)
        assert found[1, i, 4] == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("n", "expected"), [(16, 0.153), (128, 0.056), (512, 0.028)])
def test_resoftmax_squeezes_one_hot_rows(n, expected):
    rows = np.eye(n)[None, :2]
    assert token_distances(rows, "resoftmax", {})[0, 0, 1] == pytest.approx(expected, abs=5e-4)
    plain = token_distances(rows, "jensen_shannon", {"base": np.e})[0, 0, 1]
    assert plain == pytest.approx(np.sqrt(np.log(2)), rel=1e-15)


def test_the_root_once_more_is_the_notebooks_variant():
    once, twice = (token_distances(ROWS, rule, {}) for rule in ("resoftmax", "resoftmax_root"))
    assert twice**2 == pytest.approx(once, rel=1e-15)


def test_attention_graph_by_hand():
    A = np.array([[[0.5, 0.5, 0.0], [0.1, 0.2, 0.7], [0.0, 0.4, 0.6]]])
    expected = [[0.0, 0.5, 1.0], [0.5, 0.0, 0.3], [1.0, 0.3, 0.0]]
    assert token_distances(A, "attention_graph", {})[0] == pytest.approx(np.array(expected))


def test_points_are_the_queries_of_rows_and_both_sides_of_weights():
    A = np.random.default_rng(1).dirichlet(np.ones(5), size=(2, 5))
    points = np.array([False, True, True, False, True])
    rows = token_distances(A, "jensen_shannon", {}, points)
    assert np.array_equal(rows, token_distances(A[:, points], "jensen_shannon", {}))
    weights = token_distances(A, "attention_graph", {}, points)
    assert np.array_equal(
        weights, token_distances(A, "attention_graph", {})[:, points][..., points]
    )


def test_hidden_states_by_formula():
    states = np.random.default_rng(2).normal(size=(3, 6, 4))
    points = np.array([True] * 5 + [False])
    euclidean = token_distances(states, "hidden_euclidean", {}, points)
    cosine = token_distances(states, "hidden_cosine", {}, points)
    assert euclidean.shape == cosine.shape == (3, 5, 5)
    for layer in range(3):
        for i in range(5):
            for j in range(5):
                u, v = states[layer, i], states[layer, j]
                assert euclidean[layer, i, j] == pytest.approx(np.sqrt(((u - v) ** 2).sum()))
                apart = 1 - u @ v / np.sqrt(u @ u) / np.sqrt(v @ v)
                assert cosine[layer, i, j] == pytest.approx(apart, abs=1e-14)


def test_hidden_cosine_keeps_the_digits_of_nearly_parallel_vectors():
    u, angle = np.array([1.0, 0.0]), 1e-9
    states = np.array([[u, [np.cos(angle), np.sin(angle)]]])
    found = token_distances(states, "hidden_cosine", {})[0, 0, 1]
    assert found == pytest.approx(angle**2 / 2, rel=1e-6)


def test_a_vector_of_zeros_has_no_direction():
    with pytest.raises(TextError, match="layer 1, point 2: the hidden state is 0"):
        token_distances(
            np.ones((2, 3, 4)) * [[[1], [1], [1]], [[1], [1], [0]]], "hidden_cosine", {}
        )


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_keeps_shape_and_input(rule):
    values = np.random.default_rng(0).dirichlet(np.full(5, 0.3), size=(2, 5))
    before = values.copy()
    found = token_distances(values, rule, {})
    assert found.shape == (2, 5, 5)
    assert np.array_equal(found, found.swapaxes(1, 2))
    assert not found[:, range(5), range(5)].any()
    assert np.array_equal(values, before)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_its_file(rule):
    files = (Path(__file__).parents[1] / "conf" / "distance").glob("*.yaml")
    specs = [DistanceSpec(**yaml.safe_load(file.read_text())) for file in files]
    assert rule in [spec.rule for spec in specs]


def test_options_are_checked_against_the_function():
    DistanceSpec("jensen_shannon", {"base": 2.0})
    with pytest.raises(InputError, match="no option bas; it has base"):
        DistanceSpec("jensen_shannon", {"bas": 2.0})
    with pytest.raises(InputError, match="there are jensen_shannon, resoftmax, resoftmax_root"):
        DistanceSpec("euclidean", {})
