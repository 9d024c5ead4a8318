"""Texts and images -> attention, one layer at a time, unpadded.

Every attention module hands its map to a hook and forgets it, so that no two layers'
maps are in memory together. One text goes through at a time: padding would move the
positions of some models and the last bits of all.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import nulls, vision
from pipeline.errors import InputError, TextError
from pipeline.models import Model, attention_modules, vocabulary

# How far a row may be from summing to 1 and still be a softmax rounded to this type.
TOLERANCES = {"float64": 1e-5, "float32": 1e-5, "float16": 5e-3, "bfloat16": 2e-2}
CONTINUED = "⋯"


@dataclass(frozen=True)
class Encoding:
    """One text or image as one model's tokens; each array and list has a row for each token."""

    token_ids: NDArray[np.int64]  # in the vocabulary; of an image, the position
    tokens: list[str]  # readable: see `encode`
    special: NDArray[np.bool_]  # added by the tokenizer, or by a vision model
    words: list[int | None]  # the word of the text a token is of; None for special tokens
    total_tokens: int  # before the cut
    cut: bool  # whether the text was longer than the model's max_tokens
    pixels: vision.Pixels | None = None  # of an image: (channels, height, width)

    @property
    def content(self) -> bytes:
        """What the network reads, to tell it from another."""
        pixels = b"" if self.pixels is None else self.pixels.tobytes()
        return self.token_ids.astype("<i8").tobytes() + pixels


def encode(model: Model, content: str | bytes) -> Encoding:
    """Encode a text, or the bytes of an image's file, for a model that reads such.

    A text is tokenised and cut to the model's max_tokens. The name of a special token within it,
    as "<|endoftext|>" or "[SEP]", is literal text: only what the tokenizer adds is special.

    A token is shown by the characters of the text that begin in it, so the shown tokens
    spell the text; one that only continues a character (a piece of an emoji, say) is
    shown as ⋯, one that the model does not know and one added by the tokenizer by its
    name ([UNK], [CLS]). Outer spaces are left out; other unprintable characters are escaped.

    An image is resized as the model's image processor says and cut into patches. A patch is
    shown as "row,column", counted from 0 at the top left, row after row; before them come the
    model's own tokens, which are special: [CLS], [DIST], [REG0]. There is no vocabulary, so a
    token's id is its position; patches are no words.

    Raises TextError where the text has no tokens or is not Unicode, or where the image cannot
    be decoded; InputError where a text comes to a model of images, or an image to one of
    texts, for a corpus is of one kind.
    """
    came = "images" if isinstance(content, bytes) else "texts"
    if came != model.reads:
        raise InputError(
            f"Model {model.name} ({model.architecture}) reads {model.reads}, and the corpus is of "
            f"{came}: give it a corpus of {model.reads}, or leave it out of models."
        )
    if isinstance(content, bytes):
        return _encode_image(model, content)
    return _encode_text(model, content)


def _encode_image(model: Model, data: bytes) -> Encoding:
    pixels = vision.pixels(model.processor, data)
    marks = vision.marks(model.network)
    tokens = [*marks, *vision.patch_names(*vision.grid(model.network, pixels))]
    total = len(tokens)
    if total > model.spec.max_tokens:
        raise TextError(f"The image is {total} tokens, more than max_tokens, and is never cut.")
    position = np.arange(total)
    return Encoding(position, tokens, position < len(marks), [None] * total, total, False, pixels)


def _encode_text(model: Model, text: str) -> Encoding:
    whole = _tokenise(model, text)
    total = len(whole["input_ids"])
    cut = total > model.spec.max_tokens
    batch = _tokenise(model, text, model.spec.max_tokens) if cut else whole
    special = np.array(batch["special_tokens_mask"], dtype=bool)
    token_ids = np.array(batch["input_ids"], dtype=np.int64)
    _check_tokens(model, token_ids, special)
    shown, words = _shown(model, text, batch), batch.word_ids()
    if model.spec.null_rule == "tokens_shuffled":
        order = nulls.token_order(special, model.spec.null_seed, token_ids.astype("<i8").tobytes())
        token_ids = token_ids[order]
        shown, words = ([column[place] for place in order] for column in (shown, words))
    return Encoding(token_ids, shown, special, words, total, cut)


