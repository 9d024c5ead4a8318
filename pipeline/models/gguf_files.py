"""GGUF files: their quantisation, and their conversion, once, to a folder transformers reads."""

import contextlib
import importlib.metadata
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.errors import InputError
from pipeline.files import discard, draft_of, sha256, sweep


class _DamagedError(Exception):
    """What is wrong with a head."""


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
    if kind not in {known.value for known in LlamaFileType}:
        raise InputError(
            f"{path} states the file type {kind!r}, which the gguf package "
            f"{importlib.metadata.version('gguf')} does not know: fetch the file again, or "
            "another quantisation of the model."
        )
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
    try:
        noted = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):  # not there, or damaged
        return False
    return bool(noted == _digests(folder))


def _digests(folder: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(folder.iterdir()):
        if path.name != MANIFEST:
            digests[path.name] = sha256(path)
    return digests


def _versions() -> str:
    packages = ("transformers", "gguf")
    return "-".join(f"{package}{importlib.metadata.version(package)}" for package in packages)


def _file_type(path: Path) -> int | None:
    try:
        with path.open("rb") as file:
            return _head(file)
    except (struct.error, _DamagedError) as error:
        why = error if isinstance(error, _DamagedError) else "it ends within its head"
        raise InputError(
            f"{path} is not a whole GGUF file (its head cannot be read: {why}): fetch it again."
        ) from error


def _head(file: BinaryIO) -> int | None:
    """The file type that a head states.

    Every key, string and array is bounded by what is left of the file, so a head takes no longer
    than its bytes: transformers' reader, which comes after, believes what it says.
    """
    if _scalar(file, "4s") != b"GGUF":
        raise _DamagedError("it does not begin with GGUF")
    _, tensors, keys = (_scalar(file, kind) for kind in "IQQ")
    if not tensors:
        raise _DamagedError("it holds no tensors")
    found = None
    for _ in range(_fitting(file, keys, 12, "keys")):
        key = _string(file)
        value = _value(file, _scalar(file, "I"))
        if key == b"general.file_type":
            if not isinstance(value, int):
                raise _DamagedError("its general.file_type is no number")
            found = value
        # Each layer has tensors of its own: more layers would be built without end.
        if key.endswith(b".block_count") and isinstance(value, int) and value > tensors:
            raise _DamagedError(f"{value:,} layers, and {tensors:,} tensors")
    return found


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == STRING:
        return _string(file)
    if kind == ARRAY:
        return _skip_array(file)
    return _scalar(file, _scalar_type(kind))


def _skip_array(file: BinaryIO) -> None:
    inner, length = _scalar(file, "I"), _scalar(file, "Q")
    if inner == ARRAY:
        raise _DamagedError("an array of arrays, which no reader takes")
    if inner == STRING:
        for _ in range(_fitting(file, length, 8, "strings in an array")):
            _string(file)
    else:
        size = struct.calcsize(_scalar_type(inner))
        file.seek(_fitting(file, length, size, "values in an array") * size, os.SEEK_CUR)


def _scalar_type(kind: int) -> str:
    if kind not in SCALARS:
        raise _DamagedError(f"a value of type {kind}, which there is not")
    return SCALARS[kind]


def _fitting(file: BinaryIO, count: int, size: int, what: str) -> int:
    """A count, where so many of at least this size fit in what is left of the file."""
    left = os.fstat(file.fileno()).st_size - file.tell()
    if count * size > left:
        raise _DamagedError(f"{count} {what}, more than the file has room for")
    return count


def _string(file: BinaryIO) -> bytes:
    return file.read(_fitting(file, _scalar(file, "Q"), 1, "bytes in a string"))


def _scalar(file: BinaryIO, kind: str) -> Any:
    return struct.unpack(f"<{kind}", file.read(struct.calcsize(f"<{kind}")))[0]
