"""How much faster two workers are than one: `python -m benchmarks.workers`.

The diagrams stage of the default models and the comparison of both, each from the start of the
command to its end, each worker with one thread, in turn with one worker and with two; the bytes
of the tables are compared too. What a start takes (Python, torch, the model: some seconds) and
the join are the same for both, so the ratio grows with the texts. Needs two idle cores, and the
default run's corpus; takes half an hour.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks import inputs, record
from pipeline import store
from pipeline.console import say, sentences
from pipeline.jobs.diagrams import TABLES

COMMAND = "python -m benchmarks.workers"
MEANING = "from the start of a command to its end, medians; a ratio is one worker's over two's"
WORKERS = (1, 2)
# What each stage makes, and of how many texts, so that one worker takes about a minute or two.
DIAGRAMS = {model: [store.path(table, model) for table in TABLES] for model in inputs.MODELS}
COMPARISON = [store.path(table) for table in ("head_distances", "text_distances")]
FEW, MANY = 600, 2400


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print the Markdown, and keep it in a folder."""
    options = _arguments(words)
    with sentences():
        about = record.setting()
        rows = measure(options.rounds, options.few, options.many)
        page = f"{record.heading(about, COMMAND, MEANING)}\n{record.table(rows)}\n"
        print(page)
        store.write_text(options.to / "workers.md", page)
        say(f"benchmarks: kept in {options.to}")


def measure(rounds: int, few: int, many: int) -> list[dict[str, Any]]:
    """A row for each stage and number of texts: seconds by workers, and their ratio."""
    home = store.work_folder() / "benchmarks" / "workers"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    shutil.copy("params.yaml", home)
    _corpus(home, few)
    rows = [_raced(home, f"diagrams {model}", few, rounds) for model in inputs.MODELS]
    rows.append(_raced(home, "comparison", few, rounds))
    _corpus(home, many)
    return [*rows, _raced(home, f"diagrams {inputs.MODELS[0]}", many, rounds)]


def _corpus(home: Path, texts: int) -> None:
    table = store.read(store.path("corpus", "parallel"))
    rows = table.take([i % len(table) for i in range(texts)])
    # Else parts of the same texts would be the same part.
    ids = pa.array([f"text{i}" for i in range(texts)])
    rows = rows.set_column(0, rows.schema.field("text_id"), ids)
    store.write(home / store.path("corpus", "parallel"), "corpus", [rows], {})


def _raced(home: Path, stage: str, texts: int, rounds: int) -> dict[str, Any]:
    times = np.array([[_run(home, stage, workers) for workers in WORKERS] for _ in range(rounds)])
    one, two = np.median(times, axis=0).tolist()
    each = times[:, 0] / times[:, 1]
    say(f"{stage}, {texts} texts: {one:.1f} s, {two:.1f} s, {one / two:.2f} times")
    return {
        "stage": stage,
        "texts": texts,
        "seconds_with_1": round(one, 1),
        "with_2": round(two, 1),
        "ratio": round(one / two, 2),
        "of_single_rounds": f"{each.min():.2f} to {each.max():.2f}",
    }


def _run(home: Path, stage: str, workers: int) -> float:
    """Seconds of one run, from no part done; its tables must be those of the run before."""
    name, _, model = stage.partition(" ")
    outputs = [home / path for path in (DIAGRAMS[model] if model else COMPARISON)]
    corpus = store.sha256(home / store.path("corpus", "parallel"))
    before = _hashes(outputs, corpus)
    work = home / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    for converted in store.work_folder().glob("gguf-*"):
        (work / converted.name).symlink_to(converted)
    words = [*([f"+model={model}"] if model else []), f"engine.workers={workers}"]
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", f"stages.{name}", *words, "engine.threads=1"],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(store.ROOT), "ATTENTION_TOPOLOGY_WORK": str(work)},
        stderr=subprocess.DEVNULL,
        check=True,
    )
    spent = time.perf_counter() - started
    if before and before != _hashes(outputs, corpus):
        raise AssertionError(f"{stage}: the tables differ with {workers} workers")
    return spent


def _hashes(outputs: Sequence[Path], corpus: str) -> list[str]:
    """Of the tables that are there; none where they are of another corpus."""
    there = [path for path in outputs if path.is_file()]
    if any(store.read_provenance(path)["corpus"] != corpus for path in there):
        return []
    return [store.sha256(path) for path in there]


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(COMMAND)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--few", type=int, default=FEW, help="texts of all stages")
    parser.add_argument("--many", type=int, default=MANY, help="texts of the smaller model's")
    parser.add_argument("--to", type=Path, default=Path("benchmarks/results"))
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
