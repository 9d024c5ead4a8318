"""Who does the parts: worker processes that are killed, two runs at once, what fails."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline import store
from pipeline.work import attempts, engine, leases
from pipeline.work.engine import UnfinishedError
from tests.light import Spec, WholeJob, make, two


def made(folder: Path) -> str:
    return store.sha256(folder / "texts.parquet")


def reasons(folder: Path) -> dict[str, str | None]:
    rows = store.read(folder / "texts.parquet").to_pylist()
    return {row["text_id"]: row["reason"] for row in rows}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("undisturbed")
    engine.run(make(folder))
    return made(folder)


@pytest.mark.parametrize(("workers", "size"), [(1, 1), (1, 5), (2, 1), (2, 7)])
def test_workers_and_the_size_of_parts_change_no_byte(workers, size, tmp_path, undisturbed):
    assert engine.run(make(tmp_path, size=size), spec=Spec(workers)) == {"texts": 24}
    assert made(tmp_path) == undisturbed


def test_the_same_workers_do_all_jobs_of_a_stage(tmp_path):
    engine.run(*two(tmp_path), spec=Spec(2))
    first, second = ({who.read_text() for who in (tmp_path / name).glob("who-*")} for name in NAMES)
    assert second <= first
    assert len(first) == 2
    assert str(os.getpid()) not in first


NAMES = ("first", "second")


def test_a_killed_worker_costs_the_part_under_way(tmp_path, capsys):
    words = ("a", "kill-once", "b", "c")
    engine.run(make(tmp_path, words), spec=Spec(2))
    assert reasons(tmp_path) == dict.fromkeys(words)
    said = capsys.readouterr().err
    assert "the worker of kill-once was killed (SIGKILL), most likely for want of memory" in said
    assert "light: 1 parts whose worker died are tried again" in said
    assert "light: 4/4" in said


def test_a_text_that_kills_its_worker_twice_is_skipped(tmp_path, capsys):
    words = ("a", "b", "kill", "c", "d", "kill-twice")
    job = make(tmp_path, words, size=3)
    engine.run(job, spec=Spec(2))
    reason = "its worker was killed (SIGKILL) twice, most likely for want of memory"
    # kill-twice killed the worker of its part twice, and was then done by itself.
    assert reasons(tmp_path) == {**dict.fromkeys(words), "kill": reason}
    assert [job.shelf.aside(part.digest) for part in job.parts] == [["kill"], []]
    assert job.shelf.names() == {part.digest for part in job.parts}
    assert "light: kill, skipped: its worker was killed" in capsys.readouterr().err


def test_a_part_of_one_text_that_kills_is_skipped(tmp_path):
    job = make(tmp_path, ("a", "kill"))
    engine.run(job, spec=Spec(2))
    assert reasons(tmp_path)["kill"]
    assert job.shelf.aside(job.parts[1].digest) == ["kill"]


def test_a_part_that_kills_and_cannot_be_split_is_a_failure(tmp_path):
    job = make(tmp_path, ("a", "kill", "b"), kind=WholeJob)
    with pytest.raises(UnfinishedError, match="kill: its worker was killed"):
        engine.run(job, spec=Spec(2))
    assert [part.label for part in job.missing()] == ["kill"]
    assert not (tmp_path / "texts.parquet").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_part_that_fails_ends_no_other(workers, tmp_path):
    job = make(tmp_path, ("a", "fail-1", "b", "fail-2", "c"))
    with pytest.raises(UnfinishedError) as stop:
        engine.run(job, spec=Spec(workers))
    head, line = str(stop.value).splitlines()
    assert head.startswith("light: 2 of 5 parts could not be done, so nothing was joined.")
    assert "and 1 more: ValueError: it fails. This is not an error we foresaw" in line
    assert [part.label for part in job.missing()] == ["fail-1", "fail-2"]
    assert {note["label"] for note in job.shelf.notes().values()} == {"fail-1", "fail-2"}
    assert not (tmp_path / "texts.parquet").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_ends_the_run_at_once(workers, tmp_path, capsys):
    from pipeline.console import sentences

    with pytest.raises(SystemExit), sentences():
        engine.run(make(tmp_path, ("full", *"abcdefgh")), spec=Spec(workers))
    said = capsys.readouterr().err
    assert "error: The disk is full ([Errno 28] No space left on device). Free some space" in said
    assert len(make(tmp_path, ("full", *"abcdefgh")).missing()) >= 7


def test_what_no_worker_can_begin_is_a_sentence(tmp_path):
    with pytest.raises(engine.InputError, match="There are no weights"):
        engine.run(make(tmp_path, fall="fail"), spec=Spec(2))


def test_a_worker_that_dies_before_it_begins_ends_the_run(tmp_path):
    with pytest.raises(engine.InputError, match="before it could begin"):
        engine.run(make(tmp_path, fall="die"), spec=Spec(2))


def test_another_worker_takes_the_place_of_one_killed_while_it_loads(tmp_path, capsys):
    one = make(tmp_path, ("a", "b", "c"), fall="die once")
    engine.run(one, spec=Spec(2))
    assert one.missing() == []
    assert "before it could begin" in capsys.readouterr().err


def test_two_runs_at_once_share_the_work(tmp_path, monkeypatch, capsys):
    """The second does what is free, says who holds the rest, and waits."""
    monkeypatch.setattr(attempts, "WAIT", 0.05)
    job = make(tmp_path, ("a", "b", "c"))
    lease = leases.take(job.shelf.folder, job.parts[1].digest)
    job.shelf.put(job.parts[0], job.do(job.parts[0]))

    def other() -> None:
        time.sleep(0.5)
        with lease:
            job.shelf.put(job.parts[1], job.do(job.parts[1]))

    thread = threading.Thread(target=other)
    thread.start()
    engine.run(job)
    thread.join()
    said = capsys.readouterr().err
    assert f"light: waits for parts that another run does (process {os.getpid()} on " in said
    order = [line.split()[2].strip(",") for line in said.splitlines() if "left" in line]
    assert order == ["c", "b"]


def test_a_part_that_a_killed_process_left_is_done_by_a_worker(tmp_path, capsys):
    """So that with one worker too a text that kills is found out, and ends no run."""
    folder = tmp_path / "shelf"
    words = ("a", "kill")
    start = [sys.executable, "-c", f"from tests.light import *; {START.format(tmp_path, words)}"]
    assert subprocess.run(start, cwd=store.ROOT, check=False).returncode == -signal.SIGKILL
    assert [holder for _, holder in leases.held(folder)] == [None]
    assert [part.label for part in make(tmp_path, words).missing()] == ["kill"]
    engine.run(make(tmp_path, words), spec=Spec(1))
    assert reasons(tmp_path)["kill"]
    assert list(leases.held(folder)) == []


START = "engine.run(make(Path('{}'), {}), spec=Spec(1))"


def group(number: int) -> list[int]:
    """The processes of a process group that are alive."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(of) == number and state != "Z":
            found.append(int(stat.parent.name))
    return found


