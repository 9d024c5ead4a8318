"""conf/ -> params.yaml, the very bytes that `dvc exp run` composes, checked against the schema.

`python -m commands.compose` is the command.
"""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from yaml import safe_load

from pipeline import config, files
from pipeline.config import Config
from pipeline.console import is_fatal, say
from pipeline.errors import InputError
from stages import app

PARAMS = Path("params.yaml")
CONF = Path("conf")
LONGEST = 1000  # characters of a sentence of Hydra's: it repeats what it was given
BASE = "base"  # the file of a group that holds what most of it have in common
HYDRA_PACKAGE = re.compile(r"^\s*#\s*@package\s+hydra", re.MULTILINE)


def compose(overrides: Sequence[str]) -> tuple[bytes, Config]:
    """What DVC would write into params.yaml, and the same as a checked Config."""
    if not Path("conf/config.yaml").is_file():
        raise InputError("There is no conf/config.yaml here; go to the top of the repository.")
    check_conf(CONF)
    found = written(overrides, CONF)
    composed: Any = OmegaConf.to_container(OmegaConf.create(found.decode()))
    return found, config.check(composed)


def choices(group: str, conf: Path = CONF) -> list[str]:
    """The names that may be chosen of a group: its files but for the base of them all."""
    return sorted(file.stem for file in (conf / group).glob("*.yaml") if file.stem != BASE)


def values(group: str, name: str, conf: Path = CONF) -> dict[str, Any]:
    """What a choice holds, references to others of its values followed."""
    found: Any = OmegaConf.create(as_written(group, name, conf))
    return dict(OmegaConf.to_container(found, resolve=True))


def as_written(group: str, name: str, conf: Path = CONF) -> dict[str, Any]:
    """A choice's own values over those of the files that its defaults name."""
    file = conf / group / f"{name}.yaml"
    if not file.is_file():
        raise InputError(f"There is no {file}; there are {', '.join(choices(group, conf))}.")
    loaded = app.load_yaml(file, "Correct it.")
    own: dict[str, Any] = OmegaConf.to_container(loaded, resolve=False)
    found: dict[str, Any] = {}
    for inner in own.pop("defaults", []):
        found |= {} if inner == "_self_" else as_written(group, inner, conf)
    return found | own


def check_conf(conf: Path) -> None:
    """Raise InputError where a file of conf/ sets Hydra itself, or names code to run.

    Hydra takes its own settings from such a file, and calls what they name: its launcher and
    its like are for the command line, where a person types them.
    """
    for file in sorted(conf.rglob("*.yaml")):
        app.load_yaml(file, "Correct it.")
        text = file.read_text("utf-8")
        values = safe_load(text)
        if _sets_hydra(file.relative_to(conf), text, values):
            raise InputError(
                f"{file} sets Hydra itself; its settings belong on the command line. Remove them."
            )
        if place := config.calls(values):
            raise InputError(
                f"{file}: '{place}' names code to run; conf/ holds values only: remove it."
            )


def _sets_hydra(file: Path, text: str, values: Any) -> bool:
    if file.parts[0] in ("hydra", "hydra.yaml") or HYDRA_PACKAGE.search(text):
        return True
    keys = values if isinstance(values, dict) else {}
    named = keys.get("defaults") or []
    return any(str(key).split(".")[0] == "hydra" for key in keys) or "hydra" in str(named)


def written(overrides: Sequence[str], conf: Path) -> bytes:
    """What DVC would write into params.yaml from a folder of configuration, not checked."""
    app.check_words(overrides)
    from dvc.utils.hydra import compose_and_dump
    from hydra.errors import HydraException

    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "params.yaml"
        try:
            home = str(conf.absolute())
            compose_and_dump(draft, home, None, "config", str(Path.cwd()), list(overrides))
        except (HydraException, *app.UNREADABLE) as error:
            if is_fatal(error):
                raise
            sentence = app.without_search_path(error)
            # What Python says of Hydra's own code tells nobody which word to correct.
            foreign = isinstance(error, AttributeError | KeyError | IndexError | TypeError)
            unsaid = foreign or not sentence
            what = f"Hydra cannot read {' '.join(overrides)!r}" if unsaid else sentence
            raise InputError(what[:LONGEST]) from error
        return draft.read_bytes()


def write(overrides: Sequence[str]) -> Config:
    """Compose into params.yaml, which stays untouched where it says the same."""
    found, settings = compose(overrides)
    if not _is_current(found):
        with files.written(PARAMS) as draft:
            draft.write_bytes(found)
        say("params.yaml composed from conf/")
    return settings


def check(overrides: Sequence[str]) -> None:
    """Raise InputError where params.yaml is not what conf/ composes to now."""
    if not _is_current(compose(overrides)[0]):
        raise InputError(
            "params.yaml is not what conf/ composes to; run `python -m commands.compose`, "
            "or `dvc exp run`, which composes by itself."
        )


def _is_current(found: bytes) -> bool:
    return PARAMS.is_file() and PARAMS.read_bytes() == found
