"""Every command with a line of what it answers, and the way to each: `attention-topology`."""

import runpy
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import NoReturn

from pipeline import console
from pipeline.errors import InputError

GROUPS = {
    "Look at one head": ("look", "figure", "explore"),
    "Run": ("demo", "compose", "plan", "sweep", "status", "parts"),
    "Run on a cluster": ("submit", "task"),
    "Compare and reproduce": ("compare", "reproduce", "whence"),
}
NAMES = [name for names in GROUPS.values() for name in names]


def main() -> NoReturn:
    """What the console script calls."""
    console.run(command)


def command(words: Sequence[str]) -> None:
    """List the commands, or run the one that is named as `python -m commands.NAME` does."""
    if not words or words[0] in ("-h", "--help"):
        console.show(listed())
        return
    if words[0] not in NAMES:
        near = get_close_matches(words[0], NAMES, n=2, cutoff=0.5)
        meant = f"; did you mean {' or '.join(near)}?" if near else "."
        raise InputError(
            f"No command is called {words[0]!r}{meant} `attention-topology` lists all."
        )
    sys.argv = list(words)
    runpy.run_module(f"commands.{words[0]}", run_name="__main__", alter_sys=True)


def listed() -> str:
    """The commands by group, each with the first line of its own description."""
    lines = ["usage: attention-topology COMMAND ...   (or: python -m commands.COMMAND ...)"]
    for group, names in GROUPS.items():
        lines += ["", group]
        lines += [f"  {name:10} {_about(name)}" for name in names]
    return "\n".join([*lines, "", "Each takes --help, as do the stages: python -m stages.STAGE."])


def _about(name: str) -> str:
    return str(import_module(f"commands.{name}").__doc__).splitlines()[0]


if __name__ == "__main__":
    main()
