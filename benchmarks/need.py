"""How much memory a text takes, beside what `pipeline.jobs.memory.need` says it will.

    python -m benchmarks.need

Each line is a process of its own: its peak from a first short text on, so that what only the
loading took does not count. Needs a Linux. Takes a few minutes.
"""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import inputs
from pipeline import heads, models, store
from pipeline.diagrams import HomologySpec
from pipeline.distances import DistanceSpec
from pipeline.heads import Text
from pipeline.jobs import memory
from pipeline.kernels import threads
from pipeline.models import Model

# Model, tokens, layers: of long texts a few layers show it, for all take turns in one place.
CASES = (
    ("minilm", 256, 6),
    ("minilm", 512, 6),
    ("smollm2", 512, 30),
    ("smollm2", 1024, 4),
    ("smollm2", 2048, 2),
)
WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "looked", "away"]
DISTANCE = DistanceSpec("jensen_shannon", {"base": 2.0})
HOMOLOGY = HomologySpec(1, 2, 0.0, (0.1, 0.2, 0.3, 0.4, 0.5))


def measure(name: str, tokens: int, layers: int, number: int) -> None:
    """Print estimate and peak of one case, in MB."""
    memory.return_early()
    threads.use(number)
    spec = replace(inputs.spec(name), max_tokens=tokens)
    model = _cut(models.load(name, spec, store.work_folder()), layers)
    heads.text_tables(model, [Text("short", "one two three four")], DISTANCE, HOMOLOGY)
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # the peak starts anew
    words = np.random.default_rng(20).choice(WORDS, tokens)
    heads.text_tables(model, [Text("long", " ".join(words))], DISTANCE, HOMOLOGY)
    peak, need = _peak(), memory.need(model, tokens) / memory.MB
    print(
        f"| {name} | {tokens} | {layers} | {number} | {peak:.0f} | {need:.0f} | {need / peak:.2f} |"
    )


def _cut(model: Model, layers: int) -> Model:
    network = model.network
    stack = network.layers if hasattr(network, "layers") else network.encoder.layer
    del stack[layers:]
    network.config.num_hidden_layers = layers
    return replace(model, layers=layers)


def _peak() -> float:
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return float(peak) / 1024


if __name__ == "__main__":
    if sys.argv[1:]:
        measure(sys.argv[1], *map(int, sys.argv[2:]))
        sys.exit()
    print(
        "| model | tokens | layers | threads | peak MB | estimate MB | estimate / peak |",
        flush=True,
    )
    print("|---|---|---|---|---|---|---|", flush=True)
    for case in CASES:
        for number in (1, 2):
            words = [str(word) for word in (*case, number)]
            subprocess.run([sys.executable, "-m", "benchmarks.need", *words], check=True)
