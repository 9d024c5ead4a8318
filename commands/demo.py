"""The whole run on this machine: composes conf/, runs `dvc repro`, says what came out.

    python -m commands.demo corpus=text corpus.path=my.txt

`dvc exp run` does the same and records an experiment, but needs a git identity, which a
fresh machine does not have.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import console
from pipeline.console import say

if TYPE_CHECKING:  # it imports what a --help does not need
    from pipeline.config import Config


def main(words: Sequence[str]) -> int:
    """Run what changed of the pipeline and print the summary."""
    parser = console.Parser(prog="python -m commands.demo", description=__doc__)
    console.add_overrides(parser)
    overrides = parser.parse_args(words).override
    from pipeline import store
    from pipeline.report import chance, summary
    from stages import compose
    from stages.repository import moves

    settings = compose.write(overrides)
    # The stages' `python` is the one that runs this.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    _without_git()
    ended = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"], env={**os.environ, "PATH": path}, check=False
    )
    if ended.returncode:
        return ended.returncode
    say("\n" + summary.text(store.read(store.path("head_distances"))))
    if settings.nulls:
        say("\n" + chance.text(store.read(store.path("model_tests")).to_pandas()))
    say(f"\npage    {store.REPORT}")
    tables = [
        store.paths(one, settings.corpus.name, [_names(settings, one)]) for one in store.TABLES
    ]
    for table in dict.fromkeys(path for paths in tables for path in paths):
        say(f"table   {table}")
    if line := moves.explanation():
        say(f"git     {line}")
    return 0


def _names(settings: "Config", table: str) -> str:
    """The models that a table is of, as a shell writes several names at once."""
    names = ",".join(settings.models_of(table))
    return f"{{{names}}}" if "," in names else names


def _without_git() -> None:
    """Let DVC run in a tree that is no git repository: an archive of the sources."""
    if any((folder / ".git").exists() for folder in (Path.cwd(), *Path.cwd().parents)):
        return
    say("this folder is not a git repository: DVC runs without it (core.no_scm)")
    words = ["config", "--local", "core.no_scm", "true"]
    subprocess.run([sys.executable, "-m", "dvc", *words], check=True)


if __name__ == "__main__":
    console.run(main)
