"""The two ways input can be wrong, for the whole run or for one text, and lists in sentences."""

from collections.abc import Sequence


class InputError(ValueError):
    """Bad input. The message says what came, what was expected, and the cure."""


class TextError(Exception):
    """One text cannot be used; its reason is recorded and the run goes on."""


def some(names: Sequence[str], most: int) -> str:
    """Names as a sentence lists them: the first few, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
