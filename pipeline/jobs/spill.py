"""A matrix larger than memory: written by columns, read by rows."""

from collections.abc import Iterable
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BYTES = 8


class Band(NamedTuple):
    """Some neighbouring columns of the matrix: where they begin in the file, and how many."""

    start: int
    width: int


class Spill:
    """A matrix of float64 in a file, which is the caller's to open and to close.

    A file and not a map of one: what is mapped counts as memory of the process.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._bands: list[Band] = []

    def add(self, pages: Iterable[Floats], width: int) -> None:
        """Write the next columns, so many: all their rows, in pages."""
        start = self._file.seek(0, 2)
        for page in pages:
            self._file.write(np.ascontiguousarray(page).data)
        self._bands.append(Band(start, width))

    def rows(self, start: int, stop: int) -> Floats:
        """Rows start to stop - 1 of all columns."""
        bands = [self._read(band, start, stop) for band in self._bands]
        return np.hstack(bands) if bands else np.empty((stop - start, 0))

    def _read(self, band: Band, start: int, stop: int) -> Floats:
        self._file.seek(band.start + BYTES * start * band.width)
        read = self._file.read(BYTES * (stop - start) * band.width)
        return np.frombuffer(read, np.float64).reshape(stop - start, band.width)
