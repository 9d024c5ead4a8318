"""The real commands on a tiny model: however the work is done, the tables are the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from pipeline import store
from tests import tiny

pytestmark = pytest.mark.integration

TEXTS = [f"{tiny.SENTENCES[i % 3]} {i}" for i in range(4)]
DIAGRAMS = [store.path(table, "bert") for table in ("texts", "heads", "clusters", "diagrams")]
COMPARISON = [store.path(table) for table in ("head_distances", "text_distances")]


class Place:
    """A folder with a corpus and a configuration of one tiny model, and what one types there."""

    def __init__(self, folder: Path, composed: dict[str, Any], model: Path) -> None:
        self.folder = folder
        spec = asdict(tiny.spec(model))
        (folder / "params.yaml").write_text(yaml.safe_dump({**composed, "models": {"bert": spec}}))
        rows = [
            {"text_id": f"t{i}", "text": text, "language": None, "group": "g", "source": f"x#{i}"}
            for i, text in enumerate(TEXTS)
        ]
        table = pa.Table.from_pylist(rows, store.SCHEMAS["corpus"])
        store.write(folder / store.path("corpus", "parallel"), "corpus", [table], {})

    def start(self, stage: str, *words: str, work: str = "work") -> subprocess.Popen[str]:
        model = [] if stage == "comparison" else ["+model=bert"]
        return subprocess.Popen(
            [sys.executable, "-m", f"stages.{stage}", *model, *words],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(store.ROOT),
                "ATTENTION_TOPOLOGY_WORK": str(self.folder / work),
            },
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, stage: str, *words: str, work: str = "work") -> str:
        started = self.start(stage, *words, work=work)
        said = started.communicate()[1]
        assert started.returncode == 0, said
        return said

    def hashes(self, files: list[Path]) -> list[str]:
        return [store.sha256(self.folder / file) for file in files]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny.save("bert", tmp_path_factory.mktemp("model") / "bert")


@pytest.fixture(scope="module")
def alone(tmp_path_factory, composed, model) -> Place:
    """Everything done by one process of one thread, part after part."""
    place = Place(tmp_path_factory.mktemp("alone"), composed, model)
    for stage in ("diagrams", "comparison"):
        place.run(stage, "engine.workers=1", "engine.threads=1")
    return place


def test_workers_threads_and_the_cut_change_no_byte(alone, tmp_path, composed, model):
    place = Place(tmp_path, composed, model)
    said = place.run("diagrams", "engine.workers=2", "engine.part_texts=1")
    assert "diagrams bert: 4/4 1 texts" in said
    place.run("comparison", "engine.workers=2", "engine.threads=2", "engine.part_pairs=20")
    assert place.hashes(DIAGRAMS) == alone.hashes(DIAGRAMS)
    assert place.hashes(COMPARISON) == alone.hashes(COMPARISON)


def test_a_stage_that_is_killed_goes_on_where_it_was(alone, tmp_path, composed, model):
    place, choose = Place(tmp_path, composed, model), random.Random(20)
    shelf = tmp_path / "work" / "diagrams"
    for workers in (1, 2):
        run = place.start("diagrams", f"engine.workers={workers}", "engine.part_texts=1")
        before = set(shelf.glob("[0-9a-f]*"))
        while run.poll() is None and set(shelf.glob("[0-9a-f]*")) == before:
            time.sleep(0.01)
        time.sleep(choose.uniform(0, 0.1))
        with suppress(ProcessLookupError):  # the last parts take less than that on a fast machine
            os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
    assert "parts done before" in place.run("diagrams", "engine.part_texts=1")
    assert place.hashes(DIAGRAMS) == alone.hashes(DIAGRAMS)


def test_a_text_there_is_no_memory_for_is_refused(alone):
    refused = alone.start("diagrams", "engine.memory_mb=100", work="other")
    said = refused.communicate()[1]
    assert refused.returncode == 1
    assert "diagrams bert: 1 of 1 parts could not be done, so nothing was joined" in said
    assert "needs about 6" in said
    assert "a worker may use 100 (engine.memory_mb). Set models.bert.max_tokens to" in said
    assert "Traceback" not in said
