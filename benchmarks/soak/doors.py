"""The doors of the program: where it takes what others made, each with one input to let in.

An input must give a result, a reject with its reason, or a sentence. `tried` says which it was;
it runs in a process of its own, for what comes in is meant to do harm.
"""

import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import corpus, models, store
from pipeline.corpus import CorpusSpec
from pipeline.errors import InputError, TextError
from pipeline.models import gguf_files
from stages import app, compose
from tests import tiny

RESULT, REJECTS, SENTENCE, WRONG = "a result", "rejects", "a sentence", "wrong"
GGUF = "gguf/tiny.gguf"  # the one model that is a file
# What the interpreter tells of a process or a connection that is started.
STARTED = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect")
PATIENCE = 60.0  # seconds


class Input(NamedTuple):
    """A file for one of the doors.

    file   its name, or its path in what the door reads: conf/, or a model's folder
    """

    door: str
    file: str
    data: bytes


class Outcome(NamedTuple):
    """RESULT, REJECTS, SENTENCE or WRONG; what was said of it; and the seconds it took."""

    how: str
    said: str = ""
    seconds: float = 0.0


_started: list[str] = []


def watch() -> None:
    """From now on note in this process each other process and connection that is started."""

    def noted(event: str, arguments: tuple[Any, ...]) -> None:
        if event in STARTED:
            _started.append(f"{event} {arguments[:2]!r:.200}")

    sys.addaudithook(noted)


def tried(given: Input, valid: Path, folder: Path) -> Outcome:
    """What became of an input, let in through its door in a new folder.

    valid   has the folders conf/ and models/, whole, to put it in
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)
    _started.clear()
    place = _put(given, valid)
    before = _inside(folder)
    started = time.monotonic()
    outcome = _let_in(given, place)
    seconds = time.monotonic() - started
    faults = [f"it started {what}" for what in _started]
    faults += [f"it wrote or removed {name}" for name in sorted(before ^ _inside(folder))]
    if seconds > PATIENCE:
        faults.append(f"it took {seconds:.0f} s")
    if faults:
        outcome = Outcome(WRONG, "; ".join([*faults, outcome.said]))
    return outcome._replace(seconds=seconds)


def _let_in(given: Input, place: Path) -> Outcome:
    try:
        return DOORS[given.door](place, given)
    except (InputError, TextError) as error:
        said = str(error)
        return Outcome(SENTENCE, said) if said.strip() else Outcome(WRONG, "an empty sentence")
    except Exception as error:
        return Outcome(WRONG, f"{type(error).__name__}: {error!s:.300} ({_origin(error)})")


def _origin(error: BaseException) -> str:
    """The last line of ours through which an error came."""
    trace, found = error.__traceback__, ""
    while trace:
        path = Path(trace.tb_frame.f_code.co_filename)
        if path.is_relative_to(store.ROOT) and ".venv" not in path.parts:
            found = f"{path.relative_to(store.ROOT)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def _put(given: Input, valid: Path) -> Path:
    """Write an input where its door looks; the file."""
    top = Path(given.door).absolute()
    if given.door == "conf":
        shutil.copytree(valid / "conf", top)
    if given.door == "model":
        kind = Path(given.file).parts[0]
        shutil.copytree(valid / "models" / kind, top / kind)
    place = top / given.file
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(given.data)
    return place


def _inside(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


# ---- each door ------------------------------------------------------------------------------


def _corpus(place: Path, given: Input) -> Outcome:
    group = "group" if given.door in ("jsonl", "csv", "parquet") else None
    spec = CorpusSpec("hostile", given.door, str(place.parent), group_column=group)
    records, rejects = corpus.read(spec, Path("cache").absolute())
    for table in (records, rejects):
        table.validate(full=True)
    if not all(reason.strip() for reason in rejects["reason"].to_pylist()):
        return Outcome(WRONG, "a reject without a reason")
    if any("\0" in text or not text.strip() for text in records["text"].to_pylist()):
        return Outcome(WRONG, "a text that is empty or holds NUL")
    said = "; ".join(rejects["reason"].to_pylist()[:10])
    return Outcome(REJECTS if len(rejects) else RESULT, said)


def _params(place: Path, given: Input) -> Outcome:
    os.chdir(place.parent)
    app.settings()
    return Outcome(RESULT)


def _conf(place: Path, given: Input) -> Outcome:
    compose.compose([])
    return Outcome(RESULT)


def _overrides(place: Path, given: Input) -> Outcome:
    """Each line is a word of the command line."""
    words = [os.fsdecode(line) for line in given.data.split(b"\n") if line]
    shutil.copytree(store.ROOT / "conf", "conf")
    try:
        compose.compose(words)
    finally:
        shutil.rmtree("conf")
    return Outcome(RESULT)


def _model(place: Path, given: Input) -> Outcome:
    kind = Path("model", Path(given.file).parts[0]).absolute()
    spec = tiny.spec(kind, max_tokens=32)
    if given.file == GGUF:
        spec = replace(spec, gguf_file=place.name)
    models.load("tiny", spec)
    return Outcome(RESULT)


def _gguf(place: Path, given: Input) -> Outcome:
    return Outcome(RESULT, gguf_files.quantisation(place))


def _table(place: Path, given: Input) -> Outcome:
    store.read(place).validate(full=True)
    store.read_provenance(place)
    return Outcome(RESULT)


DOORS: dict[str, Callable[[Path, Input], Outcome]] = {
    "text": _corpus,
    "jsonl": _corpus,
    "csv": _corpus,
    "parquet": _corpus,
    "images": _corpus,
    "params": _params,
    "conf": _conf,
    "overrides": _overrides,
    "model": _model,
    "gguf": _gguf,
    "table": _table,
}
