"""The jobs that compare diagrams: these by head, tiles of pairs of heads, runs of text pairs.

A tile is some heads by some heads, in one dimension, over all texts. It reads the diagrams of
its own heads alone, which lie together in what the first job makes of the diagrams tables.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import groupby, pairwise
from math import isqrt
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline import pairs, store
from pipeline.config import Config
from pipeline.errors import InputError
from pipeline.files import input_sha256
from pipeline.jobs.diagrams import runs
from pipeline.jobs.spill import Spill
from pipeline.pairs import ComparisonSpec, Head, HeadMajor
from pipeline.store import DiagramsFile
from pipeline.work.parts import Job, Part, Sent, Shelf

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

BAR, DISTANCE = 16, 8  # bytes
# Diagrams are held so many times over while they are head_major.
COPIES = 4
TEXTS_A_RUN = 1024
# Heads are read by so many at once: a row group of `by_head`.
HEADS_AT_ONCE = 8
# Of the table text_distances: how many a part makes, and how many are made at all.
ROWS_A_PART = 2**17
MOST_ROWS = 10**10


class Tile(NamedTuple):
    """Pairs of heads in one dimension: a of the one range, b of the other, a < b."""

    dimension: int
    first: tuple[int, int]
    second: tuple[int, int]

    def pairs(self) -> tuple[Integers, Integers]:
        """All its pairs, counted among all heads of a run."""
        a, b = (side.ravel() for side in np.mgrid[slice(*self.first), slice(*self.second)])
        return a[a < b], b[a < b]


@dataclass(frozen=True)
class Source(Sent):
    """The diagrams of all models on the texts of one corpus; opened where it is used.

    Raises InputError where a model's diagrams are missing, damaged or of other texts.
    """

    settings: Config
    names: tuple[str, ...]
    provenance: dict[str, Any]

    @cached_property
    def files(self) -> dict[str, DiagramsFile]:
        """Each model's diagrams."""
        return {
            name: DiagramsFile(path) for name, path in _paths(self.settings, self.names).items()
        }

    @cached_property
    def text_ids(self) -> pa.Array:
        """Of the corpus, text by text."""
        return _records(self.settings, "text_id")

    @cached_property
    def groups(self) -> pa.Array:
        """Of the corpus, text by text."""
        return _records(self.settings, "group")

    @cached_property
    def places(self) -> dict[str, Integers]:
        """Per model: each text's place in its file, -1 if it was skipped."""
        for name, file in self.files.items():
            _check_texts(self.settings, name, file)
        return {name: _places(self.text_ids, file.texts) for name, file in self.files.items()}

    @cached_property
    def heads(self) -> list[Head]:
        """All heads, model by model."""
        return [Head(name, *head) for name, file in self.files.items() for head in file.heads]

    @cached_property
    def clusters(self) -> Integers:
        """Texts of one group as one: the number of each text's."""
        return pairs.clusters(self.groups)

    @cached_property
    def text_pairs(self) -> pairs.TextPairs:
        """The pairs of texts to compare under each head."""
        return pairs.text_pairs(self.groups, self.settings.comparison)


@dataclass(frozen=True)
class ComparisonJob(Job):
    """A job that reads the diagrams of all models."""

    source: Source

    def prepare(self) -> None:
        """Open the diagrams."""
        _ = self.source.places


def jobs(settings: Config) -> list[Job]:
    """What the comparison stage does, best in this order: a tile needs all diagrams by head."""
    of_all = source(settings, list(settings.models))
    head_major = by_head_job(of_all)
    return [head_major, _heads_job(of_all, head_major), _texts_job(of_all)]


def source(settings: Config, names: Sequence[str]) -> Source:
    """The diagrams of some models, or nulls, of a run."""
    corpus, paths = settings.path("corpus"), _paths(settings, names)
    found = Source(
        settings,
        tuple(names),
        {
            "code": store.code_digest("pipeline.pairs"),
            "config": {"comparison": asdict(settings.comparison), "models": list(paths)},
            "corpus": input_sha256(corpus),
            "diagrams": {name: input_sha256(path) for name, path in paths.items()},
            "made_from": {name: store.read_provenance(path) for name, path in paths.items()},
            "libraries": store.libraries(),
        },
    )
    _ = found.places
    return found


