"""How much the order of a text's tokens matters to each part of a network, in numbers.

X holds the vectors of a text's tokens as rows, P is a permutation matrix. Without positions
and without a causal mask, attention is equivariant, A(PX) = P A(X) P^T, because a score
belongs to a pair of tokens and softmax to a row; what then mixes rows by A, or treats each
row alone, gives Y(PX) = P Y(X): multi-head attention with its residual, the feed-forward
network, the block of both, and the whole network. Positions and a mask stay where they are
while the tokens move, and break it. Relabelling the distances between tokens, D to P D P^T,
changes no persistence diagram, to the bit.

A part of a layer is called again with what it was given in a run of the network, its hidden
states permuted and all else (rotary angles, mask) as it was. Positions that a network adds
to its embeddings are in those hidden states already, so there they move with the tokens:
what such positions break shows in the rows for the whole network, whose input is the
embeddings of the tokens alone.

A vision transformer is given an image of random colours. Its X is what its embeddings give
with the positions taken to be zero: a row for each patch and for each token of its own.
"""

import contextlib
import inspect
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import information, vision
from pipeline.attention import Encoding, encode
from pipeline.diagrams import rips
from pipeline.errors import InputError, TextError
from pipeline.models import Model, attention_modules

Floats = NDArray[np.float64]
Order = NDArray[np.int64]  # the tokens' order after a permutation: (PX)[i] = X[order[i]]
Row = dict[str, Any]
Outputs = dict[tuple[str, int | None], Floats]  # by component and layer

ATTENTION = "attention"
RESIDUAL = "multi-head attention with residual"
FEED_FORWARD = "feed-forward"
BLOCK = "block"
DIAGRAMS = "diagrams"
MAPS = "attention in the model"
MODEL = "model"
COMPONENTS = (ATTENTION, RESIDUAL, FEED_FORWARD, BLOCK, DIAGRAMS, MAPS, MODEL)

# The submodule of a block that sees the feed-forward's input, and the block's method that
# computes the whole of it; none: the submodule is the whole.
FEED_FORWARDS = (
    ("intermediate", "feed_forward_chunk"),
    ("ffn", "ff_chunk"),
    ("mlp", None),
    ("ffn", None),
    ("feed_forward", None),
)
# How networks call the embeddings of positions; the second is GPT-2's.
POSITIONS = ("position", "wpe")
# What a network that was not made for a mask or for position_ids may raise when given them.
REFUSALS = (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError)

# A relative error within this factor of the tolerance may be beyond it on another processor. One
# that is rounding is another one there (7e-6, 1.2e-5 and 1.7e-5 on three, in the default run,
# where all else is above 4.9e-4), so a share of the tolerance would not do.
NEAR = 4.0


@dataclass(frozen=True)
class EquivarianceSpec:
    """Which text, in how many orders, and what counts as equal: conf/equivariance/*.yaml.

    text          tokenised with its special tokens, which are permuted like all others;
                  not used for a model that reads images
    max_tokens    the text is cut there; an image never is
    permutations  drawn uniformly, the identity left out
    seed          of the permutations, and of the image
    tolerance     largest error of a token's row that still counts as rounding, relative to
                  the largest value of that row
    """

    text: str
    max_tokens: int
    permutations: int
    seed: int
    tolerance: float

    def __post_init__(self) -> None:
        least = {"max_tokens": 2, "permutations": 1, "seed": 0}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least {value}")
        if not 0 < self.tolerance < 1:
            raise InputError(f"tolerance is {self.tolerance}; it must lie between 0 and 1")


class Setting(NamedTuple):
    """What is there beside the tokens."""

    positions: str  # with, without
    mask: str  # causal, none


def settings(model: Model) -> list[Setting]:
    """The settings a model is tried in: positions or not, its causal mask, if any, or not."""
    masks = ("causal", "none") if model.causal else ("none",)
    return [Setting(positions, mask) for positions in ("with", "without") for mask in masks]


def table(model: Model, spec: EquivarianceSpec) -> pa.Table:
    """The equivariance table of one model: a row for each setting, component and layer.

    Where a setting cannot be had, or a part is not found, its row says why.
    Raises InputError where the text gives fewer than two tokens.
    """
    encoding = _encoding(model, spec)
    orders = permutations(encoding.token_ids.size, spec.permutations, spec.seed)
    return pa.Table.from_pylist(rows(model, encoding, orders, spec.tolerance))


def permutations(tokens: int, count: int, seed: int) -> list[Order]:
    """Draw orders of tokens, uniformly from all but the identity."""
    random = np.random.default_rng(seed)
    identity, found = np.arange(tokens), list[Order]()
    while len(found) < count:
        order = random.permutation(tokens)
        if (order != identity).any():
            found.append(order)
    return found


