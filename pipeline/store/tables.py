"""Where each artefact lives, its Arrow schema, how it is written, read and traced back.

Every table is one Parquet file: zstd (fractions by BYTE_STREAM_SPLIT, which makes them a fifth
smaller, in half the time), page checksums, a fixed order of rows, row groups of a fixed size
(so that the bytes do not depend on how the work was cut), and one JSON value of provenance in
the schema metadata. Provenance holds no time, host or commit: the same
run gives the same bytes.

A page's checksum covers neither its header nor the footer, where one wrong bit makes other
numbers. So a table carries its seal, the SHA-256 of all its other bytes, in a gap before the
footer, where no reader of Parquet looks: it goes wherever the file goes.
"""

import hashlib
import json
import os
import re
import shutil
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.files import finished, sha256, trusted, written
from pipeline.store.provenance import PROVENANCE, canonical_json
from pipeline.store.schemas import SCHEMAS, TABLES

SEALED = b"sealed"  # in the schema metadata: a table without its seal is damaged
_SEAL = b"\0SHA-256"  # before the digest
_END = 8  # bytes of a Parquet file: the length of its footer, and PAR1
_ROWS_AT_ONCE = 4096  # of whole texts, about
# What lies on a shelf only is read over and over: to unpack it would cost more than it saves.
_AS_IT_IS = {"compression": "none", "use_dictionary": False, "write_statistics": False}


def drop_strays(folder: Path, models: Container[str]) -> list[Path]:
    """Remove the tables of models that are not among these from a folder; return which.

    DVC hashes such a folder as a whole, so a leftover would enter dvc.lock. Its parts stay,
    and DVC's cache keeps the tables. Raises InputError for anything we did not write.
    """
    found = sorted(folder.glob("*"))
    strays = [path for path in found if _finished(path.name).removesuffix(".parquet") not in models]
    for stray in strays:
        if not _ours(stray):
            raise InputError(
                f"{stray} is not a model of the configuration, nor tables made earlier. "
                f"Move it elsewhere: {folder} is hashed as a whole."
            )
        shutil.rmtree(stray) if stray.is_dir() else stray.unlink()
    return strays


def _ours(path: Path) -> bool:
    if path.is_dir():
        names = {_finished(inner.name) for inner in path.iterdir()}
        return names <= {f"{table}.parquet" for table in SCHEMAS}
    try:
        return path.name != _finished(path.name) or bool(read_provenance(path))
    except (InputError, KeyError, TypeError):
        return False


def _finished(name: str) -> str:
    # A killed process leaves the draft of a table; the second form is of earlier versions.
    return re.sub(r"^\.(.*)\.\d+$", r"\1", finished(name))


def write(path: Path, table: str, chunks: Iterable[pa.Table], provenance: Mapping[str, Any]) -> int:
    """Write one table atomically and return its number of rows.

    The chunks may be cut anywhere: rows are regrouped, so the bytes depend on the rows and
    the provenance alone.
    """
    schema = SCHEMAS[table].with_metadata(
        {PROVENANCE: canonical_json(provenance), SEALED: b"SHA-256"}
    )
    rows = 0
    how = _packed(table) if TABLES[table].path else _AS_IT_IS
    with written(path) as draft:
        with pq.ParquetWriter(draft, schema, write_page_checksum=True, **how) as writer:
            for group in _regroup(chunks, schema, TABLES[table].rows_per_group):
                writer.write_table(group, row_group_size=len(group))
                rows += len(group)
        _seal(draft)
    return rows


def _seal(path: Path) -> None:
    """Put the digest of a Parquet file between its data and its footer."""
    whole = bytes.fromhex(sha256(path))
    with path.open("r+b") as file:
        file.seek(-_END, os.SEEK_END)
        length = int.from_bytes(file.read(4), "little")
        place = file.seek(-_END - length, os.SEEK_END)
        footer = file.read()
        file.seek(place)
        file.write(_SEAL + whole + footer)


# Of each table that was found whole by this process: its size and times then.
_whole: dict[tuple[int, int, int, int, int], bool] = {}
_whole_lock = threading.Lock()
_SETTLED = 2 * 10**9  # nanoseconds


def verify(path: Path) -> bool:
    """Whether a table has a seal; raises InputError where the seal is not that of its bytes."""
    with path.open("rb") as file:
        now = os.fstat(file.fileno())
        key = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
        with _whole_lock:
            if key in _whole:
                return _whole[key]
        sealed = _sealed(path, file, now.st_size)
    # Times are coarse: a file of this very moment may change and keep its time.
    if abs(time.time_ns() - max(now.st_mtime_ns, now.st_ctime_ns)) > _SETTLED:
        with _whole_lock:
            _whole[key] = sealed
    return sealed


