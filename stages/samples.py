"""Tables -> outputs/samples/CORPUS: some rows of every table that holds fractions, in git.

A clone that has dvc.lock and not the tables can tell by them whether what it computes, on
another kind of machine and so in other bytes, are the same values. The other tables hold words
and counts, which come out alike on every machine; no word of a corpus goes into git.
"""

import random
from pathlib import Path

import pyarrow as pa

from pipeline import store
from pipeline.config import Config
from stages.app import stage

SEED = 0


def run(settings: Config) -> str:
    """Write the samples anew, and say how large they are.

    All tables are read before a sample changes; those of other corpora stay as they are.
    """
    folder, taken = settings.root / store.SAMPLES / settings.corpus.name, {}
    for name, table in store.TABLES.items():
        for path in settings.paths(name) if table.sampled else ():
            file = folder / path.relative_to(settings.root / store.OUTPUTS)
            taken[file] = name, [sample(path, table)], store.read_provenance(path)
    for file, made in taken.items():
        store.write(file, *made)
    for stray in set(folder.rglob("*.parquet")) - set(taken):
        stray.unlink()
    size = sum(file.stat().st_size for file in taken)
    return f"{len(taken)} tables, {size / 1e3:.0f} KB -> {folder}"


def sample(path: Path, table: store.Table) -> pa.Table:
    """As many rows as are kept of a table, the same ones wherever it has as many; no words."""
    rows = store.Rows(path)
    chosen = sorted(random.Random(SEED).sample(range(len(rows)), min(table.sampled, len(rows))))
    found = rows.at(chosen) if chosen else store.read(path)
    for place, column in enumerate(table.columns):
        if column.word:
            found = found.set_column(place, column.name, pa.array([""] * len(found), pa.string()))
    return found


main = stage(run)

if __name__ == "__main__":
    main()
