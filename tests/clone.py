"""A clone of the working tree, and what a person would type in it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from pipeline import store
from tests import tiny

ROOT = store.ROOT


class Clone:
    """A copy of the working tree without its dvc.lock, and what a person would type in it."""

    head: str  # the commit of its run, where a test made one

    def __init__(self, folder: Path, work: Path) -> None:
        self.folder = folder
        files = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        for name in filter(None, files.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        # What numba compiled, which it knows by the times of the sources: a quarter of a minute.
        if (compiled := ROOT / "pipeline/kernels/__pycache__").is_dir():
            shutil.copytree(compiled, folder / "pipeline/kernels/__pycache__")
        (folder / "dvc.lock").unlink(missing_ok=True)
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "ATTENTION_TOPOLOGY_WORK": str(work),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "PYTHONPATH": "",
        }
        self.environment.pop("GIT_DIR", None)
        git(folder, "init", "-q")

    def identify(self) -> None:
        """Give the clone a git identity and a first commit, which experiments need."""
        git(self.folder, "config", "user.name", "A Reader")
        git(self.folder, "config", "user.email", "reader@example.invalid")
        self.commit("A clone")

    def commit(self, message: str) -> str:
        """Commit all there is; return the commit."""
        git(self.folder, "add", "-A")
        git(self.folder, "commit", "-qm", message)
        return git(self.folder, "rev-parse", "HEAD").strip()

    def say(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def run(self, *words: str) -> str:
        answer = self.say(*words)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout + answer.stderr

    def frame(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.folder / name)

    def outputs(self) -> list[str]:
        """The files and folders that its dvc.lock names as made."""
        return [out["path"] for out in self._outs()]

    def kept_files(self) -> int:
        """How many files DVC keeps of them: of a folder its files, and their list.

        The samples are git's.
        """
        kept = (out for out in self._outs() if not out["path"].startswith(str(store.SAMPLES)))
        return sum(out.get("nfiles", 0) + 1 for out in kept)

    def _outs(self) -> list[dict[str, Any]]:
        stages = yaml.safe_load((self.folder / "dvc.lock").read_text("utf-8"))["stages"]
        return [out for stage in stages.values() for out in stage.get("outs", [])]

    def edit(self, name: str, before: str, after: str) -> None:
        """Put one word for another in a file of the clone."""
        text = (self.folder / name).read_text("utf-8")
        assert before in text
        (self.folder / name).write_text(text.replace(before, after), "utf-8")


def small(folder: Path) -> Clone:
    """A clone whose default run is one tiny model, kept beside it, on two texts."""
    (folder / "clone").mkdir(parents=True)
    clone = Clone(folder / "clone", folder / "work")
    weights = tiny.save("bert", folder / "tiny")
    model = vars(tiny.spec(weights)) | {"watch": str(weights)}
    (clone.folder / "conf/model/tiny.yaml").write_text(yaml.safe_dump(model))
    clone.edit("conf/config.yaml", "  - model@models.minilm: minilm\n", "")
    clone.edit("conf/config.yaml", "models.smollm2: smollm2", "models.tiny: tiny")
    clone.edit("conf/corpus/parallel.yaml", "format: jsonl", "format: jsonl\nlimit: 2")
    clone.run(sys.executable, "-m", "commands.compose")
    clone.identify()
    return clone


def cloned(ran: Clone, folder: Path) -> Clone:
    """What `git clone` gives somebody else: no tables, no cache, no work folder."""
    other = object.__new__(Clone)
    other.folder = folder / "other"
    other.environment = {**ran.environment, "ATTENTION_TOPOLOGY_WORK": str(folder / "work")}
    git(folder, "clone", "-q", str(ran.folder), str(other.folder))
    git(other.folder, "checkout", "-q", ran.head)
    return other


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def stages_run(output: str) -> list[str]:
    """The stages that a command of DVC ran, in order."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]
