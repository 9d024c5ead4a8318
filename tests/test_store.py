import json
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline import store
from pipeline.errors import InputError
from pipeline.store import layout, tables


def diagrams(texts: int = 3, heads: int = 2, seed: int = 0) -> pa.Table:
    """A small diagrams table: every text, two heads, two dimensions."""
    random = np.random.default_rng(seed)
    rows = []
    for text in range(texts):
        for head in range(heads):
            for dimension in range(2):
                birth = np.sort(random.random(random.integers(0, 4)))
                rows.append(
                    {
                        "model": "m",
                        "text_id": f"t{text}",
                        "layer": 0,
                        "head": head,
                        "dimension": dimension,
                        "birth": birth.tolist(),
                        "death": (birth + 1).tolist(),
                    }
                )
    rows[0]["birth"], rows[0]["death"] = [0.0], [np.inf]
    return pa.Table.from_pylist(rows, schema=store.SCHEMAS["diagrams"])


def test_what_is_written_is_read_back(tmp_path):
    table = diagrams()
    path = tmp_path / "deep" / "diagrams.parquet"
    assert store.write(path, "diagrams", [table], {"made": "here"}) == len(table)
    assert store.read(path).equals(table)
    assert store.read_provenance(path) == {"made": "here"}


def test_fractions_are_packed_without_a_dictionary(tmp_path):
    path = tmp_path / "diagrams.parquet"
    store.write(path, "diagrams", [diagrams()], {})
    group = store.open_table(path).metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(7)}
    packed = {name for name, c in columns.items() if "BYTE_STREAM_SPLIT" in c.encodings}
    assert packed == {"birth.list.element", "death.list.element"}
    assert not any(columns[name].has_dictionary_page for name in packed)
    assert columns["model"].has_dictionary_page


def test_pandas_and_duckdb_read_it_as_it_is(tmp_path):
    table = diagrams()
    path = tmp_path / "diagrams.parquet"
    store.write(path, "diagrams", [table], {})
    frame = pd.read_parquet(path)
    assert [list(birth) for birth in frame["birth"]] == table["birth"].to_pylist()
    answer = duckdb.sql(f"select count(*), max(death[1]) from '{path}'").fetchall()
    assert answer == [(len(table), np.inf)]


@pytest.mark.parametrize("cuts", [[1] * 12, [5, 7], [12], [0, 11, 0, 1]])
def test_bytes_do_not_depend_on_how_rows_come(tmp_path, row_groups, cuts):
    row_groups("diagrams", 5)
    table = diagrams()
    store.write(tmp_path / "whole.parquet", "diagrams", [table], {})
    starts = np.cumsum([0, *cuts])[:-1]
    pieces = [table.slice(start, cut) for start, cut in zip(starts, cuts, strict=True)]
    store.write(tmp_path / "pieces.parquet", "diagrams", pieces, {})
    assert pq.ParquetFile(tmp_path / "whole.parquet").num_row_groups == 3
    assert store.sha256(tmp_path / "whole.parquet") == store.sha256(tmp_path / "pieces.parquet")


def test_a_flipped_byte_is_found(tmp_path):
    path = tmp_path / "diagrams.parquet"
    store.write(path, "diagrams", [diagrams(texts=200)], {})
    good = path.read_bytes()
    found = 0
    for place in range(4, len(good) // 2, 97):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        try:
            assert store.read(path).equals(diagrams(texts=200))
        except InputError as error:
            assert "damaged" in str(error)
            found += 1
    assert found > 10


def test_a_table_that_is_not_there_says_how_to_make_it(tmp_path):
    with pytest.raises(InputError, match=r"There is no table .*dvc repro"):
        store.read(tmp_path / "none.parquet")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="damaged"):
        store.read(tmp_path / "cut.parquet")