def rows(model: Model, encoding: Encoding, orders: list[Order], tolerance: float) -> list[Row]:
    """The rows of the table for one text, or image, and given orders of its tokens."""
    import torch

    found: list[Row] = []
    with torch.inference_mode(), _one_thread():
        X, image = _inputs(model, encoding)
        for setting in settings(model):
            found += _trial_rows(Trial(model, setting, orders, tolerance, image), X)
    return found


def _encoding(model: Model, spec: EquivarianceSpec) -> Encoding:
    if model.reads == "images":
        return encode(model, vision.noise(model.processor, spec.seed))
    limit = min(spec.max_tokens, model.spec.max_tokens)
    try:
        encoding = encode(replace(model, spec=replace(model.spec, max_tokens=limit)), spec.text)
    except TextError as error:
        raise InputError(f"The text of the equivariance check: {error}") from error
    if encoding.token_ids.size < 2:
        raise InputError(
            f"The text of the equivariance check has one token for model {model.name}, which "
            "has only one order: give a longer text."
        )
    return encoding


# ---------------------------------------------------------------- rows


class Image(NamedTuple):
    """What a vision network adds to its tokens' embeddings, and where."""

    pixels: Any  # (1, channels, height, width)
    embeddings: Any  # the module that makes of them what layer 0 gets
    positions: Any  # (1, tokens, width); zero for tokens that have none


@dataclass(frozen=True)
class Trial:
    """One model in one setting, and the orders its tokens are put in."""

    model: Model
    setting: Setting
    orders: list[Order]
    tolerance: float
    image: Image | None = None

    def row(
        self, component: str, layer: int | None, error: float, relative: float, scale: float
    ) -> Row:
        """A row of the table; an error or a scale that is not a number is a reason."""
        if np.isnan(error) or not np.isfinite(scale):
            return self.refusal(
                component,
                layer,
                f"its values are not finite in {self.model.spec.dtype}; "
                "try dtype: float32 or float64",
            )
        return self._row(component, layer) | {
            "error_max": error,
            "scale": scale,
            "relative": relative,
            "holds": relative <= self.tolerance,
            "near": self.tolerance / NEAR <= relative <= self.tolerance * NEAR,
        }

    def refusal(self, component: str, layer: int | None, reason: str) -> Row:
        """A row that says why it has no numbers."""
        return self._row(component, layer) | {"reason": reason}

    def _row(self, component: str, layer: int | None) -> Row:
        return {
            "model": self.model.name,
            "component": component,
            "layer": layer,
            "positions": self.setting.positions,
            "mask": self.setting.mask,
            "tokens": self.orders[0].size,
            "permutations": len(self.orders),
            "error_max": None,
            "scale": None,
            "relative": None,
            "holds": None,
            "near": None,
            "reason": None,
        }


def _trial_rows(trial: Trial, X: Any) -> list[Row]:
    reason = _obstacle(trial, X)
    if reason:
        return [trial.refusal(component, None, reason) for component in COMPONENTS]
    with _still_positions(trial):
        found = [*_network_rows(trial, X), *_layers_rows(trial, X)]
    return sorted(found, key=lambda row: (COMPONENTS.index(row["component"]), row["layer"] or 0))


def _network_rows(trial: Trial, X: Any) -> Iterator[Row]:
    yield from _measured(trial, X, lambda X: _network_outputs(trial, X))


def _layers_rows(trial: Trial, X: Any) -> Iterator[Row]:
    for count, calls in enumerate(_recorded(trial, X)):
        layer = _index(calls["attention"].module, count)
        yield from _attention_rows(trial, layer, calls["attention"])
        yield from _feed_forward_rows(trial, layer, calls["block"].module, calls.get("inner"))
        yield from _block_rows(trial, layer, calls["block"])


def _attention_rows(trial: Trial, layer: int, call: "Call") -> Iterator[Row]:
    def outputs(hidden: Any) -> Outputs:
        output = call.again(hidden)
        whole = output[0] if _adds_residual(call.module) else output[0] + hidden
        return {
            (ATTENTION, layer): _maps(trial.model, output),
            (RESIDUAL, layer): _array(whole),
        }

    yield from _measured(trial, call.hidden, outputs)
    yield _diagrams_row(trial, layer, outputs(call.hidden)[ATTENTION, layer])


