"""The run that is attacked: every stage on one tiny model and a few texts, as commands run it.

Its folder holds all that it reads and writes, so that a copy of it is a run of its own. A stage
is done in a process that was forked from one which has imported everything, so that it takes
what the work takes and not the seconds of the imports.
"""

import atexit
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import NoReturn

import yaml

from pipeline import store
from pipeline.files import sha256
from pipeline.work.parts import MANIFEST

MODEL = "tiny"
CORPUS = "soak"
TEXTS = "texts.jsonl"
WORK = "work"
NULL = "rows_shuffled_sink"  # one of those that params.yaml has
OF_A_MODEL = ("diagrams", "attention", "context", "equivariance")
BULK = ("diagrams", "context", "comparison")
STAGES = (  # in an order in which each finds what it reads
    "corpus",
    "diagrams",
    "nulls",
    "attention",
    "context",
    "comparison",
    "head_tests",
    "equivariance",
    "report",
    "samples",
)
SENTENCES = (
    ("the cat sat on the mat", "g"),
    ("the dog sat on the cat and the mat", "g"),
    ("attention is a distribution over the tokens of a text", "h"),
    ("quantum information theory is interesting", "h"),
    ("the tokens of a text and the dog", "h"),
)
PATIENCE = 120.0  # seconds after which a stage of this run hangs
NEEDED = (
    "hydra.main",
    "numba.typed",
    "pipeline.equivariance",
    "pipeline.jobs.comparison",
    "pipeline.jobs.context",
    "pipeline.jobs.diagrams",
    "pipeline.jobs.head_tests",
    "pipeline.maps",
    "pipeline.report.page",
    "pipeline.report.plots",
    "pipeline.work.workers",
    "pyarrow.dataset",
    "stages.app",
    "stages.overrides",
    "torch.distributed.tensor",  # which transformers asks of a model as it loads it
    "transformers.models.auto.modeling_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
)
UNFORESEEN = ("Traceback (most recent", "not an error we foresaw")


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit status, negative for a signal, and what it said."""

    status: int
    said: str
    hung: bool = False

    @property
    def sentence(self) -> bool:
        """Whether it ended by saying what is wrong, as a person is told."""
        foreseen = not any(words in self.said for words in UNFORESEEN)
        return self.status == 1 and "error: " in self.said and foreseen and not self.hung

    @property
    def story(self) -> str:
        """How it ended, and the end of what it said, in a line."""
        how = "hung" if self.hung else f"exit status {self.status}"
        return f"{how}, said: {' '.join(self.said.split())[-300:] or 'nothing'}"


def warm() -> None:
    """Import, before any fork, what stages need; and compute nothing, which would start threads."""
    for name in NEEDED:
        importlib.import_module(name)
    importlib.import_module("hydra.core.plugins").Plugins.instance()
    importlib.import_module("numba.core.registry").cpu_target.target_context.refresh()
    for science in ("heads", "context", "pairs", "maps", "equivariance", "corpus"):
        store.code_digest(f"pipeline.{science}")


def prepare(folder: Path) -> None:
    """Make the model, the texts and params.yaml in a new folder."""
    folder.mkdir(parents=True)
    made = ended(_prepare, folder)
    if made.status:
        raise RuntimeError(f"the run could not be prepared: {made.said}")


def _prepare() -> None:
    from tests import tiny

    shutil.copytree(store.ROOT / "conf", "conf")
    spec = vars(tiny.spec(tiny.save("bert", Path(MODEL)))) | {"path": MODEL, "watch": MODEL}
    Path("conf/model/tiny.yaml").write_text(yaml.safe_dump(spec), "utf-8")
    records = [{"text": text, "language": "en", "group": group} for text, group in SENTENCES]
    lines = [*map(json.dumps, records), '{"text": ""}', "no JSON"]
    Path(TEXTS).write_text("\n".join(lines) + "\n", "utf-8")
    params = yaml.safe_load((store.ROOT / "params.yaml").read_text("utf-8"))
    params["models"] = {MODEL: spec}
    params["nulls"] = {NULL: params["nulls"][NULL]}
    params["corpus"] |= {"name": CORPUS, "path": TEXTS, "watch": TEXTS}
    params["engine"] |= {"part_texts": 3, "part_pairs": 80, "threads": 1, "max_aside": 1.0}
    params["context"] |= {"pairs": 4}
    params["equivariance"] |= {"permutations": 1, "max_tokens": 8}
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), "utf-8")


def words(stage: str) -> list[str]:
    """What a person types after `python -m stages.STAGE`."""
    if stage == "nulls":
        return [f"+model={MODEL}-{NULL}"]
    return [f"+model={MODEL}"] if stage in OF_A_MODEL else []


def do(stage: str, *more: str) -> None:
    """Run a stage in this process, in the current folder, as its command would."""
    sys.argv = [f"stages/{stage}.py", *words(stage), *more]
    # The module looks where it is when it is imported, so it is imported here.
    importlib.import_module(f"stages.{stage}").main()


def ended(work: Callable[[], object], folder: Path, patience: float = PATIENCE) -> Ended:
    """Do some work in a process of its own, in a folder; how that ended."""
    return wait(started(work, folder), folder, patience)


def started(work: Callable[[], object], folder: Path, name: str = "said") -> int:
    """Fork a process that does some work in a folder; its number."""
    sys.stdout.flush()
    sys.stderr.flush()
    _said(folder, name).unlink(missing_ok=True)
    child = os.fork()
    if not child:
        _live(work, folder, name)
    return child


def wait(child: int, folder: Path, patience: float = PATIENCE, name: str = "said") -> Ended:
    """How a process that was started ended; one that hangs is killed, with its workers."""
    until, hung = time.monotonic() + patience, False
    nap = 0.002
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            break
        if time.monotonic() > until and not hung:
            hung = True
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
        time.sleep(nap)
        nap = min(nap * 1.5, 0.05)
    file = _said(folder, name)
    said = file.read_text("utf-8", "replace") if file.exists() else ""
    return Ended(os.waitstatus_to_exitcode(status), said, hung)


def _said(folder: Path, name: str) -> Path:
    """Where what a process says is kept: not beside it, where its disk may be full."""
    return _kept() / f"{folder.name}.{name}.txt"


@cache
def _kept() -> Path:
    home = Path(tempfile.mkdtemp(prefix="soak-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    return home


def _live(work: Callable[[], object], folder: Path, name: str) -> NoReturn:
    """What a forked process does: the work, and nothing of what its parent would do at its end."""
    status = 70
    try:
        os.setsid()
        file = os.open(_said(folder, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.chdir(folder)
        os.environ.update(environment(folder))
        _be_quick()
        work()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _be_quick() -> None:
    """Workers by fork, no minute's wait for a lease: the same steps, in a hundredth of the time."""
    from multiprocessing import get_context

    from pipeline.work import attempts, leases, workers

    # A worker that is spawned imports torch anew, some seconds; no thread runs here yet.
    vars(workers)["get_context"] = lambda kind: get_context("fork")
    leases.BEAT, leases.STALE, attempts.WAIT = 0.5, 4.0, 0.2


