"""Distance matrices -> Vietoris-Rips persistence diagrams."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError

Diagram = npt.NDArray[np.float64]
Matrices = npt.ArrayLike | Sequence[npt.ArrayLike]


def rips(
    distances: Matrices, max_dimension: int = 1, coefficient_field: int = 2
) -> list[list[Diagram]]:
    """Persistence diagrams of the Vietoris-Rips filtration of each distance matrix.

    distances: (matrices, points, points), or a list of square matrices of any sizes;
    finite, symmetric, not negative, zero on the diagonal; the triangle inequality is not
    asked for. Scales keep the unit of the distances.

    Returns a list by matrix of lists by dimension (from 0 to max_dimension) of
    (bars, 2) float64 arrays of births and deaths, sorted by (birth, death). The class
    that never ends has death inf; bars of length zero are left out.

    Raises InputError where a matrix breaks one of the conditions above.
    """
    matrices = _matrices(distances)
    if max_dimension < 0:
        raise InputError(f"max_dimension is {max_dimension}; homology starts at dimension 0.")
    return _by_gudhi(matrices, max_dimension, coefficient_field)


def _by_gudhi(
    matrices: list[npt.NDArray[np.float64]], max_dimension: int, coefficient_field: int
) -> list[list[Diagram]]:
    from gudhi.sklearn import RipsPersistence

    engine = RipsPersistence(
        homology_dimensions=list(range(max_dimension + 1)),
        input_type="full distance matrix",
        homology_coeff_field=coefficient_field,
    )
    return [[_tidy(bars) for bars in bars_of] for bars_of in engine.fit_transform(matrices)]


def _tidy(bars: npt.NDArray[np.float64]) -> Diagram:
    kept = np.asarray(bars, np.float64).reshape(-1, 2)
    kept = kept[kept[:, 1] > kept[:, 0]]
    return kept[np.lexsort((kept[:, 1], kept[:, 0]))]


def _matrices(distances: Matrices) -> list[npt.NDArray[np.float64]]:
    return [_matrix(matrix, index) for index, matrix in enumerate(distances)]  # type: ignore[arg-type]


def _matrix(matrix: npt.ArrayLike, index: int) -> npt.NDArray[np.float64]:
    D = np.array(matrix, np.float64)
    if D.ndim != 2 or D.shape[0] != D.shape[1] or D.shape[0] == 0:
        raise InputError(
            f"Distance matrix {index} has shape {D.shape}; give it as (points, points)."
        )
    _reject(D, ~np.isfinite(D), index, "must be finite: mend or set aside the text it came from")
    _reject(D, D < 0, index, "must not be negative: distances start at 0")
    _reject(D, np.eye(len(D), dtype=bool) & (D != 0), index, "must be 0: fill the diagonal by 0")
    _reject(D, D != D.T, index, "must equal its mirror: take (D + D.T) / 2")
    return D + 0.0


def _reject(D: npt.NDArray[np.float64], bad: npt.NDArray[np.bool_], index: int, cure: str) -> None:
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise InputError(
            f"Entry [{row}, {column}] of matrix {index} is {D[row, column]}; it {cure}."
        )
