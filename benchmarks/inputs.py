"""What is measured: real heads of the packaged models, at exact numbers of tokens."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import attention, models, store
from pipeline.distances import DistanceSpec, token_distances
from pipeline.errors import InputError
from pipeline.models import Model, ModelSpec
from stages import compose

Floats = NDArray[np.float64]
Heads = dict[tuple[str, int], Floats]
Load = Callable[[str], Model]

SIZES = (32, 64, 128, 256, 512)
MODELS = ("minilm", "smollm2")
CONF = store.ROOT / "conf"
SENTENCES = store.ROOT / "data" / "raw" / "parallel.jsonl"
DISTANCE = DistanceSpec("jensen_shannon", {"base": 2.0})
# A model of more heads gives those of some layers only: 512 tokens take 2 MB a head.
ALL_HEADS = 72
SPREAD = 5


def spec(name: str) -> ModelSpec:
    """The packaged model of that name, as conf/model/ describes it."""
    return ModelSpec(**compose.values("model", name, CONF))


def load(name: str) -> Model:
    """Load a packaged model; its converted weights stay in the work folder."""
    return models.load(name, spec(name), store.work_folder())


def cut(model: Model, tokens: int) -> Model:
    """The same model, reading texts up to a number of tokens."""
    return replace(model, spec=replace(model.spec, max_tokens=tokens))


def text(models: Sequence[Model], tokens: int, start: int = 0) -> str:
    """Join sentences of the shipped corpus until every model makes `tokens` tokens of them.

    Begins at sentence `start`; languages alternate, as the corpus is sorted by sentence.
    Raises InputError where all sentences together are too few.
    """
    lines = SENTENCES.read_text("utf-8").splitlines()
    sentences = [json.loads(line)["text"] for line in lines]
    joined = ""
    for sentence in islice(cycle(sentences), start, start + 2 * len(sentences)):
        joined = f"{joined} {sentence}".strip()
        if all(attention.encode(model, joined).total_tokens >= tokens for model in models):
            return joined
    raise InputError(f"{SENTENCES} has no {tokens} tokens; ask for fewer with --sizes.")


def chosen_layers(model: Model) -> list[int]:
    """Every layer of a model of few heads, and an even spread over those of any other."""
    if model.layers * model.heads <= ALL_HEADS:
        return list(range(model.layers))
    return _evenly(model.layers, SPREAD)


def attention_maps(load: Load, names: Sequence[str], sizes: Sequence[int]) -> Heads:
    """Attention of the chosen heads: (model, tokens) -> (head, query, key) float64."""
    return {(name, tokens): _kept(load, name, tokens) for name in names for tokens in sizes}


def distances(maps: Heads) -> Heads:
    """Their token distances by the default rule: (model, tokens) -> (head, query, query)."""
    return {key: token_distances(A, DISTANCE.rule, DISTANCE.options) for key, A in maps.items()}


def spread(maps: Heads, most: Mapping[int, int]) -> Heads:
    """Of each input at most so many heads, by its tokens, spread evenly over all."""
    return {
        (name, tokens): A[_evenly(len(A), most.get(tokens, len(A)))]
        for (name, tokens), A in maps.items()
    }


def _evenly(total: int, count: int) -> list[int]:
    """Up to `count` different whole numbers from 0 to total - 1, the ends among them."""
    return sorted(set(np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()))


def _kept(load: Load, name: str, tokens: int) -> Floats:
    path = store.work_folder() / "benchmarks" / f"{name}-{tokens}-{_key(name, tokens)[:16]}.npz"
    if not path.is_file():
        _save(path, _maps(load(name), tokens))
    with np.load(path) as file:
        return np.asarray(file["attention"])


def _key(name: str, tokens: int) -> str:
    made_by: dict[str, Any] = {
        "code": store.code_digest("benchmarks.inputs"),
        "model": asdict(spec(name)),
        "weights": models.identify(name, spec(name)),
        "sentences": store.sha256(SENTENCES),
        "libraries": store.libraries(),
        "tokens": tokens,
    }
    return store.digest(made_by)


def _maps(model: Model, tokens: int) -> Floats:
    model = cut(model, tokens)
    layers = chosen_layers(model)
    found: list[Floats] = []

    def use(layer: int, maps: Floats) -> None:
        if layer in layers:
            found.append(maps)

    attention.for_each_layer(model, attention.encode(model, text([model], tokens)), use)
    return np.concatenate(found)


def _save(path: Path, maps: Floats) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    np.savez(temporary, attention=maps)
    temporary.replace(path)