def points(model: Model, encoding: Encoding) -> NDArray[np.bool_]:
    """Mask the tokens that are points of the metric space: (tokens,).

    Where the model's special_tokens is false these are the text's own tokens. Only rows
    are left out: `p[:, points]` still are distributions over all keys.
    """
    return ~encoding.special | model.spec.special_tokens


@dataclass(frozen=True)
class LayerMaps:
    """The attention maps of one layer on one text, as the network computed them.

    values   (heads, query, key), of the network's type, on the CPU
    entropy  (heads,) in bits, the mean of the rows of the trained network, where the null is
             random_weights_entropy
    """

    model: Model
    encoding: Encoding
    layer: int
    values: NDArray[Any]
    entropy: NDArray[np.float64] | None = None

    def of(self, heads: slice = slice(None)) -> NDArray[np.float64]:
        """Maps of some heads in float64: (heads, query, key), each row divided by its sum.

        Raises TextError where the values overflow, InputError where they are no distributions.
        """
        p = self.values[heads].astype(np.float64, order="C")
        sums = p.sum(axis=-1, keepdims=True)
        _check_values(self.model, self.layer, p, sums)
        p /= sums
        if self.entropy is not None:
            return nulls.scaled(p, self.entropy[heads])
        if (spec := self.model.spec).null_rule in nulls.MAPS:
            place = nulls.Place(spec.null_seed, self.layer, heads.start or 0, self.encoding.content)
            own = self.encoding.special
            return nulls.maps(spec.null_rule, p, self.model.causal, own, place)
        return p


def each_layer(model: Model, encoding: Encoding, use: Callable[[LayerMaps], None]) -> None:
    """Run a text or an image through a model and call use(maps) as each layer is computed.

    Layers count from 0 and come in order. Keep none, and no two layers are in memory. Raises
    InputError where the model does not give the maps of every layer; `use` may have been
    called by then.
    """
    import torch

    came: list[int] = []
    entropies = _trained_entropies(model, encoding)

    def capture(module: Any, _: Any, output: Any) -> Any:
        maps, rest = _take(output)
        if maps is None:
            return None
        index = getattr(module, "layer_idx", None)
        came.append(len(came) if index is None else index)
        if came[-1] == len(came) - 1:
            values = _checked(model, came[-1], maps, len(encoding.tokens))
            use(LayerMaps(model, encoding, came[-1], values, entropies.get(came[-1])))
        return rest

    with torch.inference_mode():
        _run(model, encoding, capture)
    if came != list(range(model.layers)):
        raise InputError(
            f"Model {model.name} ({model.architecture}) has {model.layers} layers, but gave "
            f"attention maps of {_listed(came)}: use a model whose every layer computes "
            "attention, and gives it (eager attention)."
        )


def _trained_entropies(model: Model, encoding: Encoding) -> dict[int, NDArray[np.float64]]:
    """By layer the mean entropy of each head's rows in the trained network; {}: not asked for."""
    found: dict[int, NDArray[np.float64]] = {}
    if model.trained is not None:
        spec = replace(model.spec, null_rule="none")
        trained = replace(model, network=model.trained, trained=None, spec=spec)
        for_each_layer(
            trained, encoding, lambda layer, maps: found.update({layer: nulls.mean_entropy(maps)})
        )
    return found


def for_each_layer(
    model: Model, encoding: Encoding, use: Callable[[int, NDArray[np.float64]], None]
) -> None:
    """The same with use(layer, maps), maps of all heads in float64, which belong to `use`.

    (heads, query, key), each row divided by its sum. Raises TextError where the values
    overflow, InputError where they are no distributions.
    """
    each_layer(model, encoding, lambda maps: use(maps.layer, maps.of()))


