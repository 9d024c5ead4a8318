"""Where a file is from: what made it, the commits that record it, how to make it again.

A table carries its provenance in itself, wherever it was copied. Any file that DVC tracks is
found by its bytes in the dvc.lock of commits and experiments. Exit status 1: nothing is known.
"""

from collections.abc import Sequence
from pathlib import Path

from pipeline import console
from pipeline.errors import InputError


def main(words: Sequence[str]) -> int:
    """Print all that is known of one file; 1 where that is nothing."""
    parser = console.Parser(prog="python -m commands.whence", description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="a table, or any output of DVC's")
    file = parser.parse_args(words).file
    if not file.is_file():
        raise InputError(f"{file} is not a file; give one: python -m commands.whence FILE.")
    from pipeline import files
    from stages.repository import origins

    made, md5 = origins.provenance(file), files.md5(file)
    found = list(origins.places(Path.cwd(), md5))
    sections = origins.described(made), origins.recorded(found, md5), origins.again(found)
    for section in sections:
        print("\n".join(section), flush=True)
    return 0 if made or found else 1


if __name__ == "__main__":
    console.run(main)
