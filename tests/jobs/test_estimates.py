"""Estimates of costs that are known."""

import numpy as np
import pytest

from pipeline.jobs import estimates

TOKENS = np.array([5, 12, 30, 55, 90, 160, 300])


@pytest.mark.parametrize("cost", [lambda n: 0.02 + 0 * n, lambda n: 0.01 + 2e-3 * n + 3e-5 * n**2])
def test_a_polynomial_is_found_again(cost):
    curve = estimates.curve(TOKENS, cost(TOKENS.astype(float)))
    asked = np.array([8, 40, 512])
    assert curve.at(asked) == pytest.approx(cost(asked.astype(float)), rel=1e-3)


def test_noise_of_a_tenth_stays_below_a_tenth():
    rng = np.random.default_rng(5)
    cost = 0.01 + 2e-3 * TOKENS + 3e-5 * TOKENS.astype(float) ** 2
    corpus = rng.integers(5, 300, 1000)
    true = (0.01 + 2e-3 * corpus + 3e-5 * corpus.astype(float) ** 2).sum()
    for _ in range(20):
        measured = cost * rng.uniform(0.9, 1.1, len(cost))
        assert estimates.curve(TOKENS, measured).at(corpus).sum() == pytest.approx(true, rel=0.1)


def test_no_cost_is_negative():
    falling = estimates.curve(TOKENS, 1 / TOKENS)
    assert min(falling.coefficients) >= 0


def test_parts_and_what_is_in_them_are_told_apart():
    # 0.5 a part, 0.01 a token.
    line = estimates.line(many=8 * 0.5 + 4, one=0.5 + 4, parts=8, units=400)
    assert line == pytest.approx((0.5, 0.01))
    assert line.at(100, 5000) == pytest.approx(100)


def test_one_part_says_nothing_of_parts():
    assert estimates.line(many=3.0, one=3.0, parts=1, units=6) == (0.0, 0.5)


def test_the_shortest_and_the_longest_are_among_the_few():
    sizes = np.array([50, 3, 99, 20, 70, 10, 5])
    assert sizes[estimates.spread(sizes, 3)].tolist() == [3, 20, 99]
    assert sorted(sizes[estimates.spread(sizes, 20)]) == sorted(sizes)


def test_tasks_on_nodes():
    assert estimates.makespan([3, 3, 2, 2, 2], 1) == 12
    assert estimates.makespan([3, 3, 2, 2, 2], 2) == 7  # 3 2 2, 3 2
    assert estimates.makespan([3, 3, 2, 2, 2], 9) == 3
    assert estimates.makespan([], 4) == 0
