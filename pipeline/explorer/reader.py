"""Models and what they make of a text or image, each made once and kept.

All layers' maps of a text are kept together, so that another head or layer is looked up,
never computed. They are kept as float32, as the networks give them.
"""

import hashlib
import math
import threading
from collections.abc import Callable, Hashable
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from pipeline import attention
from pipeline.attention import Encoding
from pipeline.cache import Cache
from pipeline.diagrams import HomologySpec
from pipeline.distances import DistanceSpec
from pipeline.errors import InputError, TextError
from pipeline.explorer import MEMORY
from pipeline.measures.block import Block
from pipeline.models import Model

Floats = NDArray[np.float64]
Content = str | bytes

CHARACTERS = 200_000  # of a text; a model reads its beginning
SHARE = 0.4  # of the memory, that one text may take
WEIGHTS = 4 * 2**30  # bytes of the models that are kept


class Maps(NamedTuple):
    """A text as tokens, and its maps: (layers, heads, query, key)."""

    encoding: Encoding
    values: NDArray[np.float32]


class States(NamedTuple):
    """A text as tokens, and its vectors: (layers + 1, tokens, width)."""

    encoding: Encoding
    values: Floats


class Reader:
    """What the explorer knows; may be asked by many threads at once."""

    def __init__(self, load: Callable[[str], Model], memory: int = MEMORY):
        self._load, self._limit = load, memory
        self._models: Cache[Model] = Cache(WEIGHTS, _weight)
        self._made: Cache[Maps | States] = Cache(memory, _size)
        # Hooks, tokenizers and torch's number of threads belong to the whole process.
        self._running = threading.Lock()

    def model(self, name: str) -> Model:
        """A model, loaded when first asked for; who else asks meanwhile waits for it."""
        return self._models.get(name, lambda: self._load(name))

    def maps(self, model: Model, content: Content) -> Maps:
        """The maps of all layers; TextError, InputError as `pipeline.attention` has them."""
        key = "maps", *_key(model, content)
        return cast(Maps, self._made.get(key, lambda: self._run(key, model, content)))

    def states(self, model: Model, content: Content) -> States:
        """The hidden states; the same errors."""
        key = "states", *_key(model, content)
        return cast(States, self._made.get(key, lambda: self._run_states(key, model, content)))

    def head(
        self,
        model: Model,
        content: Content,
        place: tuple[int, int],
        distance: DistanceSpec,
        homology: HomologySpec,
    ) -> Block:
        """The head of a place (layer, head) on one text; its states are read when asked for."""
        layer, head = place
        _check(model, "layer", layer, model.layers)
        _check(model, "head", head, model.heads)
        encoding, values = self.maps(model, content)
        return Block(
            encoding,
            attention.points(model, encoding),
            distance,
            homology,
            get_maps=lambda: values[layer, head : head + 1].astype(np.float64),
            get_states=lambda: self.states(model, content).values[layer : layer + 1],
        )

    @property
    def bytes(self) -> int:
        """Of maps and hidden states that are kept, or have their room."""
        return self._made.bytes

    def _run(self, key: Hashable, model: Model, content: Content) -> Maps:
        with self._running:
            encoding = _encoded(model, content)
            n = len(encoding.tokens)
            shape = (model.layers, model.heads, n, n)
            self._room(key, "maps", n, 4 * math.prod(shape))
            values = np.empty(shape, np.float32)

            def keep(layer: int, maps: Floats) -> None:
                values[layer] = maps

            attention.for_each_layer(model, encoding, keep)
        return Maps(encoding, values)

    def _run_states(self, key: Hashable, model: Model, content: Content) -> States:
        with self._running:
            encoding = _encoded(model, content)
            n = len(encoding.tokens)
            width = getattr(model.network.config, "hidden_size", 0)
            if isinstance(width, int):
                self._room(key, "hidden states", n, 8 * (model.layers + 1) * n * width)
            values = attention.hidden_states(model, encoding)
            self._room(key, "hidden states", n, values.nbytes)  # of models that name no width
            return States(encoding, values)

    def _room(self, key: Hashable, what: str, tokens: int, size: int) -> None:
        # A share of the whole, so that both texts stay and neither drives the other out.
        if size > SHARE * self._limit:
            raise TextError(
                f"the {what} of its {tokens:,} tokens take {size / 2**30:.1f} GB, and "
                f"{SHARE * self._limit / 2**30:.1f} are the most: shorten it, lower the model's "
                "max_tokens, or give the explorer more (--memory-mb)"
            )
        self._made.reserve(key, size)


def _weight(model: Model) -> int:
    return sum(weights.nbytes for weights in model.network.parameters())


def _size(made: Maps | States) -> int:
    """Bytes of what was made of a text, its tokens (some 100 each, as Python has them) included."""
    pixels = made.encoding.pixels
    return made.values.nbytes + 200 * len(made.encoding.tokens) + getattr(pixels, "nbytes", 0)


def _key(model: Model, content: Content) -> tuple[str, str]:
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    return model.name, f"{type(content).__name__} {hashlib.sha256(data).hexdigest()}"


def _encoded(model: Model, content: Content) -> Encoding:
    if not content:
        raise TextError("it is empty: write one" if content == "" else "none is chosen: choose one")
    if isinstance(content, str) and len(content) > CHARACTERS:
        raise TextError(
            f"it has {len(content):,} characters, and {CHARACTERS:,} are the most: shorten it"
        )
    return attention.encode(model, content)


def _check(model: Model, what: str, came: int, number: int) -> None:
    if not 0 <= came < number:
        raise InputError(
            f"Model {model.name} has no {what} {came}: its {what}s are 0 to {number - 1}."
        )
