"""What is said of work under way, on jobs that are light."""

import json
import os
from dataclasses import replace

import pytest

from pipeline import drafts, jobs, leases
from pipeline.errors import InputError
from stages import parts, status
from tests import light


@pytest.fixture
def work(tmp_path, monkeypatch, settings):
    """A work folder, and one stage whose job is light."""
    monkeypatch.setenv("ATTENTION_TOPOLOGY_WORK", str(tmp_path))
    monkeypatch.setattr(jobs, "BULK", {"shelf": False})
    monkeypatch.setattr(jobs, "of", lambda settings, stage, model=None: [job(tmp_path)])
    return tmp_path


def job(folder, words=("a", "b", "c", "d")):
    return light.make(folder, words)


def put(folder, number: int, seconds: float = 0.0, **facts) -> None:
    made = job(folder)
    made.shelf.put(made.parts[number], made.do(made.parts[number]), seconds, **facts)


def test_nothing_done(work, settings):
    assert list(status.lines(settings)) == [
        "light: 0 of 4 parts done, time left unknown until a part is done"
    ]


def test_done_running_failed_and_the_time_left(work, settings):
    put(work, 0, seconds=10)
    put(work, 1, seconds=30)
    made = job(work)
    made.shelf.note(made.parts[3], "It fails.")
    with leases.take(made.shelf.folder, made.parts[2].digest):
        since = next(leases.held(made.shelf.folder))[1].since
        told = list(status.lines(settings))
    assert told == [
        "light: 2 of 4 parts done, 1 running, 1 failed, about 40 s left",
        f"  running: c (process {os.getpid()} on {drafts.host()}, since {since})",
        "  failed: d: It fails.",
    ]
    put(work, 3)
    assert list(status.lines(settings)) == ["light: 3 of 4 parts done, about 13 s left"]


def test_all_done_then_joined(work, settings):
    for number in range(4):
        put(work, number)
    assert list(status.lines(settings)) == ["light: 4 of 4 parts done, not joined"]
    job(work).join()
    assert list(status.lines(settings)) == ["light: 4 of 4 parts done, joined"]
    other = replace(job(work), provenance={"light": "other"})
    assert not other.joined()


def test_what_waits_for_another_stage_says_so(settings, monkeypatch):
    def waits(settings, stage, model=None):
        raise InputError("There is no table.")

    monkeypatch.setattr(jobs, "of", waits)
    told = list(status.lines(settings))
    assert told[0] == "diagrams minilm: not yet: There is no table."
    assert told[-1] == "comparison: not yet: There is no table."


@pytest.fixture
def kept(work, settings):
    """Two parts of this configuration, one with a text set aside, and two old ones, one held."""
    put(work, 0)
    put(work, 1, aside=["b"])
    old = job(work, ("x", "y"))
    for part in old.parts:
        old.shelf.put(part, old.do(part))
    holder = {"host": "elsewhere", "pid": 1, "since": "then"}
    (work / "shelf" / f".{old.parts[1].digest}.lease").write_text(json.dumps(holder))
    return work


def left(folder) -> list[str]:
    made = {
        part.digest: part.label for part in (*job(folder).parts, *job(folder, ("x", "y")).parts)
    }
    return sorted(made[name] for name in job(folder).shelf.names())


def test_parts_are_listed(kept, settings):
    line = parts.told(parts.stock(settings, "shelf"))
    assert "shelf: 4 parts, " in line
    assert line.endswith("2 of this configuration, 2 old; 1 with a text set aside; 1 being done")


@pytest.mark.parametrize(
    ("options", "stay"),
    [
        ([], ["a", "b", "y"]),
        (["--aside"], ["a", "x", "y"]),
        (["--all"], ["y"]),
        (["--all", "--dry-run"], ["a", "b", "x", "y"]),
    ],
)
def test_parts_are_cleared_but_never_one_that_is_being_done(options, stay, kept, settings):
    said = parts.clear(parts.stock(settings, "shelf"), set(options))
    assert f"{'would clear' if '--dry-run' in options else 'cleared'} " in said
    assert left(kept) == stay


def test_where_old_cannot_be_told_nothing_is_cleared(kept, settings, monkeypatch):
    def waits(settings, stage, model=None):
        raise InputError("There is no table.")

    monkeypatch.setattr(jobs, "of", waits)
    found = parts.stock(settings, "shelf")
    assert "cannot be told yet (There is no table.)" in parts.told(found)
    assert "nothing cleared" in parts.clear(found, set())
    assert left(kept) == ["a", "b", "x", "y"]
    parts.clear(found, {"--all"})
    assert left(kept) == ["y"]


@pytest.mark.parametrize("words", [[], ["lost"], ["list", "--all"], ["clear", "-n"]])
def test_other_words_are_refused(words):
    with pytest.raises(InputError, match=r"python -m stages.parts list, or clear"):
        parts.main(words)
