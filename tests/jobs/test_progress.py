"""pipeline.jobs.progress: what is said of work under way, on jobs that are light."""

import os
from dataclasses import replace

from pipeline import files, jobs
from pipeline.errors import InputError
from pipeline.jobs import progress
from pipeline.work import leases
from tests import light


def job(folder, words=("a", "b", "c", "d")):
    return light.make(folder, words)


def put(folder, number: int, seconds: float = 0.0, **facts) -> None:
    made = job(folder)
    made.shelf.put(made.parts[number], made.do(made.parts[number]), seconds, **facts)


def test_nothing_done(work, settings):
    assert list(progress.lines(settings)) == [
        "light: 0 of 4 parts done, time left unknown until a part is done"
    ]


def test_done_running_failed_and_the_time_left(work, settings):
    put(work, 0, seconds=10)
    put(work, 1, seconds=30)
    made = job(work)
    made.shelf.note(made.parts[3], "It fails.")
    with leases.take(made.shelf.folder, made.parts[2].digest):
        since = next(leases.held(made.shelf.folder))[1].since
        told = list(progress.lines(settings))
    assert told == [
        "light: 2 of 4 parts done, 1 running, 1 failed, about 40 s left",
        f"  running: c (process {os.getpid()} on {files.host()}, since {since})",
        "  failed: d: It fails.",
    ]
    put(work, 3)
    assert list(progress.lines(settings)) == ["light: 3 of 4 parts done, about 13 s left"]


def test_all_done_then_joined(work, settings):
    for number in range(4):
        put(work, number)
    assert list(progress.lines(settings)) == ["light: 4 of 4 parts done, not joined"]
    job(work).join()
    assert list(progress.lines(settings)) == ["light: 4 of 4 parts done, joined"]
    other = replace(job(work), provenance={"light": "other"})
    assert not other.joined()


def test_what_waits_for_another_stage_says_so(settings, monkeypatch):
    def waits(settings, stage, model=None):
        raise InputError("There is no table.")

    monkeypatch.setattr(jobs, "of", waits)
    told = list(progress.lines(settings))
    assert told[0] == "diagrams minilm: not yet: There is no table."
    assert told[-1] == "comparison: not yet: There is no table."
