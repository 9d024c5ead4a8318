"""Where each artefact lives, its Arrow schema, how it is written, read and traced back.

Every table is one Parquet file: zstd (fractions by BYTE_STREAM_SPLIT, which makes them a fifth
smaller, in half the time), page checksums, a fixed order of rows, row groups of a fixed size
(so that the bytes do not depend on how the work was cut), and one JSON value of provenance in
the schema metadata. Provenance holds no time, host or commit: the same
run gives the same bytes.
"""

import ast
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
from bisect import bisect_left, bisect_right
from collections.abc import Container, Iterable, Iterator, Mapping
from functools import cache
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
PROVENANCE = b"provenance"
LIBRARIES = (
    "datasets",
    "gudhi",
    "llvmlite",
    "numba",
    "numpy",
    "pillow",
    "pyarrow",
    "scipy",
    "tokenizers",
    "torch",
    "transformers",
)


def _column(name: str, kind: pa.DataType, meaning: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable, {"meaning": meaning})


_string, _int, _float, _flag = pa.string(), pa.int32(), pa.float64(), pa.bool_()
_count = pa.int64()
_scales = pa.list_(pa.field("element", _float, nullable=False))
_positions = pa.list_(pa.field("element", _int, nullable=False))
_map = pa.list_(pa.field("element", pa.float32(), nullable=False))
_lengths = pa.list_(pa.field("element", _int))
_bits = "in bits; null for hidden states"
_text_id = _column("text_id", _string, "first 16 hex digits of the SHA-256 of the text")
_source = _column("source", _string, "file#record, records counted from 0")
_model = _column("model", _string, "name of the model in the configuration")
_layer = _column(
    "layer", _int, "counted from 0; of hidden states, the layer they enter, the last: the output"
)
_head = _column("head", _int, "counted from 0 within its layer; 0 for hidden states")
_hidden_layer = _column("layer", _int, "0: input of layer 0; k: output of layer k - 1")
_dimension = _column("dimension", _int, "homology dimension")
_corpus = _column("corpus", _string, "name of the corpus in the configuration")

