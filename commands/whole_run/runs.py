"""All stages one after the other, in a folder of its own, without DVC."""

import hashlib
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from pipeline import config, store
from pipeline.config import Config
from pipeline.console import say
from stages import app, compose

RUNS = Path("multirun")
LONGEST = 120  # letters of a folder's name


def run(settings: Config) -> None:
    """All stages, in the run's folder."""
    of = {"models": settings.models, "nulls": settings.null_models, "": [None]}
    for name, cells in stages():
        stage = import_module(f"stages.{name}")
        for model in of[cells]:
            models = [model] if model else []
            say(f"{' '.join([name, *models])}: {stage.run(settings, *models)}")


def stages() -> list[tuple[str, str]]:
    """The stages of dvc.yaml, those first that others read, and what each has a cell of.

    "models", "nulls" (of each model each null), or "": it has none.
    """
    written = yaml.safe_load((store.ROOT / "dvc.yaml").read_text("utf-8"))["stages"]
    bodies = {name: entry.get("do", entry) for name, entry in written.items()}
    del bodies["conf"]  # a check of DVC's run, which makes nothing

    def reads(name: str, other: str) -> bool:
        outs = [f"{out}/" for out in bodies[other]["outs"]]
        return any(out.startswith(f"{dep}/") for out in outs for dep in bodies[name]["deps"])

    needs = {name: {other for other in bodies if reads(name, other)} for name in bodies}
    order = TopologicalSorter(needs).static_order()
    kinds = {"foreach": "models", "matrix": "nulls"}
    return [(name, "".join(kinds[key] for key in kinds if key in written[name])) for name in order]


def folder_of(overrides: str) -> Path:
    """The folder of the run for which this was set; never one outside."""
    plain = re.sub(r"[^\w=,.+~@-]", "_", overrides).lstrip(".")
    if plain == overrides and 0 < len(plain) <= LONGEST:
        return RUNS / plain
    return RUNS / f"{plain[:LONGEST]}-{hashlib.sha256(overrides.encode()).hexdigest()[:8]}"


def task(values: dict[str, Any]) -> None:
    """One run of a sweep; without -m, a run in place."""
    settings, about = config.check(values), HydraConfig.get()
    if about.mode != RunMode.RUN:
        settings = replace(settings, root=folder_of(about.job.override_dirname))
        say(f"run {about.job.num}: {settings.root}")
    run(settings)


def launch(words: Sequence[str]) -> None:
    """Let Hydra make the runs that its words ask for."""
    if any("submitit" in word for word in words):
        # It keeps pickles there, and a pickle runs code when it is read.
        (store.LOGS / ".submitit").mkdir(mode=0o700, parents=True, exist_ok=True)
    sys.argv = [sys.argv[0], *words]
    compose.check_conf(Path("conf"))
    app.launch(task, Path("conf").absolute(), "config")
