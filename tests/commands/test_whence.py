import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from commands import whence
from pipeline import files, store
from pipeline.errors import InputError
from tests.clone import git

LOCK = """schema: '2.0'
stages:
  corpus:
    cmd: python -m stages.corpus
    outs:
    - path: data/corpus/parallel.parquet
      hash: md5
      md5: {corpus}
  report:
    cmd: python -m stages.report
    outs:
    - path: outputs/report/index.html
      hash: md5
      md5: {page}
"""
MADE = {
    "code": "f" * 64,
    "config": {"homology": {"max_dimension": 1}},
    "libraries": {"numpy": "2.4.6"},
    "made_from": {"tiny": {"code": "e" * 64, "libraries": {"numpy": "2.4.6"}, "seed": 20}},
}


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository of two commits with a dvc.lock and an experiment, and files of the first."""
    monkeypatch.chdir(tmp_path)
    rows = pa.table({name: ["x"] for name in store.SCHEMAS["rejects"].names})
    store.write(tmp_path / "table.parquet", "rejects", [rows], MADE)
    (tmp_path / "index.html").write_text("<p>the page")
    md5 = {"corpus": of("table.parquet"), "page": of("index.html")}
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "config", "user.name", "A Reader")
    git(tmp_path, "config", "user.email", "reader@example.invalid")
    for name, values in (("One", md5), ("Two", {**md5, "page": "0" * 32})):
        (tmp_path / "dvc.lock").write_text(LOCK.format(**values))
        git(tmp_path, "add", "dvc.lock")
        git(tmp_path, "commit", "-qm", name)
    git(tmp_path, "tag", "v1", "HEAD~")
    git(tmp_path, "checkout", "-q", "--detach")
    (tmp_path / "dvc.lock").write_text(LOCK.format(corpus=md5["corpus"], page="1" * 32))
    git(tmp_path, "commit", "-qam", "An experiment")
    git(tmp_path, "update-ref", "refs/exps/12/34/soft-moss", "HEAD")
    git(tmp_path, "checkout", "-q", "main")
    return tmp_path


def of(name: str) -> str:
    return files.md5(Path(name))


def test_a_table_says_what_made_it_wherever_it_was_copied(repository, tmp_path_factory, capsys):
    copy = tmp_path_factory.mktemp("elsewhere") / "mine.parquet"
    shutil.copy("table.parquet", copy)
    assert whence.main([str(copy)]) == 0
    said = capsys.readouterr().out
    assert "config.homology.max_dimension      1\n" in said
    assert "made from the tables of tiny" in said
    assert said.count("libraries.numpy") == 1
    first = git(repository, "rev-parse", "v1").strip()[:12]
    assert f"{first} " in said
    assert "(tag: v1) One: data/corpus/parallel.parquet" in said
    assert f"python -m commands.reproduce --rev {first} --source recompute" in said
    assert "dvc repro --force --single-item corpus    # runs: python -m stages.corpus" in said


def test_a_page_is_found_by_its_bytes(repository, capsys):
    assert whence.main(["index.html"]) == 0
    said = capsys.readouterr().out
    assert "carries no provenance" in said
    assert "One: outputs/report/index.html" in said
    # The commit that took these bytes out is none that holds them.
    assert "Two" not in said


def test_an_experiment_is_found(repository, capsys):
    (repository / "page.html").write_text("another")
    lock = LOCK.format(corpus="2" * 32, page=of("page.html"))
    git(repository, "checkout", "-q", "--detach")
    (repository / "dvc.lock").write_text(lock)
    git(repository, "commit", "-qam", "Dimension 0")
    git(repository, "update-ref", "refs/exps/56/78/dry-fern", "HEAD")
    git(repository, "checkout", "-q", "main")
    assert whence.main(["page.html"]) == 0
    assert "(experiment dry-fern) Dimension 0" in capsys.readouterr().out


def test_what_is_not_known_is_said(repository, capsys):
    (repository / "mine.csv").write_text("a,b\n")
    assert whence.main(["mine.csv"]) == 1
    said = capsys.readouterr().out
    assert "carries no provenance" in said
    assert "No commit's dvc.lock here holds these bytes" in said


def test_a_part_is_no_result(repository, capsys):
    rows = store.SCHEMAS["rejects"].empty_table()
    store.write(repository / "part.parquet", "rejects", [rows], {"part": "abc"})
    whence.main(["part.parquet"])
    assert "A part of unfinished work (abc)" in capsys.readouterr().out


def test_a_damaged_or_absent_file_is_a_sentence(repository):
    (repository / "broken.parquet").write_bytes((repository / "table.parquet").read_bytes()[:99])
    with pytest.raises(InputError, match="is damaged"):
        whence.main(["broken.parquet"])
    with pytest.raises(InputError, match=r"gone\.parquet is not a file"):
        whence.main(["gone.parquet"])
