"""What every stage shares: the command line, the check of the configuration, errors, the log."""

import json
import os
import platform
import re
import resource
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pipeline import config, jobs, models, store
from pipeline.config import Config, EngineSpec
from pipeline.console import say, sentences
from pipeline.errors import InputError
from stages.repository import git, machine, pins

# Hydra's own folders and log files would land between the results; the run log replaces them.
QUIET = (
    "hydra.run.dir=.",
    f"hydra.sweep.dir={store.LOGS}",
    "hydra.sweep.subdir=.",
    "hydra.output_subdir=null",
    "hydra/job_logging=disabled",
    "hydra/hydra_logging=disabled",
)


# Hydra reads where a file's values go from such a line.
MAX_VALUES = 100_000  # of a configuration, which OmegaConf holds as objects
LONGEST_SHOWN = 80  # characters of an override in a sentence
MAX_WORD = 4096  # characters of an override: Hydra's parser takes a second for so many
PACKAGE = re.compile(r"^\s*#\s*@package", re.MULTILINE)


# What comes of a file that is no configuration.
UNREADABLE = (
    *(YAMLError, OmegaConfBaseException, ValueError, RecursionError, OverflowError, OSError),
    # What PyYAML raises on some of its tags: `!!timestamp x`, `!!bool x`, `!!int ""`.
    *(AttributeError, KeyError, IndexError, TypeError),
)


def stage(work: Callable[[Config], str]) -> Callable[[], None]:
    """A Hydra application over params.yaml; work returns its closing line."""
    return _application(work, lambda work, settings, cell: work(settings))


def model_stage(work: Callable[[Config, str], str]) -> Callable[[], None]:
    """The same for one model, named on the command line by +model=NAME, or by DVC's cell.

    DVC hands a command to the shell: a name in it would be expanded there.
    """
    return _application(work, lambda work, settings, cell: work(settings, _model(settings, cell)))


def _application(work: Callable[..., str], call: Callable[..., str]) -> Callable[[], None]:
    name = work.__module__.split(".")[-1] if work.__module__ != "__main__" else _main_name()

    @wraps(work)
    def task(values: dict[str, Any]) -> None:
        started = time.perf_counter()
        with sentences():
            cell = values.pop("model", None) or _cell(name)
            off = _off_pins()
            settings = config.check(values)
            line = call(work, settings, cell)
            spent, peak = time.perf_counter() - started, _peak_memory()
            title = f"{name} {cell}" if cell else name
            say(f"{title}: {line} ({spent:.1f} s, {peak} MB)")
            _log(name, cell, spent, peak, settings.engine, off)

    def run() -> None:
        with sentences():
            _check_choices(params(), sys.argv[1:])
            check_words(sys.argv[1:])
            launch(task, Path.cwd(), "params")

    return run


def launch(task: Callable[[dict[str, Any]], None], folder: Path, name: str) -> None:
    """Let Hydra compose folder/name.yaml by the command line, and call task(values) for each job.

    Raises InputError for words that do not fit.
    """

    @wraps(task)
    def resolved(composed: DictConfig) -> None:
        with sentences():  # here, for Hydra has a line of its own for what is raised in a job
            try:
                values: dict[str, Any] = OmegaConf.to_container(composed, resolve=True)
            except OmegaConfBaseException as error:
                raise InputError(f"An override does not fit: {_flat(error)}.") from error
        task(values)

    # Else Hydra prints its errors itself, traceback and all.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    sys.argv = with_quiet(sys.argv)
    try:
        hydra.main(version_base="1.3", config_path=str(folder), config_name=name)(resolved)()
    except HydraException as error:
        raise InputError(without_search_path(error)) from error


def _check_choices(loaded: DictConfig, words: Sequence[str]) -> None:
    """Raise InputError for GROUP=NAME: a stage reads params.yaml, which is composed already."""
    for word in words:
        group, given, name = word.partition("=")
        if given and group in loaded and "{" not in name and OmegaConf.is_dict(loaded[group]):
            raise InputError(
                f"'{word}' chooses a file of conf/, and a stage reads params.yaml: "
                f"`python -m commands.compose {word}` first, or `dvc exp run -S {word}`."
            )


def without_search_path(error: Exception) -> str:
    """A sentence of Hydra's, without the places that it looked in."""
    return _flat(error).partition(" Config search path")[0]


def _cell(stage: str) -> str | None:
    """The model of the cell that DVC runs: it names STAGE@MODEL in the environment."""
    running, _, cell = os.environ.get("DVC_STAGE", "").partition("@")
    return cell if running == stage else None


def params() -> DictConfig:
    """What params.yaml holds; InputError where it is missing, not YAML, or not only values."""
    path = Path("params.yaml")
    if not path.is_file():
        raise InputError(
            "There is no params.yaml here. Run `make demo`, or `python -m commands.compose`."
        )
    cure = "Correct it, or compose it anew: `python -m commands.compose`."
    loaded = load_yaml(path, cure)
    if PACKAGE.search(path.read_text("utf-8")):
        raise InputError(f"{path} says with '@package' where Hydra is to put its values. {cure}")
    try:
        config.check_keys(OmegaConf.to_container(loaded, resolve=True))
    except (InputError, OmegaConfBaseException, RecursionError) as error:
        raise InputError(f"{path}: {_flat(error)}. {cure}") from None
    return loaded


