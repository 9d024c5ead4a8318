"""A table for other programs, as a file that carries no provenance."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from pipeline import files

WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    ".csv": pyarrow.csv.write_csv,
    ".parquet": pyarrow.parquet.write_table,
}


def export(table: pa.Table, path: Path) -> None:
    """Write a table, atomically, in the form that the name ends in: one of WRITERS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.written(path) as draft:
        WRITERS[path.suffix](table, draft)
