"""The jobs that compare diagrams: blocks of pairs of heads, runs of pairs of texts."""

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import store, tables
from pipeline.config import Config
from pipeline.diagrams import Packed
from pipeline.errors import InputError
from pipeline.jobs import diagrams
from pipeline.parts import Job, Part, Shelf, runs
from pipeline.store import DiagramsFile

TEXT_PAIRS_A_PART = 256
# A block of (pair, text) distances, in bytes: bounds the memory whatever the corpus.
BLOCK = 256 * 2**20


class Head(NamedTuple):
    """A head among all heads of a run: its model's number, its names, its place in the pack."""

    number: int
    model: str
    layer: int
    head: int
    place: int


def head_distances(settings: Config) -> Job:
    """All pairs of heads, aggregated over texts; a part is a block of pairs."""
    files = _files(settings)
    records = _records(settings)
    texts = records["text_id"].to_pylist()
    clusters = tables.clusters(records["group"].to_pylist())
    heads = [
        Head(number, model, layer, head, place)
        for number, (model, file) in enumerate(files.items())
        for place, (layer, head) in enumerate(file.heads)
    ]
    first, second = np.triu_indices(len(heads), 1)
    spec = settings.comparison
    provenance, layout = _comparison_provenance(settings), _layout()

    def do(part: Part) -> Mapping[str, pa.Table]:
        dimension, start, stop = part.inputs
        a, b = first[start:stop], second[start:stop]
        places = np.array(
            [(h.number, h.place * files[h.model].dimensions + dimension) for h in heads]
        )
        packs = (_packs(files, text) for text in texts)
        values = tables.distances_over_texts(packs, places[a], places[b], spec)
        columns = {
            "corpus": pa.repeat(settings.corpus.name, len(values)),
            "dimension": np.full(len(values), dimension),
            **_names("a", heads, a),
            **_names("b", heads, b),
            **tables.summarise(values, clusters, spec.confidence),
        }
        return {"head_distances": pa.table(columns)}

    size = min(settings.engine.part_pairs, max(BLOCK // (8 * len(texts)), 1))
    blocks = [
        (dimension, start, min(start + size, len(first)))
        for dimension in range(settings.homology.max_dimension + 1)
        for start in range(0, len(first), size)
    ]
    return Job(
        title="head distances",
        shelf=Shelf(store.work_folder() / "comparison"),
        parts=[
            Part(
                store.digest([provenance, layout, "heads", block]),
                f"dimension {block[0]}, pairs {block[1]} to {block[2] - 1}",
                block,
            )
            for block in blocks
        ],
        do=do,
        outputs={"head_distances": store.table_path("head_distances")},
        provenance=provenance,
    )


def text_distances(settings: Config) -> Job:
    """The chosen pairs of texts under each head; a part is a run of text pairs."""
    files = _files(settings)
    pairs = tables.text_pairs(_records(settings), settings.comparison)
    provenance, layout = _comparison_provenance(settings), _layout()

    def do(part: Part) -> Mapping[str, pa.Table]:
        empty = store.SCHEMAS["text_distances"].empty_table()
        return {"text_distances": pa.concat_tables([empty, *_pages(settings, files, part)])}

    return Job(
        title="text distances",
        shelf=Shelf(store.work_folder() / "comparison"),
        parts=[
            Part(store.digest([provenance, layout, "texts", run]), f"{len(run)} text pairs", run)
            for run in runs(pairs, TEXT_PAIRS_A_PART)
        ],
        do=do,
        outputs={"text_distances": store.table_path("text_distances")},
        provenance=provenance,
    )


def _pages(settings: Config, files: Mapping[str, DiagramsFile], part: Part) -> Iterator[pa.Table]:
    schema = store.SCHEMAS["text_distances"]
    for text_a, text_b in part.inputs:
        for file in files.values():
            if text_a in file and text_b in file:
                a, b = file.rows(text_a), file.rows(text_b)
                columns = {
                    **tables.text_distances(a, b, settings.comparison),
                    "corpus": pa.repeat(settings.corpus.name, len(a)),
                    "text_a": pa.repeat(text_a, len(a)),
                    "text_b": pa.repeat(text_b, len(a)),
                }
                yield pa.table(columns).select(schema.names).cast(schema)


def drop_strays(settings: Config) -> list[Path]:
    """Remove the diagrams of models that the configuration no longer names; return which.

    DVC hashes the whole folder of diagrams, so a leftover would enter dvc.lock. Its parts
    stay, and DVC's cache keeps the tables. Raises InputError for anything we did not write.
    """
    strays = [path for path in sorted(store.DIAGRAMS.glob("*")) if path.name not in settings.models]
    for stray in strays:
        if not stray.is_dir() or not all(map(_ours, stray.iterdir())):
            raise InputError(
                f"{stray} is not a model of the configuration, nor diagrams made earlier. "
                f"Move it elsewhere: {store.DIAGRAMS} is hashed as a whole."
            )
        shutil.rmtree(stray)
    return strays


def _ours(path: Path) -> bool:
    # A killed process leaves the draft of a table: see `store.write`.
    name = re.sub(r"^\.(.*)\.\d+$", r"\1", path.name)
    return name in {f"{table}.parquet" for table in diagrams.TABLES}


def _files(settings: Config) -> dict[str, DiagramsFile]:
    return {name: DiagramsFile(store.model_path(name, "diagrams")) for name in settings.models}


def _records(settings: Config) -> pa.Table:
    return store.read(store.corpus_path(settings.corpus.name), ["text_id", "group"])


def _comparison_provenance(settings: Config) -> dict[str, Any]:
    paths = {name: store.model_path(name, "diagrams") for name in settings.models}
    return {
        "code": store.code_digest("pipeline.tables"),
        "config": {"comparison": asdict(settings.comparison), "models": list(paths)},
        "corpus": store.sha256(store.corpus_path(settings.corpus.name)),
        "diagrams": {name: store.sha256(path) for name, path in paths.items()},
        "made_from": {name: store.read_provenance(path) for name, path in paths.items()},
        "libraries": store.libraries(),
    }


def _layout() -> str:
    # What lays a part out is this file, which the digest of the science does not cover.
    return store.sha256(Path(__file__))


def _packs(files: Mapping[str, DiagramsFile], text: str) -> list[Packed | None]:
    return [tables.pack(file.rows(text)) if text in file else None for file in files.values()]


def _names(side: str, heads: list[Head], which: NDArray[np.int64]) -> dict[str, Any]:
    chosen = [heads[i] for i in which]
    return {
        f"model_{side}": pa.array([head.model for head in chosen], pa.string()),
        f"layer_{side}": np.array([head.layer for head in chosen]),
        f"head_{side}": np.array([head.head for head in chosen]),
    }
