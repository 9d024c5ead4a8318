"""A job light enough to be started, and killed, many times: `python -m tests.light FOLDER WORKERS`.

Each part says the word it is made of, in the table of texts; what a word does else is told here.
"""

import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from pipeline import engine, store
from pipeline.parts import Job, Part, Shelf

WORDS = tuple(f"word{number}" for number in range(24))


class Spec(NamedTuple):
    """What the engine reads of the configuration."""

    workers: int
    threads: int | None = 1


def make(folder: Path, words: tuple[str, ...] = WORDS, size: int = 1) -> Job:
    def cut(start: int, stop: int) -> Part:
        few = words[start:stop]
        return Part(store.digest(["light", few]), " ".join(few), (start, stop))

    def do(part: Part) -> Mapping[str, pa.Table]:
        few = words[slice(*part.inputs)]
        for word in few:
            act(folder, word)
        return texts(few, [None] * len(few))

    return Job(
        title="light",
        shelf=Shelf(folder / "shelf"),
        parts=[cut(start, min(start + size, len(words))) for start in range(0, len(words), size)],
        do=do,
        outputs={"texts": folder / "texts.parquet"},
        provenance={"light": list(words)},
        remake=partial(again, folder, words, size),
        split=lambda part: [cut(one, one + 1) for one in range(*part.inputs)],
        aside=lambda part, reason: texts([words[part.inputs[0]]], [reason]),
    )


def again(folder: Path, words: tuple[str, ...], size: int) -> list[Job]:
    return [make(folder, words, size)]


def two(folder: Path) -> list[Job]:
    """Two jobs of one stage, whose parts say which process did them."""
    jobs = [make(folder / name, ("who-1", "who-2", "who-3")) for name in ("first", "second")]
    return [replace(job, remake=partial(two, folder), number=k) for k, job in enumerate(jobs)]


def texts(words: list[str] | tuple[str, ...], reasons: list[str | None]) -> Mapping[str, pa.Table]:
    rows = len(words)
    columns = {
        "model": pa.repeat("light", rows),
        "text_id": pa.array(words),
        "total_tokens": pa.repeat(1, rows),
        "tokens": pa.repeat(1, rows),
        "cut": pa.repeat(False, rows),
        "reason": pa.array(reasons, pa.string()),
    }
    return {"texts": pa.table(columns).cast(store.SCHEMAS["texts"])}


def act(folder: Path, word: str) -> None:
    """kill: always; kill-once, kill-twice: so often; who: its process; fail: an error; slow."""
    kind = word.partition("-")[0]
    if kind == "kill":
        times = {"once": 1, "twice": 2}.get(word.partition("-")[2], 99)
        count = folder / f"{word}.count"
        before = len(count.read_text()) if count.exists() else 0
        if before < times:
            count.write_text("x" * (before + 1))
            os.kill(os.getpid(), signal.SIGKILL)
    if kind == "who":
        (folder / word).write_text(str(os.getpid()))
    if kind == "fail":
        raise ValueError("it fails")
    if kind == "full":
        raise OSError(28, "No space left on device")
    time.sleep(5 if kind == "slow" else 0.02)


if __name__ == "__main__":
    engine.run(make(Path(sys.argv[1])), spec=Spec(int(sys.argv[2])))
