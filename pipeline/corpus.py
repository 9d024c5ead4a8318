"""Corpora: files of texts, or a data set of the hub, as records with a name of their own.

Texts are read through `datasets`, as a stream: a file is never held whole. What
cannot be used (broken bytes, broken JSON, an empty line, a text seen before) never ends
the run: it is set aside with its source, its reason and an excerpt.

A corpus may be of images instead: one record a file, whose bytes are kept as they are.

A text keeps its characters: only the whitespace around it is stripped. Unicode is not
normalised, because the normal form decides which tokens a model sees. Lines end at
"\\n", "\\r\\n" or "\\r"; inside a quoted CSV cell all three are read as "\\n". A byte order
mark at the start of a file is dropped.
"""

import csv
import glob
import importlib.util
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import images
from pipeline.errors import InputError, TextError

SUFFIXES = {
    "text": (".txt",),
    "jsonl": (".jsonl", ".ndjson"),
    "csv": (".csv",),
    "parquet": (".parquet", ".pq"),
    "images": images.SUFFIXES,
}
FORMATS = (*SUFFIXES, "hub")

_STRING = pa.field("", pa.string(), nullable=False)
RECORD_SCHEMA = pa.schema(
    [
        _STRING.with_name("text_id"),
        _STRING.with_name("text"),
        pa.field("language", pa.string()),
        pa.field("group", pa.string()),
        _STRING.with_name("source"),
    ]
)
IMAGE_SCHEMA = RECORD_SCHEMA.append(pa.field("image", pa.large_binary(), nullable=False))
REJECT_SCHEMA = pa.schema([_STRING.with_name(name) for name in ("source", "reason", "excerpt")])

EXCERPT_LENGTH = 80
_BATCH_ROWS = 1_000
_UNSET = "???"
_PACKAGE = "package:"
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip", ".7z", ".tar", ".tgz")

Fields = dict[str, object]
Row = Fields | TextError
Cell = str | bytes | None
# Text, language and group; of an image also the bytes of its file.
Usable = tuple[str, str | None, str | None, *tuple[bytes, ...]]
Rows = Generator[tuple[str, Row], None, None]
Reader = Callable[[Path, "CorpusSpec", Path], Iterator[Row]]


@dataclass(frozen=True)
class CorpusSpec:
    """Where the texts of a corpus are and which columns say what about them.

    path is a file or a folder of files of one format, relative to the current directory;
    "package:NAME/FOLDER" for one that an installed package carries; or "owner/name" of a
    data set on the hub. A file may have any name, but in a folder only those that end as
    SUFFIXES says are read. Texts of the same group are translations
    or variants of one another. language is for texts whose language no column tells. limit
    ends the reading after so many usable texts. watch is for the pipeline around this
    module, which hashes what it names; nothing here reads it.
    """

    name: str
    format: str
    path: str
    revision: str | None = None
    subset: str | None = None
    split: str = "train"
    text_column: str = "text"
    language_column: str | None = None
    group_column: str | None = None
    language: str | None = None
    limit: int | None = None
    watch: str = ""

    @property
    def columns(self) -> list[str]:
        """The columns that are read, the text's first."""
        named = (self.text_column, self.language_column, self.group_column)
        return list(dict.fromkeys(column for column in named if column is not None))


def read(spec: CorpusSpec, cache: Path) -> tuple[pa.Table, pa.Table]:
    """Read a corpus into records and the rejected rest, both in source order.

    Args:
        spec: what to read.
        cache: a folder for the temporary files of `datasets`; left as it was.

    Returns:
        Records (RECORD_SCHEMA): text_id is the first 16 hexadecimal digits of the sha256
        of the text's UTF-8 bytes; source is the file's name under spec.path, or the data
        set at its revision, then "#" and the record's number there, counted from 0. Of
        images (IMAGE_SCHEMA) the sha256 is of the file, and the text is its name, escaped.
        Rejects (REJECT_SCHEMA): the reason is one of
        "empty"; "duplicate of TEXT_ID"; "no field 'COLUMN'";
        "COLUMN is not a string: got TYPE"; "not UTF-8: byte 0xNN at position N";
        "not Unicode: lone surrogate U+NNNN at position N"; "not JSON: WHY";
        "not a JSON object: got TYPE"; "not CSV: WHY"; "not an image: WHY"; "cannot be
        read: WHY" (an image's file). The first of equal texts or images stays.

    Raises:
        InputError: the spec names no corpus that can be read, or no text in it is usable.
    """
    _check(spec)
    records, rejects = _Table(_schema(spec)), _Table(REJECT_SCHEMA)
    seen: dict[bytes, bytes] = {}
    with _quiet(), _scratch(cache) as scratch, closing(_rows(spec, scratch)) as rows:
        for source, row in rows:
            try:
                text, language, group, *image = _usable(row, spec)
                text_id = _new_id(image[0] if image else text.encode(), text, seen)
            except TextError as reject:
                rejects.add(source, *reject.args)
                continue
            records.add(text_id, text, language, group, source, *image)
            if records.count == spec.limit:
                break
    rejected = rejects.table()
    if not records.count:
        raise InputError(_nothing_usable(spec, rejected))
    return records.table(), rejected


