import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import files, store
from pipeline.work import leases
from pipeline.work.leases import Holder, Lease


def write(folder, **changes) -> None:
    holder = {"host": files.host(), "pid": os.getpid(), "since": "then"} | changes
    (folder / ".a.lease").write_text(json.dumps(holder))


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that was."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_lease_is_one_process_s(tmp_path):
    lease = leases.take(tmp_path / "shelf", "a")
    assert isinstance(lease, Lease)
    with lease:
        holder = leases.take(tmp_path / "shelf", "a")
        assert isinstance(holder, Holder)
        assert (holder.host, holder.pid) == (files.host(), os.getpid())
        assert list(leases.held(tmp_path / "shelf")) == [("a", holder)]
        assert isinstance(leases.take(tmp_path / "shelf", "b"), Lease)
    assert isinstance(leases.take(tmp_path / "shelf", "a"), Lease)


def test_a_dead_process_of_this_host_holds_nothing(tmp_path, dead):
    write(tmp_path, pid=dead)
    assert list(leases.held(tmp_path)) == [("a", None)]
    assert isinstance(leases.take(tmp_path, "a"), Lease)


def test_of_another_host_only_the_heartbeat_tells(tmp_path, dead):
    write(tmp_path, host="elsewhere", pid=dead)
    assert leases.take(tmp_path, "a") == Holder("elsewhere", dead, "then")
    past = (tmp_path / ".a.lease").stat().st_mtime - leases.STALE - 1
    os.utime(tmp_path / ".a.lease", (past, past))
    assert isinstance(leases.take(tmp_path, "a"), Lease)


def test_a_time_in_the_future_is_no_heartbeat(tmp_path, monkeypatch):
    """A host whose clock was ahead died: its lease counted as fresh until that time came."""
    clock = [1000.0]
    monkeypatch.setattr(leases.time, "monotonic", lambda: clock[0])
    write(tmp_path, host="elsewhere")
    ahead = (tmp_path / ".a.lease").stat().st_mtime + 3600
    for beat in range(3):  # alive: its time is wrong, and changes
        os.utime(tmp_path / ".a.lease", (ahead + beat, ahead + beat))
        assert leases.take(tmp_path, "a").host == "elsewhere"
        clock[0] += leases.STALE - 1
    assert leases.take(tmp_path, "a").host == "elsewhere"
    clock[0] += 2
    assert isinstance(leases.take(tmp_path, "a"), Lease)


def test_a_holder_s_heart_beats(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "BEAT", 0.01)
    lease = leases.take(tmp_path, "a")
    os.utime(tmp_path / ".a.lease", (0, 0))
    with lease:
        for _ in range(1000):
            if (tmp_path / ".a.lease").stat().st_mtime > 0:
                return
            lease._over.wait(0.01)
    raise AssertionError("not touched")


def test_one_that_is_just_being_written_is_held(tmp_path):
    (tmp_path / ".a.lease").touch()
    assert leases.take(tmp_path, "a") == leases.NOBODY


def test_who_was_taken_over_leaves_the_other_s_lease(tmp_path):
    with leases.take(tmp_path, "a"):
        write(tmp_path, host="elsewhere")
    assert (tmp_path / ".a.lease").exists()


def test_drafts_of_the_dead_are_swept(tmp_path, dead):
    def draft(host: str, pid: int):
        folder = tmp_path / f".part.{host}.{pid}.{'0' * 32}.draft"
        folder.mkdir()
        (folder / "file").touch()
        return folder

    mine, theirs = files.draft_of(tmp_path / "part"), draft("elsewhere", dead)
    mine.mkdir()
    (tmp_path / ".notes.draft").mkdir()
    gone = draft(files.host(), dead)
    files.sweep(tmp_path)
    assert not gone.exists()
    assert mine.exists()
    assert theirs.exists()
    assert (tmp_path / ".notes.draft").exists()
    files.sweep(tmp_path / "absent")


def test_who_writes_next_clears_what_the_dead_left(tmp_path, dead, monkeypatch):
    """Twelve killed runs left twelve drafts of the corpus, which no later run removed."""
    for number in range(12):
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: dead)
            files.draft_of(tmp_path / ("text.parquet" if number % 2 else "index.html")).touch()
    assert len(list(tmp_path.iterdir())) == 12
    store.write_text(tmp_path / "index.html", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


def test_a_name_of_255_bytes_can_be_written(tmp_path):
    path = tmp_path / ("é" * 127 + "a")
    store.write_text(path, "whole")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EFBIG])
def test_a_write_that_fails_names_its_file_and_leaves_no_draft(tmp_path, number):
    with pytest.raises(OSError) as error, files.written(tmp_path / "a") as draft:
        draft.touch()
        raise OSError(number, "so it was")
    assert error.value.filename == str(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="Linux's /proc")
def test_a_process_that_nobody_has_waited_for_is_dead():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert files.alive(process.pid)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    os.kill(process.pid, 0)  # its number is still taken
    assert not files.alive(process.pid)
    process.wait()
    assert not files.alive(process.pid)


def test_a_lease_made_in_a_dead_ones_place_is_not_removed(tmp_path, monkeypatch):
    """Two processes saw it dead: the slower one finds the lease of the faster, and leaves it."""
    dead = Holder(leases.host(), 2**22, "then")
    with leases.take(tmp_path, "part"):
        [file] = tmp_path.glob(".*.lease")
        real, seen = leases._holder, [dead, dead]
        # Until it is renamed, this process sees the dead one's.
        monkeypatch.setattr(leases, "_holder", lambda at: seen.pop() if seen else real(at))
        leases._remove_dead(file)
        assert seen == []
        assert leases.live(file).pid == os.getpid()
        assert [*tmp_path.iterdir()] == [file]
    assert [*tmp_path.iterdir()] == []


def test_a_dead_ones_is_removed(tmp_path):
    file = leases._file(tmp_path, "part")
    file.write_text(json.dumps({"host": leases.host(), "pid": 2**22, "since": "then"}))
    leases._remove_dead(file)
    assert [*tmp_path.iterdir()] == []