def until(true) -> None:
    for _ in range(200):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("not within ten seconds")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_a_run_killed_at_twenty_instants_gives_the_same_bytes(tmp_path, undisturbed):
    """The whole of it, or one of its processes at random, with one worker and with two."""
    choose = random.Random(6)
    for turn in range(20):
        workers = 1 + turn % 2
        run = subprocess.Popen(
            [sys.executable, "-m", "tests.light", str(tmp_path), str(workers)],
            cwd=store.ROOT,
            start_new_session=True,
            stderr=subprocess.DEVNULL,
        )
        until(lambda run=run: run.poll() is not None or (tmp_path / "shelf").exists())
        time.sleep(choose.uniform(0, 0.5 if workers == 1 else 2.0))
        for pid in choose.sample(found := group(run.pid), min(len(found), choose.choice([1, 9]))):
            os.kill(pid, signal.SIGKILL)
        if turn % 4 == 3:  # let it end by itself, if it was one of its workers
            run.wait(60)
        else:
            os.kill(run.pid, signal.SIGKILL)
            run.wait(60)
        until(lambda run=run: group(run.pid) == [])  # no worker outlives its parent
        if (tmp_path / "texts.parquet").exists():
            assert made(tmp_path) == undisturbed
            (tmp_path / "texts.parquet").unlink()
            for part in choose.sample(make(tmp_path).parts, 18):
                make(tmp_path).shelf.drop(part.digest)
    engine.run(make(tmp_path))
    assert made(tmp_path) == undisturbed
    assert {path.name for path in (tmp_path / "shelf").iterdir()} == {
        part.digest for part in make(tmp_path).parts
    }