def _schema(spec: CorpusSpec) -> pa.Schema:
    return IMAGE_SCHEMA if spec.format == "images" else RECORD_SCHEMA


class _Table:
    """A table that grows by rows and keeps them as Arrow batches, not as Python objects."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema, self.count = schema, 0
        self._batches: list[pa.RecordBatch] = []
        self._pending: list[tuple[Cell, ...]] = []

    def add(self, *row: Cell) -> None:
        self._pending.append(row)
        self.count += 1
        if len(self._pending) == _BATCH_ROWS:
            self._pack()

    def table(self) -> pa.Table:
        self._pack()
        return pa.Table.from_batches(self._batches, self.schema)

    def _pack(self) -> None:
        columns = zip(*self._pending, strict=True) if self._pending else [[] for _ in self.schema]
        pairs = zip(columns, self.schema, strict=True)
        arrays = [pa.array(column, field.type) for column, field in pairs]
        self._batches.append(pa.record_batch(arrays, self.schema))
        self._pending = []


# --- the door -----------------------------------------------------------------


def _check(spec: CorpusSpec) -> None:
    """Refuse a spec that names no readable corpus, before anything is opened."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", spec.name):
        raise InputError(
            f"corpus name {spec.name!r} cannot name a file: "
            "use lower-case letters, digits, '-' and '_' only"
        )
    if spec.format not in FORMATS:
        raise InputError(
            f"corpus {spec.name}: format {spec.format!r} is unknown; "
            f"use one of {', '.join(FORMATS)}"
        )
    if spec.path in ("", _UNSET):
        wanted = "OWNER/NAME" if spec.format == "hub" else "FILE"
        raise InputError(f"corpus {spec.name} has no path: give one with corpus.path={wanted}")
    if spec.limit is not None and spec.limit < 1:
        raise InputError(
            f"corpus {spec.name}: limit is {spec.limit}; give at least 1, or null for all texts"
        )
    (_check_hub if spec.format == "hub" else _check_local)(spec)


def _check_hub(spec: CorpusSpec) -> None:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", spec.path):
        raise InputError(
            f"corpus {spec.name}: {spec.path!r} is no data set of the hub; expected OWNER/NAME"
        )
    if not re.fullmatch(r"[0-9a-f]{40}", spec.revision or ""):
        raise InputError(
            f"corpus {spec.name}: revision is {spec.revision!r}; a data set of the hub is pinned "
            "to a commit of 40 hexadecimal digits, listed under 'Files and versions' on its page: "
            "give it with corpus.revision=COMMIT"
        )
    if Path(spec.path).exists():
        # `datasets` would read it instead, whatever the revision.
        raise InputError(
            f"corpus {spec.name}: {spec.path!r} is also a folder in {Path.cwd()}; "
            "run from elsewhere, or read the folder with another corpus.format"
        )


def _check_local(spec: CorpusSpec) -> None:
    if spec.revision is not None or spec.subset is not None or spec.split != "train":
        raise InputError(
            f"corpus {spec.name}: revision, subset and split belong to format 'hub', not to "
            f"{spec.format!r}; leave them null, null and 'train'"
        )


def _require(columns: list[str], there: list[str], where: str) -> None:
    """Refuse a source in which a column that is to be read is missing or ambiguous."""
    for column in columns:
        if there.count(column) != 1:
            found = "no column" if column not in there else f"{there.count(column)} columns"
            names = ", ".join(map(repr, there)) or "none"
            raise InputError(
                f"{where} has {found} {column!r}; the columns there are: {names}. Name the right "
                "ones with corpus.text_column, corpus.language_column and corpus.group_column"
            )