def attention_of(model: Model, encoding: Encoding, layer: int) -> NDArray[np.float64]:
    """Give one layer's maps of a text: (heads, query, key), as `for_each_layer` has them.

    Raises InputError where the model has no such layer, and as `for_each_layer` does.
    """
    if not 0 <= layer < model.layers:
        raise InputError(
            f"Model {model.name} has no layer {layer}: its layers are 0 to {model.layers - 1}."
        )
    kept: list[NDArray[np.float64]] = []

    def keep(index: int, maps: NDArray[np.float64]) -> None:
        if index == layer:
            kept.append(maps)

    for_each_layer(model, encoding, keep)
    return kept[0]


def hidden_states(model: Model, encoding: Encoding) -> NDArray[np.float64]:
    """Give the vectors of the tokens of a text or an image: (layers + 1, tokens, width).

    They are the model's own `output_hidden_states`: entry k is what enters layer k, and the last
    one the output of the network, after its final normalisation where there is one (GPT-2,
    Llama and most others); BERT's layers normalise themselves. Where transformers keeps the last
    one from before that normalisation it is not `last_hidden_state`: in CLIP's text model, and
    of those that see in ViT, DeiT, DPT, I-JEPA and SigLIP. Raises TextError where this text's
    values overflow, and InputError where there is not one vector for each token and layer.
    """
    import torch

    with torch.inference_mode():
        output = _run(model, encoding, None)
        found = output.hidden_states or ()
        shapes = {tuple(state.shape[:2]) + tuple(state.shape[3:]) for state in found}
        widths = {state.shape[-1] for state in found}
        fits = shapes == {(1, encoding.token_ids.size)} and len(widths) == 1
        if not fits or len(found) != model.layers + 1:
            came = ", ".join(map(str, dict.fromkeys(tuple(state.shape) for state in found)))
            raise InputError(
                f"Model {model.name} ({model.architecture}) gives no {model.layers + 1} hidden "
                f"states of one vector for each of {encoding.token_ids.size} tokens, but "
                f"{len(found)}{f' of shape {came}' if came else ''}: use another model, or a "
                "distance between attention rows."
            )
        states = np.stack([_float64(state[0]) for state in found])
    if not np.isfinite(states).all():
        raise TextError(
            f"Model {model.name}: its hidden states are not finite on this text in "
            f"{model.spec.dtype}; {_cure(model)}"
        )
    return states


# ---------------------------------------------------------------- tokens


def _tokenise(model: Model, text: str, length: int | None = None) -> Any:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TextError(f"The text is not Unicode: {error.reason} at {error.start}.") from error
    try:
        return model.tokenizer(
            text,
            truncation=length is not None,
            max_length=length,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            split_special_tokens=True,  # a marker's name within a text is text
            verbose=False,
        )
    except Exception as error:  # the tokenizers library raises no narrower class
        raise TextError(
            f"Model {model.name}: its tokenizer cannot encode this text ({error}); it may hold a "
            "character that is not in its vocabulary, and the tokenizer has no token for such."
        ) from error


def _check_tokens(model: Model, token_ids: NDArray[np.int64], special: NDArray[np.bool_]) -> None:
    if special.all():
        raise TextError(f"The text has no tokens of its own for model {model.name}.")
    rows = vocabulary(model.name, model.network)
    if token_ids.max() >= rows:
        raise InputError(
            f"Model {model.name}: the tokenizer gave token {token_ids.max()}, but the network "
            f"has {rows}: use the tokenizer that belongs to these weights."
        )


def _shown(model: Model, text: str, batch: Any) -> list[str]:
    shown, reached = [], 0
    names = model.tokenizer.convert_ids_to_tokens(batch["input_ids"])
    rows = zip(batch["input_ids"], names, batch["offset_mapping"], strict=True)
    for special, (token_id, name, (start, end)) in zip(
        batch["special_tokens_mask"], rows, strict=True
    ):
        if special or token_id == model.tokenizer.unk_token_id:
            shown.append(_readable(name))
        elif start == end:  # blank: some tokenizers leave blanks out of what a token covers
            shown.append(_readable(model.tokenizer.decode([token_id])))
        else:
            shown.append(_readable(text[max(start, reached) : end]))
        reached = end
    return shown


