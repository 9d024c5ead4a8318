"""What is asked of one head on one text, or two: its model, its maps, and what follows."""

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf

from commands.one_head.options import TextId
from pipeline import attention, config, heads, information, models, store
from pipeline.attention import Encoding
from pipeline.config import Config
from pipeline.console import say
from pipeline.distances import token_distances
from pipeline.errors import InputError, TextError
from pipeline.models import Model
from stages import compose
from stages.app import params

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Head:
    """One head on one text.

    A        the map of the whole text (query, key), or, where distances between hidden
             states are asked for, the vectors (token, width) that enter the layer
    points   positions of the tokens that are points of the metric space
    """

    encoding: Encoding
    A: Floats
    points: NDArray[np.int64]

    @property
    def tokens(self) -> list[str]:
        """Of the whole text."""
        return self.encoding.tokens

    @property
    def labels(self) -> list[str]:
        """Position and token of each point."""
        return [f"{i} {self.tokens[i]}" for i in self.points]


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
    def heads(self) -> list[Head]:
        """The head on each text."""
        of_states = "distance" in self.options and self.settings.distance.of_states
        take = _vectors if of_states else _map
        contents: list[str | bytes] = [*self.texts, *map(_bytes, self.options.image)]
        return [_head(self.model, self.options, content, take) for content in contents]

    def divergences(self, head: Head) -> Floats:
        """Kullback-Leibler divergences between a head's points, in bits."""
        rows = head.A[head.points]
        if self.options.distribution == "resoftmax":
            rows = information.resoftmax(rows)
        return information.kl_divergence(rows, epsilon=self.options.epsilon)

    def distances(self, head: Head) -> Floats:
        """Distances of a head's points by the configured rule."""
        if len(head.points) < 2:
            raise InputError(f"The text has {len(head.points)} token; a distance needs 2.")
        spec = self.settings.distance
        points = np.isin(np.arange(len(head.tokens)), head.points)
        [D] = token_distances(head.A[None], spec.rule, spec.options, points)
        return np.asarray(D)

    def diagrams(self, head: Head) -> list[Floats]:
        """Diagrams of a head by dimension, as configured."""
        return heads.persistence(self.distances(head)[None], self.settings.homology)[0]


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


def _head(
    model: Model,
    options: argparse.Namespace,
    content: str | bytes,
    take: Callable[[Model, Encoding, argparse.Namespace], Floats],
) -> Head:
    if not 0 <= options.head < model.heads:
        raise InputError(
            f"Model {model.name} has no head {options.head}: "
            f"the heads of each layer are 0 to {model.heads - 1}."
        )
    try:
        encoding = attention.encode(model, content)
        A = take(model, encoding, options)
    except TextError as error:
        what = "image" if isinstance(content, bytes) else "text"
        raise InputError(f"This {what} cannot be used: {error}") from error
    if encoding.cut:
        say(f"The text was cut to {len(encoding.tokens)} of its {encoding.total_tokens} tokens.")
    points = np.flatnonzero(attention.points(model, encoding))
    return Head(encoding, A, points)


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
    return np.asarray(attention.attention_of(model, encoding, options.layer)[options.head])


def _vectors(model: Model, encoding: Encoding, options: argparse.Namespace) -> Floats:
    if not 0 <= options.layer <= model.layers:
        raise InputError(
            f"Model {model.name} has no hidden states {options.layer}: 0 to {model.layers - 1} "
            f"enter the layer of that number, {model.layers} leave the last."
        )
    return np.asarray(attention.hidden_states(model, encoding)[options.layer])