def _nothing_usable(spec: CorpusSpec, rejects: pa.Table) -> str:
    kinds = Counter(re.split(":| of ", reason)[0] for reason in rejects["reason"].to_pylist())
    why = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "it is empty"
    what = "image" if spec.format == "images" else "text in UTF-8"
    first = f"; the first is {rejects['source'][0]}: {rejects['reason'][0]}" if kinds else ""
    return (
        f"no usable {what.split()[0]} in {spec.path}: {rejects.num_rows} rejected ({why}){first}. "
        f"Expected at least one {what}; is the format {spec.format!r} right?"
    )


# --- one row ------------------------------------------------------------------


def _usable(row: Row, spec: CorpusSpec) -> Usable:
    """What a record is made of, or the TextError that sets it aside."""
    if isinstance(row, TextError):
        raise row
    if spec.text_column not in row:
        raise _reject(f"no field {spec.text_column!r}", str(row))
    text = _string(row[spec.text_column], spec.text_column).strip()
    if not text:
        raise _reject("empty", "")
    language = _label(row, spec.language_column) or spec.language
    return text, language, _label(row, spec.group_column), *_image(row, spec)


def _image(row: Fields, spec: CorpusSpec) -> tuple[bytes, ...]:
    """The bytes of an image's file; of a text none, for a field of that name is not read."""
    image = row["image"] if spec.format == "images" else None
    return (image,) if isinstance(image, bytes) else ()


def _label(row: Fields, column: str | None) -> str | None:
    """A language or a group: null where it is missing or blank; whole numbers are names too."""
    value = None if column is None else row.get(column)
    if column is None or value is None:
        return None
    whole = isinstance(value, int) and not isinstance(value, bool)
    return _string(str(value) if whole else value, column).strip() or None


def _string(value: object, column: str) -> str:
    if isinstance(value, bytes):
        return _decode(value)
    if not isinstance(value, str):
        shown = "null" if value is None else str(value)
        raise _reject(f"{column} is not a string: got {_kind(value)}", shown)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        point = f"U+{ord(value[error.start]):04X} at position {error.start}"
        raise _reject(f"not Unicode: lone surrogate {point}", value) from error
    return value


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__


def _decode(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        byte = f"byte 0x{raw[error.start]:02x} at position {error.start}"
        raise _reject(f"not UTF-8: {byte}", raw) from error


def _new_id(content: bytes, text: str, seen: dict[bytes, bytes]) -> str:
    """The name of what was not seen before; `seen` maps a digest's first half to its second."""
    digest = sha256(content).digest()
    name, rest = digest[:8], digest[8:]
    known = seen.setdefault(name, rest)
    if known is rest:
        return name.hex()
    if known == rest:
        raise _reject(f"duplicate of {name.hex()}", text)
    raise InputError(
        f"two different texts share the text_id {name.hex()}; the later one is {_excerpt(text)!r}. "
        "Remove one of them from the corpus"
    )


def _reject(reason: str, value: str | bytes) -> TextError:
    return TextError(reason, _excerpt(value))


def _excerpt(value: str | bytes) -> str:
    """The start of a value, at most EXCERPT_LENGTH characters, every one of them printable."""
    start = value.strip()[: 4 * EXCERPT_LENGTH]
    text = start.decode(errors="backslashreplace") if isinstance(start, bytes) else start
    shown = _printable(text)
    return shown if len(shown) <= EXCERPT_LENGTH else shown[: EXCERPT_LENGTH - 1] + "…"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


# --- the sources --------------------------------------------------------------


def _rows(spec: CorpusSpec, cache: Path) -> Rows:
    """Every row of a corpus with the name of where it stands."""
    return {"hub": _hub_rows, "images": _image_rows}.get(spec.format, _local_rows)(spec, cache)


def _local_rows(spec: CorpusSpec, cache: Path) -> Rows:
    for name, file in _files(spec):
        try:
            for number, row in enumerate(_READERS[spec.format](file, spec, cache)):
                yield f"{name}#{number}", row
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"{file} cannot be read as {spec.format}: {error}. "
                "Check that it is there, readable, and of that format"
            ) from error


