"""Every call by which a run changes the disk, seen: to be counted, or to be where it is attacked.

A point is one such call on a file of the run: a rename, sync, link, unlink, touch, folder made or
removed, file opened to be written, text written, rows written by Arrow. Each has two moments,
before the call and after it.
"""

import builtins
import io
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline import files

CALLS = ("rename", "replace", "fsync", "link", "unlink", "remove", "utime", "mkdir", "rmdir")
ROWS = ("write_table", "close")


@dataclass(frozen=True)
class Moment:
    """Before or after one of these calls: the number of the moment, the call, and its file."""

    number: int
    call: str
    path: str
    before: bool

    def __str__(self) -> str:
        name = files.finished(Path(self.path).name)
        of = f"{name}, its draft" if name != Path(self.path).name else name
        return f"{'before' if self.before else 'after'} {self.call} of {of}"


Act = Callable[[Moment], object]


class Points:
    """Tells each moment to an act, from here on, in this process."""

    def __init__(self, folder: Path, act: Act) -> None:
        self._folder, self._act = str(folder.resolve()), act
        self._count, self._lock = 0, threading.Lock()
        self._within = threading.local()
        for name in CALLS:
            setattr(os, name, self._seen(getattr(os, name), name))
        os.open = self._seen(os.open, "open", lambda _, flags, *more: _writes(flags))
        opened = self._seen(io.open, "open", lambda _, mode="r", *more: not {*mode} <= {*"rbt"})
        for module in (io, builtins):
            module.open = self._written(opened)  # type: ignore[attr-defined]
        for name in ROWS:
            setattr(pq.ParquetWriter, name, self._rows(getattr(pq.ParquetWriter, name), name))

    def at(self, call: str, path: Any, before: bool) -> None:
        """Tell one moment, where it is of the run's files."""
        place = self._place(path)
        if place is not None:
            with self._lock:
                number = self._count
                self._count += 1
            self._act(Moment(number, call, place, before))

    def _place(self, path: Any) -> str | None:
        if isinstance(path, int):
            path = Path(f"/proc/self/fd/{path}").readlink()
        place = str(Path(os.fsdecode(path)).absolute())
        return place if place.startswith(self._folder) else None

    def _seen(self, call: Any, name: str, counts: Callable[..., bool] | None = None) -> Any:
        @wraps(call)
        def seen(path: Any, *more: Any, **named: Any) -> Any:
            # Calls by a folder's number are those of rmtree, whose path is not whole.
            within = getattr(self._within, "call", None)
            outside = (isinstance(path, int) and name != "fsync") or named.get("dir_fd") is not None
            if within or outside or (counts and not counts(path, *more, **_of(named))):
                return call(path, *more, **named)
            self._within.call = name
            try:
                self.at(name, path, True)
                answer = call(path, *more, **named)
                self.at(name, path, False)
            finally:
                self._within.call = None
            return answer

        return seen

    def _written(self, opened: Any) -> Any:
        @wraps(opened)
        def open_(path: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
            file = opened(path, mode, *more, **named)
            if not isinstance(path, int) and not {*mode} <= {*"rbt"} and self._place(path):
                return _Written(file, path, self)
            return file

        return open_

    def _rows(self, call: Any, name: str) -> Any:
        @wraps(call)
        def seen(writer: Any, *more: Any, **named: Any) -> Any:
            try:
                self.at(name, writer.where, True)
            except OSError:
                if name == "close":  # as Arrow's own, which does not fail a second time
                    call(writer)
                raise
            answer = call(writer, *more, **named)
            self.at(name, writer.where, False)
            return answer

        return seen


class _Written:
    """A file opened to be written, whose every write is a point."""

    def __init__(self, file: Any, path: Any, points: Points) -> None:
        self._file, self._path, self._points = file, path, points

    def write(self, data: Any) -> Any:
        self._points.at("write", self._path, True)
        answer = self._file.write(data)
        self._file.flush()
        self._points.at("write", self._path, False)
        return answer

    def __enter__(self) -> "_Written":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _of(named: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in named.items() if key in ("mode", "flags")}


def _writes(flags: int) -> bool:
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