def _records(settings: Config, column: str) -> pa.Array:
    return store.read(settings.path("corpus"), [column])[column].combine_chunks()


def _paths(settings: Config, names: Iterable[str]) -> dict[str, Path]:
    return {name: settings.path("diagrams", name) for name in names}


def _check_texts(settings: Config, model: str, file: DiagramsFile) -> None:
    """Raises InputError where a model's diagrams are not of the texts that it used."""
    path = settings.path("texts", model)
    if not path.is_file():
        return
    texts = store.read(path, ["text_id", "reason"])
    used = texts.filter(pc.is_null(texts["reason"]))["text_id"].to_pylist()
    if used != file.texts.to_pylist():
        raise InputError(
            f"{settings.path('diagrams', model)} has {len(file.texts)} texts, and not the "
            f"{len(used)} that {path} says were used. Delete both and run `dvc repro` again."
        )


def _places(text_ids: pa.Array, texts: pa.Array) -> Integers:
    places: Integers = pc.index_in(text_ids, texts).fill_null(-1).to_numpy().astype(np.int64)
    return places


def _shelf() -> Shelf:
    return Shelf(store.work_folder() / "comparison")


def _parts(source: Source, kind: str, cut: Iterable[tuple[Any, str]]) -> list[Part]:
    """Parts of inputs and labels, each named by all that makes it."""
    # What lays a part out is this file, which the digest of the science does not cover.
    made_by = store.digest([source.provenance, store.sha256(Path(__file__)), kind])
    return [Part(store.digest([made_by, inputs]), label, inputs) for inputs, label in cut]


# ---- diagrams by head ---------------------------------------------------------------------


class ByHeadJob(ComparisonJob):
    """The diagrams of all models by head; a part is a run of texts, and no table is joined."""

    def do(self, part: Part) -> Mapping[str, pa.Table]:
        """The diagrams of some texts, head by head."""
        return {"by_head": _by_head(self.source, slice(*part.inputs))}


def by_head_job(source: Source) -> ByHeadJob:
    """The job that lays a source's diagrams out head by head."""
    return ByHeadJob(
        title="diagrams by head",
        shelf=_shelf(),
        parts=_parts(source, "by_head", _text_runs(source)),
        outputs={},
        provenance=source.provenance,
        source=source,
    )


def _text_runs(source: Source) -> Iterator[tuple[tuple[int, int], str]]:
    """Runs of texts whose diagrams, of all models, can be head_major in a part's room."""
    starts, held, room = [0], 0.0, source.settings.engine.part_mb * 2**20
    for text, size in enumerate(_sizes(source).tolist()):
        if text > starts[-1] and (held + size > room or text - starts[-1] == TEXTS_A_RUN):
            starts.append(text)
            held = 0.0
        held += size
    for start, stop in pairwise([*starts, len(source.text_ids)]):
        yield (start, stop), f"{stop - start} texts"


def _sizes(source: Source) -> Floats:
    """Bytes that it takes to turn each text's diagrams."""
    sizes = np.zeros(len(source.text_ids))
    for name, file in source.files.items():
        places = source.places[name]
        sizes[places >= 0] += COPIES * BAR * file.bars()[places[places >= 0]]
    return sizes


