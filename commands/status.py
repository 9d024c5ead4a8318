"""How far the bulk stages are: parts done, running, failed and why, time left.

Of the configuration in params.yaml, whoever does the parts: this machine, or a cluster. Parts
are looked for by name, not checked byte by byte, as a run does.
"""

from collections.abc import Sequence

from pipeline import console


def main(words: Sequence[str]) -> None:
    """Print how far everything is."""
    console.Parser(prog="python -m commands.status", description=__doc__).parse_args(words)
    from pipeline.jobs import progress
    from stages import app

    for line in progress.lines(app.settings()):
        print(line)


if __name__ == "__main__":
    console.run(main)
