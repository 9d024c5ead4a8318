"""How memory and time grow with the number of texts: `python -m benchmarks.memory`.

Runs every stage of the pipeline, each in a process of its own, on a made file of texts cut after
so many, and shows what each stage's log says: seconds, peak memory; and what the system counts of
processor time, which other work on the machine changes less.
"""

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import inputs, record
from pipeline import store
from pipeline.console import say, sentences

Row = dict[str, Any]

COMMAND = "python -m benchmarks.memory"
MEANING = "of the stage alone, without its start"
SIZES = (100, 1_000, 10_000)
WORDS = (4, 40)  # of a line: some 5 to 60 tokens
SEED = 6
OF_A_MODEL = ("diagrams", "attention", "context", "equivariance")
STAGES = ("corpus", *OF_A_MODEL, "comparison", "report")


def main(words: Sequence[str] | None = None) -> None:
    """Measure the sizes asked for, print the Markdown, and keep it in a folder."""
    options = _arguments(words)
    with sentences():
        about = record.setting()
        rows = measure(options.model, options.sizes, options.overrides)
        tables = f"{record.table(rows)}\n\n{record.table(growth(rows))}\n"
        page = f"{record.heading(about, COMMAND, MEANING)}\n{tables}"
        print(page)
        store.write_text(options.to / "memory.md", page)
        say(f"benchmarks: kept in {options.to}")


def measure(model: str, sizes: Sequence[int], overrides: Sequence[str]) -> list[Row]:
    """A row for each size and stage: seconds, and peak memory of its process in MB."""
    home = store.work_folder() / "benchmarks" / "memory"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    store.write_text(home / "texts.txt", lines(max(sizes)))
    return [row for size in sizes for row in _run(home, model, size, overrides)]


def lines(count: int) -> str:
    """So many lines of different lengths, of the shipped corpus's words; by a seed."""
    sentences = map(json.loads, inputs.SENTENCES.read_text("utf-8").splitlines())
    words = sorted({word for sentence in sentences for word in sentence["text"].split()})
    draw = random.Random(SEED)
    drawn = (draw.choices(words, k=draw.randint(*WORDS)) for _ in range(count))
    return "\n".join(map(" ".join, drawn)) + "\n"


def growth(rows: Sequence[Row]) -> list[Row]:
    """For each stage, its largest peak of memory over that of the fewest texts, and its time.

    time = start + a text * texts, by least squares on the relative errors; off is the largest
    of these, in percent: of a time that is not linear it is large.
    """
    found = []
    for stage in STAGES:
        of_stage = [row for row in rows if row["stage"] == stage]
        peaks = [row["peak_mb"] for row in of_stage]
        clocks = {name: _line(of_stage, name) for name in ("seconds", "cpu_seconds")}
        fits = {f"{name}_{key}": of[key] for name, of in clocks.items() for key in of}
        found.append({"stage": stage, "memory_ratio": max(peaks) / peaks[0], **fits})
    return found


def _line(rows: Sequence[Row], clock: str) -> dict[str, float]:
    texts, times = (np.array([row[key] for row in rows]) for key in ("texts", clock))
    terms = np.column_stack([np.ones(len(texts)), texts])
    (start, a_text), *_ = np.linalg.lstsq(terms / times[:, None], np.ones(len(texts)))
    off = terms @ (start, a_text) / times - 1
    return {
        "at_start": float(start),
        "a_1000_texts": float(1000 * a_text),
        "off_percent": float(100 * np.abs(off).max()),
    }


def _run(home: Path, model: str, size: int, overrides: Sequence[str]) -> list[Row]:
    folder = home / str(size)
    folder.mkdir()
    (folder / "conf").symlink_to(store.ROOT / "conf")
    environment = {
        **os.environ,
        "PYTHONPATH": str(store.ROOT),
        "ATTENTION_TOPOLOGY_WORK": str(folder / "parts"),
    }
    others = [f"~model@models.{name}" for name in inputs.MODELS if name != model]
    source = [f"corpus.path={home / 'texts.txt'}", f"corpus.limit={size}"]
    _call(folder, environment, "compose", "corpus=text", *source, *others, *overrides)
    spent = {
        stage: _call(folder, environment, stage, *([f"+model={model}"] * (stage in OF_A_MODEL)))
        for stage in STAGES
    }
    log = (folder / store.LOGS / "runs.jsonl").read_text("utf-8").splitlines()
    return [_row(size, json.loads(line), spent) for line in log]


def _call(folder: Path, environment: Mapping[str, str], stage: str, *words: str) -> float:
    """Run a stage, and return the seconds that processors worked for it."""
    command, before = [sys.executable, "-m", f"stages.{stage}", *words], _processors()
    with (folder / f"{stage}.txt").open("w") as said:
        subprocess.run(command, cwd=folder, env=environment, check=True, stderr=said)
    return _processors() - before


def _processors() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _row(size: int, logged: Mapping[str, Any], spent: Mapping[str, float]) -> Row:
    stage, seconds, peak = (logged[key] for key in ("stage", "seconds", "peak_memory_mb"))
    say(f"{size} texts, {stage}: {seconds} s, {peak} MB")
    return {
        "texts": size,
        "stage": stage,
        "seconds": seconds,
        "cpu_seconds": round(spent[stage], 2),
        "peak_mb": peak,
    }


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of the configuration")
    parser.add_argument("--model", choices=inputs.MODELS, default=inputs.MODELS[0])
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, metavar="N")
    parser.add_argument("--to", type=Path, default=Path(__file__).parent / "results")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
