"""Hostile inputs: files made to do harm, let in through every door of the program.

All that are kept in tests/hostile/, and mutations of valid ones. Each must give a result, a
reject with its reason, or a sentence, within a minute and a bound of memory, and do nothing else:
start no process, make no connection, write no file.
"""

import faulthandler
import importlib
import os
import random
import resource
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.soak import Attack, run
from benchmarks.soak.doors import DOORS, PATIENCE, WRONG, Input, Outcome, tried, watch
from benchmarks.soak.mutations import mutated
from pipeline import store

KEPT = store.ROOT / "tests/hostile"  # DOOR/FAULT/FILE
MEMORY = 8 << 30  # bytes that what reads an input may take
LIFE = 500  # inputs after which a process is followed by another
# Of the generated inputs; a model takes longer than all others.
SHARES = {
    "text": 12,
    "jsonl": 15,
    "csv": 15,
    "parquet": 12,
    "images": 12,
    "params": 10,
    "conf": 3,
    "overrides": 3,
    "model": 5,
    "gguf": 7,
    "table": 6,
}
NEEDED = (
    "PIL.JpegImagePlugin",
    "dvc.utils.hydra",
    "gguf",
    "stages.compose",
    "transformers.models.llama.modeling_llama",
    "transformers.models.vit.modeling_vit",
)


def attack(count: int, folder: Path, seed: int, say: Callable[[str], None]) -> Attack:
    """Let so many inputs in, those of tests/hostile first."""
    found = Attack("hostile")
    ways: Counter[str] = Counter()
    times: list[tuple[float, str]] = []
    kept = kept_inputs()
    with Reader(folder) as reader:
        inputs = [*kept, *generated(max(count - len(kept), 0), reader.valid, seed)]
        for number, given in enumerate(inputs):
            say(f"hostile: {number}/{len(inputs)} {given.door} {given.file!a}")
            outcome = reader.read(given)
            found.tried += 1
            ways[outcome.how] += 1
            times.append((outcome.seconds, f"{given.door} {given.file!a}"))
            if outcome.how == WRONG:
                place = _keep(given, folder / "wrong" / f"{number:05}-{given.door}")
                found.wrong.append(f"{given.door} {given.file!a}: {outcome.said} ({place})")
    found.figures = [
        f"{len(kept)} kept files, {len(inputs) - len(kept)} generated, {len(DOORS)} doors",
        ", ".join(f"{number} {how}" for how, number in sorted(ways.items())),
        f"{1000 * median(seconds for seconds, _ in times):.0f} ms an input (median), "
        "the slowest {:.1f} s ({})".format(*max(times)),
    ]
    return found


def kept_inputs() -> list[Input]:
    """The files of tests/hostile: the folder says the door, the one in it the fault."""
    found = []
    for path in sorted(KEPT.rglob("*")):
        if path.is_file():
            door, _, *inside = path.relative_to(KEPT).parts
            found.append(Input(door, "/".join(inside), path.read_bytes()))
    return found


def generated(count: int, valid: Path, seed: int) -> Iterator[Input]:
    """So many mutations of valid files, each door its share."""
    draw = random.Random(seed)
    files = {door: _files(valid / door) for door in DOORS}
    doors = draw.choices([*SHARES], [*SHARES.values()], k=count)
    for door in doors:
        file, data = draw.choice(files[door])
        others = [other for _, other in files[door]]
        yield Input(door, file, mutated(data, others, draw))


def _files(folder: Path) -> list[tuple[str, bytes]]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), path.read_bytes()) for path in found]


def _keep(given: Input, folder: Path) -> Path:
    place = folder / given.file
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(given.data)
    return place


class Reader:
    """A process that reads inputs, followed by another when it hangs, dies, or has read many."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self.valid = self._folder / "valid"
        self._read = 0
        self._process: Any = None
        self._pipe: Connection | None = None

    def __enter__(self) -> "Reader":
        run.warm()
        for name in NEEDED:
            importlib.import_module(name)
        from benchmarks.soak import valid

        self._folder.mkdir(parents=True, exist_ok=True)
        made = run.ended(partial(valid.make, self.valid), self._folder)
        if made.status:
            raise RuntimeError(f"the valid files could not be made: {made.said}")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def read(self, given: Input, patience: float = PATIENCE) -> Outcome:
        """What became of an input."""
        if self._pipe is None or self._read >= LIFE:
            self._stop()
            self._start()
        assert self._pipe is not None
        self._read += 1
        try:
            self._pipe.send(given)
            if self._pipe.poll(2 * patience):  # it may have waited for a processor
                return Outcome(*self._pipe.recv())
            how = f"it hangs, {2 * patience:.0f} s"
        except (EOFError, OSError):
            self._process.join(patience)
            how = f"it ended the process: {self._process.exitcode}, {self._said()}"
        self._stop()
        return Outcome(WRONG, how, 2 * patience)

    def _start(self) -> None:
        self._pipe, other = get_context("fork").Pipe()
        self._process = get_context("fork").Process(
            target=_live, args=(other, self.valid, self._folder), daemon=True
        )
        self._process.start()
        other.close()
        self._read = 0

    def _stop(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
            self._process.kill()
            self._process.join()

    def _said(self) -> str:
        lines = (self._folder / "said.txt").read_text("utf-8", "replace").splitlines()
        return " ".join(lines[-12:])[-600:]


def _live(pipe: Connection, valid: Path, folder: Path) -> None:
    """What the process does that reads inputs."""
    import torch

    file = os.open(folder / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    faulthandler.enable()
    os.environ["ATTENTION_TOPOLOGY_WORK"] = str(folder / "work")
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    torch.set_num_threads(1)
    watch()
    while True:
        try:
            given = pipe.recv()
        except EOFError:
            return
        pipe.send(tuple(tried(given, valid, folder / "trial")))
