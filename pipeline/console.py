"""What is printed at a terminal: lines, sentences for errors, tables, help; and their words.

It imports nothing heavy, so that every command's help is there at once.
"""

import argparse
import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

from pipeline.errors import InputError, TextError

# Its own lock is one between processes, of which a killed process leaves a semaphore behind.
tqdm.set_lock(threading.RLock())

# What no part could be written through: to go on would only lose work. What each is, and its cure.
_ROOM, _RIGHT = "Free some space there", "Give yourself the right to it"
_PLACES = {
    errno.ENOSPC: ("The disk is full", _ROOM),
    errno.EDQUOT: ("The disk is full", _ROOM),
    errno.EFBIG: (
        "A file is larger than may be written",
        "Raise the limit (`ulimit -f`; a file system has its own)",
    ),
    errno.EIO: ("The disk failed", "Look at the system's log, and use a disk that is sound"),
    errno.EROFS: ("A file could not be written or read", _RIGHT),
    errno.EACCES: ("A file could not be written or read", _RIGHT),
    errno.EPERM: ("A file could not be written or read", _RIGHT),
}


# ---------------------------------------------------------------- what is said


def say(line: str) -> None:
    """One line for the person at the terminal."""
    tqdm.write(line, file=sys.stderr)
    sys.stderr.flush()


def show(text: str) -> None:
    """Print a text; a reader who has seen enough of it, such as `head`, may close the pipe."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # What is left in the buffer goes nowhere, instead of failing again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def table(rows: Sequence[Sequence[Any]]) -> str:
    """Rows of cells, a header first, as lines: words to the left, numbers to the right."""
    from tabulate import tabulate

    cells = [[f"{c:.6g}" if isinstance(c, float) else str(c) for c in row] for row in rows]
    columns = zip(*rows, strict=True)
    sides = ["left" if any(isinstance(c, str) for c in one[1:]) else "right" for one in columns]
    as_they_are = {"disable_numparse": True, "preserve_whitespace": True}
    return str(tabulate(cells, tablefmt="plain", colalign=sides, **as_they_are))


class Progress:
    """A bar with an estimate on a terminal, one line a step elsewhere."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._done = title, total, 0
        self._started = time.perf_counter()
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total, desc=title, disable=not self._terminal, unit="part", leave=False
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def step(self, label: str, failed: bool) -> None:
        """Show that a step is behind us, and how much is left."""
        self._done += 1
        self._bar.update()
        if not self._terminal:
            spent = time.perf_counter() - self._started
            left = spent / self._done * (self._total - self._done)
            what = f"{self._done}/{self._total} {label}, {'failed, ' if failed else ''}"
            say(f"{self._title}: {what}about {left:.0f} s left")


# ---------------------------------------------------------------- errors


def sentence(error: BaseException) -> str:
    """An error in words, with the cure where we know one."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, TextError):
        return f"This input cannot be used: {str(error).removesuffix('.')}."
    if isinstance(error, MemoryError):
        return (
            f"There was too little memory ({error or 'none was left'}). Lower max_tokens of the "
            "model, or engine.workers, or use a machine with more."
        )
    if isinstance(error, OSError) and is_fatal(error):
        return _of_a_disk(error)
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"A name is too long ({error}): give a shorter one."
    if isinstance(error, FileNotFoundError) and "usable temporary directory" in str(error):
        return f"{error.strerror}: free space in one of them, or set TMPDIR to a folder elsewhere."
    return (
        f"{type(error).__name__}: {error}. This is not an error we foresaw; "
        "ATTENTION_TOPOLOGY_TRACEBACK=1 before the command shows where it arose."
    )


def is_fatal(error: BaseException) -> bool:
    """Whether an error is one of the disk's, through which no part could be written."""
    return isinstance(error, OSError) and error.errno in _PLACES


def _of_a_disk(error: OSError) -> str:
    from pipeline import store  # only here: the words below need no table

    what, cure = _PLACES[error.errno or 0]
    work = store.work_folder()
    # Only the work folder can be put elsewhere by a word; who names no file may have meant it.
    named = Path(os.fsdecode(error.filename)).absolute() if error.filename else None
    if named is None or named.is_relative_to(work):
        cure += f", or set ATTENTION_TOPOLOGY_WORK to a folder elsewhere (it is {work})"
    return f"{what} ({error}). {cure}, and run again: what was finished there is kept."


def traceback_wanted() -> bool:
    """Whether a person wants to see where an error came from, and not a sentence."""
    return os.environ.get("ATTENTION_TOPOLOGY_TRACEBACK") == "1"


@contextmanager
def sentences(status: int = 1) -> Iterator[None]:
    """Errors as a sentence and an exit status.

    ATTENTION_TOPOLOGY_TRACEBACK=1 shows where they came from.
    """
    try:
        yield
    except KeyboardInterrupt:
        say("stopped: what was finished is kept; run again to go on")
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        if traceback_wanted():
            raise
        say(f"error: {sentence(error)}")
        sys.exit(status)


# ---------------------------------------------------------------- command lines


class Parser(argparse.ArgumentParser):
    """A command line whose faults are sentences, and whose description stands as it is written."""

    def __init__(self, **options: Any) -> None:
        raw = argparse.RawDescriptionHelpFormatter
        super().__init__(**{"formatter_class": raw, "allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        """Raise InputError in place of argparse's own exit."""
        raise InputError(f"{message[:1].upper()}{message[1:]}; see {self.prog} --help.")


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Let a command line take what Hydra calls overrides, which are read by Hydra alone."""
    parser.add_argument(
        "override",
        nargs="*",
        metavar="KEY=VALUE",
        help="a group or a value of conf/, as for `dvc exp run -S`",
    )


def run(main: Callable[[Sequence[str]], int | None], failed: int = 1) -> NoReturn:
    """Call a command with the words of the command line, and exit with its status.

    failed: the status where it ends in an error
    """
    with sentences(failed):
        status = main(sys.argv[1:])
    sys.exit(status)
