"""What every stage shares: the command line, the check of the configuration, errors, the log."""

import json
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from pipeline import config, jobs, models, store
from pipeline.config import Config, EngineSpec
from pipeline.engine import say, sentence, traceback_wanted
from pipeline.errors import InputError
from stages import machine, pins

# Hydra's own folders and log files would land between the results; the run log replaces them.
QUIET = (
    "hydra.run.dir=.",
    f"hydra.sweep.dir={store.LOGS}",
    "hydra.sweep.subdir=.",
    "hydra.output_subdir=null",
    "hydra/job_logging=disabled",
    "hydra/hydra_logging=disabled",
)


def stage(work: Callable[[Config], str]) -> Callable[[], None]:
    """A Hydra application over params.yaml; work returns its closing line."""
    return _application(work, lambda work, settings, cell: work(settings))


def model_stage(work: Callable[[Config, str], str]) -> Callable[[], None]:
    """The same for one model, named on the command line by +model=NAME."""
    return _application(work, lambda work, settings, cell: work(settings, _model(settings, cell)))


def _application(work: Callable[..., str], call: Callable[..., str]) -> Callable[[], None]:
    name = work.__module__.split(".")[-1] if work.__module__ != "__main__" else _main_name()

    @wraps(work)
    def task(composed: DictConfig) -> None:
        values: dict[str, Any] = OmegaConf.to_container(composed, resolve=True)
        cell = values.pop("model", None)
        started = time.perf_counter()
        with sentences():
            off = _off_pins()
            settings = config.check(values)
            line = call(work, settings, cell)
            spent, peak = time.perf_counter() - started, _peak_memory()
            title = f"{name} {cell}" if cell else name
            say(f"{title}: {line} ({spent:.1f} s, {peak} MB)")
            _log(name, cell, spent, peak, settings.engine, off)

    main = hydra.main(version_base="1.3", config_path=str(Path.cwd()), config_name="params")(task)

    def run() -> None:
        with sentences():
            params()
        sys.argv = with_quiet(sys.argv)
        main()

    return run


def params() -> DictConfig:
    """What params.yaml holds; InputError where it is missing or not YAML."""
    path = Path("params.yaml")
    if not path.is_file():
        raise InputError(
            "There is no params.yaml here. Run `make demo`, or `python -m stages.compose`."
        )
    return load_yaml(path, "Correct it, or compose it anew: `python -m stages.compose`.")


def load_yaml(path: Path, cure: str) -> DictConfig:
    """What a YAML file holds; InputError with the cure where it is not YAML."""
    try:
        loaded: Any = OmegaConf.load(path)
    except (YAMLError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise InputError(f"{path} is not YAML ({said}). {cure}") from error
    return loaded


def with_quiet(words: list[str]) -> list[str]:
    """The command line with our settings of Hydra, which the person's own can override."""
    # Its parser wants all overrides in one run: not some before -m and some after.
    overrides = (i for i, word in enumerate(words) if i and ("=" in word or word.startswith("~")))
    first = next(overrides, len(words))
    return [*words[:first], *QUIET, *words[first:]]


def _main_name() -> str:
    return Path(sys.argv[0]).stem


def _model(settings: Config, cell: str | None) -> str:
    if cell in settings.models:
        return cell
    given = f"model '{cell}' is not in the configuration" if cell else "no model was given"
    raise InputError(f"{given}; add +model=NAME, one of: {', '.join(settings.models)}.")


@contextmanager
def sentences() -> Iterator[None]:
    """Errors as a sentence; ATTENTION_TOPOLOGY_TRACEBACK=1 shows where they came from."""
    try:
        yield
    except KeyboardInterrupt:
        say("stopped: what was finished is kept; run again to go on")
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        if traceback_wanted():
            raise
        fail(sentence(error))


def fail(sentence: str) -> None:
    """Say what is wrong and stop with exit status 1."""
    say(f"error: {sentence}")
    sys.exit(1)


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
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
    }
    store.LOGS.mkdir(parents=True, exist_ok=True)
    with (store.LOGS / "runs.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")


def _git(*words: str) -> str | None:
    answer = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else None
