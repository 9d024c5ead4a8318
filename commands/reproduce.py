"""Whether the tables of a revision come out again, and if not, what moved and why.

    python -m commands.reproduce --rev v1.0 --source recompute

Exit status: 0 every table is the same or within the tolerance, 1 one is different, 2 one
could not be verified.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pipeline import console
from pipeline.console import say
from pipeline.errors import InputError, some


def main(words: Sequence[str]) -> int:
    """Verify one revision, say what came out, and return the exit status."""
    options = parse(words)
    from stages.repository import revisions, verification

    home, own = Path.cwd(), options.environment == "own"
    commit = revisions.resolve(home, options.rev or "HEAD")
    warning = _changes(options.rev)
    say(f"revision {options.rev or 'HEAD'}: {commit}")
    with revisions.checkout(home, commit, options.keep, own) as tree:
        results = verification.verify(tree, options.source)
    print(verification.report(results), flush=True)
    for sentence in filter(None, (verification.cure(results), warning)):
        say(sentence)
    if options.keep:
        say(f"left at {options.keep}; remove it: `git worktree remove --force {options.keep}`")
    return verification.status(results)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = console.Parser(prog="python -m commands.reproduce", description=__doc__)
    parser.add_argument(
        "--rev", metavar="REVISION", help="a commit, tag, branch or experiment (default: HEAD)"
    )
    parser.add_argument(
        "--source",
        choices=("pull", "recompute"),
        default="pull",
        help="pull (default): what DVC's cache and remote hold, checked against dvc.lock; "
        "recompute: every stage runs again, in a clean folder, by the revision's own code",
    )
    parser.add_argument(
        "--environment",
        choices=("own", "here"),
        default="own",
        help="own (default): made from the revision's pins, where this one is not as they say; "
        "here: this one in any case",
    )
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="where to leave the clean folder"
    )
    return parser.parse_args(words)


def _changes(rev: str | None) -> str:
    """Refuse to call a changed tree verified; with a revision named, say what is left out."""
    from stages.repository import git

    changed = git.changed()
    if not changed:
        return ""
    these = some(changed, 3)
    if rev is None:
        raise InputError(
            f"The working tree has changes that no commit holds ({these}): commit them, or verify "
            "the last commit without them by --rev HEAD."
        )
    return f"warning: the working tree's own changes were not verified: {these}"


if __name__ == "__main__":
    console.run(main, failed=2)
