"""A matrix written by columns is read by rows."""

import io

import numpy as np
import pytest

from pipeline.jobs.spill import Spill


@pytest.mark.parametrize("page", [1, 2, 7])
def test_rows_are_those_of_the_columns_written(page):
    values = np.random.default_rng(0).random((7, 6))
    values[2, 3] = np.nan
    spill = Spill(io.BytesIO())
    for start, stop in ((0, 1), (1, 5), (5, 6)):
        columns = values[:, start:stop]
        spill.add((columns[row : row + page] for row in range(0, 7, page)), stop - start)
    for start, stop in ((0, 7), (2, 3), (6, 7), (3, 6)):
        assert np.array_equal(spill.rows(start, stop), values[start:stop], equal_nan=True)


def test_without_columns_rows_are_empty():
    assert Spill(io.BytesIO()).rows(0, 3).shape == (3, 0)
