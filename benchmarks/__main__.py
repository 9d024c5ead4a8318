"""Measure, show and keep: `python -m benchmarks [PART ...] [--sizes N ...] [--quick]`."""

import argparse
import importlib
import importlib.util
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import inputs, profile, record, scaling, whole
from benchmarks.inputs import Load
from benchmarks.whole import Job
from pipeline import store
from pipeline.console import say, sentences

Rows = list[dict[str, Any]]
Results = dict[str, Rows]

RESULTS = Path(__file__).parent / "results"
ROUNDS = 3
# Pairs of heads beyond these are as those before them, and would take minutes.
SAMPLED = {"notebook_heads": 24, "library_pairs": 2400}
# SciPy takes a second for a head of 512 tokens, so of long texts some heads only, by tokens.
MOST_HEADS = {"jensen_shannon": {128: 24, 256: 8, 512: 4}, "rips": {256: 24, 512: 8}}


class Plan(NamedTuple):
    """What a run measures, and on what."""

    load: Load
    models: Sequence[str]
    sizes: Sequence[int]
    jobs: Sequence[Job]
    rounds: int


def main(words: Sequence[str] | None = None) -> None:
    """Run the parts asked for, print the Markdown, and keep it with the Parquet table."""
    options = _arguments(words)
    chosen = options.parts or list(PARTS)
    folder = options.to or _folder(whole_run=not (options.parts or options.sizes or options.quick))
    with sentences():
        about = record.setting()
        # After each part, so that a part that fails leaves what was measured before it.
        results = measure(
            chosen, _plan(options), lambda so_far: record.write(_work(), so_far, about)
        )
        print(record.write(folder, results, about))
        say(f"benchmarks: kept in {folder}")


def measure(chosen: Sequence[str], plan: Plan, keep: Callable[[Results], Any]) -> Results:
    """Rows by part, kept as each is done; a part without anything to work on has none."""
    results: Results = {}
    for name in chosen:
        started = time.perf_counter()
        say(f"{name}: started")
        results[name] = PARTS[name](plan, results)
        keep(results)
        say(f"{name}: {len(results[name])} rows ({time.perf_counter() - started:.0f} s)")
    return results


def kernel(name: str, plan: Plan, results: Results) -> Rows:
    """Run the module of one kernel on attention maps, or on their distances."""
    if importlib.util.find_spec(f"benchmarks.{name}") is None:
        say(f"{name}: there is no benchmarks/{name}.py; left out")
        return []
    every = inputs.attention_maps(plan.load, plan.models, plan.sizes)
    maps = inputs.spread(every, MOST_HEADS.get(name, {}))
    given = maps if name == "jensen_shannon" else inputs.distances(maps)
    return list(importlib.import_module(f"benchmarks.{name}").run(given))


def exponents(results: Results) -> Rows:
    """Fit what the kernels of this run gave."""
    rows = scaling.run(results)
    if not rows:
        say("scaling: nothing to fit; run jensen_shannon and rips with it, on three sizes or more")
    return rows


Part = Callable[[Plan, Results], Rows]
PARTS: dict[str, Part] = {
    "jensen_shannon": lambda plan, results: kernel("jensen_shannon", plan, results),
    "rips": lambda plan, results: kernel("rips", plan, results),
    "bottleneck": lambda plan, results: kernel("bottleneck", plan, results),
    "wasserstein": lambda plan, results: kernel("wasserstein", plan, results),
    "scaling": lambda plan, results: exponents(results),
    "whole": lambda plan, results: whole.run(plan.load, plan.jobs, plan.rounds),
    "profile": lambda plan, results: profile.run(plan.load, plan.jobs, plan.rounds),
}


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all")
    parser.add_argument("--sizes", nargs="+", type=int, metavar="N", help="numbers of tokens")
    parser.add_argument("--quick", action="store_true", help="a look at all parts, not a figure")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="where the results go")
    options = parser.parse_args(words)
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return options


def _plan(options: argparse.Namespace) -> Plan:
    load = cache(inputs.load)
    if options.quick:
        return Plan(load, inputs.MODELS[:1], options.sizes or (32, 64), whole.QUICK, 1)
    jobs = [Job(inputs.MODELS, tokens, **SAMPLED) for tokens in options.sizes or ()]
    return Plan(load, inputs.MODELS, options.sizes or inputs.SIZES, jobs or whole.JOBS, ROUNDS)


def _folder(whole_run: bool) -> Path:
    """Only a whole run replaces the results that are kept with the code."""
    return RESULTS if whole_run else _work()


def _work() -> Path:
    return store.work_folder() / "benchmarks" / "results"


if __name__ == "__main__":
    main()
