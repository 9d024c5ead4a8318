"""Reference implementations: plain, slow, obvious."""

import mpmath as mp
import numpy as np
import numpy.typing as npt

DIGITS = 50


def kl_divergence(p: npt.ArrayLike, q: npt.ArrayLike, base: float = 2.0) -> mp.mpf:
    """Kullback-Leibler divergence of two rows divided by their sums, to 50 digits."""
    with mp.workdps(DIGITS):
        return _kl(_normalised(p), _normalised(q)) / mp.log(mp.mpf(base))


def jensen_shannon(p: npt.ArrayLike, q: npt.ArrayLike, base: float = 2.0) -> mp.mpf:
    """Jensen-Shannon distance of two rows divided by their sums, to 50 digits."""
    # A distance of 1e-15 is the root of what cancels to 1e-30.
    with mp.workdps(2 * DIGITS):
        a, b = _normalised(p), _normalised(q)
        middle = [(x + y) / 2 for x, y in zip(a, b, strict=True)]
        return mp.sqrt((_kl(a, middle) + _kl(b, middle)) / 2 / mp.log(mp.mpf(base)))


def _normalised(row: npt.ArrayLike) -> list[mp.mpf]:
    numbers = [mp.mpf(float(x)) for x in np.asarray(row)]
    total = mp.fsum(numbers)
    return [x / total for x in numbers]


def _kl(a: list[mp.mpf], b: list[mp.mpf]) -> mp.mpf:
    if any(x > 0 and y == 0 for x, y in zip(a, b, strict=True)):
        return mp.inf
    return mp.fsum(x * mp.log(x / y) for x, y in zip(a, b, strict=True) if x > 0)
