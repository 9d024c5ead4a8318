"""Runs side by side: rank correlation of their distances between heads, and what moved.

    python -m commands.compare before=HEAD~1 now=. --to moved.html

A run is a revision, an experiment of DVC, or a folder: one that holds outputs/, as `.` does and
each of a sweep; NAME=RUN gives it a name. Tables of a revision come out of DVC's cache: nothing
is checked out. --to writes one table, or all three as a page.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from commands.one_head.options import TABLE_FILES
from pipeline import console
from pipeline.console import say
from pipeline.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.runs.lineup import Lineup

TITLES = {"runs": "runs", "heads": "heads that moved most", "pairs": "pairs that moved most"}


def main(words: Sequence[str]) -> None:
    """Print the runs side by side, and write the table that is asked for."""
    options = parse(words)
    import pyarrow as pa

    from pipeline import store
    from pipeline.report import lineup as page
    from pipeline.runs import lineup
    from pipeline.store.export import export
    from stages.repository.tables import found

    table = store.path("head_distances")
    tables = {
        name: store.read(found(run, table, "comparison"), lineup.COLUMNS).to_pandas()
        for name, run in named(options.run).items()
    }
    lined_up = lineup.line_up(tables, options.clusters)
    if options.to and options.to.suffix == ".html":
        store.write_text(options.to, page.build(lined_up, options.clusters, options.show))
        say(f"page: {options.to}")
    elif options.to:
        rows = pa.Table.from_pandas(getattr(lined_up, options.of), preserve_index=False)
        export(rows.replace_schema_metadata(), options.to)
        say(f"{options.of}: {len(rows)} rows -> {options.to}")
    else:
        console.show(shown(lined_up, options.show))


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = console.Parser(prog="python -m commands.compare", description=__doc__)
    parser.add_argument(
        "run", nargs="+", metavar="RUN", help="a revision, an experiment, or a folder"
    )
    parser.add_argument(
        "--clusters", metavar="N", type=int, default=8, help="of heads, in each run (default 8)"
    )
    parser.add_argument(
        "--show", metavar="N", type=int, default=10, help="rows that are printed (default 10)"
    )
    parser.add_argument(
        "--of", choices=TITLES, default="heads", help="what --to writes as a table (default heads)"
    )
    parser.add_argument(
        "--to", metavar="FILE", type=Path, help="a .csv or .parquet file, or a page: .html"
    )
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


def shown(lined_up: "Lineup", rows: int) -> str:
    """The three tables as text, the first rows of each two runs and dimension."""
    return "\n\n".join(
        f"{TITLES[name]}\n{_text(table, rows if name != 'runs' else len(table))}"
        for name, table in lined_up._asdict().items()
    )


def _text(table: "pd.DataFrame", rows: int) -> str:
    top = table.groupby(["run_x", "run_y", "dimension"], sort=False).head(rows)
    return console.table([tuple(top.columns), *top.itertuples(index=False, name=None)])


if __name__ == "__main__":
    console.run(main)
