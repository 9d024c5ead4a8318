"""What a run will take, measured on a few texts before it is paid for.

    python -m commands.plan --nodes 20 corpus=text corpus.path=my.txt

Does the bulk stages on a few texts, from the corpus's shortest to its longest, in a folder that is
removed afterwards, and says for all texts: parts, time, memory, disk; on this machine, and as
tasks on N nodes like it. Tokens of every text are counted; of more than 10,000 texts, so many.
"""

import argparse
from collections.abc import Sequence

from pipeline import console
from pipeline.errors import InputError

COLUMNS = ("job", "parts", "minutes", "memory MB", "parts MB", "tables MB")


def main(words: Sequence[str]) -> None:
    """Run the pilot and print what it foretells."""
    options = parse(words)
    from commands.whole_run.pilot import here, measured, pilot, there
    from stages import compose

    _, settings = compose.compose(options.override)
    with pilot(settings, options.texts) as home:
        found = list(measured(settings, home))
    workers, size = settings.engine.workers, settings.cluster.parts_per_task
    rows = [
        (
            one.title,
            one.parts,
            one.seconds(workers) / 60,
            round(one.peak / 2**20),
            one.parts_bytes / 1e6,
            one.tables_bytes / 1e6,
        )
        for one in found
    ]
    console.show(console.table([COLUMNS, *rows]))
    console.show("\n".join(["", *here(found, workers), *there(found, options.nodes, size)]))


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = console.Parser(prog="python -m commands.plan", description=__doc__)
    console.add_overrides(parser)
    parser.add_argument(
        "--nodes", metavar="N", type=int, default=1, help="of a cluster, each like this (default 1)"
    )
    parser.add_argument(
        "--texts", metavar="N", type=int, default=12, help="that are measured (default 12)"
    )
    options = parser.parse_intermixed_args(words)
    if options.nodes < 1 or options.texts < 2:
        raise InputError("Give --nodes 1 or more, and --texts 2 or more.")
    return options


if __name__ == "__main__":
    console.run(main)