SCHEMAS: dict[str, pa.Schema] = {
    "corpus": pa.schema(
        [
            _text_id,
            _column("text", _string, "the text itself"),
            _column("language", _string, "as the corpus states it", nullable=True),
            _column("group", _string, "texts of one group are variants of one another", True),
            _source,
        ]
    ),
    # A corpus of images: the same table with one column more.
    "images": pa.schema(
        [
            _column("text_id", _string, "first 16 hex digits of the SHA-256 of the file"),
            _column("text", _string, "the file's name, escaped"),
            _column("language", _string, "as the corpus states it", nullable=True),
            _column("group", _string, "images of one group are variants of one another", True),
            _source,
            _column("image", pa.large_binary(), "the bytes of the file as they are"),
        ]
    ),
    "rejects": pa.schema(
        [
            _source,
            _column("reason", _string, "why the record was set aside"),
            _column("excerpt", _string, "its beginning, escaped"),
        ]
    ),
    "texts": pa.schema(
        [
            _model,
            _text_id,
            _column("total_tokens", _int, "before the cut, special tokens included"),
            _column("tokens", _int, "points of the metric space; 0 if set aside"),
            _column("cut", _flag, "whether the text was longer than the model's limit"),
            _column("reason", _string, "why the text was set aside; null: it was used", True),
        ]
    ),
    "tokens": pa.schema(
        [
            _model,
            _text_id,
            _column("position", _int, "counted from 0, special tokens included"),
            _column("token", _string, "readable"),
            _column("token_id", pa.int64(), "in the model's vocabulary"),
            _column("special", _flag, "added by the tokenizer"),
            _column("word", _int, "index of the word it is part of; null: none", nullable=True),
        ]
    ),
    "heads": pa.schema(
        [
            _model,
            _text_id,
            _layer,
            _head,
            _column("tokens", _int, "points of the metric space"),
            _column("entropy", _scales, f"of each point's attention row, {_bits}", True),
            _column("entropy_mean", _float, f"over the attention rows, {_bits}", True),
            _column("entropy_min", _float, f"over the attention rows, {_bits}", True),
            _column("entropy_max", _float, f"over the attention rows, {_bits}", True),
            _column(
                "kl_mean",
                _float,
                "mean of the Kullback-Leibler divergence over ordered pairs of rows, 1e-9 added "
                f"inside each logarithm, {_bits}",
                True,
            ),
            _column("distance_mean", _float, "over pairs of tokens"),
            _column("distance_max", _float, "over pairs of tokens"),
        ]
    ),
    "clusters": pa.schema(
        [
            _model,
            _text_id,
            _layer,
            _head,
            _column("scale", _float, "tokens at most so far apart are joined"),
            _column("tokens", _int, "points of the metric space"),
            _column("clusters", _int, "connected components at this scale"),
            _column("largest", _int, "tokens of the largest"),
            _column("reduction", _float, "clusters / tokens"),
            _column("representatives", _positions, "medoid of each cluster, by first member"),
            _column("sizes", _positions, "tokens of each cluster, in the same order"),
        ]
    ),
    "diagrams": pa.schema(
        [
            _model,
            _text_id,
            _layer,
            _head,
            _dimension,
            _column("birth", _scales, "sorted by (birth, death)"),
            _column("death", _scales, "inf: the class never ends"),
        ]
    ),
    "attention": pa.schema(
        [
            _model,
            _text_id,
            _column("layer", _int, "counted from 0"),
            _column("head", _int, "counted from 0 within its layer"),
            _column("tokens", _int, "rows, and columns, of the map, special tokens included"),
            _column("attention", _map, "of each query, from the first, to each key; row by row"),
        ]
    ),
    # Diagrams of a run of texts for who reads a few heads over all texts: on a shelf only.
    # A row is a head in one dimension: all heads of a run in dimension 0, then in 1.
    "by_head": pa.schema(
        [
            _column("bars", _lengths, "of each text's diagram; null: the text was set aside"),
            _column("points", pa.binary(), "float64 birth, death, ... of these bars, in order"),
        ]
    ),
    "head_distances": pa.schema(
        [
            _corpus,
            _dimension,
            _column("model_a", _string, "model of the first head"),
            _column("layer_a", _int, "counted from 0"),
            _column("head_a", _int, "counted from 0"),
            _column("model_b", _string, "model of the second head"),
            _column("layer_b", _int, "counted from 0"),
            _column("head_b", _int, "counted from 0"),
            _column("texts", _int, "texts that both models used"),
            _column("mean", _float, "over texts, exact", nullable=True),
            _column("std", _float, "over texts, n - 1; null below 2 texts", nullable=True),
            _column("min", _float, "over texts", nullable=True),
            _column("median", _float, "over texts, exact", nullable=True),
            _column("max", _float, "over texts", nullable=True),
            _column("ci_low", _float, "of the mean; t interval, groups as clusters", True),
            _column("ci_high", _float, "of the mean; t interval, groups as clusters", True),
        ]
    ),
    "text_distances": pa.schema(
        [
            _corpus,
            _dimension,
            _model,
            _layer,
            _head,
            _column("text_a", _string, "text_id of the first text"),
            _column("text_b", _string, "text_id of the second text"),
            _column("distance", _float, "between the head's diagrams on the two texts"),
        ]
    ),
    "context": pa.schema(
        [
            _model,
            _column("text_a", _string, "text_id of the first text"),
            _column("text_b", _string, "text_id of the second text"),
            _column("token", _string, "readable, as in the first text"),
            _column("special", _flag, "added by the tokenizer, in either text"),
            _column("position_a", _int, "in the first text, counted from 0"),
            _column("position_b", _int, "in the second text: the same occurrence of the token"),
            _column("prefix", _flag, "whether the texts are the same tokens up to this one"),
            _hidden_layer,
            _column("cosine", _float, "of its two vectors; null: one is zero", nullable=True),
        ]
    ),
    "context_equal": pa.schema(
        [
            _model,
            _hidden_layer,
            _column("tolerance", _float, "u, v equal: ||u - v|| <= tolerance max(||u||, ||v||)"),
            _column("text_pairs", _count, "pairs of different texts compared"),
            _column("texts", _count, "texts whose own vectors were compared"),
            _column("within_pairs", _count, "pairs of vectors of one text, special tokens too"),
            _column("within_equal", _count, "of these, how many are equal"),
            _column("across_pairs", _count, "pairs of vectors of two texts, but for prefix_pairs"),
            _column("across_equal", _count, "of these, how many are equal"),
            _column("prefix_pairs", _count, "one token of the prefix two texts share, in both"),
            _column("prefix_equal", _count, "of these, how many are equal"),
        ]
    ),
    "equivariance": pa.schema(
        [
            _model,
            _column("component", _string, "the part of the network that is looked at"),
            _column("layer", _int, "counted from 0; null: the whole network", nullable=True),
            _column("positions", _string, "with; without: every token has the first one's"),
            _column("mask", _string, "causal; none: the model has none, or it was taken out"),
            _column("tokens", _int, "of the text, special tokens included"),
            _column("permutations", _int, "orders of the tokens that were tried"),
            _column(
                "error_max", _float, "largest |Y(PX) - P Y(X)|, maps: |A(PX) - P A(X) P^T|", True
            ),
            _column("scale", _float, "largest |Y(X)|; diagrams: last death that is finite", True),
            _column("relative", _float, "largest error of a token's row / its largest |Y|", True),
            _column("holds", _flag, "relative <= tolerance; diagrams: equal to the bit", True),
            _column("reason", _string, "why there are no numbers; null: there are", nullable=True),
        ]
    ),
}
# A row group is held whole by who writes or reads it. A diagram holds hundreds of numbers, as
# a head's entropies and clusters do; a text may be long; an image is a whole file.
_ROWS_PER_GROUP = {
    "corpus": 1024,
    "images": 8,
    "attention": 64,
    "heads": 8192,
    "clusters": 8192,
    "diagrams": 4096,
    "by_head": 8,
}
_ROWS_AT_ONCE = 4096  # of whole texts, about
# Fractions that a table of clusters holds over and over.
_REPEATED = ("scale", "reduction")
# Read as often as there are tiles, so that unpacking would cost more than it saves.
_AS_IT_IS = {"compression": "none", "use_dictionary": False, "write_statistics": False}


