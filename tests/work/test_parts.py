import errno
import json
import multiprocessing
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline import console, store
from pipeline.errors import InputError
from pipeline.work import engine
from pipeline.work.parts import MANIFEST, Job, Part, Shelf
from tests.light import DoneBy
from tests.test_store import diagrams


def part(name: str) -> Part:
    return Part(store.digest(name), name, name)


def made(one: Part) -> dict[str, pa.Table]:
    return {"diagrams": diagrams(seed=len(one.inputs))}


def job(folder, names=("a", "bb", "ccc"), do=made) -> Job:
    return DoneBy(
        title="job",
        shelf=Shelf(folder / "shelf"),
        parts=[part(name) for name in names],
        by=do,
        outputs={"diagrams": folder / "out.parquet"},
        provenance={"job": 1},
    )


def test_a_job_is_done_once_and_joined_in_order(tmp_path):
    done = []

    def do(one: Part) -> dict[str, pa.Table]:
        done.append(one.label)
        return made(one)

    assert engine.run(job(tmp_path, do=do)) == {"diagrams": 36}
    expected = pa.concat_tables([made(part(name))["diagrams"] for name in ("a", "bb", "ccc")])
    assert store.read(tmp_path / "out.parquet").equals(expected)
    engine.run(job(tmp_path, do=do))
    assert done == ["a", "bb", "ccc"]


