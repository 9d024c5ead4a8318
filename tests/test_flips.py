"""A byte that changed is never read as other numbers: of every kind of table, one after another."""

import random
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import store
from pipeline.errors import InputError
from pipeline.store import tables

SEAL = 40  # bytes before the footer


def kinds(folder: Path) -> dict[str, Path]:
    """A table of each schema that a small run made."""
    found: dict[tuple[str, ...], Path] = {}
    for path in sorted(folder.rglob("*.parquet")):
        found.setdefault(tuple(pq.read_schema(path).names), path)
    return {path.stem: path for path in found.values()}


def flips(good: bytes, count: int) -> Iterator[tuple[int, bytes]]:
    """So many single bytes changed; all of the seal, of the end, and where the footer begins."""
    choose = random.Random(len(good))
    footer = len(good) - 8 - int.from_bytes(good[-8:-4], "little")
    places = {*range(footer - SEAL, footer + 8), *range(len(good) - 8, len(good)), *range(30)}
    places |= {choose.randrange(len(good)) for _ in range(count)}
    for place in sorted(places):
        other = good[place] ^ choose.randrange(1, 256)
        yield place, good[:place] + bytes([other]) + good[place + 1 :]


def test_no_flipped_byte_of_any_table_is_read(small_run, tmp_path):
    tables = kinds(small_run[0])
    assert len(tables) >= len(store.SCHEMAS) - 2  # no images
    for name, path in tables.items():
        good, harmed = path.read_bytes(), tmp_path / f"{name}.parquet"
        for place, bad in flips(good, 150):
            harmed.write_bytes(bad)
            for reader in (store.read, store.Rows, store.read_provenance):
                with pytest.raises(InputError, match=name):
                    print(name, place, reader(harmed))
        harmed.write_bytes(good)
        assert store.read(harmed).equals(store.read(path))


def test_nor_is_a_table_that_was_cut(small_run, tmp_path):
    for name, path in kinds(small_run[0]).items():
        good, harmed = path.read_bytes(), tmp_path / f"{name}.parquet"
        for length in {*range(0, len(good), max(len(good) // 50, 1)), len(good) - 1}:
            harmed.write_bytes(good[:length])
            with pytest.raises(InputError, match=name):
                store.read(harmed)


def test_another_encoding_in_a_page_header_is_found(small_run, tmp_path):
    """0x12 for 0x00, BYTE_STREAM_SPLIT for PLAIN, made an entropy of 3.26 one of -2e-16."""
    path = small_run[0] / store.path("heads", "bert")
    column = pq.ParquetFile(path).metadata.row_group(0).column(6)
    assert column.path_in_schema == "entropy_mean"
    good, harmed, quiet = path.read_bytes(), tmp_path / "heads.parquet", 0
    header = range(column.data_page_offset, column.data_page_offset + 40)
    for place in (place for place in header if good[place] == 0x12):
        harmed.write_bytes(good[:place] + b"\0" + good[place + 1 :])
        try:
            rows = pq.ParquetFile(harmed, page_checksum_verification=True).read()
            quiet += rows["entropy_mean"] != store.read(path)["entropy_mean"]
        except (OSError, pa.ArrowException):
            pass
        with pytest.raises(InputError, match="heads"):
            store.read(harmed)
    assert quiet >= 1  # a reader of Parquet alone does not see it


def test_a_table_of_an_earlier_version_is_read_and_its_uneven_texts_are_not(tmp_path):
    from tests.test_store import diagrams

    path, rows = tmp_path / "diagrams.parquet", diagrams()
    pq.write_table(rows, path)
    assert len(store.DiagramsFile(path).texts) == 3
    pq.write_table(rows.slice(0, len(rows) - 1), path)
    with pytest.raises(InputError, match="text t2 has not as many rows"):
        store.DiagramsFile(path)
    path.write_bytes(path.read_bytes().replace(b"PAR1", b"PAR2"))
    with pytest.raises(InputError, match=r"diagrams\.parquet is damaged"):
        store.read(path)


def test_it_is_hashed_once_unless_it_changes(small_run, monkeypatch):
    path = small_run[0] / store.path("heads", "bert")
    monkeypatch.setattr(tables, "_SETTLED", -1)
    store.read(path)
    monkeypatch.setattr(tables, "_sealed", None)
    store.read(path)
    store.Rows(path)
    monkeypatch.undo()
    content = path.read_bytes()
    try:
        path.write_bytes(content[:99] + bytes([content[99] ^ 1]) + content[100:])
        with pytest.raises(InputError, match="SHA-256"):
            store.read(path)
    finally:
        path.write_bytes(content)