def corpus_path(corpus: str) -> Path:
    """The corpus table of one corpus."""
    return Path("data/corpus") / f"{corpus}.parquet"


def rejects_path(corpus: str) -> Path:
    """The records of one corpus that were set aside."""
    return Path("data/corpus") / f"{corpus}.rejects.parquet"


def model_path(model: str, table: str) -> Path:
    """A per-model table: texts, tokens, heads, clusters or diagrams."""
    return DIAGRAMS / model / f"{table}.parquet"


def attention_path(model: str) -> Path:
    """The kept attention maps of one model."""
    return ATTENTION / model / "attention.parquet"


def context_path(model: str, table: str) -> Path:
    """A per-model table of vectors in two texts: context or context_equal."""
    return CONTEXT / model / f"{table}.parquet"


def equivariance_path(model: str) -> Path:
    """The equivariance table of one model."""
    return EQUIVARIANCE / f"{model}.parquet"


def table_path(table: str) -> Path:
    """A table over all models: head_distances or text_distances."""
    return Path("outputs/tables") / f"{table}.parquet"


def sample_path(table: Path) -> Path:
    """Some rows of a table below outputs, in git."""
    return SAMPLES / table.relative_to(OUTPUTS)


OUTPUTS = Path("outputs")
DIAGRAMS = Path("outputs/diagrams")
ATTENTION = Path("outputs/attention")
CONTEXT = Path("outputs/context")
EQUIVARIANCE = Path("outputs/equivariance")
REPORT = Path("outputs/report/index.html")
PLOTS = Path("outputs/plots")
SAMPLES = Path("outputs/samples")
LOGS = Path("outputs/logs")


def drop_strays(folder: Path, models: Container[str]) -> list[Path]:
    """Remove the tables of models that are not among these from a folder; return which.

    DVC hashes such a folder as a whole, so a leftover would enter dvc.lock. Its parts stay,
    and DVC's cache keeps the tables. Raises InputError for anything we did not write.
    """
    found = sorted(folder.glob("*"))
    strays = [path for path in found if _finished(path.name).removesuffix(".parquet") not in models]
    for stray in strays:
        if not _ours(stray):
            raise InputError(
                f"{stray} is not a model of the configuration, nor tables made earlier. "
                f"Move it elsewhere: {folder} is hashed as a whole."
            )
        shutil.rmtree(stray) if stray.is_dir() else stray.unlink()
    return strays


def _ours(path: Path) -> bool:
    if path.is_dir():
        names = {_finished(inner.name) for inner in path.iterdir()}
        return names <= {f"{table}.parquet" for table in SCHEMAS}
    try:
        return path.name != _finished(path.name) or bool(read_provenance(path))
    except (InputError, KeyError, TypeError):
        return False


def _finished(name: str) -> str:
    # A killed process leaves the draft of a table: see `write`.
    return re.sub(r"^\.(.*)\.\d+$", r"\1", name)


