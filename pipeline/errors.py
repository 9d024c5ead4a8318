"""The two ways input can be wrong: for the whole run, or for one text."""


class InputError(ValueError):
    """Bad input. The message says what came, what was expected, and the cure."""


class TextError(Exception):
    """One text cannot be used; its reason is recorded and the run goes on."""