def environment(folder: Path) -> dict[str, str]:
    """What a run of a folder is told: its work folder, and that it is in no git repository."""
    return {
        "ATTENTION_TOPOLOGY_WORK": str(folder / WORK),
        "GIT_CEILING_DIRECTORIES": str(folder.parent),
        "PYTHONPATH": str(store.ROOT),
        "OMP_NUM_THREADS": "1",
    }


def whole_environment(folder: Path) -> dict[str, str]:
    """The environment of a command of a run's folder."""
    return {**os.environ, **environment(folder)}


def command(stage: str, folder: Path) -> "subprocess.Popen[bytes]":
    """The same stage as a true command, with all that a fresh process does."""
    return subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}", *words(stage)],
        cwd=folder,
        env=whole_environment(folder),
        stdout=subprocess.DEVNULL,
        stderr=_said(folder, "said").open("wb"),
        start_new_session=True,
    )


def heard(process: "subprocess.Popen[bytes]", folder: Path) -> Ended:
    """How a command ended."""
    try:
        status, hung = process.wait(PATIENCE), False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        status, hung = process.wait(), True
    return Ended(status, _said(folder, "said").read_text("utf-8", "replace"), hung)


# ---- what a run left ------------------------------------------------------------------------


@dataclass(frozen=True)
class Snapshots:
    """The run before each of its stages, and after all: folders to copy."""

    home: Path

    def before(self, stage: str) -> Path:
        """The run as it is when a stage begins."""
        return self.home / f"before-{stage}"

    @property
    def whole(self) -> Path:
        """The run when all is done."""
        return self.home / "whole"

    def after(self, stage: str) -> dict[str, str]:
        """The SHA-256 of each file that is there when a stage ended, by its path."""
        next_one = STAGES.index(stage) + 1
        state = self.before(STAGES[next_one]) if next_one < len(STAGES) else self.whole
        return hashes(state)


@cache
def undisturbed(home: Path) -> Snapshots:
    """Make the run, stage by stage, and keep each state of it; once for all kinds of attack."""
    warm()
    shutil.rmtree(home, ignore_errors=True)
    prepare(home / "whole")
    for stage in STAGES:
        shutil.copytree(home / "whole", home / f"before-{stage}")
        found = ended(partial(do, stage), home / "whole")
        if found.status:
            raise RuntimeError(f"{stage} of an undisturbed run failed: {found.said}")
    return Snapshots(home)


def copy(snapshot: Path, folder: Path) -> Path:
    """A run of its own, as a snapshot is."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(snapshot, folder)
    return folder


def hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of every table, page and part of a run, by its path.

    A part's manifest says how long it took, and the log when: these are left out.
    """
    return {
        str(path.relative_to(folder)): sha256(path)
        for top in ("data", "outputs", WORK)
        for path in (folder / top).rglob("*")
        if path.is_file()
        and path.name != MANIFEST
        and not path.is_relative_to(folder / store.LOGS)
        and not any(name.startswith(".") for name in path.relative_to(folder).parts)
    }


def drafts(folder: Path) -> list[str]:
    """What a dead process left: drafts, leases, notes of failed parts."""
    return sorted(
        str(path.relative_to(folder))
        for top in ("data", "outputs", WORK)
        for path in (folder / top).rglob(".*")
    )


def differ(folder: Path, made: dict[str, str], *, missing: bool = True) -> list[str]:
    """The files of a run that are not as the undisturbed run made them, or not among these.

    missing   whether a file that is not there counts too
    """
    found = hashes(folder)
    wrong = [name for name, digest in found.items() if made.get(name) != digest]
    return sorted([*wrong, *(set(made) - set(found) if missing else ())])


def spread(total: int, count: int) -> Iterator[int]:
    """So many numbers below a total, evenly, each once."""
    count = min(total, count)
    return (number * total // count for number in range(count))