def work_folder() -> Path:
    """The absolute folder of resumable work, the same for all queued experiments of a clone."""
    named = os.environ.get("ATTENTION_TOPOLOGY_WORK")
    if named:
        return Path(named).resolve()
    # A queued experiment runs in a copy below .dvc/tmp/exps: its work belongs to the clone.
    parts = ROOT.parts
    for at in range(len(parts) - 2):
        if parts[at : at + 3] == (".dvc", "tmp", "exps"):
            return Path(*parts[:at]) / ".parts"
    return ROOT / ".parts"


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(path: Path, table: str, chunks: Iterable[pa.Table], provenance: Mapping[str, Any]) -> int:
    """Write one table atomically and return its number of rows.

    The chunks may be cut anywhere: rows are regrouped, so the bytes depend on the rows and
    the provenance alone.
    """
    schema = SCHEMAS[table].with_metadata({PROVENANCE: canonical_json(provenance)})
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    rows = 0
    try:
        how = _AS_IT_IS if table == "by_head" else _packed(schema)
        with pq.ParquetWriter(temporary, schema, write_page_checksum=True, **how) as writer:
            for group in _regroup(chunks, schema, _ROWS_PER_GROUP.get(table, 65536)):
                writer.write_table(group, row_group_size=len(group))
                rows += len(group)
        _sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return rows


def _packed(schema: pa.Schema) -> dict[str, Any]:
    """How a table is packed: hardly two fractions are equal, so a dictionary of them is waste."""
    leaves = dict(map(_leaf, schema))
    fractions = [
        name
        for name, kind in leaves.items()
        if pa.types.is_floating(kind) and name not in _REPEATED
    ]
    return {
        "compression": "zstd",
        "use_dictionary": [name for name in leaves if name not in fractions],
        "column_encoding": dict.fromkeys(fractions, "BYTE_STREAM_SPLIT"),
    }


def _leaf(field: pa.Field) -> tuple[str, pa.DataType]:
    """What Parquet calls a column, and the kind of its values."""
    if pa.types.is_list(field.type):
        return f"{field.name}.list.element", field.type.value_type
    return field.name, field.type


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    _sync(temporary)
    temporary.replace(path)


