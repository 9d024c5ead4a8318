"""The missing parts as SLURM jobs, and a job that joins them; returns at once.

    python -m commands.submit corpus=text corpus.path=my.txt cluster.partition=batch

The parts that are missing are frozen into a plan and go in as arrays of tasks; a job behind them
looks whether all parts are there, names those that are not, or joins them and submits what comes
next. Submitting again submits only what is neither done nor queued. The joined tables are in
runs/ of the work folder, a folder for each configuration, so that many can be under way at once;
`dvc exp run` with the same overrides, or `dvc repro`, finds the parts, joins them here and
records.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pipeline import console, jobs
from pipeline.console import say


def main(words: Sequence[str]) -> None:
    """Compose conf/, make the corpus, and submit what is missing."""
    options = parse(words)
    from omegaconf import OmegaConf

    from pipeline import config
    from pipeline.jobs import plans, submission
    from stages import compose, corpus

    written, settings = compose.compose(options.override)
    composed: Any = OmegaConf.to_container(OmegaConf.create(written.decode()))
    # What "auto" finds here, where there may be no GPU, is not what the tasks find.
    if settings.engine.device == "auto":
        composed["engine"]["device"] = "cuda" if settings.cluster.gpus else "cpu"
        settings = config.check(composed)
    queue = submission.Queue()  # a machine without a cluster fails before any work
    settings = replace(settings, root=plans.run_folder(composed))
    say(f"corpus: {corpus.run(settings)}")
    wanted = submission.wanted(composed, settings, options.stage or list(jobs.BULK))
    submission.submit(wanted, queue)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = console.Parser(prog="python -m commands.submit", description=__doc__)
    parser.add_argument(
        "--stage", action="append", choices=jobs.BULK, help="may be repeated (default: all)"
    )
    console.add_overrides(parser)
    return parser.parse_intermixed_args(words)


if __name__ == "__main__":
    console.run(main)