def _image_rows(spec: CorpusSpec, cache: Path) -> Rows:
    _require(spec.columns, ["text"], "an image")
    for name, file in _files(spec):
        shown = _printable(name)  # a name need not be UTF-8
        yield f"{shown}#0", _read_image(shown, file)


def _read_image(name: str, file: Path) -> Row:
    """An image's name and bytes, once it was seen that they can be decoded."""
    try:
        data = file.read_bytes()
    except OSError as error:
        return _reject(f"cannot be read: {error.strerror}", "")
    try:
        images.picture(data)
    except TextError as error:
        return _reject(str(error), data)
    return {"text": name, "image": data}


def _files(spec: CorpusSpec) -> list[tuple[str, Path]]:
    """Name and path of each file of a corpus, sorted by name; hidden ones are left out."""
    root, suffixes = _root(spec), SUFFIXES[spec.format]
    if root.suffix.lower() in _COMPRESSED:
        raise InputError(f"corpus {spec.name}: {spec.path!r} is compressed; decompress it first")
    if root.is_file():
        return [(root.name, root)]
    if not root.is_dir():
        raise InputError(
            f"corpus {spec.name}: there is no file or folder {spec.path!r} in {Path.cwd()}; "
            "give one with corpus.path=FILE"
        )
    inside = [path for path in root.rglob("*") if path.suffix.lower() in suffixes]
    named = sorted((path.relative_to(root).as_posix(), path) for path in inside)
    found = [
        (name, path)
        for name, path in named
        if not path.is_dir() and not re.search(r"(^|/)\.", name)
    ]
    if not found:
        raise InputError(
            f"corpus {spec.name}: the folder {spec.path!r} has no {spec.format} file; "
            f"its files must end in {' or '.join(suffixes)}"
        )
    return found


def _root(spec: CorpusSpec) -> Path:
    """Where the path of a spec leads; "package:" is followed without importing the package."""
    if not spec.path.startswith(_PACKAGE):
        return Path(spec.path)
    name, *inside = PurePosixPath(spec.path.removeprefix(_PACKAGE)).parts or ("",)
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    if found is None or not found.submodule_search_locations or ".." in inside:
        raise InputError(
            f"corpus {spec.name}: {spec.path!r} names no installed package; expected "
            f"{_PACKAGE}NAME/FOLDER, with NAME as it is imported: install it, or correct the name"
        )
    return Path(found.submodule_search_locations[0], *inside)


def _lines(file: Path, cache: Path) -> Iterator[bytes]:
    """The lines of a file as bytes, line ends kept."""
    from datasets import IterableDataset

    # Latin-1 makes a character of every byte, so no byte is lost and none stops the reader.
    rows = IterableDataset.from_text(
        _linked(file, cache / "lines.txt"),
        encoding="latin-1",
        keep_linebreaks=True,
        cache_dir=str(cache),
    )
    for number, row in enumerate(rows):
        line: bytes = row["text"].encode("latin-1")
        yield line if number else line.removeprefix(b"\xef\xbb\xbf")


def _linked(file: Path, link: Path) -> str:
    """A link to a file, under a name without surprises.

    `datasets` takes a path for a pattern and "::" for a chain of archives, and a file whose
    ending it does not know, and whose first bytes look so, for a compressed one.
    """
    file.open("rb").close()  # so that an error names the file and not the link
    link.unlink(missing_ok=True)
    link.symlink_to(file.absolute())
    return glob.escape(str(link.absolute()))


def _read_text(file: Path, spec: CorpusSpec, cache: Path) -> Iterator[Row]:
    _require(spec.columns, ["text"], f"a text file such as {file}")
    return ({"text": line} for line in _lines(file, cache))


def _read_jsonl(file: Path, spec: CorpusSpec, cache: Path) -> Iterator[Row]:
    return map(_parse_json, _lines(file, cache))


def _parse_json(line: bytes) -> Row:
    try:
        text = _decode(line)
    except TextError as reject:
        return reject
    if not text.strip():
        return _reject("empty", "")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        return _reject(f"not JSON: {error}", line)
    if not isinstance(found, dict):
        return _reject(f"not a JSON object: got {_kind(found)}", line)
    return found


def _read_csv(file: Path, spec: CorpusSpec, cache: Path) -> Iterator[Row]:
    with _long_cells():
        table = _csv_rows(_lines(file, cache))
        header = next(table, [])
        if isinstance(header, TextError):
            raise InputError(f"{file} has no readable header: {header.args[0]}")
        _require(spec.columns, header, str(file))
        for cells in table:
            yield cells if isinstance(cells, TextError) else _cells(cells, header, spec.columns)


