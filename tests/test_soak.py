"""A little of each attack of `python -m benchmarks.soak`, whose figures are of many more."""

import os
import re
import subprocess
import sys

import pytest

from benchmarks.soak import Attack, __main__
from pipeline import store

STAGES = ("corpus", "diagrams", "comparison", "samples")  # the fast ones
COUNTS = {"kills": 20, "disks": 12, "flips": 12, "crowds": 2}


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    """What a short soak wrote. It forks, so it has a process of its own."""
    folder = tmp_path_factory.mktemp("soak")
    counts = [word for name, count in COUNTS.items() for word in (f"--{name}", str(count))]
    only = ["--only", *COUNTS, "--rounds", "1", "--stages", *STAGES]
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", "--to", folder, *counts, *only],
        cwd=store.ROOT,
        env={**os.environ, "ATTENTION_TOPOLOGY_WORK": str(folder / "work")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode in (0, 1), answer.stderr
    return (folder / "soak.md").read_text("utf-8")


def held(page: str, kind: str) -> None:
    tried, wrong = re.search(rf"^\| {kind} \| (\d+) \| .* \| (\d+) \| .* \|$", page, re.M).groups()
    assert int(wrong) == 0, page
    assert int(tried) >= COUNTS[kind] - 4  # a kill at random may come after the end


def test_a_killed_run_goes_on_to_the_same_bytes(page):
    held(page, "kills")


def test_a_run_on_a_bad_disk_ends_in_a_sentence_and_goes_on_to_the_same_bytes(page):
    held(page, "disks")


def test_a_changed_byte_is_told_or_made_good(page):
    held(page, "flips")


def test_a_crowd_ends_with_the_bytes_of_one(page):
    held(page, "crowds")


def test_the_page_shows_what_was_wrong():
    about = dict.fromkeys(("date", "commit", "cpu", "cores", "memory_gb", "system", "python"), 1)
    made = {"date": "2026-11-27T10:00", "commit": "abc"}
    rows = {"kills": vars(Attack("kills", 1234, ["a", "b"], ["it\nfell"])) | made}
    page = __main__.page(rows, about)
    assert "| kills | 1,234 | a; b | 1 | 2026-11-27, abc |" in page
    assert page.endswith("## Wrong\n\n- kills: it fell\n")
