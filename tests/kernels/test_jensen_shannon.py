"""The kernel against 50-digit arithmetic, and its bits against themselves."""

import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.kernels import jensen_shannon as kernel
from tests import reference


def distances(maps, parts=1, order=None):
    rows = kernel.empty_rows(*maps.shape)
    assert kernel.prepare(maps.reshape(-1, maps.shape[2]), rows, 0, 1)
    out = np.full((*maps.shape[:2], maps.shape[1]), np.nan)
    for part in order or range(parts):
        kernel.distances(rows, maps.shape[2], 1.0, part, parts, out)
    return out


def divergences(maps, parts=1):
    rows = kernel.empty_rows(*maps.shape)
    assert kernel.prepare(maps.reshape(-1, maps.shape[2]), rows, 0, 1)
    out = np.full((*maps.shape[:2], maps.shape[1]), np.nan)
    for part in range(parts):
        kernel.divergences(rows, 1.0 / math.log(2.0), part, parts, out)
    return out


def relative_error(found, expected):
    return abs(float((mp.mpf(float(found)) - expected) / expected)) if expected else float(found)


def check_against_oracle(rows):
    found, forth = distances(rows[None])[0], divergences(rows[None])[0]
    assert not np.isnan(found).any()
    assert not np.isnan(forth).any()
    for i in range(len(rows)):
        for j in range(i):
            expected = reference.jensen_shannon(rows[i], rows[j])
            assert relative_error(found[i, j], expected) < 5e-13
            assert found[i, j] == found[j, i]
        for j in range(len(rows)):
            expected = reference.kl_divergence(rows[i], rows[j])
            if not math.isfinite(forth[i, j]):
                assert expected == mp.inf
            elif expected > 1e-300:
                assert relative_error(forth[i, j], expected) < 5e-13


def dirichlet(concentration, shape, seed=0):
    return np.random.default_rng(seed).dirichlet(np.full(shape[-1], concentration), shape[:-1])


def perturbed(base, size, number, seed=0):
    noise = np.random.default_rng(seed).uniform(-1.0, 1.0, (number, len(base)))
    rows = base * (1.0 + size * noise)
    return rows / rows.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("power", range(1, 16))
@pytest.mark.parametrize("concentration", [0.05, 1.0, 50.0])
def test_exact_at_every_closeness(power, concentration):
    base = dirichlet(concentration, (40,), seed=power)
    check_against_oracle(perturbed(base, 10.0**-power, 3))


@pytest.mark.parametrize("power", [1, 3, 5, 7, 9])
def test_exact_when_rows_do_not_quite_sum_to_1(power):
    rows = perturbed(dirichlet(1.0, (33,)), 10.0**-power, 3)
    check_against_oracle(rows * (1.0 + np.array([[9e-7], [-9e-7], [3e-8]])))


@pytest.mark.parametrize("k", [1, 2, 3, 7, 8, 9, 31, 200])
@pytest.mark.parametrize("concentration", [0.02, 0.3, 3.0, 300.0])
def test_exact_between_rows_of_any_length_and_shape(k, concentration):
    check_against_oracle(dirichlet(concentration, (4, k), seed=k))


def test_exact_on_both_sides_of_every_change_of_method():
    # Two numbers a row, from equal to opposite: crosses the near bounds of both loops and
    # the ratio at which one gives way to the other.
    first = np.array([0.5, 0.5])
    for tilt in np.geomspace(1e-9, 0.4999, 150):
        check_against_oracle(np.array([first, [0.5 + tilt, 0.5 - tilt]]))


def test_exact_on_causal_rows_and_bands():
    rows = np.tril(dirichlet(0.3, (21, 21)))
    rows[0, 0] = 1.0
    check_against_oracle(rows / rows.sum(axis=1, keepdims=True))
    band = np.triu(rows, -3)
    check_against_oracle(band / band.sum(axis=1, keepdims=True))


def test_exact_on_rows_with_holes_and_on_one_hot_rows():
    rows = dirichlet(0.5, (5, 24))
    rows[:, 3::5] = 0.0
    rows[1, 7] = rows[2, 11] = 0.0
    check_against_oracle(rows / rows.sum(axis=1, keepdims=True))
    check_against_oracle(np.eye(9)[[0, 3, 8, 3]])


def test_exact_on_subnormal_numbers():
    rows = np.array(
        [[1.0, 0.0, 0.0], [1.0, 5e-324, 0.0], [1.0, 5e-323, 1e-310], [1.0, 0.0, 1e-320]]
    )
    check_against_oracle(rows)
    assert distances(rows[None])[0, 0, 1] > 1e-163