@pytest.mark.parametrize("harm", ["byte", "file", "manifest", "junk", "folder"])
def test_a_part_that_is_not_whole_is_done_again(tmp_path, harm):
    engine.run(job(tmp_path))
    before = (tmp_path / "out.parquet").read_bytes()
    home = tmp_path / "shelf" / part("bb").digest
    file = home / "diagrams.parquet"
    if harm == "byte":
        raw = bytearray(file.read_bytes())
        raw[len(raw) // 2] ^= 1
        file.write_bytes(raw)
    elif harm == "file":
        file.unlink()
    elif harm == "manifest":
        (home / MANIFEST).unlink()
    elif harm == "junk":
        (home / MANIFEST).write_text('{"files": 3}')
    else:
        for inside in home.iterdir():
            inside.unlink()
    assert [one.label for one in job(tmp_path).missing()] == ["bb"]
    engine.run(job(tmp_path))
    assert (tmp_path / "out.parquet").read_bytes() == before


def test_the_manifest_gives_hash_and_rows(tmp_path):
    engine.run(job(tmp_path))
    home = tmp_path / "shelf" / part("a").digest
    entry = json.loads((home / MANIFEST).read_bytes())["files"]["diagrams.parquet"]
    assert entry == {"rows": 12, "sha256": store.sha256(home / "diagrams.parquet")}


def killed(folder) -> None:
    def do(one: Part) -> dict[str, pa.Table]:
        if one.label == "ccc":
            os.kill(os.getpid(), signal.SIGKILL)
        return made(one)

    engine.run(job(folder, do=do))


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=killed, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert [one.label for one in job(tmp_path).missing()] == ["ccc"]
    assert not (tmp_path / "out.parquet").exists()
    engine.run(job(tmp_path))
    engine.run(job(tmp_path / "fresh"))
    assert (tmp_path / "out.parquet").read_bytes() == (
        tmp_path / "fresh" / "out.parquet"
    ).read_bytes()


def test_a_part_that_cannot_be_written_leaves_no_draft(tmp_path, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store, "sha256", full)
    with pytest.raises(OSError, match="No space left"):
        Shelf(tmp_path).put(part("a"), made(part("a")))
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_two_writers_stays(tmp_path):
    shelf = Shelf(tmp_path)
    shelf.put(part("a"), made(part("a")))
    stamp = (tmp_path / part("a").digest).stat().st_ino
    shelf.put(part("a"), made(part("a")))
    assert (tmp_path / part("a").digest).stat().st_ino == stamp
    assert [path.name for path in tmp_path.iterdir()] == [part("a").digest]


def test_two_that_mend_one_part_at_once_both_succeed(tmp_path):
    """Each may find the other's, whole or gone, at any moment."""
    shelf, one = Shelf(tmp_path), part("a")
    for _ in range(30):
        (tmp_path / one.digest).mkdir(exist_ok=True)
        (tmp_path / one.digest / MANIFEST).write_text("spoilt")
        with ThreadPoolExecutor(4) as many:
            for mended in [many.submit(shelf.put, one, made(one)) for _ in range(4)]:
                mended.result()
        assert shelf.has(one)
    assert [path.name for path in tmp_path.iterdir()] == [one.digest]


def test_a_part_of_another_job_under_this_name_is_not_taken(tmp_path):
    """Its files match its manifest, but somebody gave the folder another name."""
    engine.run(job(tmp_path))
    before = (tmp_path / "out.parquet").read_bytes()
    shelf = tmp_path / "shelf"
    shutil.rmtree(shelf / part("bb").digest)
    shutil.copytree(shelf / part("a").digest, shelf / part("bb").digest)
    assert [one.label for one in job(tmp_path).missing()] == ["bb"]
    engine.run(job(tmp_path))
    assert (tmp_path / "out.parquet").read_bytes() == before


@pytest.mark.parametrize("place", ["shelf", "work"])
def test_a_folder_that_cannot_be_written_is_a_sentence_before_any_work(
    place, tmp_path, monkeypatch
):
    def refuse(self, *_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    done = []
    monkeypatch.setenv("ATTENTION_TOPOLOGY_WORK", str(tmp_path))
    monkeypatch.setattr(Path, "mkdir" if place == "work" else "touch", refuse)
    with pytest.raises(OSError, match="Read-only") as error:
        engine.run(job(tmp_path, do=done.append))
    assert done == []
    said = console.sentence(error.value)
    assert said.startswith("A file could not be written or read ([Errno 30] Read-only file system")
    assert "set ATTENTION_TOPOLOGY_WORK to a folder elsewhere" in said


@pytest.mark.parametrize("harm", ["gone", "damaged", "fewer"])
def test_a_part_that_vanishes_before_the_join_is_named(harm, tmp_path):
    one = job(tmp_path)
    engine.run(one)
    home = tmp_path / "shelf" / part("bb").digest
    if harm == "gone":
        shutil.rmtree(home)
    elif harm == "damaged":
        (home / "diagrams.parquet").write_bytes(b"PAR1 and more")
    else:
        store.write(home / "diagrams.parquet", "diagrams", [diagrams(texts=1)], {})
    with pytest.raises(InputError, match=r"The part bb was done and .*same command again") as said:
        one.join()
    assert harm == "damaged" or "dvc repro" not in str(said.value)


@pytest.mark.parametrize(
    ("before", "after"),
    [(b'"rows":12', b'"rows":13'), (b'"rows":', b'"rowt":'), (b'"rows":12', b'"rows":{}')],
)
def test_a_part_whose_manifest_is_wrong_is_done_anew_at_the_join(before, after, tmp_path, capsys):
    """Its tables match their digests, so only the join sees it; once it ended every run."""
    engine.run(job(tmp_path))
    good = (tmp_path / "out.parquet").read_bytes()
    manifest = tmp_path / "shelf" / part("bb").digest / MANIFEST
    manifest.write_bytes(manifest.read_bytes().replace(before, after))
    assert job(tmp_path).missing() == []
    assert engine.run(job(tmp_path)) == {"diagrams": 36}
    assert (tmp_path / "out.parquet").read_bytes() == good
    assert "bb" in capsys.readouterr().err
    assert json.loads(manifest.read_bytes())["files"]["diagrams.parquet"]["rows"] == 12


def test_a_part_that_is_spoilt_each_time_ends_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "read", lambda path: diagrams(texts=1))
    with pytest.raises(InputError, match="its manifest says 12"):
        engine.run(job(tmp_path))


def test_what_was_noted_of_a_part_that_another_did_since_goes(tmp_path):
    one = job(tmp_path)
    engine.run(one)
    one.shelf.note(part("bb"), "a reason")
    engine.run(one)
    assert one.shelf.notes() == {}


def test_one_line_a_part_where_nobody_watches(tmp_path, capsys):
    engine.run(job(tmp_path))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["job: 1/3 a", "job: 2/3 bb", "job: 3/3 ccc"]
    engine.run(job(tmp_path))
    assert capsys.readouterr().err == "job: 3 of 3 parts done before\n"
