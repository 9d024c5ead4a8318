"""A table of a run: of a revision or an experiment, out of DVC's cache, or of a folder."""

from pathlib import Path

from pipeline.errors import InputError
from stages.repository import git, locks, revisions


def found(run: str, table: Path, stage: str) -> Path:
    """The file that holds a table of a run, which a stage wrote; nothing is checked out."""
    folder = Path(run)
    if folder.is_dir():
        return folder / table
    home = Path.cwd()
    commit = revisions.resolve(home, run)
    text = git.ask("show", f"{commit}:dvc.lock", home=home)
    outs = locks.parse(text).get(stage) if text else None
    if outs is None or str(table) not in outs.outs:
        raise InputError(
            f"{run} records no {table} (in its dvc.lock): its pipeline was not run to the end."
        )
    return cached(home, run, table, outs.outs[str(table)])


def cached(home: Path, run: str, table: Path, md5: str) -> Path:
    """The bytes that a record means, from DVC's cache or this folder's own output."""
    from dvc.repo import Repo

    with Repo(str(home)) as repo:
        cache = Path(repo.cache.local_cache_dir)
    if file := revisions.at_hand(cache, home / table, md5):
        return file
    raise InputError(
        f"{table} of {run} is not in DVC's cache here. Get it from your remote (`dvc fetch "
        f"--all-commits`, or `dvc exp pull REMOTE {run}` for an experiment), or make it again "
        f"(`python -m commands.reproduce --rev {run}`)."
    )
