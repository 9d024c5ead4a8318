"""What is measured of each head on a text: a measure is a function of a block of heads.

To add one, write its function in this folder, name it in MEASURES, and give its columns their
meaning and unit in the table they enter (`pipeline.store.schemas`).
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.measures import information, topology
from pipeline.measures.block import Block

Columns = dict[str, Any]


class Measure(NamedTuple):
    """Columns of a table, and the function that computes them for a block of heads.

    table      heads, which has a row for each head; or one with as many rows for every head
    compute    gives the columns, the rows of the block's heads one after another
    attention  of what needs attention, the type of each column: of hidden states they are null
    """

    table: str
    compute: Callable[[Block], Columns]
    attention: Mapping[str, pa.DataType] = {}


MEASURES: dict[str, Measure] = {
    "entropy": Measure("heads", information.entropy, information.ENTROPY),
    "divergence": Measure("heads", information.divergence, information.DIVERGENCE),
    "distances": Measure("heads", topology.distances),
    "clusters": Measure("clusters", topology.clusters),
    "diagrams": Measure("diagrams", topology.diagrams),
}


def measured(block: Block, layer: int, first: int) -> dict[str, Columns]:
    """The rows of each table for a block whose first head is this one of the layer."""
    found: dict[str, Columns] = defaultdict(dict)
    heads = len(block.distances)
    for measure in MEASURES.values():
        if block.get_maps is None and measure.attention:
            columns = {name: pa.nulls(heads, kind) for name, kind in measure.attention.items()}
        else:
            columns = measure.compute(block)
        found[measure.table] |= columns
    return {
        table: _places(columns, layer, np.arange(first, first + heads)) | columns
        for table, columns in found.items()
        if columns
    }


def _places(columns: Columns, layer: int, heads: NDArray[np.int64]) -> Columns:
    """The layer and head of each row, of which every head has as many."""
    rows = len(next(iter(columns.values())))
    return {"layer": np.full(rows, layer), "head": np.repeat(heads, rows // len(heads))}
