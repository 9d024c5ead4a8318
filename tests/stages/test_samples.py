"""Some rows of every table, for git."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import store
from pipeline.errors import InputError
from stages import samples


@pytest.fixture
def folder(small_run, monkeypatch):
    """The folder of the small run, where the stage ran."""
    folder, settings = small_run
    monkeypatch.chdir(folder)
    samples.run(settings)
    return store.SAMPLES / settings.corpus.name


def of_rows(count: int) -> store.Table:
    return replace(store.TABLES["text_distances"], sampled=count)


def test_every_row_stands_in_its_table_and_no_word_leaves_it(folder, small_run):
    found = {path: pq.read_table(path) for path in folder.rglob("*.parquet")}
    settings = small_run[1]
    assert sorted(path.relative_to(folder) for path in found) == sorted(
        path.relative_to(settings.root / store.OUTPUTS)
        for name, table in store.TABLES.items()
        if table.sampled
        for path in settings.paths(name)
    )
    for path, rows in found.items():
        whole = store.read(store.OUTPUTS / path.relative_to(folder))
        assert 0 < len(rows) <= len(whole)
        assert store.read_provenance(path)
        if "token" in rows.column_names:
            assert set(rows["token"].to_pylist()) == {""}
            rows, whole = rows.drop_columns("token"), whole.drop_columns("token")
        assert all(row in whole.to_pylist() for row in rows.slice(0, 20).to_pylist())


def test_the_same_rows_are_taken_whatever_they_hold(tmp_path):
    keys = {"corpus": ["c"] * 900, "dimension": [0] * 900, "model": ["m"] * 900}
    keys |= {"layer": list(range(900)), "head": [0] * 900, "text_a": ["a"] * 900}
    taken = []
    for distance in (0.1, 0.2):
        rows = {**keys, "text_b": ["b"] * 900, "distance": [distance] * 900}
        path = tmp_path / f"{distance}.parquet"
        schema = store.SCHEMAS["text_distances"]
        store.write(path, "text_distances", [pa.table(rows).cast(schema)], {})
        taken.append(samples.sample(path, of_rows(50)))
    one, other = (rows["layer"].to_pylist() for rows in taken)
    assert one == other == sorted(set(one))
    assert len(one) == 50
    assert len(samples.sample(path, of_rows(1000))) == 900


def test_an_empty_table_has_an_empty_sample(tmp_path):
    path = tmp_path / "empty.parquet"
    store.write(path, "text_distances", [store.SCHEMAS["text_distances"].empty_table()], {})
    assert samples.sample(path, of_rows(50)).equals(store.SCHEMAS["text_distances"].empty_table())


def test_those_of_another_corpus_stay(folder, small_run):
    """A run of one's own corpus changed the repository's, which git keeps."""
    settings = small_run[1]
    before = {path: path.read_bytes() for path in folder.rglob("*.parquet")}
    own = replace(settings, corpus=replace(settings.corpus, name="mine"))
    samples.run(own)
    assert {path: path.read_bytes() for path in folder.rglob("*.parquet")} == before
    assert len(list((store.SAMPLES / "mine").rglob("*.parquet"))) == len(before)


def test_nothing_is_removed_before_all_tables_are_read(folder, small_run, monkeypatch):
    def broken(path, table):
        raise InputError(f"{path} is damaged")

    before = {path: path.read_bytes() for path in folder.rglob("*.parquet")}
    monkeypatch.setattr(samples, "sample", broken)
    with pytest.raises(InputError, match="damaged"):
        samples.run(small_run[1])
    assert {path: path.read_bytes() for path in folder.rglob("*.parquet")} == before


def test_what_an_earlier_configuration_left_goes(folder, small_run):
    stray = folder / "diagrams/gone/heads.parquet"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"")
    before = {path: path.read_bytes() for path in folder.rglob("*.parquet") if path != stray}
    samples.run(small_run[1])
    assert {path: path.read_bytes() for path in folder.rglob("*.parquet")} == before
