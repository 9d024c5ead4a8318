"""Runs side by side: rank correlation of their distances between heads, and what moved.

    python -m stages.compare A B [C ...] [--clusters 8] [--show 10] [--of heads] [--to FILE]

A run is a revision, an experiment of DVC, or a folder: one that holds outputs/, as `.` does and
each of a sweep; NAME=RUN gives it a name. Tables of a revision come out of DVC's cache: nothing
is checked out. --to writes one table, or all three as a page.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pandas as pd
import pyarrow as pa

from pipeline import lineup, store
from pipeline.engine import say
from pipeline.errors import InputError
from pipeline.lineup import Lineup
from pipeline.report import lineup as page
from stages import locks, revisions
from stages.app import sentences
from stages.look import TABLE_FILES, Shown, rendered, show, write

TABLE = store.table_path("head_distances")
TITLES = {"runs": "runs", "heads": "heads that moved most", "pairs": "pairs that moved most"}


class Parser(argparse.ArgumentParser):
    """A command line whose faults are sentences."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and where to look."""
        raise InputError(f"{message[:1].upper()}{message[1:]}; see {self.prog} --help.")


def main(words: Sequence[str]) -> None:
    """Print the runs side by side, and write the table that is asked for."""
    options = parse(words)
    tables = {
        name: store.read(found(run), lineup.COLUMNS).to_pandas()
        for name, run in named(options.run).items()
    }
    lined_up = lineup.line_up(tables, options.clusters)
    if options.to and options.to.suffix == ".html":
        store.write_text(options.to, page.build(lined_up, options.clusters, options.show))
        say(f"page: {options.to}")
    elif options.to:
        table = pa.Table.from_pandas(getattr(lined_up, options.of), preserve_index=False)
        write(Shown(table.replace_schema_metadata()), options.to)
        say(f"{options.of}: {len(table)} rows -> {options.to}")
    else:
        show(shown(lined_up, options.show))


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog="python -m stages.compare", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("run", nargs="+", help="a revision, an experiment, or a folder")
    parser.add_argument("--clusters", type=int, default=8, help="of heads, in each run")
    parser.add_argument("--show", type=int, default=10, help="rows that are printed")
    parser.add_argument(
        "--of", choices=Lineup._fields, default="heads", help="what --to writes as a table"
    )
    parser.add_argument("--to", type=Path, help="a .csv or .parquet file, or a page: .html")
    options = parser.parse_args(words)
    if len(options.run) < 2:
        raise InputError("One run is no comparison: name two or more, as `compare HEAD~1 .`.")
    if options.clusters < 1:
        raise InputError(f"--clusters is {options.clusters}; it must be at least 1.")
    if options.to and options.to.suffix not in (*TABLE_FILES, ".html"):
        raise InputError(f"--to is {options.to}; give a name that ends in .csv, .parquet or .html.")
    return options


def named(words: Sequence[str]) -> dict[str, str]:
    """The runs by what they are called: the NAME of NAME=RUN, else themselves."""
    runs = dict(_named(word) for word in words)
    if len(runs) < len(words):
        raise InputError("Two runs are called the same; name them: `compare a=RUN b=RUN`.")
    return runs


def _named(word: str) -> tuple[str, str]:
    # The folders of a sweep are called by what was set, as distance=notebook.
    if Path(word).is_dir():
        return Path(word).name or word, word
    name, equals, run = word.partition("=")
    return (name, run) if equals else (word, word)


def found(run: str) -> Path:
    """The file that holds the head distances of a run."""
    folder = Path(run)
    if folder.is_dir():
        return folder / TABLE
    home = Path.cwd()
    commit = revisions.resolve(home, run)
    text = revisions.git(home, "show", f"{commit}:dvc.lock")
    outs = locks.parse(text).get("comparison") if text else None
    if outs is None or str(TABLE) not in outs.outs:
        raise InputError(
            f"{run} records no {TABLE} (in its dvc.lock): its pipeline was not run to the end."
        )
    return cached(home, run, outs.outs[str(TABLE)])


def cached(home: Path, run: str, md5: str) -> Path:
    """The bytes that a record means, from DVC's cache or this folder's own output."""
    from dvc.repo import Repo

    with Repo(str(home)) as repo:
        cache = Path(repo.cache.local_cache_dir)
    for file in (cache / "files" / "md5" / md5[:2] / md5[2:], home / TABLE):
        if file.is_file() and revisions.file_md5(file) == md5:
            return file
    raise InputError(
        f"{TABLE} of {run} is not in DVC's cache here. Get it from your remote (`dvc fetch "
        f"--all-commits`, or `dvc exp pull REMOTE {run}` for an experiment), or make it again "
        f"(`python -m stages.reproduce rev={run}`)."
    )


def shown(lined_up: Lineup, rows: int) -> str:
    """The three tables as text, the first rows of each two runs and dimension."""
    return "\n\n".join(
        f"{TITLES[name]}\n{_text(table, rows if name != 'runs' else len(table))}"
        for name, table in lined_up._asdict().items()
    )


def _text(table: pd.DataFrame, rows: int) -> str:
    top = table.groupby(["run_x", "run_y", "dimension"], sort=False).head(rows)
    return rendered([tuple(top.columns), *top.itertuples(index=False, name=None)])


if __name__ == "__main__":
    with sentences():
        main(sys.argv[1:])
