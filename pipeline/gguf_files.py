"""GGUF files: their quantisation, and their conversion, once, to a folder transformers reads."""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.drafts import discard, draft_of, sweep
from pipeline.errors import InputError

Read = Callable[[Path], tuple[Any, Any]]  # a GGUF file -> its tokenizer and network

MANIFEST = "manifest.json"
# The scalar types of a GGUF value, by number, as struct reads them (all little-endian).
SCALARS = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


def quantisation(path: Path) -> str:
    """Name the quantisation a GGUF file states, as "Q4_1"; InputError if it is no GGUF file.

    Only the head of the file is read, for its key `general.file_type`: the gguf package's
    own reader takes seconds, for it parses the whole vocabulary.
    """
    from gguf import LlamaFileType

    kind = _file_type(path)
    if kind is None:
        return "unknown"
    return str(LlamaFileType(kind).name.removeprefix("MOSTLY_").removeprefix("ALL_"))


def converted(path: Path, sha256: str, cache: Path, read: Read) -> Path:
    """Convert a GGUF file to float32 safetensors in the cache, once, and give that folder.

    The folder is named by the file's sha256 and by the versions that convert it, appears
    whole or not at all, and is made again where its files are not those of its manifest.
    """
    if not cache.is_absolute():
        raise InputError(f"The model cache is {str(cache)!r}: give an absolute path.")
    folder = cache / f"gguf-{sha256}-{_versions()}"
    if _intact(folder):
        return folder
    sweep(cache)
    temporary = draft_of(folder)
    temporary.mkdir(parents=True)
    try:
        _save(temporary, *read(path))
        _replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _save(folder: Path, tokenizer: Any, network: Any) -> None:
    # What is saved is no longer quantised, and transformers would look for the GGUF file.
    network.config.__dict__.pop("quantization_config", None)
    network.hf_quantizer = None
    network.config.output_attentions = False
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    text = json.dumps(_digests(folder), indent=1, sort_keys=True)
    (folder / MANIFEST).write_text(text, "utf-8")
    for file in folder.iterdir():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())


def _replace(temporary: Path, folder: Path) -> None:
    if folder.exists() and not _intact(folder):
        # Out of the way at once, for another process may mend it at this very moment.
        spoilt = draft_of(folder)
        with contextlib.suppress(FileNotFoundError):
            folder.rename(spoilt)
        discard(spoilt)
    # Another process may have been faster; its folder holds the same.
    with contextlib.suppress(OSError):
        temporary.rename(folder)
    if not _intact(folder):
        raise InputError(f"The converted model could not be kept at {folder}: is the disk full?")


def _intact(folder: Path) -> bool:
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return False
    return bool(json.loads(manifest.read_text("utf-8")) == _digests(folder))


def _digests(folder: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(folder.iterdir()):
        if path.name != MANIFEST:
            with path.open("rb") as file:
                digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _versions() -> str:
    packages = ("transformers", "gguf")
    return "-".join(f"{package}{importlib.metadata.version(package)}" for package in packages)


def _file_type(path: Path) -> int | None:
    try:
        with path.open("rb") as file:
            return _head(file)
    except (struct.error, KeyError) as error:
        raise InputError(
            f"{path} is not a whole GGUF file (its head cannot be read): fetch it again."
        ) from error


def _head(file: BinaryIO) -> int | None:
    if _scalar(file, "4s") != b"GGUF":
        raise KeyError("GGUF")
    _, _, keys = (_scalar(file, kind) for kind in "IQQ")
    for _ in range(keys):
        key = _string(file)
        value = _value(file, _scalar(file, "I"))
        if key == b"general.file_type":
            return int(value)
    return None


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == STRING:
        return _string(file)
    if kind != ARRAY:
        return _scalar(file, SCALARS[kind])
    inner, length = _scalar(file, "I"), _scalar(file, "Q")
    for _ in range(length):
        _value(file, inner)
    return None


def _string(file: BinaryIO) -> bytes:
    return file.read(_scalar(file, "Q"))


def _scalar(file: BinaryIO, kind: str) -> Any:
    return struct.unpack(f"<{kind}", file.read(struct.calcsize(f"<{kind}")))[0]
