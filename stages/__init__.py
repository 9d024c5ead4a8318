"""One thin Hydra application for each DVC stage."""

import ast
import os
import sys
from pathlib import Path
from types import TracebackType

# Arrow's own allocator keeps what was freed, a hundred megabytes after an hour; the C library
# gives it back. Arrow reads this when it is first imported.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

VALUES = """

An application of Hydra's over the params.yaml of this folder: KEY=VALUE changes a value of it for
this once; -m KEY=VALUE,VALUE is a run for each."""


def _interrupted(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Ctrl-C while modules are imported, before a command can say it in its own words."""
    if issubclass(kind, KeyboardInterrupt):
        print("stopped: nothing was begun", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def _help() -> str | None:
    """What `python -m stages.NAME --help` asks for, before the stage and its libraries are read.

    Hydra's own would come seconds later, after a walk through all below the working folder.
    """
    # While Python looks for the module that -m names, it has this in the first word's place.
    if sys.argv[:1] != ["-m"] or not {"-h", "--help"}.intersection(sys.argv[1:]):
        return None
    module = sys.orig_argv[-len(sys.argv)].removeprefix("-m")
    package, _, name = module.partition(".")
    file = Path(__file__).with_name(f"{name}.py")
    if package != __name__ or not file.is_file():
        return None
    about = ast.get_docstring(ast.parse(file.read_text("utf-8")))
    values = "" if name == "conf" else VALUES
    return f"usage: python -m {module}{' [KEY=VALUE ...]' * bool(values)}\n\n{about}{values}"


sys.excepthook = _interrupted
if (_asked := _help()) is not None:
    from pipeline.console import show

    show(_asked)
    sys.exit()
