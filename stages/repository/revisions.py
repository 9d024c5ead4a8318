"""A revision of the repository, checked out clean, with its own environment and DVC's record."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.console import say
from pipeline.errors import InputError
from pipeline.files import md5
from stages.repository import git, locks, pins
from stages.repository.locks import Lock

# Of git's and Python's settings, those that would lead a checkout's commands elsewhere.
FOREIGN = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "PYTHONPATH", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Checkout:
    """A clean worktree of one commit.

    home    this clone, whose cache and remotes are used
    folder  the worktree
    work    a work folder of its own: no finished part is reused
    python  the interpreter of its environment
    cache   this clone's DVC cache
    """

    home: Path
    folder: Path
    work: Path
    python: Path
    cache: Path

    def lock(self) -> Lock:
        """Its dvc.lock."""
        return locks.parse((self.folder / "dvc.lock").read_text("utf-8"))

    def samples(self) -> Path | None:
        """The folder of the rows that git keeps, by its dvc.lock; None where that names none.

        Earlier versions had no folder for each corpus, and the first had no such stage.
        """
        if not (self.folder / "dvc.lock").is_file():
            return None
        made = self.lock().get("samples")
        return None if made is None else Path(next(iter(made.outs)))

    def stages(self) -> list[str]:
        """The stages that its dvc.yaml and params.yaml have."""
        return self.ask("stage", "list", "--name-only").split()

    def status(self) -> dict[str, Any]:
        """What DVC finds changed against its dvc.lock, by stage."""
        return dict(json.loads(self.ask("status", "--json")))

    def ask(self, *words: str) -> str:
        """What a command of DVC answers; InputError where it fails."""
        done = self._dvc(words, subprocess.PIPE)
        if done.returncode:
            said = " ".join(done.stderr.split())[-400:]
            raise InputError(f"`dvc {' '.join(words)}` in {self.folder} failed: {said}")
        return done.stdout

    def tell(self, *words: str) -> bool:
        """Run a command of DVC where the person sees what it says; whether it succeeded."""
        return self._dvc(words, None).returncode == 0

    def _dvc(self, words: tuple[str, ...], to: int | None) -> "subprocess.CompletedProcess[str]":
        paths = [str(self.python.parent), os.environ.get("PATH", "")]
        environment = {k: v for k, v in os.environ.items() if k not in FOREIGN} | {
            "PATH": os.pathsep.join(paths),
            "ATTENTION_TOPOLOGY_WORK": str(self.work),
            "DVC_SITE_CACHE_DIR": str(self.work / "dvc"),
            # What is off its pins was said, and asked for all the same (--environment here).
            pins.ALLOWED: "1",
        }
        return subprocess.run(
            [str(self.python), "-m", "dvc", *words],
            cwd=self.folder,
            env=environment,
            stdout=to or sys.stderr,
            stderr=to,
            text=True,
            check=False,
        )

    def recorded(self, path: str, recorded: str) -> Path | None:
        """The bytes that dvc.lock means, from the cache or this clone's own outputs."""
        return at_hand(self.cache, self.home / path, recorded)


def at_hand(cache: Path, output: Path, recorded: str) -> Path | None:
    """The file with the bytes of an MD5: of DVC's cache, or the output itself; None: neither."""
    for file in (cache / "files" / "md5" / recorded[:2] / recorded[2:], output):
        if file.is_file() and md5(file) == recorded:
            return file
    return None


def resolve(home: Path, name: str) -> str:
    """The commit of a revision: of git, or an experiment of DVC by its name.

    Raises InputError where there is no such revision, or no repository.
    """
    if not git.known(home):
        raise InputError(
            f"{home} is no git repository, as an archive of the sources is none: its commits, "
            f"'{name}' among them, cannot be known here. Do this in a clone of the repository; "
            "dvc.lock alone says what the tables were, and `dvc status` whether they are so."
        )
    found = git.ask("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", home=home)
    if found:
        return found
    refs = (
        git.ask("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps", home=home) or ""
    ).split("\n")
    commits = {line.split()[0] for line in refs if line.endswith(f"/{name}")}
    if len(commits) == 1:
        return commits.pop()
    several = (
        f"{len(commits)} experiments are called '{name}'"
        if commits
        else f"'{name}' is no revision here"
    )
    raise InputError(
        f"{several}; give a commit, a tag, a branch, or an experiment (`dvc exp list --all`; of "
        "another clone, after `dvc exp pull origin NAME`)."
    )


@contextmanager
def checkout(home: Path, commit: str, keep: Path | None, own: bool) -> Iterator[Checkout]:
    """A clean worktree of a commit; removed afterwards, unless a place is given to keep it.

    own: whether to make its own environment where this one is not as it pins.
    """
    if keep is not None and keep.exists():
        raise InputError(f"{keep} is there already; give --keep a folder that is not.")
    cache, remotes = _dvc_of(home)
    with tempfile.TemporaryDirectory(prefix="reproduce-") as scratch:
        folder = keep.absolute() if keep else Path(scratch) / "tree"
        words = "add", "--detach", "--quiet", str(folder), commit
        if git.ask("worktree", *words, home=home) is None:
            raise InputError(
                f"git could not check {commit[:12]} out at {folder}; see `git worktree list`."
            )
        try:
            _settle(folder, cache, remotes)
            work = Path(scratch) / "work"
            yield Checkout(home, folder, work, _python(folder, own), cache)
        finally:
            if keep is None:
                git.ask("worktree", "remove", "--force", str(folder), home=home)
                shutil.rmtree(folder, ignore_errors=True)
                git.ask("worktree", "prune", home=home)


def _dvc_of(home: Path) -> tuple[Path, dict[str, Any]]:
    """This clone's cache, and its remotes with their paths made absolute."""
    from dvc.repo import Repo

    with Repo(str(home)) as repo:
        remotes = {name: dict(values) for name, values in repo.config["remote"].items()}
        core = {
            key: repo.config["core"][key] for key in ("remote",) if repo.config["core"].get(key)
        }
        return Path(repo.cache.local_cache_dir), {"core": core, "remote": remotes}


def _settle(folder: Path, cache: Path, remotes: dict[str, Any]) -> None:
    from configobj import ConfigObj

    config = ConfigObj()
    config.filename = str(folder / ".dvc" / "config.local")
    config["core"] = remotes["core"]
    config["cache"] = {"dir": str(cache)}
    for name, values in remotes["remote"].items():
        config[f'remote "{name}"'] = {key: str(value) for key, value in values.items()}
    config.write()
    # A remote may hold a password.
    Path(config.filename).chmod(0o600)


def _python(folder: Path, own: bool) -> Path:
    """The interpreter of a checkout: this one where it is as the checkout pins, else its own."""
    pinned = folder / "constraints.txt"
    off = pins.off(pinned.read_text("utf-8")) if pinned.is_file() else {}
    if not off:
        say("environment: this one, which is as the revision pins")
        return Path(sys.executable)
    if not own:
        say(f"environment: this one, though it is not as the revision pins: {pins.listed(off)}")
        return Path(sys.executable)
    say(f"environment: its own, by `make setup`, as this one differs: {pins.listed(off)}")
    made = subprocess.run(
        ["make", "setup", f"PYTHON={sys.executable}"], cwd=folder, stdout=sys.stderr, check=False
    )
    if made.returncode:
        raise InputError(
            "The revision's environment could not be made (`make setup` says why above). With "
            "--environment here this one is used, and its versions are among the causes of what "
            "differs."
        )
    return folder / ".venv" / "bin" / "python"
