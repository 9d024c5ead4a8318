"""params.yaml from conf/, the very bytes that `dvc exp run` composes; or --check it.

    python -m commands.compose distance=notebook homology.max_dimension=0

What conf/ composes to is checked before it is written. Without words it is the default run's.
"""

from collections.abc import Sequence

from pipeline import console


def main(words: Sequence[str]) -> None:
    """Compose into params.yaml, or check that it is what conf/ says now."""
    parser = console.Parser(prog="python -m commands.compose", description=__doc__)
    console.add_overrides(parser)
    parser.add_argument(
        "--check", action="store_true", help="write nothing, and fail where it is not current"
    )
    options = parser.parse_intermixed_args(words)
    from stages import compose

    (compose.check if options.check else compose.write)(options.override)


if __name__ == "__main__":
    console.run(main)