def test_exact_on_long_rows():
    check_against_oracle(perturbed(dirichlet(1.0, (5000,)), 0.3, 3))
    check_against_oracle(dirichlet(0.1, (2, 5000)))


weights = st.one_of(st.just(0.0), st.floats(1e-12, 1.0), st.floats(0.0, 1e-300), st.just(1.0))


@settings(deadline=None, max_examples=150)
@given(st.data(), st.integers(1, 20))
def test_exact_on_any_rows(data, k):
    rows = data.draw(arrays(np.float64, (3, k), elements=weights))
    rows[:, 0] += rows.sum(axis=1) == 0.0
    check_against_oracle(rows / rows.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("size", [0.0, 1e-7])
def test_equal_rows_are_exactly_0_apart(size):
    row = dirichlet(0.4, (50,)) * (1.0 + size)
    maps = np.stack([row, dirichlet(0.4, (50,), seed=1), row])[None]
    assert distances(maps)[0, 0, 2] == 0.0
    assert divergences(maps)[0, 0, 2] == 0.0
    assert divergences(maps)[0, 2, 0] == 0.0


@pytest.mark.parametrize("concentration", [0.1, 100.0])
@pytest.mark.parametrize("n", [1, 2, 5, 8, 9, 27])
def test_bits_do_not_depend_on_who_does_which_part(n, concentration):
    maps = dirichlet(concentration, (3, n, 19), seed=n)
    maps[1] = perturbed(maps[1, 0], 1e-5, n)
    whole = distances(maps), divergences(maps)
    for parts in (2, 5, 16):
        order = np.random.default_rng(parts).permutation(parts).tolist()
        assert np.array_equal(distances(maps, parts, order), whole[0])
        assert np.array_equal(divergences(maps, parts), whole[1])


def test_bits_do_not_depend_on_the_other_maps():
    maps = np.stack([dirichlet(c, (27, 27)) for c in (0.1, 1.0, 300.0)])
    together = distances(maps), divergences(maps)
    for m in range(3):
        assert np.array_equal(distances(maps[[m]])[0], together[0][m])
        assert np.array_equal(divergences(maps[[m]])[0], together[1][m])


def test_float32_is_taken_as_the_numbers_it_stands_for():
    maps = dirichlet(0.5, (2, 13, 21)).astype(np.float32)
    assert np.array_equal(distances(maps), distances(maps.astype(np.float64)))


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf, -1e-30, 2.0, 0.6, 0.1])
@pytest.mark.parametrize("column", [0, 7, 8, 10])
def test_a_faulty_row_is_noticed(bad, column):
    p = np.full((6, 11), 1.0 / 11.0)
    p[5, column] = bad
    rows = kernel.empty_rows(2, 3, 11)
    assert not kernel.prepare(p, rows, 1, 2)
    assert kernel.prepare(p, rows, 0, 2)


def stated_error(coefficients, function, end, weight):
    """Largest error of a polynomial on [0, end], at 400 points."""
    with mp.workdps(40):
        points = [mp.mpf(end) * (n + mp.mpf(1) / 2) / 400 for n in range(400)]
        return max(abs(mp.polyval(coefficients[::-1], x) - function(x)) * weight(x) for x in points)


def test_coefficients_keep_their_stated_errors():
    def phi(u):
        t = mp.sqrt(u)
        return ((1 + t) * mp.log(1 + t) + (1 - t) * mp.log(1 - t)) / u

    def psi(y):
        t = mp.tanh(mp.sqrt(y) / 2)
        return t * phi(t * t) / mp.sqrt(y)

    def log2(w):
        return 2 * mp.atanh(mp.sqrt(w)) / mp.sqrt(w) / mp.log(2)

    def b(u):
        return (mp.atanh(mp.sqrt(u)) / mp.sqrt(u) - 1) / u

    wide = kernel._WIDE**2
    narrow = math.log(kernel._RATIO) ** 2
    middle = ((math.sqrt(2) - 1) / (math.sqrt(2) + 1)) ** 2
    assert stated_error(kernel._PHI, phi, wide, lambda u: 1 / phi(u)) < 3e-16
    assert stated_error(kernel._PSI, psi, narrow, lambda y: 1 / psi(y)) < 4e-15
    assert stated_error(kernel._B, b, wide, lambda u: 1 / b(u)) < 9e-15
    assert stated_error(kernel._LOG2, log2, middle, lambda w: 1) < 6e-16
    assert stated_error(kernel._LOG2_SHORT, log2, middle, mp.sqrt) < 8e-15
    # At the ends of the range are the powers of 2, which must not need the room.
    at_end = mp.polyval(kernel._LOG2_SHORT[::-1], middle)
    assert abs(at_end - log2(mp.mpf(middle))) < 5e-16