def settings() -> Config:
    """What params.yaml says, checked."""
    return config.check(OmegaConf.to_container(params(), resolve=True))


def load_yaml(path: Path, cure: str) -> DictConfig:
    """What a YAML file holds; InputError with the cure where it holds no configuration."""
    try:
        if (found := size(path.read_text("utf-8"))) > MAX_VALUES:
            raise InputError(f"{path} unfolds to {found:.0e} values, over {MAX_VALUES}. {cure}")
        loaded: Any = OmegaConf.load(path)
    except UNREADABLE as error:
        # OmegaConf says of a lone number that it is an error of the disk, which has a number.
        if isinstance(error, InputError) or getattr(error, "errno", None):
            raise
        raise InputError(
            f"{path} is not YAML of keys and values ({_flat(error)}). {cure}"
        ) from error
    if not isinstance(loaded, DictConfig):
        raise InputError(f"{path} holds no keys with values. {cure}")
    return loaded


def size(text: str) -> int:
    """How many values a YAML text unfolds to, its aliases followed; without unfolding them.

    Raises ValueError for a value whose references OmegaConf would read for minutes.
    """
    counted: dict[int, int] = {}

    def count(node: Any) -> int:
        if id(node) not in counted:
            counted[id(node)] = MAX_VALUES  # of a node within itself
            if "${" in node.value and len(node.value) > MAX_WORD:
                raise ValueError(f"a value with '${{' has {len(node.value):,} characters")
            inner = node.value if isinstance(node.value, list) else []
            flat = (part for one in inner for part in (one if isinstance(one, tuple) else (one,)))
            counted[id(node)] = 1 + sum(map(count, flat))
        return counted[id(node)]

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    return count(root) if root else 0


def _flat(error: Exception) -> str:
    return " ".join(str(error).split())


def check_words(words: Sequence[str]) -> None:
    """Raise InputError for an override that Hydra would read for minutes."""
    for word in words:
        if len(word) > MAX_WORD:
            raise InputError(
                f"The override {word[:40]!r}... has {len(word):,} characters, and may have "
                f"{MAX_WORD:,}. Put what is so long into a file of conf/, and choose that."
            )
        if "=" in word and not word.startswith("-"):
            _check_grammar(word)


def _check_grammar(word: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    try:
        OverridesParser.create().parse_override(word)
    except (HydraException, RecursionError, ValueError) as error:
        key, _, value = word.partition("=")
        raise InputError(
            f"Hydra's grammar has no such override: {word[:LONGEST_SHOWN]!r}. Put a value with "
            f"marks in quotes of its own: '{key[:40]}=\"{value[:40]}\"'"
        ) from error


def with_quiet(words: list[str]) -> list[str]:
    """The command line with our settings of Hydra, which the person's own can override."""
    # Its parser wants all overrides in one run: not some before -m and some after.
    overrides = (i for i, word in enumerate(words) if i and ("=" in word or word.startswith("~")))
    first = next(overrides, len(words))
    return [*words[:first], *QUIET, *words[first:]]


def _main_name() -> str:
    return Path(sys.argv[0]).stem


def _model(settings: Config, cell: str | None) -> str:
    if cell in settings.every_model:
        return cell
    given = f"model '{cell}' is not in the configuration" if cell else "no model was given"
    raise InputError(f"{given}; add +model=NAME, one of: {', '.join(settings.every_model)}.")


def _peak_memory() -> int:
    """Of the largest of our processes, in MB."""
    which = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(one).ru_maxrss for one in which)  # kilobytes, on a Mac bytes
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))


def _off_pins() -> pins.Pins:
    """What is installed and is not what the repository pins, which is said.

    Raises InputError where the tables' numbers come from it, unless that is allowed.
    """
    pinned = Path("constraints.txt")
    off = pins.off(pinned.read_text("utf-8")) if pinned.is_file() else {}
    numbers = {name: off[name] for name in store.LIBRARIES if name in off}
    if numbers and os.environ.get(pins.ALLOWED) != "1":
        raise InputError(
            f"Not as constraints.txt pins: {pins.listed(numbers)}. The tables would not be those "
            "of this commit: `make setup` mends it. To use what is installed, pin it in "
            f"constraints.txt, or set {pins.ALLOWED}=1 for a run that says so in its log."
        )
    if off:
        say(f"warning: not as constraints.txt pins: {pins.listed(off)}; `make setup` mends it")
    return off


def _log(
    name: str, cell: str | None, seconds: float, peak: int, spec: EngineSpec, off: pins.Pins
) -> None:
    """Append to the run log what must not change a table's bytes."""
    line = {
        "stage": name,
        "model": cell,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 2),
        "peak_memory_mb": peak,
        "host": platform.node(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "workers": spec.workers,
        "threads": spec.threads,
        "device": models.device(spec.device) if name in jobs.BULK and cell else None,
        "python": platform.python_version(),
        **machine.describe(),
        "off_pins": off,
        "commit": git.ask("rev-parse", "HEAD"),
        "dirty": bool(git.changed()),
    }
    store.LOGS.mkdir(parents=True, exist_ok=True)
    with (store.LOGS / "runs.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")