def _feed_forward_rows(trial: Trial, layer: int, block: Any, call: "Call | None") -> Iterator[Row]:
    known = _feed_forward(block)
    if known is None or call is None:
        names = ", ".join(dict.fromkeys(name for name, _ in FEED_FORWARDS))
        reason = f"{type(block).__name__} calls no feed-forward network by a known name ({names})"
        yield trial.refusal(FEED_FORWARD, layer, reason)
        return
    _, function = known
    yield from _measured(
        trial, call.hidden, lambda hidden: {(FEED_FORWARD, layer): _array(function(hidden))}
    )


def _block_rows(trial: Trial, layer: int, call: "Call") -> Iterator[Row]:
    yield from _measured(
        trial, call.hidden, lambda hidden: {(BLOCK, layer): _array(call.again(hidden))}
    )


def _measured(trial: Trial, X: Any, outputs: Callable[[Any], Outputs]) -> Iterator[Row]:
    """Compare outputs(PX) with the relabelled outputs(X), for every order."""
    before = outputs(X)
    errors: dict[tuple[str, int | None], list[tuple[float, float]]] = {key: [] for key in before}
    for order in trial.orders:
        after = outputs(X[:, order])
        for key, Y in before.items():
            errors[key].append(_error(after[key], _relabelled(key[0], Y, order)))
    for key, Y in before.items():
        error, relative = np.max(errors[key], axis=0).tolist()
        yield trial.row(*key, error, relative, float(np.abs(Y).max()))


def _error(found: Floats, expected: Floats) -> tuple[float, float]:
    """The largest error, and the largest error of a row over that row's largest value.

    Row by row, because some models give one token values a thousand times those of the
    others (Sun et al. 2024, massive activations), beside which all else looks like rounding.
    """
    with np.errstate(invalid="ignore", divide="ignore"):  # inf - inf: `Trial.row` tells
        errors = np.abs(found - expected).max(axis=-1)
        relative = np.where(errors == 0, 0.0, errors / np.abs(expected).max(axis=-1))
    return float(errors.max()), float(relative.max())


def _relabelled(component: str, Y: Floats, order: Order) -> Floats:
    """P Y, and P A P^T for maps."""
    moved = Y[..., order, :]
    return moved[..., order] if component in (ATTENTION, MAPS) else moved


def _diagrams_row(trial: Trial, layer: int, maps: Floats) -> Row:
    """Compare the diagrams of P D P^T with those of D, for every order: equal to the bit."""
    if not np.isfinite(maps).all():
        return trial.row(DIAGRAMS, layer, np.nan, np.nan, np.nan)
    D = information.jensen_shannon(maps / maps.sum(axis=-1, keepdims=True))
    before = rips(D)
    pairs = [
        (a, b)
        for order in trial.orders
        for one, other in zip(before, rips(D[:, order][:, :, order]), strict=True)
        for a, b in zip(one, other, strict=True)
    ]
    error = max(_bottleneck(a, b) for a, b in pairs)
    scale = max(float(bars[np.isfinite(bars)].max(initial=0)) for dims in before for bars in dims)
    relative = error / scale if error else 0.0
    equal = all(a.tobytes() == b.tobytes() for a, b in pairs)
    return trial.row(DIAGRAMS, layer, error, relative, scale) | {"holds": equal}


def _bottleneck(a: Floats, b: Floats) -> float:
    """Largest difference between the ends of bars in their order; inf: not as many bars."""
    if a.shape != b.shape:
        return float("inf")
    differ = a != b  # inf equals inf, but their difference is no number
    return float(np.abs(a[differ] - b[differ]).max(initial=0))


# ---------------------------------------------------------------- the network in a setting


def _obstacle(trial: Trial, X: Any) -> str | None:
    """Why this network cannot be tried in this setting; None: it can.

    Whether a mask was heeded is read off the maps, so that no network is thought to have no
    mask because it was asked to have none.
    """
    name = type(trial.model.network).__name__
    seen = trial.model.reads == "images"
    reason = _image_obstacle(trial, X) if seen else _position_obstacle(trial)
    if reason:
        return f"not possible: {name} {reason}"
    try:
        with _still_positions(trial):
            outputs = _network_outputs(trial, X)
    except InputError:
        raise
    except REFUSALS as error:
        return f"not possible: {name} does not run so ({' '.join(str(error).split())[:160]})"
    maps = np.stack([A for (component, _), A in outputs.items() if component == MAPS])
    if np.isnan(maps).any():
        return None
    after, before = (np.abs(cut(maps, k)).any() for cut, k in ((np.triu, 1), (np.tril, -1)))
    if not before or after != (trial.setting.mask == "none"):
        return f"not possible: {name} does not heed the mask it is given"
    return None


