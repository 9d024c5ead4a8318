"""Model configs -> tokenizer or image processor, and network.

They come from an installed package, a folder, or the hub.

Torch and transformers take seconds to import, so they are imported inside the functions
that load.
"""

import contextlib
import importlib.metadata
import pickle
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from packaging.version import Version

from pipeline import nulls, vision
from pipeline.errors import InputError, some
from pipeline.models import gguf_files, model_files
from pipeline.models.model_files import (
    Files,
    ModelSpec,
    files,
    find,
    identify,
    identity,
    progress_bars,
    read_json,
)

__all__ = [
    "Model",
    "ModelSpec",
    "attention_modules",
    "device",
    "device_named",
    "find",
    "identify",
    "load",
    "vocabulary",
]

DEVICES = ("auto", "cpu", "cuda")
# A driver's door; without one there is nothing to import torch for.
DOORS = tuple(map(Path, ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")))

# Below 5.5 a crafted config.json runs code (CVE-2026-4372, CVE-2026-5241).
TRANSFORMERS_FLOOR = Version("5.5")
# Keys of a config.json. Layers without weights would be built, for hours, before those are missed.
LAYERS = re.compile(r"(num_|n_)?(hidden_|encoder_|decoder_)?layers?|depths?|block_sizes")
OF_ALL = re.compile(r"(num_hidden|num|n)_layers?")
MOST_LABELS = 10**6  # of which the config makes names, whether or not there are weights for them
# Weights are packed into a quarter of a byte at the least, and may be used twice; a tensor of a
# file may be cut into those of many experts.
PER_BYTE, SMALL = 8, 10**7
PER_TENSOR, FEW_TENSORS = 100, 1000
HEADS = re.compile(r"(num_|n_)?(attention_|key_value_|encoder_attention_)?heads?|n_head")
FEW_LAYERS = 64  # which may share their weights, as ALBERT's do
# A pooler reads the last layer's output, so no attention map can see its weights.
AFTER_THE_LAST_LAYER = ("pooler.",)


@dataclass(frozen=True)
class Model:
    """A loaded model, in evaluation mode, and what identifies it.

    One that reads texts has a tokenizer, one that reads images a processor; the other is None.
    """

    name: str
    spec: ModelSpec
    tokenizer: Any
    network: Any
    architecture: str
    layers: int
    heads: int
    causal: bool
    weights_sha256: str
    tokenizer_sha256: str
    config_sha256: str
    quantisation: str | None
    revision: str | None
    processor: Any = None
    device: str = "cpu"
    trained: Any = None  # the trained network beside the null that needs it

    @property
    def reads(self) -> str:
        """What a model is given: "texts" or "images"."""
        return "texts" if self.processor is None else "images"


def load(name: str, spec: ModelSpec, cache: Path | None = None, on: str = "cpu") -> Model:
    """Load a network, in evaluation mode, ready to give its attention, and what feeds it.

    It runs on a device ("auto", "cpu" or "cuda": see `device`); its checks ran on the CPU.

    A GGUF file takes 20 s to dequantise: with `cache`, an absolute folder, it is converted
    once, kept there, and read from there afterwards; its maps are equal to the last bit.
    Raises InputError, with the cure, where the model is absent, is not safe to load, would
    run on random weights, or has no attention maps to give.
    """
    _check_libraries()
    place = device(on)
    found = files(name, spec)
    _check_config(name, spec, found)
    identifiers = identity(spec, found)
    folder, gguf_file = found.folder, spec.gguf_file
    if gguf_file is not None and cache is not None:
        key = identifiers["weights_sha256"] or ""
        with quiet(), _explained(name, folder):
            read = _read_gguf(name, spec, found)
            folder = gguf_files.converted(found.weights[0], key, cache, read)
        gguf_file = None
    with quiet(), _explained(name, folder):
        trained = _network(name, spec, folder, gguf_file, found)
        network = _in_place(trained, spec)
        if network.main_input_name == "pixel_values":
            _refuse_texts_alone(name, spec)
            made = _vision_model(name, spec, _processor(spec, folder), network, identifiers)
        else:
            tokenizer = _tokenizer(name, spec, folder, gguf_file)
            made = _text_model(name, spec, tokenizer, network, identifiers)
        beside = trained if spec.null_rule == "random_weights_entropy" else None
        return _moved(replace(made, trained=beside), place)


def device(asked: str) -> str:
    """The device that models go to: "cpu", or "cuda" where there is one that torch can use.

    Raises InputError where cuda is asked for and not there. Distances and diagrams are
    computed on the CPU in float64 whatever this says, from attention that other devices
    round otherwise: see README. No test here has run on a CUDA device.
    """
    if asked == "cpu" or (asked == "auto" and not any(door.exists() for door in DOORS)):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if asked == "cuda":
        raise InputError(
            "engine.device is cuda, but torch finds no CUDA device here: set engine.device to cpu "
            "or auto, or see that the driver and a CUDA build of torch are installed."
        )
    return "cpu"


def device_named(asked: str) -> str:
    """The device's kind for digests and provenance: "cpu" or "cuda", "auto" as found here.

    What is asked for by name is taken at its word, so that work for a cluster can be named
    where it is submitted; `load` raises where it is not there.
    """
    return device(asked) if asked == "auto" else asked


def _moved(model: Model, place: str) -> Model:
    if place == "cpu":
        return model
    import torch

    # Convolutions, which cut an image into patches, would else round to 10 bits.
    torch.backends.cudnn.allow_tf32 = False
    trained = None if model.trained is None else model.trained.to(place)
    return replace(model, network=model.network.to(place), trained=trained, device=place)


def attention_modules(network: Any) -> list[tuple[str, Any]]:
    """List the modules that compute attention, by name, in the order of the layers."""
    return [
        (name, module)
        for name, module in network.named_modules()
        if "attention" in type(module).__name__.lower()
    ]


def vocabulary(name: str, network: Any) -> int:
    """Count the tokens a network knows; InputError where it has no embeddings of tokens."""
    try:
        return int(network.get_input_embeddings().weight.shape[0])
    except (AttributeError, NotImplementedError, IndexError) as error:
        raise InputError(
            f"Model {name} ({type(network).__name__}) has no embeddings of tokens: use a model "
            "that reads texts."
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what transformers prints; progress bars stay where a person is watching."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with progress_bars():
            yield
    finally:
        logging.set_verbosity(verbosity)


# ---------------------------------------------------------------- loading


def _check_libraries() -> None:
    version = importlib.metadata.version("transformers")
    if Version(version) < TRANSFORMERS_FLOOR:
        raise InputError(
            f"transformers is {version}: below {TRANSFORMERS_FLOOR} a model's config can run "
            "code; run `make setup`."
        )
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        importlib.metadata.distribution("kernels")
        raise InputError(
            "The package `kernels` is installed: with it, transformers may swap a model's "
            "attention for code fetched from the hub; run `pip uninstall kernels`."
        )


def _check_config(name: str, spec: ModelSpec, found: Files) -> None:
    """Refuse what would load other weights than those hashed, or run the model's own code."""
    if spec.gguf_file is not None:
        return
    config = read_json(name, found.config[0])
    tensors = model_files.tensors(found)
    for key, value in _sizes(config):
        if key == "num_labels" and value > MOST_LABELS:
            raise InputError(
                f"Model {name}: its config.json says num_labels {value:,}, and may say "
                f"{MOST_LABELS:,}: use the config.json that belongs to these weights."
            )
        if LAYERS.fullmatch(key) and value > max(tensors, FEW_LAYERS):
            raise InputError(
                f"Model {name}: its config.json says {key} {value:,}, and its weights hold "
                f"{tensors:,} tensors: use the config.json that belongs to these weights."
            )
        if (HEADS.fullmatch(key) or OF_ALL.fullmatch(key)) and value < 1:
            raise InputError(
                f"Model {name}: its config.json says {key} {value}, which must be at least 1: use "
                "the config.json that belongs to these weights."
            )
    if "transformers_weights" in config:
        raise InputError(
            f"Model {name}: its config.json names other weights (transformers_weights): "
            "remove that entry from a copy of the folder, and use the copy."
        )
    if (found.folder / "adapter_config.json").is_file():
        raise InputError(
            f"Model {name}: {found.folder} holds an adapter, whose base model is elsewhere: "
            "merge the adapter into its base model and use the merged folder."
        )
    from transformers import CONFIG_MAPPING

    kind = config.get("model_type")
    known = isinstance(kind, str) and kind in CONFIG_MAPPING
    if not spec.trust_remote_code and "auto_map" in config and not known:
        raise InputError(
            f"Model {name} ({kind}) needs code of its own, which transformers does not have: "
            "read that code, then set trust_remote_code: true for this model."
        )


def _sizes(config: Any) -> Iterator[tuple[str, int]]:
    """Every whole number of a config.json by its key, those of lists and inner models too."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _sizes(value)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, int) and not isinstance(one, bool):
                yield key, one


@contextlib.contextmanager
def _explained(name: str, folder: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        raise InputError(
            f"Model {name}: the weights in {folder} hold more than tensors, so reading them "
            "could run code: convert them to safetensors where you trust them."
        ) from error
    except Exception as error:  # a damaged folder fails anywhere within transformers
        reason = f"{type(error).__name__}: {error}"
        if "ignore_mismatched_sizes" in reason:  # which points at a table that is not shown
            reason = (
                "tensors of its weights have other shapes than its config.json says: use the "
                "config.json that belongs to these weights"
            )
        raise InputError(f"Model {name} could not be loaded from {folder}: {reason}") from error


def _tokenizer(name: str, spec: ModelSpec, folder: Path, gguf_file: str | None) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        folder,
        gguf_file=gguf_file,
        local_files_only=True,
        trust_remote_code=spec.trust_remote_code,
    )
    if not tokenizer.is_fast:
        raise InputError(
            f"Model {name}: {type(tokenizer).__name__} cannot say which characters a token "
            "covers: give the model a fast tokenizer (a tokenizer.json)."
        )
    return tokenizer


def _processor(spec: ModelSpec, folder: Path) -> Any:
    from transformers import AutoImageProcessor

    # Pillow, whatever else is installed: torchvision resizes to other last bits.
    return AutoImageProcessor.from_pretrained(
        folder,
        backend="pil",
        local_files_only=True,
        trust_remote_code=spec.trust_remote_code,
    )


@contextlib.contextmanager
def _no_more_than(name: str, found: Files) -> Iterator[None]:
    """Raise InputError while a network is built that its files cannot fill.

    What a config leaves out, transformers fills in: whole networks, whose weights would be drawn
    at random before it is told that they are missing.
    """
    from torch.nn.modules.module import register_module_parameter_registration_hook

    size, held = found.bytes, model_files.tensors(found)
    most = SMALL + PER_BYTE * size, FEW_TENSORS + PER_TENSOR * held
    numbers = tensors = 0

    def counted(_module: Any, _name: str, weights: Any) -> None:
        nonlocal numbers, tensors
        numbers += 0 if weights is None else weights.numel()
        tensors += weights is not None
        if numbers > most[0] or tensors > most[1]:
            raise InputError(
                f"Model {name}: its config asks for more weights than its files of {size:,} bytes "
                "can hold: use the config that belongs to them."
            )

    hook = register_module_parameter_registration_hook(counted)
    try:
        yield
    finally:
        hook.remove()


def _network(name: str, spec: ModelSpec, folder: Path, gguf_file: str | None, found: Files) -> Any:
    import torch
    from transformers import AutoModel

    with _no_more_than(name, found):
        network, report = AutoModel.from_pretrained(
            folder,
            gguf_file=gguf_file,
            local_files_only=True,
            trust_remote_code=spec.trust_remote_code,
            weights_only=True,
            attn_implementation="eager",
            dtype=getattr(torch, spec.dtype),
            output_loading_info=True,
        )
    _check_keys(name, network, report)
    return _ready(network)


def _in_place(trained: Any, spec: ModelSpec) -> Any:
    """The network that runs: the trained one, or the null that stands in for it."""
    if spec.null_rule in nulls.NETWORKS:
        return _ready(nulls.random_weights(trained, spec.null_seed))
    return trained


def _refuse_texts_alone(name: str, spec: ModelSpec) -> None:
    if spec.null_rule == "tokens_shuffled":
        raise InputError(
            f"Model {name} reads images, and the null tokens_shuffled is of texts: take another, "
            "such as rows_shuffled."
        )


def _ready(network: Any) -> Any:
    # Older architectures compute their maps only when this asks for them.
    network.config.output_attentions = True
    return network.to("cpu").eval()


def _check_keys(name: str, network: Any, report: dict[str, Any]) -> None:
    missing = sorted(
        key for key in report["missing_keys"] if not key.startswith(AFTER_THE_LAST_LAYER)
    )
    if missing:
        raise InputError(
            f"Model {name}: its weights lack {some(missing, 3)}, so {type(network).__name__} "
            "would run on random values there: use the weights this config.json belongs to."
        )
    stacks = "|".join(map(re.escape, sorted(_stacks(network))))
    layer = re.compile(rf"(?:^|\.)(?:{stacks})\d+\.")
    unused = sorted(key for key in report["unexpected_keys"] if layer.search(key))
    if unused:
        raise InputError(
            f"Model {name}: {type(network).__name__} has no place for {some(unused, 3)} of its "
            "layers' weights: use the config.json these weights belong to."
        )


def _stacks(network: Any) -> set[str]:
    """Name the stacks of layers, as "encoder.layer." or "h."."""
    numbered = [re.match(r"(.*?)\d+\.", name) for name, _ in attention_modules(network)]
    return {match.group(1) for match in numbered if match} or {"layers."}


def _read_gguf(name: str, spec: ModelSpec, found: Files) -> gguf_files.Read:
    def read(path: Path) -> tuple[Any, Any]:
        whole = replace(spec, dtype="float32")
        tokenizer = _tokenizer(name, whole, path.parent, path.name)
        return tokenizer, _network(name, whole, path.parent, path.name, found)

    return read


def _text_model(
    name: str, spec: ModelSpec, tokenizer: Any, network: Any, identifiers: dict[str, str | None]
) -> Model:
    _check_shape(name, network)
    vocabulary(name, network)
    _check_length(name, spec, network, network.config.get_text_config())
    if spec.max_tokens <= (added := tokenizer.num_special_tokens_to_add()):
        raise InputError(
            f"Model {name}: max_tokens is {spec.max_tokens}, and its tokenizer adds {added} "
            f"special tokens to every text: set max_tokens to {added + 1} or more."
        )
    causal = _causal(name, network)
    return _model(name, spec, network, identifiers, tokenizer=tokenizer, causal=causal)


def _vision_model(
    name: str, spec: ModelSpec, processor: Any, network: Any, identifiers: dict[str, str | None]
) -> Model:
    _check_shape(name, network)
    _check_patches(name, spec, processor, network)
    return _model(name, spec, network, identifiers, processor=processor, causal=False)


def _check_shape(name: str, network: Any) -> None:
    if getattr(network.config.get_text_config(), "is_encoder_decoder", False):
        raise InputError(
            f"Model {name} ({type(network).__name__}) is an encoder with a decoder: one text "
            "has no single stack of maps; use an encoder or a decoder."
        )
    if not attention_modules(network):
        raise InputError(
            f"Model {name} ({type(network).__name__}) has no attention: use a transformer."
        )


def _model(
    name: str,
    spec: ModelSpec,
    network: Any,
    identifiers: dict[str, str | None],
    *,
    causal: bool,
    tokenizer: Any = None,
    processor: Any = None,
) -> Model:
    config = network.config.get_text_config()
    return Model(
        name=name,
        spec=spec,
        tokenizer=tokenizer,
        processor=processor,
        network=network,
        architecture=type(network).__name__,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        causal=causal,
        weights_sha256=identifiers["weights_sha256"] or "",
        tokenizer_sha256=identifiers["tokenizer_sha256"] or "",
        config_sha256=identifiers["config_sha256"] or "",
        quantisation=identifiers["quantisation"],
        revision=identifiers["revision"],
    )


def _check_patches(name: str, spec: ModelSpec, processor: Any, network: Any) -> None:
    """Measure that tokens are where their names say: one patch, lit, lights its own token only."""
    dark = vision.blank(processor)
    rows, columns = vision.grid(network, dark)
    expected = [*vision.marks(network), *vision.patch_names(rows, columns)]
    if spec.max_tokens < len(expected):
        raise InputError(
            f"Model {name}: max_tokens is {spec.max_tokens}, but an image is {len(expected)} "
            f"tokens and is never cut: set max_tokens to {len(expected)} or more."
        )
    lit = dark.copy()
    tall, wide = (
        side // count for side, count in zip(dark.shape[1:], (rows, columns), strict=True)
    )
    lit[:, (rows - 1) * tall : rows * tall, :wide] = 1
    before, after = (_embedded(network, pixels) for pixels in (dark, lit))
    if before.ndim == 2 and len(before) == len(expected):
        changed = (before != after).any(-1).nonzero().flatten().tolist()
        if [expected[token] for token in changed] == [f"{rows - 1},0"]:
            return
    raise InputError(
        f"Model {name} ({type(network).__name__}): the tokens of an image are not "
        f"{len(expected) - rows * columns} of its own and then {rows} x {columns} patches: use a "
        "vision transformer that keeps every patch, as ViT, DeiT, BEiT and DINOv2 do."
    )


def _embedded(network: Any, pixels: vision.Pixels) -> Any:
    """The vectors that layer 0 of a vision network gets: (tokens, width)."""
    import torch

    values = torch.from_numpy(pixels)[None].to(network.dtype)
    with torch.inference_mode():
        states = network(pixel_values=values, output_hidden_states=True).hidden_states
    return states[0][0] if states else torch.empty(0)


def _check_length(name: str, spec: ModelSpec, network: Any, config: Any) -> None:
    import torch

    positions = getattr(config, "max_position_embeddings", None)
    # RoBERTa counts positions from behind its padding index.
    limits = {
        path: module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
        for path, module in network.named_modules()
        if "position" in path and isinstance(module, torch.nn.Embedding)
    }
    if limits and spec.max_tokens > min(limits.values()):
        limits = _of_texts(network, limits)
    positions = min(limits.values(), default=positions)
    if positions is not None and spec.max_tokens > positions:
        raise InputError(
            f"Model {name}: max_tokens is {spec.max_tokens}, but {type(network).__name__} has "
            f"{positions} positions: set max_tokens to {positions} or less."
        )


def _of_texts(network: Any, limits: Mapping[str, int]) -> dict[str, int]:
    """Those of the modules of these paths that are part of what runs where a text is read.

    A network that reads images too has positions for their patches, which limit no text.
    """
    import torch

    ran: set[str] = set()
    hooks = [
        network.get_submodule(parent).register_forward_pre_hook(lambda *_, at=parent: ran.add(at))
        for parent in {path.rpartition(".")[0] for path in limits}
    ]
    try:
        with torch.inference_mode():
            network(input_ids=torch.zeros((1, 1), dtype=torch.long), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return {path: limit for path, limit in limits.items() if path.rpartition(".")[0] in ran}


def _causal(name: str, network: Any) -> bool:
    """Measure whether a token is blind to what follows it.

    The first token's last hidden state stays as it is in a causal model, whatever the others
    are, but for rounding: how many of them an expert gets decides how its sums are grouped.
    A module that claims to be causal and is not has lost its mask. Where these tokens overflow
    there is nothing to measure, and the claim stands.
    """
    import torch

    modules = attention_modules(network)
    rows = vocabulary(name, network)
    ids = torch.linspace(rows // 4, rows - 1, 9).long()
    with torch.inference_mode():
        first, second = (
            network(input_ids=torch.cat([ids[:1], rest])[None], use_cache=False)[0][0, 0]
            for rest in (ids[1:5], ids[5:9])
        )
    if modules != attention_modules(network):
        raise InputError(
            f"Model {name} ({type(network).__name__}) swaps its attention with the length of a "
            "text, for the texts after it too: in a copy of its folder, set attention_type to "
            "original_full in config.json, and use the copy."
        )
    claims = any(getattr(module, "is_causal", False) for _, module in modules)
    if not torch.isfinite(torch.stack([first, second])).all():
        return claims
    # Of all values at once, for single ones are near 0. Rounding moves 1e-6 of them, others' words
    # 4e-3 even where the weights are small.
    causal = bool((first - second).abs().sum() < 1e-4 * first.abs().sum())
    if claims and not causal:
        raise InputError(
            f"Model {name} ({type(network).__name__}) is causal, but its tokens see those that "
            "follow: its mask was lost; use a transformers version from the constraints file."
        )
    return causal
