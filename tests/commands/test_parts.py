"""The words of commands.parts, and of commands.status, which takes none."""

import re

import pytest

from commands import parts, status
from pipeline.errors import InputError


@pytest.mark.parametrize(
    ("words", "which", "dry_run"),
    [
        (["clear"], "old", False),
        (["clear", "--aside"], "aside", False),
        (["clear", "--all", "--dry-run"], "all", True),
    ],
)
def test_which_parts_are_to_go(words, which, dry_run):
    found = parts.parse(words)
    assert (found.which, found.dry_run) == (which, dry_run)


@pytest.mark.parametrize(
    ("main", "words", "says"),
    [
        (parts.main, [], "required: list | clear; see python -m commands.parts --help"),
        (parts.main, ["lost"], "invalid choice: 'lost'"),
        (parts.main, ["list", "--all"], "Unrecognized arguments: --all"),
        (parts.main, ["clear", "--all", "--aside"], "--aside: not allowed with argument --all"),
        (status.main, ["now"], "Unrecognized arguments: now; see python -m commands.status"),
    ],
)
def test_other_words_are_refused(main, words, says):
    with pytest.raises(InputError, match=re.escape(says)):
        main(words)