def _csv_rows(lines: Iterator[bytes]) -> Iterator[list[str] | TextError]:
    """Rows of cells, broken bytes in them as lone surrogates; a broken row as its TextError."""
    first: list[bytes] = []

    def decoded() -> Iterator[str]:
        for line in lines:
            if not first:
                first.append(line)
            yield line.decode(errors="surrogateescape")

    rows = csv.reader(decoded(), strict=True)
    while True:
        first.clear()
        start = rows.line_num
        try:
            yield next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            taken = f"lines {start + 1} to {rows.line_num}"
            yield _reject(f"not CSV: {error} ({taken})", first[0])


def _cells(cells: list[str], header: list[str], columns: list[str]) -> Row:
    if not cells:
        return _reject("empty", "")
    if len(cells) != len(header):
        reason = f"not CSV: {len(cells)} cells where the header has {len(header)}"
        return _reject(reason, ",".join(cells).encode(errors="surrogateescape"))
    row = dict(zip(header, cells, strict=True))
    return {column: row[column].encode(errors="surrogateescape") for column in columns}


@contextmanager
def _long_cells() -> Iterator[None]:
    """Lift the limit of 131,072 characters a cell, which `csv` keeps for the whole process."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _read_parquet(file: Path, spec: CorpusSpec, cache: Path) -> Iterator[Row]:
    from datasets import Features, IterableDataset, Value

    schema = pq.read_schema(file)
    _require(spec.columns, schema.names, str(file))
    # As bytes: Parquet does not check that its strings are UTF-8, and one that is not would
    # end the reading of the whole batch.
    kinds = {column: Value(_parquet_kind(schema, column, spec, file)) for column in spec.columns}
    rows: Iterator[Row] = iter(
        IterableDataset.from_parquet(
            _linked(file, cache / "rows.parquet"),
            columns=spec.columns,
            features=Features(kinds),
            batch_size=_BATCH_ROWS,
            cache_dir=str(cache),
        )
    )
    return rows


def _parquet_kind(schema: pa.Schema, column: str, spec: CorpusSpec, file: Path) -> str:
    """How a column is read: strings as bytes, whole numbers (of a label) as they are."""
    kind = schema.field(column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_integer(kind) and column != spec.text_column:
        return "int64"
    if _is_stringlike(kind):
        return "binary"
    raise InputError(f"{file}: column {column!r} holds {kind}; expected strings")


def _is_stringlike(kind: pa.DataType) -> bool:
    """Strings, bytes that may be strings, or nothing but nulls."""
    tests = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view")
    return str(kind) in (*tests, "null")


_READERS: dict[str, Reader] = {
    "text": _read_text,
    "jsonl": _read_jsonl,
    "csv": _read_csv,
    "parquet": _read_parquet,
}


def _hub_rows(spec: CorpusSpec, cache: Path) -> Rows:
    import datasets

    where = f"{spec.path}@{spec.revision}"
    try:
        rows = datasets.load_dataset(
            spec.path,
            name=spec.subset,
            revision=spec.revision,
            split=spec.split,
            streaming=True,
            cache_dir=str(cache),
        )
        there = rows.column_names or list(next(iter(rows), {}))
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(_no_hub(where, error)) from error
    _require(spec.columns, there, where)
    try:
        for number, row in enumerate(rows.select_columns(spec.columns)):
            yield f"{where}#{number}", row
    except OSError as error:
        raise InputError(_no_hub(where, error)) from error


def _no_hub(where: str, error: Exception) -> str:
    return (
        f"the data set {where} cannot be read from the hub: {error}. Check the name, the revision, "
        "corpus.subset and corpus.split; the network must be reachable and HF_HUB_OFFLINE unset. "
        "Without a network, give a file instead: corpus=jsonl corpus.path=FILE"
    )


@contextmanager
def _scratch(cache: Path) -> Iterator[Path]:
    """A folder in `cache` for links, and for the lock file that `datasets` leaves for each file."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        yield Path(folder)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the progress bars of `datasets` out of logs; on a terminal they stay."""
    import datasets

    hide = not (sys.stderr.isatty() or datasets.are_progress_bars_disabled())
    if hide:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if hide:
            datasets.enable_progress_bars()
