"""The unit of resumable work: its digest, its manifest, its atomic write, the join.

A part is a folder named by the digest of all that makes it. It is written under a name that
starts with a dot, synced, and renamed, so that a part is either whole or not there. Its
manifest gives each table's SHA-256 and rows; a part whose bytes do not match is done again.
The manifest also says what must not change a table's bytes: how long the part took, and what
was skipped because it killed its worker.
"""

import errno
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from pipeline import store
from pipeline.errors import InputError
from pipeline.files import discard, draft_of, written

MANIFEST = "manifest.json"
Tables = Mapping[str, pa.Table]


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


class SpoiltError(InputError):
    """A part that was done is not whole: it can be dropped, and done anew."""

    def __init__(self, part: Part, what: str, home: Path) -> None:
        self.part, self.what = part, what
        super().__init__(
            f"The part {part.label} was done and {what}: {home}. Something else removed or changed "
            "it. Run the same command again: it does this part anew, and the others are kept."
        )


@dataclass(frozen=True)
class Shelf:
    """The folder that holds the parts of one stage."""

    folder: Path

    def has(self, part: Part) -> bool:
        """Whether the part is there, whole: every file matches its manifest."""
        home = self.folder / part.digest
        try:
            manifest = self.manifest(part.digest)
            return manifest["part"] == part.digest and all(
                store.sha256(home / name) == entry["sha256"]
                for name, entry in manifest["files"].items()
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False

    def manifest(self, digest: str) -> dict[str, Any]:
        """What a part's manifest says; raises OSError or ValueError where there is none."""
        return dict(json.loads((self.folder / digest / MANIFEST).read_bytes()))

    def seconds(self, digest: str) -> float:
        """How long a part took, if that is known."""
        return float(self._fact(digest, "seconds", 0.0))

    def aside(self, digest: str) -> list[str]:
        """What of a part was skipped because it killed its worker, by label."""
        return list(self._fact(digest, "aside", []))

    def _fact(self, digest: str, name: str, unknown: Any) -> Any:
        try:
            return self.manifest(digest).get(name, unknown)
        except (OSError, ValueError, TypeError):  # spoilt, as the next run will find
            return unknown

    def put(
        self, part: Part, tables: Tables, seconds: float = 0.0, aside: Sequence[str] = ()
    ) -> None:
        """Write a part's tables; if another process wrote the same part first, keep that."""
        draft = draft_of(self.folder / part.digest)
        draft.mkdir(parents=True)
        try:
            facts = {"seconds": round(seconds, 3), "aside": list(aside)}
            self._fill(draft, part, tables, {**facts, "label": part.label, "part": part.digest})
            self._publish(draft, part)
        finally:
            discard(draft)
        self._note(part.digest).unlink(missing_ok=True)

    def _fill(self, draft: Path, part: Part, tables: Tables, facts: dict[str, Any]) -> None:
        files = {}
        for name, table in tables.items():
            file = draft / f"{name}.parquet"
            store.write(file, name, [table], {"part": part.digest})
            files[file.name] = {"sha256": store.sha256(file), "rows": len(table)}
        with written(draft / MANIFEST) as file:
            file.write_bytes(store.canonical_json({"files": files, **facts}))

    def _publish(self, draft: Path, part: Part) -> None:
        home = self.folder / part.digest
        while not _renamed(draft, home) and not self.has(part):
            # What is there is not whole. Another process may mend it at this very moment, so
            # it is moved out of the way, never emptied where it stands.
            spoilt = draft_of(home)
            if _renamed(home, spoilt):
                discard(spoilt)
        folder = os.open(self.folder, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def drop(self, digest: str) -> None:
        """Take a part off the shelf, and what is noted of it."""
        gone = draft_of(self.folder / digest)
        if _renamed(self.folder / digest, gone):
            discard(gone)
        self._note(digest).unlink(missing_ok=True)

    def names(self) -> set[str]:
        """The digests of the parts that are there; whether they are whole is not looked at."""
        if not self.folder.is_dir():
            return set()
        return {path.name for path in self.folder.iterdir() if not path.name.startswith(".")}

    def notes(self) -> dict[str, dict[str, str]]:
        """The label of each part that failed, by digest, and the reason."""
        return {
            file.name[1 : -len(".failed")]: json.loads(file.read_text("utf-8"))
            for file in self.folder.glob(".*.failed")
        }

    def note(self, part: Part, reason: str) -> None:
        """Write down why a part failed, until it is done."""
        note = {"label": part.label, "reason": reason}
        with written(self._note(part.digest)) as file:
            file.write_text(json.dumps(note, ensure_ascii=False), "utf-8")

    def forget(self, digest: str) -> None:
        """Remove what is noted of a part, which was done since."""
        self._note(digest).unlink(missing_ok=True)

    def _note(self, digest: str) -> Path:
        return self.folder / f".{digest}.failed"

    def tables(self, parts: Sequence[Part], name: str) -> Iterator[pa.Table]:
        """One table of every part, in the order of the parts.

        Raises SpoiltError where a part is not whole, or not that of its manifest.
        """
        for part in parts:
            yield self._table(part, f"{name}.parquet")

    def _table(self, part: Part, name: str) -> pa.Table:
        home = self.folder / part.digest
        try:
            rows = int(self.manifest(part.digest)["files"][name]["rows"])
            table = store.read(home / name)
        except (FileNotFoundError, InputError, ValueError, KeyError, TypeError) as error:
            raise SpoiltError(part, f"is gone or damaged ({error})", home) from error
        if len(table) != rows:
            what = f"has {len(table)} rows, its manifest says {rows}"
            raise SpoiltError(part, what, home)
        return table


class Sent:
    """What another process is sent as its fields: what it opened or computed stays behind."""

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(cast(Any, self))}


@dataclass(frozen=True)
class Job(Sent, ABC):
    """All parts of one piece of a stage, how one is done, and where the joined tables go.

    A worker process is sent the job itself, so all its fields can be pickled; a subclass opens
    and loads what it needs where it runs, in a `cached_property`.
    """

    title: str
    shelf: Shelf
    parts: list[Part]
    outputs: dict[str, Path]
    provenance: dict[str, Any]

    @abstractmethod
    def do(self, part: Part) -> Tables:
        """The tables of a part."""

    def prepare(self) -> None:
        """Open and load what all parts need; once a process, before its first part."""

    def split(self, part: Part) -> list[Part]:
        """The pieces of a part, each a part that can be done by itself; none: it has no pieces.

        Their tables one after another are the part's.
        """
        return []

    def skip(self, part: Part, reason: str) -> Tables:
        """The tables of a piece that cannot be done, with the reason in a row."""
        raise NotImplementedError(f"{part.label} has no row that could say: {reason}")

    def missing(self) -> list[Part]:
        """The parts that are not on the shelf yet."""
        return [part for part in self.parts if not self.shelf.has(part)]

    @property
    def made_by(self) -> dict[str, Any]:
        """The provenance as a table gives it back: tuples are lists there."""
        return dict(json.loads(store.canonical_json(self.provenance)))

    def joined(self) -> bool:
        """Whether the tables are there, of this very provenance."""
        mine = self.made_by
        try:
            return all(
                path.is_file() and store.read_provenance(path) == mine
                for path in self.outputs.values()
            )
        except InputError:  # damaged: to be joined anew
            return False

    def join(self) -> dict[str, int]:
        """Write each output from its parts, in their order; return the rows of each.

        Raises SpoiltError where a part is not whole.
        Two at once: most of it is Arrow's work, which needs no interpreter, and each table holds
        a row group or two in memory.
        """

        def write(name: str, path: Path) -> int:
            chunks = self.shelf.tables(self.parts, name)
            return store.write(path, name, chunks, self.provenance)

        with ThreadPoolExecutor(2, "join") as pool:
            rows = {name: pool.submit(write, name, path) for name, path in self.outputs.items()}
        return {name: count.result() for name, count in rows.items()}


def _renamed(path: Path, name: Path) -> bool:
    """Rename a folder; False where it is gone, or the name is taken."""
    try:
        path.rename(name)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return False
        raise
    return True


def runs(items: list[Any], size: int) -> list[list[Any]]:
    """Cut a list into runs of a size, the last one shorter."""
    return [items[start : start + size] for start in range(0, len(items), size)]
