"""One job of a frozen plan, as SLURM runs it: a task's parts, or the join behind all.

    python -m commands.task PLAN OFFSET      task number OFFSET + SLURM_ARRAY_TASK_ID of a plan
    python -m commands.task PLAN --join      looks for every part; joins, or names what is missing

The exit code is 0 where every part asked for is on its shelf, and nowhere else.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from pipeline import console
from pipeline.errors import InputError


def main(words: Sequence[str]) -> None:
    """Do one task of a plan, or join all."""
    options = parse(words)
    from commands.whole_run import tasks
    from pipeline.jobs import plans

    plan = plans.load(options.plan)
    if options.join:
        tasks.join(plan)
    else:
        tasks.do(plan, options.offset + int(os.environ.get("SLURM_ARRAY_TASK_ID", "0")))


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = console.Parser(prog="python -m commands.task", description=__doc__)
    parser.add_argument("plan", type=Path, metavar="PLAN", help="the folder of a plan")
    parser.add_argument("offset", type=int, nargs="?", metavar="OFFSET", help="of the array")
    parser.add_argument("--join", action="store_true", help="in place of OFFSET: join all parts")
    options = parser.parse_args(words)
    if options.join == (options.offset is not None):
        raise InputError("Give the OFFSET of a task, or --join; one of them.")
    return options


if __name__ == "__main__":
    console.run(main)
