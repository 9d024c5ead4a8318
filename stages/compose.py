"""conf/ -> params.yaml, the very bytes that `dvc exp run` composes, checked against the schema.

python -m stages.compose [GROUP=NAME KEY=VALUE ...]     composes and checks
python -m stages.compose --check                        says whether params.yaml is current
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline import config
from pipeline.config import Config
from pipeline.engine import say
from pipeline.errors import InputError
from stages.app import sentences

PARAMS = Path("params.yaml")


def compose(overrides: Sequence[str]) -> tuple[bytes, Config]:
    """What DVC would write into params.yaml, and the same as a checked Config."""
    if not Path("conf/config.yaml").is_file():
        raise InputError("There is no conf/config.yaml here; go to the top of the repository.")
    found = written(overrides, Path("conf"))
    values: Any = OmegaConf.to_container(OmegaConf.create(found.decode()))
    return found, config.check(values)


def written(overrides: Sequence[str], conf: Path) -> bytes:
    """What DVC would write into params.yaml from a folder of configuration, not checked."""
    from dvc.utils.hydra import compose_and_dump
    from hydra.errors import HydraException

    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "params.yaml"
        try:
            home = str(conf.absolute())
            compose_and_dump(draft, home, None, "config", str(Path.cwd()), list(overrides))
        except HydraException as error:
            sentence = " ".join(str(error).split()).partition(" Config search path")[0]
            raise InputError(sentence) from error
        return draft.read_bytes()


def main(words: Sequence[str]) -> None:
    """Compose into params.yaml, or check that it is what conf/ says now."""
    only_check = "--check" in words
    found, _ = compose([word for word in words if word != "--check"])
    if PARAMS.is_file() and PARAMS.read_bytes() == found:
        return
    if only_check:
        raise InputError(
            "params.yaml is not what conf/ composes to; run `python -m stages.compose`, "
            "or `dvc exp run`, which composes by itself."
        )
    PARAMS.write_bytes(found)
    say("params.yaml composed from conf/")


if __name__ == "__main__":
    with sentences():
        main(sys.argv[1:])
