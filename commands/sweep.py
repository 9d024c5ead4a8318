"""Whole runs by Hydra alone, without DVC, each in a folder of its own.

    python -m commands.sweep -m distance=jensen_shannon,notebook homology.max_dimension=0,1

Each run does all stages in multirun/NAME, called by what was set for it; finished parts go to
the work folder, as always. `python -m commands.compare multirun/*` lines the runs up. With
`hydra/launcher=submitit_slurm` each run is one job of a cluster: docs/cluster.md.
"""

from collections.abc import Sequence

from pipeline import console


def main(words: Sequence[str]) -> None:
    """Let Hydra make the runs."""
    parser = console.Parser(prog="python -m commands.sweep", description=__doc__)
    console.add_overrides(parser)
    parser.add_argument(
        "-m", "--multirun", action="store_true", help="a run for each combination of values"
    )
    options = parser.parse_intermixed_args(words)
    from commands.whole_run import runs

    runs.launch([*["--multirun"] * options.multirun, *options.override])


if __name__ == "__main__":
    console.run(main)