def _sealed(path: Path, file: BinaryIO, size: int) -> bool:
    file.seek(max(size - _END, 0))
    end = file.read(_END)
    place = size - _END - int.from_bytes(end[:4], "little") - len(_SEAL) - 32
    if end[4:] != b"PAR1" or place < 4 - len(_SEAL) - 32:
        raise damaged(path, "it does not end as a Parquet file does")
    file.seek(max(place, 0))
    seal = file.read(len(_SEAL) + 32)
    if place < 4 or not seal.startswith(_SEAL):
        return False
    if trusted(path):  # by the task of a plan, which hashed all of it
        return True
    file.seek(0)
    found, left = hashlib.sha256(), place
    while left:
        piece = file.read(min(left, 1 << 20))
        if not piece:
            raise damaged(path, "it was cut while it was read")
        found.update(piece)
        left -= len(piece)
    file.seek(place + len(seal))
    found.update(file.read())
    if found.digest() != seal[len(_SEAL) :]:
        raise damaged(path, "its bytes are not those its SHA-256 was taken of")
    return True


def _packed(table: str) -> dict[str, Any]:
    """How a table is packed: hardly two fractions are equal, so a dictionary of them is waste."""
    leaves, fractions = [], []
    for column in TABLES[table].columns:
        of_lists = pa.types.is_list(column.kind)
        leaves.append(f"{column.name}.list.element" if of_lists else column.name)
        kind = column.kind.value_type if of_lists else column.kind
        fractions += leaves[-1:] * (pa.types.is_floating(kind) and not column.repeated)
    return {
        "compression": "zstd",
        "use_dictionary": [leaf for leaf in leaves if leaf not in fractions],
        "column_encoding": dict.fromkeys(fractions, "BYTE_STREAM_SPLIT"),
    }


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with written(path) as draft:
        draft.write_text(text, encoding="utf-8")


def _regroup(chunks: Iterable[pa.Table], schema: pa.Schema, size: int) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    count = 0
    for chunk in chunks:
        held.append(chunk.cast(schema))
        count += len(chunk)
        while count >= size:
            whole = pa.concat_tables(held)
            yield whole.slice(0, size).combine_chunks()
            held, count = [whole.slice(size)], count - size
    if count:
        yield pa.concat_tables(held).combine_chunks()


