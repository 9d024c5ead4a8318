"""pipeline.jobs.stock: the parts that are kept, and which of them go; on jobs that are light."""

import json

import pytest

from pipeline import jobs
from pipeline.errors import InputError
from pipeline.jobs import stock
from tests.jobs.test_progress import job, put


@pytest.fixture
def kept(work, settings):
    """Two parts of this configuration, one with a text skipped, and two old ones, one held."""
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
    line = stock.summary(stock.stock(settings, "shelf"))
    assert "shelf: 4 parts, " in line
    assert line.endswith("2 of this configuration, 2 old; 1 with a text skipped; 1 being done")


@pytest.mark.parametrize(
    ("which", "dry_run", "stay"),
    [
        ("old", False, ["a", "b", "y"]),
        ("aside", False, ["a", "x", "y"]),
        ("all", False, ["y"]),
        ("all", True, ["a", "b", "x", "y"]),
    ],
)
def test_parts_are_cleared_but_never_one_that_is_being_done(which, dry_run, stay, kept, settings):
    said = stock.clear(stock.stock(settings, "shelf"), which, dry_run)
    assert f"{'would clear' if dry_run else 'cleared'} " in said
    assert left(kept) == stay


def test_where_old_is_not_known_nothing_is_cleared(kept, settings, monkeypatch):
    def waits(settings, stage, model=None):
        raise InputError("There is no table.")

    monkeypatch.setattr(jobs, "of", waits)
    found = stock.stock(settings, "shelf")
    assert "is not known yet (There is no table.)" in stock.summary(found)
    assert "nothing cleared" in stock.clear(found)
    assert left(kept) == ["a", "b", "x", "y"]
    stock.clear(found, "all")
    assert left(kept) == ["y"]