def _position_obstacle(trial: Trial) -> str | None:
    still = _takes_position_ids(trial.model) or _position_embeddings(trial.model)
    if trial.setting.positions == "without" and not still:
        return "takes no position_ids and has no position embeddings"
    return None


def _image_obstacle(trial: Trial, X: Any) -> str | None:
    if trial.image is None:
        return "has no module called embeddings"
    pixels, embeddings, positions = trial.image
    if _error(_array(X + positions), _array(embeddings(pixels)))[1] > trial.tolerance:
        return f"does more in {type(embeddings).__name__} than to add positions to tokens"
    known = {id(parameter) for parameter in _position_parameters(embeddings).values()}
    needed = {id(parameter) for parameter in _position_parameters(trial.model.network).values()}
    if trial.setting.positions == "without" and (not known or needed != known):
        return f"keeps its positions, or some of them, outside of {type(embeddings).__name__}"
    return None


def _network_outputs(trial: Trial, X: Any) -> Outputs:
    """The maps of every layer and the last hidden state, from the input embeddings."""
    found: Outputs = {}

    def keep(module: Any, _: Any, output: Any) -> None:
        found[MAPS, _index(module, len(found))] = _maps(trial.model, output)

    hooks = [layer.attention.register_forward_hook(keep) for layer in _layers(trial.model)]
    with _removed(hooks):
        last = _forward(trial, X)[0]
    return {**found, (MODEL, None): _array(last)}


def _forward(trial: Trial, X: Any) -> Any:
    if trial.image is not None:
        return _seen(trial.model, trial.image, trial.setting, X)
    return trial.model.network(inputs_embeds=X, use_cache=False, **_options(trial, X))


def _seen(model: Model, image: Image, setting: Setting, X: Any) -> Any:
    """Run a vision network from X: no network takes it, so it takes the embeddings' place."""
    added = image.positions if setting.positions == "with" else image.positions[:, :1]

    def moved(_module: Any, _inputs: Any, output: Any) -> Any:
        return (X + added, *output[1:]) if isinstance(output, tuple) else X + added

    with _removed([image.embeddings.register_forward_hook(moved)]):
        return model.network(pixel_values=image.pixels)


def _inputs(model: Model, encoding: Encoding) -> tuple[Any, Image | None]:
    """X, the embeddings of the tokens alone: (1, tokens, width); of an image, what goes with it.

    Each is what the embeddings give with all other parameters zero. None and None: a vision
    network whose embeddings are not found.
    """
    import torch

    network = model.network
    if encoding.pixels is None:
        return network.get_input_embeddings()(torch.from_numpy(encoding.token_ids)[None]), None
    modules = [m for name, m in network.named_modules() if name.split(".")[-1] == "embeddings"]
    if not modules:
        return None, None
    pixels = torch.from_numpy(encoding.pixels)[None].to(network.dtype)
    places = _position_parameters(modules[0]).keys()
    others = dict(modules[0].named_parameters()).keys() - places
    X, positions = (_emptied(modules[0], names, pixels) for names in (places, others))
    return X, Image(pixels, modules[0], positions)


def _emptied(module: Any, names: Collection[str], pixels: Any) -> Any:
    """What a module would give with the named parameters zero; the module stays as it is."""
    import torch

    zeros = {name: torch.zeros_like(module.get_parameter(name)) for name in names}
    output = torch.func.functional_call(module, zeros, (pixels,))
    return output[0] if isinstance(output, tuple) else output


def _position_parameters(module: Any) -> dict[str, Any]:
    named = module.named_parameters()
    return {name: value for name, value in named if any(known in name for known in POSITIONS)}


def _options(trial: Trial, X: Any) -> dict[str, Any]:
    """What the network is given beside its input, to bring the setting about.

    Where all else is as the network has it, nothing. A mask is given in full, (1, 1, query,
    key), and added to the scores. It must be given for a causal mask without positions too:
    from equal position_ids transformers would conclude that each token is a text of its own.
    """
    import torch

    options, tokens = {}, X.shape[1]
    if trial.setting.positions == "without" and _takes_position_ids(trial.model):
        options["position_ids"] = torch.full((1, tokens), _first_position(trial.model))
    if trial.model.causal and trial.setting != ("with", "causal"):
        last = {"causal": torch.finfo(X.dtype).min, "none": 0.0}[trial.setting.mask]
        options["attention_mask"] = torch.full((1, 1, tokens, tokens), last, dtype=X.dtype).triu(1)
    return options


def _takes_position_ids(model: Model) -> bool:
    return "position_ids" in inspect.signature(model.network.forward).parameters