def test_a_writer_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "diagrams.parquet"
    store.write(path, "diagrams", [diagrams()], {})
    before = path.read_bytes()

    def broken():
        yield diagrams()
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        store.write(path, "diagrams", broken(), {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("rows", [1, 3, 4096])
def test_diagrams_of_one_text(tmp_path, row_groups, rows):
    row_groups("diagrams", rows)
    table = diagrams(texts=5)
    path = tmp_path / "diagrams.parquet"
    store.write(path, "diagrams", [table], {})
    file = store.DiagramsFile(path)
    assert file.heads == [(0, 0), (0, 1)]
    assert file.dimensions == 2
    assert "t9" not in file
    for text in (3, 0, 4, 4, 1):
        assert file.rows(f"t{text}").equals(table.slice(4 * text, 4))


@pytest.mark.parametrize("at_once", [1, 4, 11, 4096])
def test_all_rows_by_whole_texts(tmp_path, monkeypatch, row_groups, at_once):
    monkeypatch.setattr(tables, "_ROWS_AT_ONCE", at_once)
    row_groups("diagrams", 3)
    table = diagrams(texts=5)
    path = tmp_path / "diagrams.parquet"
    store.write(path, "diagrams", [table], {})
    runs = list(store.TextRows(path, ["text_id", "head"]))
    assert pa.concat_tables(runs).equals(table.select(["text_id", "head"]))
    assert all(len(run) == 4 * len(run["text_id"].unique()) for run in runs)
    assert max(map(len, runs)) <= max(at_once, 4)


@pytest.mark.parametrize("rows", [1, 3, 5, 4096])
def test_runs_of_rows_and_single_rows(tmp_path, row_groups, rows):
    row_groups("diagrams", rows)
    table = diagrams(texts=5)
    path = tmp_path / "diagrams.parquet"
    store.write(path, "diagrams", [table], {})
    found = store.Rows(path)
    assert len(found) == 20
    for start, stop in ((0, 20), (3, 4), (2, 11), (19, 20), (0, 1)):
        assert found.between(start, stop).equals(table.slice(start, stop - start))
    for numbers in ([0], [3, 4, 5], [0, 7, 19], [19, 2, 2], list(range(20))):
        assert found.at(numbers).equals(table.take(numbers))
    assert pa.concat_tables(found).equals(table)


def test_rows_keep_the_groups_of_the_last_run(tmp_path, row_groups):
    row_groups("diagrams", 5)
    path = tmp_path / "diagrams.parquet"
    store.write(path, "diagrams", [diagrams(texts=5)], {})
    found = store.Rows(path)
    for start in range(15):
        found.between(start, start + 4)
        assert len(found._kept) <= 2


@pytest.mark.parametrize("rows", [4, 7, 4096])
def test_bars_of_a_text_are_near_what_it_holds(tmp_path, row_groups, rows):
    row_groups("diagrams", rows)
    table = diagrams(texts=50)
    path = tmp_path / "diagrams.parquet"
    store.write(path, "diagrams", [table], {})
    held = [max(len(birth), 1) for birth in table["birth"].to_pylist()]
    found = store.DiagramsFile(path).bars()
    assert found.sum() == pytest.approx(sum(held))
    if rows == 4:  # a text is a row group
        assert found.tolist() == np.reshape(held, (50, 4)).sum(1).tolist()


def test_a_diagrams_table_without_rows(tmp_path):
    path = tmp_path / "diagrams.parquet"
    store.write(path, "diagrams", [store.SCHEMAS["diagrams"].empty_table()], {})
    file = store.DiagramsFile(path)
    assert (file.heads, file.dimensions, "t0" in file) == ([], 0, False)


UNITS = {"1", "bars", "bits", "clusters", "distance", "pairs", "permutations", "texts", "tokens"}


@pytest.mark.parametrize("name", store.TABLES)
def test_every_column_says_what_it_means_and_every_number_its_unit(name):
    table, schema = store.TABLES[name], store.SCHEMAS[name]
    assert table.about
    for field in schema:
        kind = field.type.value_type if pa.types.is_list(field.type) else field.type
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        assert field.metadata[b"meaning"]
        assert (field.metadata.get(b"unit", b"").decode() in UNITS) == number
        assert number or b"unit" not in field.metadata
    near = [(c.counted_by, *c.decided_by, c.size) for c in table.columns]
    assert {other for names in near for other in names} <= {"", *schema.names}
    assert not any(c.word for c in table.columns if c.kind != pa.string())


def test_a_path_is_of_a_model_or_a_corpus_or_of_the_run():
    assert str(store.path("heads", "m")) == "outputs/diagrams/m/heads.parquet"
    assert str(store.path("rejects", "c")) == "data/corpus/c.rejects.parquet"
    assert str(store.path("text_distances")) == "outputs/tables/text_distances.parquet"
    for wrong in (("heads",), ("rejects", ""), ("text_distances", "m"), ("by_head",)):
        with pytest.raises(ValueError, match=f"no path of {wrong[0]}"):
            store.path(*wrong)
    heads = store.paths("heads", "c", ["m", "n"])
    assert heads == [store.path("heads", "m"), store.path("heads", "n")]
    assert store.paths("corpus", "c", ["m", "n"]) == [store.path("corpus", "c")]
    assert store.paths("by_head", "c", ["m"]) == []
    assert str(store.folder("heads")) == "outputs/diagrams"
    assert str(store.folder("equivariance")) == "outputs/equivariance"


def test_the_tables_are_what_dvc_yaml_makes_and_the_readme_names():
    stages = yaml.safe_load((store.ROOT / "dvc.yaml").read_text("utf-8"))["stages"]
    outs = [str(out) for stage in stages.values() for out in stage.get("do", stage)["outs"]]
    made = {out for out in outs if out.endswith(".parquet")}
    said = (store.ROOT / "README.md").read_text("utf-8")
    paths = {table.path for table in store.TABLES.values() if table.path}
    assert made == {path.format(model="${key}", corpus="${corpus.name}") for path in paths}
    for path in paths:
        shown = path.format(model="MODEL", corpus="CORPUS")
        assert f"`{shown}`" in said or f"`{Path(shown).name}`" in said


def test_canonical_json_does_not_depend_on_order():
    assert store.digest({"a": 1, "b": [2]}) == store.digest(json.loads('{"b": [2], "a": 1}'))
    assert store.digest({"a": 1}) != store.digest({"a": 2})


def test_code_digest_covers_what_is_imported(tmp_path, monkeypatch):
    package = tmp_path / "pipeline"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("from pipeline import b, errors\n")
    (package / "errors.py").write_text("")
    (package / "b.py").write_text("X = 1\n")
    (package / "other.py").write_text("Y = 1\n")
    monkeypatch.setattr(layout, "ROOT", tmp_path)

    def now() -> str:
        store.code_digest.cache_clear()
        return store.code_digest("pipeline.a")

    before = now()
    (package / "other.py").write_text("Y = 2\n")
    (package / "errors.py").write_text("Z = 2\n")  # it is AROUND
    assert now() == before
    (package / "b.py").write_text("X = 2\n")
    assert now() != before
    store.code_digest.cache_clear()


def test_work_is_shared_by_queued_experiments(tmp_path, monkeypatch):
    monkeypatch.delenv("ATTENTION_TOPOLOGY_WORK", raising=False)
    monkeypatch.setattr(layout, "ROOT", tmp_path)
    assert store.work_folder() == tmp_path / ".parts"
    monkeypatch.setattr(layout, "ROOT", tmp_path / ".dvc" / "tmp" / "exps" / "standalone" / "tmpx")
    assert store.work_folder() == tmp_path / ".parts"
    monkeypatch.setenv("ATTENTION_TOPOLOGY_WORK", str(tmp_path / "else"))
    assert store.work_folder() == tmp_path / "else"


def test_the_store_imports_no_torch():
    jobs = "pipeline.jobs.comparison, pipeline.jobs.context, pipeline.jobs.diagrams"
    code = f"import sys, {jobs}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=store.ROOT, check=True)


@pytest.fixture
def strays(tmp_path, monkeypatch):
    """Tables of a model, m, that is configured, and of one that no longer is."""
    monkeypatch.chdir(tmp_path)
    for model in ("m", "gone"):
        store.path("texts", model).parent.mkdir(parents=True)
        store.path("texts", model).touch()
        empty = store.SCHEMAS["equivariance"].empty_table()
        store.write(store.path("equivariance", model), "equivariance", [empty], {"made": "here"})


@pytest.mark.usefixtures("strays")
def test_the_tables_of_a_model_taken_out_are_removed():
    assert store.drop_strays(store.folder("diagrams"), {"m"}) == [store.folder("diagrams") / "gone"]
    assert list(store.folder("diagrams").iterdir()) == [store.folder("diagrams") / "m"]
    assert store.drop_strays(store.folder("equivariance"), {"m"}) == [
        store.path("equivariance", "gone")
    ]
    assert list(store.folder("equivariance").iterdir()) == [store.path("equivariance", "m")]
    assert store.drop_strays(store.folder("context"), {"m"}) == []


@pytest.mark.usefixtures("strays")
def test_the_draft_that_a_killed_run_left_goes_with_them():
    (store.folder("diagrams") / "gone" / ".texts.parquet.3784").touch()
    assert store.drop_strays(store.folder("diagrams"), {"m"}) == [store.folder("diagrams") / "gone"]


@pytest.mark.usefixtures("strays")
@pytest.mark.parametrize(
    "name",
    [
        "diagrams/gone/notes.txt",
        "diagrams/gone/other.parquet",
        "diagrams/gone/.hidden.parquet.1",
        "equivariance/mine.parquet",
        "equivariance/notes.txt",
    ],
)
def test_what_we_did_not_write_stays(name):
    mine = store.folder("diagrams").parent / name
    pq.write_table(pa.table({"x": [1]}), mine)
    with pytest.raises(InputError, match="Move it elsewhere"):
        store.drop_strays(store.folder("diagrams").parent / name.split("/")[0], {"m"})
    assert mine.exists()