def _regroup(chunks: Iterable[pa.Table], schema: pa.Schema, size: int) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    count = 0
    for chunk in chunks:
        held.append(chunk.cast(schema))
        count += len(chunk)
        while count >= size:
            whole = pa.concat_tables(held)
            yield whole.slice(0, size).combine_chunks()
            held, count = [whole.slice(size)], count - size
    if count:
        yield pa.concat_tables(held).combine_chunks()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def read(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read one table, its page checksums verified.

    Raises InputError when the file is missing or damaged.
    """
    with open_table(path) as file:
        try:
            # In this thread: each thread of Arrow's keeps memory that it once had.
            return file.read(columns=columns, use_threads=False)
        except OSError as error:
            raise damaged(path, error) from error


def open_table(path: Path) -> pq.ParquetFile:
    """Open one table for reading by row groups, page checksums verified."""
    if not path.is_file():
        raise InputError(f"There is no table {path}. Run `dvc repro` (or `make demo`) to make it.")
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except pa.ArrowInvalid as error:
        raise damaged(path, error) from error


class Rows:
    """A table read by runs of rows: of its row groups, those of the last run are kept.

    ends   how many rows there are up to the end of each row group
    """

    def __init__(self, path: Path, columns: list[str] | None = None) -> None:
        self._path, self._columns, self._file = path, columns, open_table(path)
        self.ends = list(accumulate(group.num_rows for group in self._groups()))
        self._kept: dict[int, pa.Table] = {}

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __iter__(self) -> Iterator[pa.Table]:
        """The row groups, one after the other."""
        return map(self._group, range(len(self.ends)))

    def between(self, start: int, stop: int) -> pa.Table:
        """Rows start to stop - 1, at least one."""
        first, last = bisect_right(self.ends, start), bisect_left(self.ends, stop)
        # Runs are mostly read in order, so the next one begins in the groups of the last.
        self._kept = {i: self._kept.get(i) or self._group(i) for i in range(first, last + 1)}
        before = self.ends[first - 1] if first else 0
        return pa.concat_tables(self._kept.values()).slice(start - before, stop - start)

    def at(self, numbers: Iterable[int]) -> pa.Table:
        """The rows of these numbers, at least one, in their order: best ascending."""
        found = []
        for group, of in groupby(numbers, key=lambda number: bisect_right(self.ends, number)):
            rows, start = self._group(group), self.ends[group - 1] if group else 0
            places = [number - start for number in of]
            found.append(rows if places == list(range(len(rows))) else rows.take(places))
        return pa.concat_tables(found)

    def lengths(self, column: str) -> list[int]:
        """Of each row group, how long the lists of a column are together; an empty one counts."""
        leaf = self._file.schema_arrow.get_field_index(column)
        return [group.column(leaf).num_values for group in self._groups()]

    def _groups(self) -> Iterator[pq.RowGroupMetaData]:
        metadata = self._file.metadata
        return map(metadata.row_group, range(metadata.num_row_groups))

    def _group(self, number: int) -> pa.Table:
        try:
            return self._file.read_row_group(number, self._columns, use_threads=False)
        except OSError as error:
            raise damaged(self._path, error) from error


class TextRows:
    """A model's table read by runs of texts: each text has as many rows, its heads in one order.

    texts   text_ids in the order of the rows
    """

    def __init__(self, path: Path, columns: list[str] | None = None) -> None:
        self._rows = Rows(path, columns)
        self.texts = _runs_of(Rows(path, ["text_id"]), "text_id")
        self._count = len(self._rows) // max(len(self.texts), 1)

    def __contains__(self, text_id: str) -> bool:
        return self._place(text_id) >= 0

    def __iter__(self) -> Iterator[pa.Table]:
        """All rows, so many whole texts at a time."""
        texts, step = len(self.texts), max(_ROWS_AT_ONCE // max(self._count, 1), 1)
        for start in range(0, texts, step):
            yield self.between(start, min(start + step, texts))

    def rows(self, text_id: str) -> pa.Table:
        """All rows of one text."""
        place = self._place(text_id)
        return self.between(place, place + 1)

    def between(self, start: int, stop: int) -> pa.Table:
        """All rows of the texts start to stop - 1, at least one, counted in their order here."""
        return self._rows.between(start * self._count, stop * self._count)

    def _place(self, text_id: str) -> int:
        return int(pc.index(self.texts, text_id).as_py())


class DiagramsFile(TextRows):
    """One model's diagrams table, read by runs of texts.

    heads        (layer, head) in the order of a text's rows
    dimensions   diagrams a head; a text's rows are its heads, each with its dimensions
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        first = self.between(0, 1) if len(self.texts) else SCHEMAS["diagrams"].empty_table()
        dimension = first["dimension"].to_numpy()
        self.dimensions = int(dimension.max()) + 1 if len(dimension) else 0
        heads = zip(first["layer"].to_pylist(), first["head"].to_pylist(), strict=True)
        self.heads = list(dict.fromkeys(heads))

    def bars(self) -> NDArray[np.float64]:
        """About how many bars the rows of each text hold; an empty diagram counts as one."""
        rows = [0, *self._rows.ends]
        bars = [0, *accumulate(self._rows.lengths("birth"))]
        return np.diff(np.interp(np.arange(len(self.texts) + 1) * self._count, rows, bars))


def _runs_of(rows: Rows, column: str) -> pa.StringArray:
    """The values of a column whose equal values stand together, each once."""
    found, last = [pa.array([], pa.string())], None
    for group in rows:
        values = pc.run_end_encode(group[column].combine_chunks()).values
        # A run may go on in the next row group.
        found.append(values[1:] if values[0].as_py() == last else values)
        last = values[-1].as_py()
    return pa.concat_arrays(found)


def damaged(path: Path, error: Exception) -> InputError:
    """The error for a table whose bytes are not what was written."""
    return InputError(f"{path} is damaged ({error}). Delete it and run `dvc repro` again.")


def read_provenance(path: Path) -> dict[str, Any]:
    """What made a table: code digest, configuration, corpus and weights hashes, libraries."""
    with open_table(path) as file:
        return dict(json.loads(file.schema_arrow.metadata[PROVENANCE]))


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values, equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(value: Any) -> str:
    """Hexadecimal SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


# What modules of the science import and what decides no byte of a table. It enters no digest of
# code, and DVC does not watch it: one set for both, for if only DVC left it out, a change of it
# would alter the provenance in a table while DVC says that nothing changed.
AROUND = frozenset(Path("pipeline") / name for name in ("__init__.py", "drafts.py", "errors.py"))


@cache
def libraries() -> dict[str, str]:
    """Versions of the libraries whose numbers enter the tables."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


@cache
def code_digest(*modules: str) -> str:
    """One digest of the modules named and of all project modules they import, but AROUND."""
    files = sorted(source_files(*modules) - AROUND)
    return digest({str(file): sha256(ROOT / file) for file in files})


def source_files(*modules: str) -> set[Path]:
    """Files, relative to the root, of the modules named and all project modules they import."""
    found: set[Path] = set()
    waiting = list(modules)
    while waiting:
        file = _file_of(waiting.pop())
        if file and file not in found:
            found.add(file)
            waiting.extend(_imports(ROOT / file))
    return found


def _file_of(module: str) -> Path | None:
    base = Path(*module.split("."))
    for file in (base.with_suffix(".py"), base / "__init__.py"):
        if (ROOT / file).is_file():
            return file
    return None


def _imports(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.split(".")[0] in ("pipeline", "stages")}