def _position_embeddings(model: Model) -> list[Any]:
    import torch

    return [
        module
        for name, module in model.network.named_modules()
        if any(known in name for known in POSITIONS) and isinstance(module, torch.nn.Embedding)
    ]


def _first_position(model: Model) -> int:
    """The position of a text's first token: RoBERTa counts from behind its padding index."""
    paddings = [module.padding_idx for module in _position_embeddings(model)]
    return max((0 if padding is None else padding + 1 for padding in paddings), default=0)


@contextlib.contextmanager
def _still_positions(trial: Trial) -> Iterator[None]:
    """Give every token the first one's position, where the network takes no position_ids."""

    def first(_module: Any, _inputs: Any, output: Any) -> Any:
        return output[..., :1, :].expand_as(output)

    positioned = trial.setting.positions == "with" or _takes_position_ids(trial.model)
    modules = [] if positioned else _position_embeddings(trial.model)
    with _removed([module.register_forward_hook(first) for module in modules]):
        yield


@contextlib.contextmanager
def _removed(hooks: list[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Sums may be cut otherwise among more threads, and last bits with them."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# ---------------------------------------------------------------- parts of a network


class Layer(NamedTuple):
    """The modules of one layer that computes attention."""

    block: Any
    attention: Any  # the outermost, which gives its maps and what it made of the values
    inner: Any | None  # whose input is the feed-forward network's


class Call(NamedTuple):
    """A module and what it was called with."""

    module: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def hidden(self) -> Any:
        """The hidden states: (1, tokens, width)."""
        return self.args[0] if self.args else self.kwargs["hidden_states"]

    def again(self, hidden: Any) -> Any:
        """Call it once more, with other hidden states and all else as it was."""
        if self.args:
            return self.module(hidden, *self.args[1:], **self.kwargs)
        return self.module(**{**self.kwargs, "hidden_states": hidden})


def _layers(model: Model) -> list[Layer]:
    outermost: dict[str, Any] = {}
    for name, module in attention_modules(model.network):
        block = re.match(r"(.*\d+)\.", name)
        if block:
            outermost.setdefault(block.group(1), module)
    if not outermost:
        raise InputError(
            f"Model {model.name} ({model.architecture}) does not number its layers, so its "
            "blocks cannot be found: take it out of the models that are checked."
        )
    blocks = [(model.network.get_submodule(name), outermost[name]) for name in outermost]
    return [
        Layer(block, attention, known[0] if (known := _feed_forward(block)) else None)
        for block, attention in blocks
    ]


def _feed_forward(block: Any) -> tuple[Any, Callable[[Any], Any]] | None:
    """The module that sees the feed-forward's input, and what computes the whole of it."""
    for name, method in FEED_FORWARDS:
        module = getattr(block, name, None)
        if module is not None and (method is None or hasattr(block, method)):
            return module, module if method is None else getattr(block, method)
    return None


def _recorded(trial: Trial, X: Any) -> list[dict[str, Call]]:
    """Run the network once; by layer, in order, how each of its parts was called."""
    found: list[dict[str, Call]] = []

    def recorder(part: str) -> Callable[..., None]:
        def keep(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if part == "block":
                found.append({})
            found[-1][part] = Call(module, args, kwargs)

        return keep

    hooks = [
        module.register_forward_pre_hook(recorder(part), with_kwargs=True)
        for layer in _layers(trial.model)
        for part, module in layer._asdict().items()
        if module is not None
    ]
    with _removed(hooks):
        _forward(trial, X)
    return found


def _index(attention: Any, count: int) -> int:
    """The layer's number: its own, in networks whose layers are not all attention."""
    own = getattr(attention, "layer_idx", None)
    return count if own is None else int(own)


def _adds_residual(attention: Any) -> bool:
    """Whether an attention module adds its input itself: BERT and its kin, which then normalise."""
    return any(hasattr(part, "LayerNorm") for part in (attention, getattr(attention, "output", 0)))


def _maps(model: Model, output: Any) -> Floats:
    """The maps among an attention module's outputs: (heads, query, key)."""
    for item in output[1:] if isinstance(output, tuple) else ():
        if getattr(item, "ndim", 0) == 4 and item.is_floating_point():
            return _array(item)
    raise InputError(
        f"Model {model.name} ({model.architecture}) has attention that gives no maps: use a "
        "model with eager attention."
    )


def _array(output: Any) -> Floats:
    """An output of one text as float64, without the batch's axis."""
    import torch

    tensor = output[0] if isinstance(output, tuple) else output
    array: Floats = tensor[0].to(torch.float64).numpy()
    return array
