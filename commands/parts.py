"""The parts that are kept in the work folder, and how to be rid of them.

`list` says for each bulk stage how many parts there are, and which belong to the configuration
in params.yaml. `clear` removes those that do not, which queued experiments and other branches
may still want. A part that is being done is left alone.
"""

import argparse
from collections.abc import Sequence

from pipeline import console


def main(words: Sequence[str]) -> None:
    """List, or clear."""
    options = parse(words)
    from pipeline import jobs, store
    from pipeline.jobs import stock
    from stages import app

    settings = app.settings()
    for stage in jobs.BULK:
        found = stock.stock(settings, stage)
        if options.what == "list":
            print(stock.summary(found))
        else:
            print(stock.clear(found, options.which, options.dry_run))
    print(f"in {store.work_folder()}")


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = console.Parser(prog="python -m commands.parts", description=__doc__)
    whats = parser.add_subparsers(dest="what", metavar="list | clear", required=True)
    for what, about in (("list", "say what is kept"), ("clear", "remove what is old")):
        one = whats.add_parser(what, help=about, description=f"{about[:1].upper()}{about[1:]}.")
    one.set_defaults(which="old")
    which = one.add_mutually_exclusive_group()
    for name, about in (
        ("all", "every part"),
        ("aside", "those with a text that killed its worker, so that the next run tries it again"),
    ):
        which.add_argument(f"--{name}", action="store_const", const=name, dest="which", help=about)
    one.add_argument("--dry-run", action="store_true", help="remove nothing: say what would go")
    return parser.parse_args(words)


if __name__ == "__main__":
    console.run(main)
