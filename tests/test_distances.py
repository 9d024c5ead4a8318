import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy

from pipeline.distances import RULES, DistanceSpec, token_distances
from pipeline.errors import InputError

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


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_keeps_shape_and_input(rule):
    before = ROWS.copy()
    found = token_distances(ROWS, rule, {})
    assert found.shape == (2, 5, 5)
    assert np.array_equal(found, found.swapaxes(1, 2))
    assert np.array_equal(ROWS, before)


def test_options_are_checked_against_the_function():
    DistanceSpec("jensen_shannon", {"base": 2.0})
    with pytest.raises(InputError, match="no option bas; it has base"):
        DistanceSpec("jensen_shannon", {"bas": 2.0})
    with pytest.raises(InputError, match="there are jensen_shannon, resoftmax"):
        DistanceSpec("euclidean", {})