def _by_head(source: Source, texts: slice) -> pa.Table:
    """What all heads make of some texts: in dimension 0, then in 1, and so on."""
    models = [
        _transposed(file, source.places[name][texts])
        for name, file in source.files.items()
        if file.heads
    ]
    dimensions = source.settings.homology.max_dimension + 1
    rows = [
        of_model.slice(dimension * len(of_model) // dimensions, len(of_model) // dimensions)
        for dimension in range(dimensions)
        for of_model in models
    ]
    return pa.concat_tables([store.SCHEMAS["by_head"].empty_table(), *rows])


def _transposed(file: DiagramsFile, places: Integers) -> pa.Table:
    head_major = pairs.by_head(
        _rows(file, places[places >= 0]), len(file.heads), file.dimensions, places >= 0
    )
    return head_major.cast(store.SCHEMAS["by_head"])


def _rows(file: DiagramsFile, places: Integers) -> pa.Table:
    """The rows of the texts at these places, read by runs of neighbours."""
    ends = [0, *(np.flatnonzero(np.diff(places) != 1) + 1).tolist(), len(places)]
    empty = store.SCHEMAS["diagrams"].empty_table()
    found = [
        file.between(places[start], places[stop - 1] + 1)
        for start, stop in pairwise(ends)
        if start < stop
    ]
    return pa.concat_tables([empty, *found])


# ---- pairs of heads -----------------------------------------------------------------------


@dataclass(frozen=True)
class HeadDistancesJob(ComparisonJob):
    """All pairs of heads, aggregated over texts; a part is a tile of them.

    head_major   the job whose parts a tile reads
    """

    head_major: ByHeadJob

    def do(self, part: Part) -> Mapping[str, pa.Table]:
        """A row a pair of heads of a tile."""
        tile: Tile = part.inputs
        source, (a, b) = self.source, tile.pairs()
        summary = _summaries(source, self.head_major, tile)
        columns = {
            "corpus": pa.repeat(source.settings.corpus.name, len(a)),
            "dimension": np.full(len(a), tile.dimension),
            **_names("a", source.heads, a),
            **_names("b", source.heads, b),
            **{name: summary[name] for name in summary.column_names},
        }
        return {"head_distances": pa.table(columns)}

    def join(self) -> dict[str, int]:
        """Write the rows in the order of the heads: the tiles of a strip side by side."""
        strips = groupby(self.parts, key=lambda part: part.inputs[:2])
        return {
            name: store.write(
                path, name, (self._strip(name, list(of)) for _, of in strips), self.provenance
            )
            for name, path in self.outputs.items()
        }

    def _strip(self, name: str, parts: list[Part]) -> pa.Table:
        a, b = np.hstack([part.inputs.pairs() for part in parts])
        return pa.concat_tables(self.shelf.tables(parts, name)).take(np.lexsort((b, a)))


def _heads_job(source: Source, head_major: ByHeadJob) -> HeadDistancesJob:
    return HeadDistancesJob(
        title="head distances",
        shelf=_shelf(),
        parts=_parts(source, "heads", tiles(source)),
        outputs={"head_distances": source.settings.path("head_distances")},
        provenance=source.provenance,
        source=source,
        head_major=head_major,
    )


def tiles(source: Source) -> Iterator[tuple[Tile, str]]:
    """All pairs of a source's heads in each dimension, as tiles with their labels."""
    heads, side = len(source.heads), _side(source)
    strips = list(runs(heads, side))
    for dimension in range(source.settings.homology.max_dimension + 1):
        for i, first in enumerate(strips):
            for second in strips[i:]:
                # One head by itself is no pair.
                if second[1] - first[0] > 1:
                    yield Tile(dimension, first, second), _label(dimension, first, second)


def _side(source: Source) -> int:
    """How many heads by how many a tile is: at least one by one, whatever the disk."""
    engine, texts = source.settings.engine, max(len(source.text_ids), 1)
    disk = engine.part_disk_mb * 2**20
    most = isqrt(min(engine.part_pairs, disk // (DISTANCE * texts)))
    return max(most - most % HEADS_AT_ONCE, min(most, HEADS_AT_ONCE), 1)


def _label(dimension: int, first: tuple[int, int], second: tuple[int, int]) -> str:
    (a, b), (c, d) = first, second
    return f"dimension {dimension}, heads {a} to {b - 1} by {c} to {d - 1}"


def _summaries(source: Source, head_major: ByHeadJob, tile: Tile) -> pa.Table:
    """Every pair of a tile over all texts: compared text by text, added up pair by pair."""
    spec, clusters = source.settings.comparison, source.clusters
    # The file has no name: a process that is killed leaves nothing.
    with TemporaryFile(dir=_shelf().folder) as file:
        values = spilled(head_major, tile, spec, Spill(file))
        cut = runs(len(tile.pairs()[0]), max(pairs.VALUES_AT_ONCE // len(clusters), 1))
        found = [pairs.summarise(values.rows(*run), clusters, spec.confidence) for run in cut]
    return pa.concat_tables(map(pa.table, found))


def spilled(head_major: ByHeadJob, tile: Tile, spec: ComparisonSpec, values: Spill) -> Spill:
    """Distances between the heads of every pair of a tile on every text, added to a matrix."""
    a, b = tile.pairs()
    heads = np.union1d(a, b)
    first, second = np.searchsorted(heads, a), np.searchsorted(heads, b)
    # A part of by_head has all heads in dimension 0, then in 1.
    rows = heads + tile.dimension * len(head_major.source.heads)
    for run in _head_major(head_major, rows):
        pages = pairs.distances_over_texts(run, first, second, spec)
        values.add(pages, run.there.shape[1])
    return values


def _head_major(job: ByHeadJob, rows: Integers) -> Iterator[HeadMajor]:
    """Some rows of each part of `by_head`.

    On a cluster a tile may come before the diagrams that it needs: then it turns them itself.
    """
    for part in job.parts:
        path = job.shelf.folder / part.digest / "by_head.parquet"
        if not path.is_file():
            job.shelf.put(part, job.do(part))
        yield pairs.head_major(store.Rows(path).at(rows.tolist()))


def _names(side: str, heads: Sequence[Head], which: Integers) -> dict[str, Any]:
    chosen = [heads[i] for i in which]
    return {
        f"model_{side}": pa.array([head.model for head in chosen], pa.string()),
        f"layer_{side}": np.array([head.layer for head in chosen]),
        f"head_{side}": np.array([head.head for head in chosen]),
    }


# ---- pairs of texts -----------------------------------------------------------------------


class TextDistancesJob(ComparisonJob):
    """The chosen pairs of texts under each head; a part is a run of their ranks."""

    def do(self, part: Part) -> Mapping[str, pa.Table]:
        """A row a head and dimension of each pair of texts."""
        empty = store.SCHEMAS["text_distances"].empty_table()
        pages = _pages(self.source, *self.source.text_pairs.between(*part.inputs))
        return {"text_distances": pa.concat_tables([empty, *pages])}


def _texts_job(source: Source) -> TextDistancesJob:
    count = len(source.text_pairs)
    rows = max(sum(len(file.heads) * file.dimensions for file in source.files.values()), 1)
    _refuse_absurd(count, rows)
    cut = runs(count, max(ROWS_A_PART // rows, 1))
    return TextDistancesJob(
        title="text distances",
        shelf=_shelf(),
        parts=_parts(source, "texts", ((run, f"{run[1] - run[0]} text pairs") for run in cut)),
        outputs={"text_distances": source.settings.path("text_distances")},
        provenance=source.provenance,
        source=source,
    )


def _refuse_absurd(pairs: int, rows: int) -> None:
    if pairs * rows > MOST_ROWS:
        raise InputError(
            f"There are {pairs:,} pairs of texts to compare under each head, which makes "
            f"{pairs * rows:,} rows of text_distances; at most {MOST_ROWS:,} are made. Set "
            "comparison.text_pairs=none, or group with smaller groups, or cut the corpus with "
            "corpus.limit=N."
        )


def _pages(source: Source, first: Integers, second: Integers) -> Iterator[pa.Table]:
    pairs = zip(first.tolist(), second.tolist(), strict=True)
    for a, of in groupby(pairs, key=itemgetter(0)):
        # Read once: the second texts follow one another in the file, far from the first.
        ones = _of_text(source, a)
        for _, b in of:
            others = _of_text(source, b)
            yield from (
                _page(source, a, b, one, others[name])
                for name, one in ones.items()
                if name in others
            )


def _of_text(source: Source, text: int) -> dict[str, pa.Table]:
    """Each model's diagrams of a text, without those that skipped it."""
    places = {name: int(source.places[name][text]) for name in source.files}
    return {
        name: source.files[name].between(place, place + 1)
        for name, place in places.items()
        if place >= 0
    }


def _page(source: Source, a: int, b: int, one: pa.Table, other: pa.Table) -> pa.Table:
    schema = store.SCHEMAS["text_distances"]
    columns = {
        **pairs.text_distances(one, other, source.settings.comparison),
        "corpus": pa.repeat(source.settings.corpus.name, len(one)),
        "text_a": pa.repeat(source.text_ids[a], len(one)),
        "text_b": pa.repeat(source.text_ids[b], len(one)),
    }
    return pa.table(columns).select(schema.names).cast(schema)
