"""A job light enough to be started, and killed, many times: `python -m tests.light FOLDER WORKERS`.

Each part says the word it is made of, in the table of texts; what a word does else is told here.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline import store
from pipeline.errors import InputError
from pipeline.work import engine
from pipeline.work.parts import Job, Part, Shelf

WORDS = tuple(f"word{number}" for number in range(24))


class Spec(NamedTuple):
    """What the engine reads of the configuration."""

    workers: int
    threads: int | None = 1


@dataclass(frozen=True)
class LightJob(Job):
    """fall   what becomes of a process that prepares it: "", "fail", "die" or "die once" """

    folder: Path
    words: tuple[str, ...]
    fall: str = ""

    def prepare(self) -> None:
        if self.fall == "fail":
            raise InputError("There are no weights.")
        if self.fall == "die" or (self.fall == "die once" and not (self.folder / "fell").exists()):
            (self.folder / "fell").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def do(self, part: Part) -> Mapping[str, pa.Table]:
        few = self.words[slice(*part.inputs)]
        for word in few:
            act(self.folder, word)
        return texts(few, [None] * len(few))

    def split(self, part: Part) -> list[Part]:
        return [cut(self.words, one, one + 1) for one in range(*part.inputs)]

    def skip(self, part: Part, reason: str) -> Mapping[str, pa.Table]:
        return texts([self.words[part.inputs[0]]], [reason])


class WholeJob(LightJob):
    """One whose parts have no pieces."""

    def split(self, part: Part) -> list[Part]:
        return []


def cut(words: tuple[str, ...], start: int, stop: int) -> Part:
    few = words[start:stop]
    return Part(store.digest(["light", few]), " ".join(few), (start, stop))


def make(folder: Path, words: tuple[str, ...] = WORDS, size: int = 1, **more: Any) -> LightJob:
    starts = range(0, len(words), size)
    return more.pop("kind", LightJob)(
        **{
            "title": "light",
            "shelf": Shelf(folder / "shelf"),
            "parts": [cut(words, start, min(start + size, len(words))) for start in starts],
            "outputs": {"texts": folder / "texts.parquet"},
            "provenance": {"light": list(words)},
            "folder": folder,
            "words": words,
            **more,
        }
    )


def two(folder: Path) -> list[LightJob]:
    """Two jobs of one stage, whose parts say which process did them."""
    words = ("who-1", "who-2", "who-3")
    return [make(folder / name, words, title=f"light {name}") for name in ("first", "second")]


@dataclass(frozen=True)
class DoneBy(Job):
    """A job whose parts a function does."""

    by: Callable[[Part], Mapping[str, pa.Table]]

    def do(self, part: Part) -> Mapping[str, pa.Table]:
        return self.by(part)


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
