"""conf/ -> everything: composes, runs `dvc repro`, and says what came out.

    python -m stages.demo [GROUP=NAME KEY=VALUE ...]

`dvc exp run` does the same and records an experiment, but needs a git identity, which a
fresh machine does not have.
"""

import os
import subprocess
import sys
from pathlib import Path

from pipeline import store
from pipeline.engine import say
from pipeline.report import summary
from stages import compose
from stages.app import sentences


def main(overrides: list[str]) -> None:
    """Run what changed of the pipeline and print the summary."""
    compose.main(overrides)
    # The stages' `python` is the one that runs this.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    ended = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"], env={**os.environ, "PATH": path}, check=False
    )
    if ended.returncode:
        sys.exit(ended.returncode)
    _, settings = compose.compose(overrides)
    say("\n" + summary.text(store.read(store.table_path("head_distances"))))
    say(f"\npage    {store.REPORT}")
    say(f"tables  {store.table_path('head_distances')}")
    say(f"        {store.table_path('text_distances')}")
    names = ",".join(settings.models)
    models = f"{{{names}}}" if "," in names else names
    for tables in (store.model_path, store.context_path):
        say(f"        {tables(models, '*')}")
    say(f"        {store.equivariance_path(models)}")


if __name__ == "__main__":
    with sentences():
        main(sys.argv[1:])