def read(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read one table, found whole first.

    Raises InputError when the file is missing or damaged.
    """
    with open_table(path) as file, _reading(path):
        # In this thread: each thread of Arrow's keeps memory that it once had.
        return _sound(file, file.read(columns=columns, use_threads=False))


def _sound(file: pq.ParquetFile, rows: pa.Table) -> pa.Table:
    """Rows as they were written; of a table without a seal, all values are looked at."""
    if SEALED not in (file.schema_arrow.metadata or {}):
        rows.validate(full=True)
    return rows


def open_table(path: Path) -> pq.ParquetFile:
    """Open one table for reading by row groups, when all of its bytes are those written.

    They are hashed once a process, unless the file changes. A table without a seal, as earlier
    versions wrote them, has the checksums of its pages only. Raises InputError when the file
    is missing or damaged.
    """
    if not path.is_file():
        raise InputError(f"There is no table {path}. Run `dvc repro` (or `make demo`) to make it.")
    sealed = verify(path)
    with _reading(path):
        file = pq.ParquetFile(path, page_checksum_verification=True)
        if not sealed and SEALED in (file.schema_arrow.metadata or {}):
            raise damaged(path, "its SHA-256 is not where it was")
        return file


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What Arrow says of damage, as a sentence that names the file."""
    try:
        yield
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        # A number means that the system could not read, not that the bytes are wrong.
        if isinstance(error, MemoryError) or getattr(error, "errno", None):
            raise
        raise damaged(path, error) from error


class Rows:
    """A table read by runs of rows: of its row groups, those of the last run are kept.

    ends   how many rows there are up to the end of each row group
    """

    def __init__(self, path: Path, columns: list[str] | None = None) -> None:
        self._path, self._columns, self._file = path, columns, open_table(path)
        self.ends = list(accumulate(group.num_rows for group in self._groups()))
        self._kept: dict[int, pa.Table] = {}

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __iter__(self) -> Iterator[pa.Table]:
        """The row groups, one after the other."""
        return map(self._group, range(len(self.ends)))

    def between(self, start: int, stop: int) -> pa.Table:
        """Rows start to stop - 1, at least one."""
        first, last = bisect_right(self.ends, start), bisect_left(self.ends, stop)
        # Runs are mostly read in order, so the next one begins in the groups of the last.
        self._kept = {i: self._kept.get(i) or self._group(i) for i in range(first, last + 1)}
        before = self.ends[first - 1] if first else 0
        return pa.concat_tables(self._kept.values()).slice(start - before, stop - start)

    def at(self, numbers: Iterable[int]) -> pa.Table:
        """The rows of these numbers, at least one, in their order: best ascending."""
        found = []
        for group, of in groupby(numbers, key=lambda number: bisect_right(self.ends, number)):
            rows, start = self._group(group), self.ends[group - 1] if group else 0
            places = [number - start for number in of]
            found.append(rows if places == list(range(len(rows))) else rows.take(places))
        return pa.concat_tables(found)

    def lengths(self, column: str) -> list[int]:
        """Of each row group, how long the lists of a column are together; an empty one counts."""
        leaf = self._file.schema_arrow.get_field_index(column)
        return [group.column(leaf).num_values for group in self._groups()]

    def _groups(self) -> Iterator[pq.RowGroupMetaData]:
        metadata = self._file.metadata
        return map(metadata.row_group, range(metadata.num_row_groups))

    def _group(self, number: int) -> pa.Table:
        with _reading(self._path):
            rows = self._file.read_row_group(number, self._columns, use_threads=False)
            return _sound(self._file, rows)


class TextRows:
    """A model's table read by runs of texts: each text has as many rows, its heads in one order.

    texts   text_ids in the order of the rows

    Raises InputError where the texts have not as many rows.
    """

    def __init__(self, path: Path, columns: list[str] | None = None) -> None:
        self._rows = Rows(path, columns)
        self.texts, lengths = _runs_of(Rows(path, ["text_id"]), "text_id")
        self._count = lengths[0] if lengths else 0
        if uneven := [at for at, length in enumerate(lengths) if length != self._count]:
            text = self.texts[uneven[0]].as_py()
            raise damaged(path, f"text {text} has not as many rows as the first")

    def __contains__(self, text_id: str) -> bool:
        return self._place(text_id) >= 0

    def __iter__(self) -> Iterator[pa.Table]:
        """All rows, so many whole texts at a time."""
        texts, step = len(self.texts), max(_ROWS_AT_ONCE // max(self._count, 1), 1)
        for start in range(0, texts, step):
            yield self.between(start, min(start + step, texts))

    def rows(self, text_id: str) -> pa.Table:
        """All rows of one text."""
        place = self._place(text_id)
        return self.between(place, place + 1)

    def between(self, start: int, stop: int) -> pa.Table:
        """All rows of the texts start to stop - 1, at least one, counted in their order here."""
        return self._rows.between(start * self._count, stop * self._count)

    def _place(self, text_id: str) -> int:
        return int(pc.index(self.texts, text_id).as_py())


class DiagramsFile(TextRows):
    """One model's diagrams table, read by runs of texts.

    heads        (layer, head) in the order of a text's rows
    dimensions   diagrams a head; a text's rows are its heads, each with its dimensions
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        first = self.between(0, 1) if len(self.texts) else SCHEMAS["diagrams"].empty_table()
        dimension = first["dimension"].to_numpy()
        self.dimensions = int(dimension.max()) + 1 if len(dimension) else 0
        heads = zip(first["layer"].to_pylist(), first["head"].to_pylist(), strict=True)
        self.heads = list(dict.fromkeys(heads))

    def bars(self) -> NDArray[np.float64]:
        """About how many bars the rows of each text hold; an empty diagram counts as one."""
        rows = [0, *self._rows.ends]
        bars = [0, *accumulate(self._rows.lengths("birth"))]
        return np.diff(np.interp(np.arange(len(self.texts) + 1) * self._count, rows, bars))


def _runs_of(rows: Rows, column: str) -> tuple[pa.StringArray, list[int]]:
    """The values of a column whose equal values stand together, each once, and how often."""
    found: list[str] = []
    lengths: list[int] = []
    for group in rows:
        runs = pc.run_end_encode(group[column].combine_chunks())
        ends = runs.run_ends.to_pylist()
        for value, length in zip(runs.values.to_pylist(), np.diff([0, *ends]), strict=True):
            if found and found[-1] == value:  # a run may go on in the next row group
                lengths[-1] += int(length)
            else:
                found.append(value)
                lengths.append(int(length))
    return pa.array(found, pa.string()), lengths


def damaged(path: Path, error: Exception | str) -> InputError:
    """The error for a table whose bytes are not what was written."""
    return InputError(f"{path} is damaged ({error}). Delete it and run `dvc repro` again.")


def read_provenance(path: Path) -> dict[str, Any]:
    """What made a table: code digest, configuration, corpus and weights hashes, libraries."""
    with open_table(path) as file, _reading(path):
        said = (file.schema_arrow.metadata or {}).get(PROVENANCE)
        found = json.loads(said) if said else None
    if not isinstance(found, dict):
        raise damaged(path, "it does not say what made it")
    return found