def _readable(piece: str) -> str:
    if not piece:
        return CONTINUED
    piece = piece.strip() or piece.replace(" ", "␣")
    # A mark without its letter would sit on the token before it.
    mark = "◌" if unicodedata.category(piece[0]).startswith("M") else ""
    return mark + "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in piece
    )


# ---------------------------------------------------------------- maps


def _run(model: Model, encoding: Encoding, capture: Callable[..., Any] | None) -> Any:
    import torch

    modules = [] if capture is None else attention_modules(model.network)
    # First in line, before transformers' own hooks, which would keep every layer.
    handles = [module.register_forward_hook(capture, prepend=True) for _, module in modules]
    switch = {} if capture else {"output_hidden_states": True, "output_attentions": False}
    # Sums may be cut otherwise among more threads, and last bits with them.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return model.network(**_inputs(model, encoding), **switch)
    finally:
        torch.set_num_threads(threads)
        for handle in handles:
            handle.remove()


def _inputs(model: Model, encoding: Encoding) -> dict[str, Any]:
    import torch

    if encoding.pixels is None:
        token_ids = torch.from_numpy(encoding.token_ids)[None].to(model.device)
        return {"input_ids": token_ids, "use_cache": False}
    pixels = torch.from_numpy(encoding.pixels)[None]
    return {"pixel_values": pixels.to(model.device, model.network.dtype)}


def _float64(tensor: Any) -> NDArray[np.float64]:
    """A copy of a tensor in float64, on the CPU wherever the tensor is."""
    import torch

    found: NDArray[np.float64] = tensor.cpu().to(torch.float64, copy=True).numpy()
    return found


def _take(output: Any) -> tuple[Any, Any]:
    """Split an attention module's output into its maps and the rest, None in their place."""
    import torch

    if not isinstance(output, tuple):
        return None, output
    floats = [isinstance(item, torch.Tensor) and item.is_floating_point() for item in output[1:]]
    if not any(floats):
        return None, output
    maps = output[1 + floats.index(True)]
    rest = (output[0], *(None if item is maps else item for item in output[1:]))
    return maps, rest


def _checked(model: Model, layer: int, maps: Any, tokens: int) -> NDArray[Any]:
    """One layer's maps as an array: (heads, query, key); NumPy has no bfloat16."""
    import torch

    expected = (1, model.heads, tokens, tokens)
    if tuple(maps.shape) != expected:
        raise InputError(
            f"{_layer(model, layer)}: its attention maps have the shape {tuple(maps.shape)}, not "
            f"{expected}: use a model whose every token can attend to every other."
        )
    found = maps[0].cpu()
    values: NDArray[Any] = (found.float() if found.dtype == torch.bfloat16 else found).numpy()
    return values


def _layer(model: Model, layer: int) -> str:
    return f"Model {model.name} ({model.architecture}), layer {layer}"


def _check_values(
    model: Model, layer: int, p: NDArray[np.float64], sums: NDArray[np.float64]
) -> None:
    who = _layer(model, layer)
    if not np.isfinite(sums).all():
        raise TextError(
            f"{who}: its attention is not finite on this text in {model.spec.dtype}; {_cure(model)}"
        )
    if p.min() < 0:
        raise InputError(f"{who}: an attention value is {p.min():.3g}, below 0: use a softmax.")
    if np.abs(sums - 1).max() > TOLERANCES[model.spec.dtype]:
        raise InputError(
            f"{who}: its attention rows sum to {sums.min():.4g} to {sums.max():.4g}, not to 1, "
            "so they are no distributions (an attention sink takes the rest): use a model "
            "without sinks."
        )
    if model.causal and np.triu(p.max(axis=0), 1).any():
        raise InputError(
            f"{who}: a token attends to one that follows it, though the model is causal: its "
            "mask was lost; use a transformers version from the constraints file."
        )


def _cure(model: Model) -> str:
    if model.spec.dtype in ("float16", "bfloat16"):
        return "try dtype: float32 or float64."
    return "see whether its weights hold NaN or infinite values."


def _listed(layers: list[int]) -> str:
    return f"layers {', '.join(map(str, layers))}" if layers else "no layer"
