"""Files: written whole or not at all, and known by their SHA-256.

A draft is what a process writes before it is whole, under a name that says whose it is. A
killed process leaves its drafts behind; whoever comes next on the same host removes them.
"""

import errno
import hashlib
import os
import platform
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import InputError

_NAME = re.compile(r"\.(?P<name>.+)\.(?P<host>[^.]+)\.(?P<pid>\d+)\.[0-9a-f]{32}\.draft")


def draft_of(path: Path) -> Path:
    """A name beside a path, that no other process and no other call gives."""
    # A file system takes names of 255 bytes.
    name = os.fsencode(path.name)[:128].decode(errors="ignore")
    return path.with_name(f".{name}.{host()[:63]}.{os.getpid()}.{uuid.uuid4().hex}.draft")


def finished(name: str) -> str:
    """The name that a draft would have had; any other name as it is."""
    match = _NAME.fullmatch(name)
    return match["name"] if match else name


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A draft to write a file to, which is synced and takes its place when all went well.

    Makes the folder, and clears it of what dead processes left. An OSError names the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    draft = draft_of(path)
    try:
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        if error.errno and not error.filename:  # as a full disk has none
            error.filename = str(path)
        raise
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def scratch(parent: Path, name: str) -> Iterator[Path]:
    """A folder for what is not kept, below a parent that is cleared as by `written`."""
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    folder = draft_of(parent / name)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5(path: Path) -> str:
    """A file's MD5, as DVC names it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


class Seen(NamedTuple):
    """A file when it was hashed: its size in bytes, the time it was changed, its SHA-256."""

    size: int
    changed_ns: int
    sha256: str


_seen: dict[str, Seen] = {}  # the inputs that this process hashed, by absolute path
_trusted: dict[str, Seen] = {}  # those that another did


def input_sha256(path: Path) -> str:
    """SHA-256 of an input of a run: what it was where this process was instructed to trust that.

    Weights and tables may be hundreds of gigabytes, and the tasks of one plan very many.
    """
    if not path.is_file():
        raise InputError(f"There is no {path}. Run `dvc repro` (or `make demo`) to make it.")
    name, (size, changed_ns) = str(path.absolute()), _now(path)
    found = _trusted[name].sha256 if trusted(path) else sha256(path)
    _seen[name] = Seen(size, changed_ns, found)
    return found


def inputs_seen() -> dict[str, Seen]:
    """What `input_sha256` found in this process, by absolute path."""
    return dict(_seen)


def trust(seen: Mapping[str, Sequence[Any]]) -> None:
    """Take as found what another process found of these files, while size and time stand."""
    _trusted.update({name: Seen(*found) for name, found in seen.items()})


def what_is_trusted() -> dict[str, Seen]:
    """What this process was instructed to trust, for those that it starts."""
    return dict(_trusted)


def trusted(path: Path) -> bool:
    """Whether a file is as another process found it, which this one was instructed to trust."""
    seen = _trusted.get(str(path.absolute()))
    return seen is not None and seen[:2] == _now(path)


def _now(path: Path) -> tuple[int, int]:
    now = path.stat()
    return now.st_size, now.st_mtime_ns


def sweep(folder: Path) -> None:
    """Remove the drafts in a folder that processes of this host left which are dead."""
    if folder.is_dir():
        # Only what starts with a dot: whole parts may be very many.
        for path in folder.glob(".*.draft"):
            match = _NAME.fullmatch(path.name)
            if match and match["host"] == host()[:63] and not alive(int(match["pid"])):
                discard(path)


def discard(path: Path) -> None:
    """Remove a folder, or a file, as far as that can be done."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def host() -> str:
    """This host, in a word without dots."""
    return platform.node().partition(".")[0] or "localhost"


def alive(pid: int) -> bool:
    """Whether there is a process of this number on this host, and not only its exit status."""
    try:
        os.kill(pid, 0)
    except OverflowError:  # in a name that no process wrote
        return False
    except OSError as error:
        return error.errno != errno.ESRCH
    try:
        about = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:  # gone just now; or there is no /proc to ask
        return not Path("/proc/self/stat").is_file()
    return about.rpartition(b")")[2].split()[0] not in (b"Z", b"X")
