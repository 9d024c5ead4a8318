"""The unit of resumable work: its digest, its manifest, its atomic write, the join.

A part is a folder named by the digest of all that makes it. It is written under a name that
starts with a dot, synced, and renamed, so that a part is either whole or not there. Its
manifest gives each table's SHA-256 and rows; a part whose bytes do not match is done again.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import store

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Part:
    """One piece of a stage's work.

    digest   of everything that makes it: inputs, settings, code, libraries
    label    what it is, in words for a person
    inputs   what the work function needs
    """

    digest: str
    label: str
    inputs: Any


@dataclass(frozen=True)
class Shelf:
    """The folder that holds the parts of one stage."""

    folder: Path

    def has(self, part: Part) -> bool:
        """Whether the part is there, whole: every file matches its manifest."""
        home = self.folder / part.digest
        try:
            manifest = json.loads((home / MANIFEST).read_bytes())
            files = manifest["files"]
            return all(
                store.sha256(home / name) == entry["sha256"] for name, entry in files.items()
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False

    def put(self, part: Part, tables: Mapping[str, pa.Table]) -> None:
        """Write a part's tables; if another process wrote the same part first, keep that."""
        draft = self.folder / f".{part.digest}.{os.getpid()}"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        try:
            self._fill(draft, part, tables)
            self._publish(draft, part)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _fill(self, draft: Path, part: Part, tables: Mapping[str, pa.Table]) -> None:
        files = {}
        for name, table in tables.items():
            file = draft / f"{name}.parquet"
            store.write(file, name, [table], {"part": part.digest})
            files[file.name] = {"sha256": store.sha256(file), "rows": len(table)}
        with (draft / MANIFEST).open("wb") as out:
            out.write(store.canonical_json({"label": part.label, "files": files}))
            out.flush()
            os.fsync(out.fileno())

    def _publish(self, draft: Path, part: Part) -> None:
        home = self.folder / part.digest
        if home.exists() and not self.has(part):
            shutil.rmtree(home)
        try:
            draft.rename(home)
        except OSError:
            # A folder cannot replace one with files in it: the other writer was first.
            if not self.has(part):
                raise
        folder = os.open(self.folder, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def tables(self, parts: list[Part], name: str) -> Iterator[pa.Table]:
        """One table of every part, in the order of the parts."""
        for part in parts:
            yield store.read(self.folder / part.digest / f"{name}.parquet")


@dataclass(frozen=True)
class Job:
    """All parts of one piece of a stage, how one is done, and where the joined tables go."""

    title: str
    shelf: Shelf
    parts: list[Part]
    do: Callable[[Part], Mapping[str, pa.Table]]
    outputs: dict[str, Path]
    provenance: dict[str, Any]

    def missing(self) -> list[Part]:
        """The parts that are not on the shelf yet."""
        return [part for part in self.parts if not self.shelf.has(part)]

    def join(self) -> dict[str, int]:
        """Write each output from its parts, in their order; return the rows of each."""
        return {
            name: store.write(path, name, self.shelf.tables(self.parts, name), self.provenance)
            for name, path in self.outputs.items()
        }


def runs(items: list[Any], size: int) -> list[list[Any]]:
    """Cut a list into runs of a size, the last one shorter."""
    return [items[start : start + size] for start in range(0, len(items), size)]
