"""What is asked of one head on one text, or two: its model, its maps, and what follows."""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf

from commands.one_head.options import TextId
from pipeline import attention, config, information, models, store
from pipeline.attention import Encoding
from pipeline.config import Config
from pipeline.console import say
from pipeline.errors import InputError
from pipeline.measures.block import Block
from pipeline.models import Model
from stages import compose
from stages.app import params

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Request:
    """What was asked: the model, the settings, and the options of WHAT."""

    model: Model
    settings: Config
    options: argparse.Namespace

    @property
    def title(self) -> str:
        """What is shown, of which model and head."""
        options = self.options
        head = f" layer {options.layer} head {options.head}" if "layer" in options else ""
        return f"{self.model.name}{head}: {options.what}"

    @cached_property
    def texts(self) -> list[str]:
        """The texts, those named by their id as the prepared corpus has them."""
        return [_text(word, self.settings) for word in self.options.text]

    @cached_property
    def heads(self) -> list[Block]:
        """The head on each text."""
        contents: list[str | bytes] = [*self.texts, *map(_bytes, self.options.image)]
        return [self._head(content) for content in contents]

    def divergences(self, head: Block) -> Floats:
        """Kullback-Leibler divergences between a head's points, in bits."""
        rows = head.rows[0]
        if self.options.distribution == "resoftmax":
            rows = information.resoftmax(rows)
        return information.kl_divergence(rows, epsilon=self.options.epsilon)

    def _head(self, content: str | bytes) -> Block:
        model, options, spec = self.model, self.options, self.settings.distance
        if not 0 <= options.head < model.heads:
            raise InputError(
                f"Model {model.name} has no head {options.head}: "
                f"the heads of each layer are 0 to {model.heads - 1}."
            )
        encoding = attention.encode(model, content)
        if encoding.cut:
            say(
                f"The text was cut to {len(encoding.tokens)} of its {encoding.total_tokens} tokens."
            )
        # What only the distance asks for: of a rule of hidden states there may be no map.
        of_states = "distance" in options and spec.of_states
        one = _vectors(model, encoding, options) if of_states else _map(model, encoding, options)
        get = {"get_states" if of_states else "get_maps": lambda: one}
        points = attention.points(model, encoding)
        return Block(encoding, points, spec, self.settings.homology, **get)


def ask(options: argparse.Namespace) -> Request:
    """The request that a command line makes, its model loaded."""
    chosen = settings(options)
    spec, device = chosen.models[options.model], chosen.engine.device
    model = models.load(options.model, spec, store.work_folder(), device)
    return Request(model, chosen, options)


def settings(options: argparse.Namespace) -> Config:
    """params.yaml, with the model and the choices named on the command line."""
    values: Any = OmegaConf.to_container(params(), resolve=True)
    name, known = options.model, values["models"]
    values["models"] = {name: known[name] if name in known else _choice("model", name, known)}
    values["nulls"] = {}  # of one head nothing is compared with chance
    for group in ("distance", "homology"):
        if chosen := getattr(options, group, None):
            values[group] = _choice(group, chosen)
    return config.check(values)


def _choice(group: str, name: str, more: Iterable[str] = ()) -> Any:
    known = compose.choices(group)
    if name not in known:
        raise InputError(
            f"No {group} is called {name!r}; there are {', '.join(sorted({*known, *more}))}."
        )
    return compose.values(group, name)


def _text(word: str, settings: Config) -> str:
    if not isinstance(word, TextId):
        return word
    path = store.path("corpus", settings.corpus.name)
    rows = store.read(path, ["text_id", "text"]).to_pylist()
    found = next((row["text"] for row in rows if row["text_id"] == word), None)
    if found is None:
        raise InputError(f"{path} has no text {word!r}: take an id from its column text_id.")
    return str(found)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"The image {str(path)!r} cannot be read: {error.strerror}.") from error


def _map(model: Model, encoding: Encoding, options: argparse.Namespace) -> Floats:
    found = attention.attention_of(model, encoding, options.layer)
    return np.asarray(found[options.head, None])


def _vectors(model: Model, encoding: Encoding, options: argparse.Namespace) -> Floats:
    if not 0 <= options.layer <= model.layers:
        raise InputError(
            f"Model {model.name} has no hidden states {options.layer}: 0 to {model.layers - 1} "
            f"enter the layer of that number, {model.layers} leave the last."
        )
    return np.asarray(attention.hidden_states(model, encoding)[options.layer, None])
