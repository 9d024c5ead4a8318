"""`make demo`'s command in a tree without .git, as an archive of the sources is."""

import shutil
import sys

import pytest

from tests.clone import small

pytestmark = pytest.mark.integration


def test_an_archive_of_the_sources_runs_and_says_what_is_not_known_there(tmp_path):
    clone = small(tmp_path)
    shutil.rmtree(clone.folder / ".git")
    said = clone.run(sys.executable, "-m", "commands.demo")
    assert "this folder is not a git repository: DVC runs without it" in said
    assert "outputs/tables/head_distances.parquet" in said
    made = clone.frame("outputs/tables/head_distances.parquet")
    assert set(made.model_a) == {"tiny"}
    table = "outputs/tables/head_distances.parquet"
    assert "known in a git repository only" in clone.run(
        sys.executable, "-m", "commands.whence", table
    )
    for words in (("commands.reproduce",), ("commands.compare", "v1", "v2")):
        answer = clone.say(sys.executable, "-m", *words)
        assert answer.returncode != 0
        assert "is no git repository" in answer.stderr
        assert "Traceback" not in answer.stderr
