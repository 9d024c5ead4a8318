"""Tables -> outputs/samples/CORPUS: some rows of every table that holds fractions, in git.

A clone that has dvc.lock and not the tables can tell by them whether what it computes, on
another kind of machine and so in other bytes, are the same values. The other tables hold words
and counts, which come out alike on every machine; no word of a corpus goes into git.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from pipeline import store
from pipeline.config import Config
from stages.app import stage

ROWS = {"attention": 4, "diagrams": 32, "heads": 32, "clusters": 128}  # of lists
ROWS_OF_NUMBERS = 256
SEED = 0
WORDS = "token"


def run(settings: Config) -> str:
    """Write the samples anew, and say how large they are.

    All tables are read before a sample changes; those of other corpora stay as they are.
    """
    folder = store.samples_folder(settings.corpus.name)
    taken = {
        store.sample_path(path, folder): (
            table,
            sample(path, ROWS.get(table, ROWS_OF_NUMBERS)),
            store.read_provenance(path),
        )
        for table, path in _tables(settings)
    }
    for file, (table, rows, provenance) in taken.items():
        store.write(file, table, [rows], provenance)
    for stray in set(folder.rglob("*.parquet")) - set(taken):
        stray.unlink()
    size = sum(file.stat().st_size for file in taken)
    return f"{len(taken)} tables, {size / 1e3:.0f} KB -> {folder}"


def sample(path: Path, count: int) -> pa.Table:
    """So many rows of a table, the same ones wherever it has as many; without words."""
    rows = store.Rows(path)
    chosen = sorted(random.Random(SEED).sample(range(len(rows)), min(count, len(rows))))
    found = rows.at(chosen) if chosen else store.read(path)
    if WORDS in found.column_names:
        place = found.column_names.index(WORDS)
        found = found.set_column(place, WORDS, pa.array([""] * len(found), pa.string()))
    return found


def _tables(settings: Config) -> Iterator[tuple[str, Path]]:
    for model in settings.models:
        for table in ("heads", "clusters", "diagrams"):
            yield table, store.model_path(model, table)
        yield "attention", store.attention_path(model)
        for table in ("context", "context_equal"):
            yield table, store.context_path(model, table)
        yield "equivariance", store.equivariance_path(model)
    for table in ("head_distances", "text_distances"):
        yield table, store.table_path(table)


main = stage(run)

if __name__ == "__main__":
    main()
