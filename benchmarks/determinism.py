"""How far tables move between instruction sets: `python -m benchmarks.determinism`.

One machine plays several: each setting below makes a library take the path it would take on
another processor, in a process of its own. Every setting computes the same texts under the
packaged models, and is compared with the first, value by value as commands.reproduce does.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks import inputs
from pipeline import attention, context, equivariance, heads, pairs, store
from pipeline.console import say
from pipeline.diagrams import HomologySpec
from pipeline.distances import token_distances
from pipeline.models import Model
from pipeline.pairs import ComparisonSpec
from pipeline.runs.differences import difference
from stages.repository import machine

Arrays = dict[str, NDArray[np.float64]]

NO_FMA = "AVX2,FMA3,AVX512F,AVX512CD,AVX512_SKX,AVX512_CLX,AVX512_CNL,AVX512_ICL,AVX512_SPR"
GLIBC = "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ"
NUMBA = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
NUMPY = {"NPY_DISABLE_CPU_FEATURES": NO_FMA, "OPENBLAS_CORETYPE": "Nehalem"}
ONE = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
OLD = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "GLIBC_TUNABLES": GLIBC,
}
SETTINGS: dict[str, Mapping[str, str]] = {
    "as it is": {},
    "as it is, again": {},
    "one thread": ONE,
    "ATen avx2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "ATen default": {"ATEN_CPU_CAPABILITY": "default"},
    "MKL AVX2": {"MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "MKL SSE4.2": {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    "MKL compatible": {"MKL_CBWR": "COMPATIBLE"},
    "oneDNN SSE4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "numba generic": NUMBA,
    "NumPy, OpenBLAS without AVX": NUMPY,
    "libm without FMA": {"GLIBC_TUNABLES": GLIBC},
    "all of the oldest": {**ONE, **OLD, **NUMBA, **NUMPY},
}
HOMOLOGY = HomologySpec(
    max_dimension=1,
    coefficient_field=2,
    min_persistence=0.0,
    cluster_scales=(0.1, 0.2, 0.3, 0.4, 0.5),
)
COMPARISON = ComparisonSpec("bottleneck", 1.0, "none", 0.95)


def main(words: Sequence[str] | None = None) -> None:
    """Run every setting and print the Markdown table of their moves."""
    options = _arguments(words)
    if options.worker:
        work(options.worker, options.models, options.texts)
        return
    home = store.work_folder() / "benchmarks" / "determinism"
    for number, (name, setting) in enumerate(SETTINGS.items()):
        say(f"determinism: {name}")
        _start(home / str(number), setting, options)
    print(markdown(list(_rows(home))))


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.determinism", description=__doc__)
    parser.add_argument("--models", nargs="+", default=inputs.MODELS, metavar="NAME")
    parser.add_argument("--texts", type=int, default=6, metavar="N", help="of the shipped corpus")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(words)


def _start(folder: Path, setting: Mapping[str, str], options: argparse.Namespace) -> None:
    words = ["--worker", str(folder), "--texts", str(options.texts), "--models", *options.models]
    # Kernels are compiled for each processor named, and kept apart from those of every day.
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder.parent / "numba"), **setting}
    command = [sys.executable, "-m", "benchmarks.determinism", *words]
    subprocess.run(command, cwd=store.ROOT, env=environment, check=True)


# ---------------------------------------------------------------- one setting


def work(folder: Path, names: Sequence[str], count: int) -> None:
    """Compute maps, distances, hidden states and tables of some texts; keep them in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = inputs.SENTENCES.read_text("utf-8").splitlines()
    # Evenly through the corpus, which is sorted by sentence and then language.
    chosen = [json.loads(lines[i * len(lines) // count])["text"] for i in range(count)]
    shapes = []
    for name in names:
        model = inputs.load(name)
        found = [_arrays(model, text) for text in chosen]
        joined = {key: np.concatenate([one[key] for one in found]) for key in found[0]}
        np.savez(folder / f"{name}.npz", allow_pickle=False, **joined)
        made = _tables(model, chosen)
        for table, rows in made.items():
            pq.write_table(rows, folder / f"{name}.{table}.parquet")
        shapes.append(made["diagrams"])
    pq.write_table(_head_distances(shapes, count), folder / "all.head_distances.parquet")
    # torch is imported now, so it can say what it found.
    (folder / "machine.json").write_text(json.dumps(machine.describe()))


def _tables(model: Model, chosen: Sequence[str]) -> dict[str, pa.Table]:
    """The tables of one model that hold fractions, or what a threshold decides."""
    texts = {str(i): text for i, text in enumerate(chosen)}
    made = heads.text_tables(
        model, [heads.Text(*text) for text in texts.items()], inputs.DISTANCE, HOMOLOGY
    )
    pairs = list(combinations(texts, 2))
    shape = equivariance.EquivarianceSpec(chosen[0], 32, 2, 20, 1e-4)
    return {
        **{name: made[name] for name in ("heads", "clusters", "diagrams")},
        **context.context_tables(model, texts, pairs, set(), (1e-4, 1e-3, 1e-2)),
        "equivariance": equivariance.table(model, shape),
    }


def _arrays(model: Model, text: str) -> Arrays:
    encoding = attention.encode(model, text)
    maps = [attention.attention_of(model, encoding, layer) for layer in range(model.layers)]
    apart = [token_distances(A, inputs.DISTANCE.rule, inputs.DISTANCE.options) for A in maps]
    states = attention.hidden_states(model, encoding)
    sizes = np.abs(states).max(-1, keepdims=True)
    return {
        "attention": np.concatenate([A.ravel() for A in maps]),
        "distances": np.concatenate([D.ravel() for D in apart]),
        "hidden_states": (states / sizes).ravel(),
    }


def _head_distances(shapes: list[pa.Table], texts: int) -> pa.Table:
    """Mean over texts, of every pair of heads of all models, in both dimensions."""
    means = []
    for dimension in range(HOMOLOGY.max_dimension + 1):
        total: Any = 0
        for text in range(texts):
            rows = [
                shape.filter(
                    (pc.field("text_id") == str(text)) & (pc.field("dimension") == dimension)
                )
                for shape in shapes
            ]
            packed = pairs.join([pairs.pack(page) for page in rows])
            first, second = np.triu_indices(len(packed.offsets) - 1, 1)
            total = total + pairs.compare(packed, first, second, COMPARISON)
        means.append(total / texts)
    return pa.table({"head_distances": np.concatenate(means)})


# ---------------------------------------------------------------- all settings


def _rows(home: Path) -> Iterator[dict[str, Any]]:
    for number, name in enumerate(SETTINGS):
        row: dict[str, Any] = {"setting": name}
        for file in sorted((home / "0").glob("*.npz")):
            row |= _moves(np.load(file), np.load(home / str(number) / file.name), row)
        for file in sorted((home / "0").glob("*.parquet")):
            row |= _differences(
                pq.read_table(file), pq.read_table(home / str(number) / file.name), row
            )
        yield row


def _moves(before: Any, after: Any, row: Mapping[str, Any]) -> dict[str, float]:
    moves = {key: float(np.abs(before[key] - after[key]).max()) for key in before.files}
    return {key: max(move, row.get(key, 0.0)) for key, move in moves.items()}


def _differences(before: pa.Table, after: pa.Table, row: Mapping[str, Any]) -> dict[str, float]:
    found = difference(before, after)
    moves = {
        "diagrams" if c.kind == "diagram" else c.name: _size(c, found.rows) for c in found.columns
    }
    return {key: max(move, row.get(key, 0.0)) for key, move in moves.items()}


def _size(column: Any, rows: int) -> float:
    flips = column.kind in ("counted", "decided", "margin")
    return float(column.rows / rows if flips else column.apart)


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a setting; the share of rows for what a threshold decides, else the largest move."""
    names = list(dict.fromkeys(key for row in rows for key in row))
    lines = [names, ["---"] * len(names)]
    lines += [[_shown(row.get(name, 0.0)) for name in names] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else "0" if value == 0 else f"{value:.1e}"


if __name__ == "__main__":
    main()
