"""The results as a Parquet table and as Markdown, with the machine and versions they are of."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numba
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipeline import store

Row = dict[str, Any]
Results = Mapping[str, Sequence[Row]]

PEERS = ("fastjsd", "giotto-ph", "persim", "ripser", "topp")
TITLES = {
    "jensen_shannon": (
        "Jensen-Shannon",
        "Distances between all attention rows of a head; the time is for one head.",
    ),
    "rips": (
        "Rips persistence",
        "Diagrams of a head's distances, dimensions 0 and 1, field Z/2; the time is for one head.",
    ),
    "bottleneck": (
        "Bottleneck distance",
        "Distances between the diagrams of two heads; the time is for one pair.",
    ),
    "wasserstein": (
        "Wasserstein distance",
        "Distances between the diagrams of two heads, by order; the time is for one pair.",
    ),
    "scaling": (
        "Growth with tokens",
        "The k of time = c tokens^k, by least squares on the logarithms of the medians above.",
    ),
    "whole": (
        "The whole job",
        "Texts to distances between all heads in dimensions 0 and 1, models loaded before, the "
        "forward pass included. All sides start from the same texts, and every diagram made is "
        "compared with ours. The smallest and largest ratio are of single rounds. Where a side "
        "would take minutes it does a random sample, new in each round, and its time is scaled "
        "to all heads and pairs. `notebook` is the founding notebook's method in one process.",
    ),
    "profile": ("Where our time goes", "Of the whole job, by step; a step does not count another."),
}
# Load for each core, before we start, above which times are no measurement.
BUSY = 0.5


def setting() -> dict[str, Any]:
    """The machine, the libraries and the moment; taken before the first measurement."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": _cpu(),
        "cores": usable_cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": platform.platform(terse=True),
        "numba_threads": numba.get_num_threads(),
        "torch_threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "libraries": {**store.libraries(), **{name: _version(name) for name in PEERS}},
    }


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def write(folder: Path, results: Results, about: Row) -> str:
    """Write results.parquet and results.md into a folder, and return the Markdown.

    The Parquet table holds all rows, with the columns of all benchmarks.
    """
    rows = [{"benchmark": name, **row} for name, found in results.items() for row in found]
    names = list(dict.fromkeys(key for row in rows for key in row))
    table = pa.table({name: _column([row.get(name) for row in rows]) for name in names})
    metadata = {store.PROVENANCE: store.canonical_json(about)}
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".results.parquet.{os.getpid()}"
    pq.write_table(table.replace_schema_metadata(metadata), temporary, compression="zstd")
    temporary.replace(folder / "results.parquet")
    page = markdown(results, about)
    store.write_text(folder / "results.md", page)
    return page


def _column(values: list[Any]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) > 1:
        as_one = float if kinds <= {int, float} else str
        return pa.array([None if value is None else as_one(value) for value in values])
    return pa.array(values)


def markdown(results: Results, about: Row) -> str:
    """A section for each benchmark, after the machine and the versions."""
    sections = [heading(about, "make bench", "a ratio is a time over ours, so ours is 1")]
    for name, rows in results.items():
        title, sentence = TITLES[name]
        sections.append(f"## {title}\n\n{sentence}\n\n{table(rows)}\n")
    return "\n".join(sections)


def heading(about: Row, command: str, meaning: str) -> str:
    """The command, what its numbers mean, machine and versions, and whether it was busy."""
    libraries = ", ".join(f"{name} {version}" for name, version in about["libraries"].items())
    busy = about["load_before"] > BUSY * about["cores"]
    warning = "The machine was busy: these times are no measurement.\n\n" if busy else ""
    return (
        "# Benchmarks\n\n"
        f"Made by `{command}`; times are wall-clock, {meaning}.\n\n"
        f"{warning}"
        f"- {about['date']}, commit {about['commit']}, load before {about['load_before']}\n"
        f"- {about['cpu']}, {about['cores']} cores, {about['memory_gb']} GB, {about['system']}; "
        f"{about['numba_threads']} threads in numba, {about['torch_threads']} in torch\n"
        f"- Python {about['python']}, {libraries}\n"
    )


def table(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table, with the columns of all."""
    if not rows:
        return "Nothing was measured."
    names = list(dict.fromkeys(key for row in rows for key in row))
    lines = [[name.replace("_", " ") for name in names], ["---"] * len(names)]
    lines += [[_shown(row.get(name)) for name in names] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "" if value is None else str(value)


def _cpu() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text("utf-8").splitlines() if information.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    words = ["git", "describe", "--always", "--dirty"]
    answer = subprocess.run(words, cwd=store.ROOT, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"
