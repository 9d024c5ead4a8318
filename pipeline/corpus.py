"""Corpora: files of texts, or a data set of the hub, as records with a name of their own.

Files are read as a stream and never held whole; data sets of the hub through `datasets`. What
cannot be used (broken bytes, broken JSON, an empty line, a text seen before) never ends
the run: it is skipped with its source, its reason and an excerpt.

A corpus may be of images instead: one record a file, whose bytes are kept as they are.

A text keeps its characters: only the whitespace around it is stripped. Unicode is not
normalised, because the normal form decides which tokens a model sees. Lines end at
"\\n", "\\r\\n" or "\\r"; inside a quoted CSV cell all three are read as "\\n". A file is
UTF-8, or UTF-16 or UTF-32 where it begins with the byte order mark of these; a mark is dropped.
"""

import codecs
import csv
import importlib.util
import io
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import files, images
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

# A byte order mark -> how the text after it is coded; UTF-32's little-endian one begins with
# UTF-16's.
_MARKS = {
    b"\xff\xfe\x00\x00": "utf-32-le",
    b"\x00\x00\xfe\xff": "utf-32-be",
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
}
_NO_MARK = (
    "is it UTF-16 or UTF-32 without a byte order mark? Convert it: iconv -f UTF-16LE -t UTF-8"
)
MAX_LINE = 16 * 2**20  # characters; a longer one is skipped
MAX_RECORD_LINES = 10_000  # of a CSV record: beyond, a quote is taken for one left open
# So many records without one that can be used: the rest is not looked at.
MAX_UNUSABLE = 1_000_000

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
Records = Generator[tuple[str, Row], None, None]
Reader = Callable[[Path, "CorpusSpec"], Iterator[Row]]


@dataclass(frozen=True)
class CorpusSpec:
    """Where the texts of a corpus are and which columns say what about them.

    path is a file or a folder of files of one format, relative to the current directory;
    "package:NAME/FOLDER" for one that an installed package carries; or "owner/name" of a
    data set on the hub. A file may have any name, but in a folder only those that end as
    SUFFIXES says are read. Texts of the same group are translations
    or variants of one another. language is for texts whose language no column tells. limit
    ends the reading after so many usable texts. delimiter stands between the cells of a CSV
    file. watch is for the pipeline around this
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
    delimiter: str = ","
    watch: str = ""

    @property
    def columns(self) -> list[str]:
        """The columns that are read, the text's first."""
        named = (self.text_column, self.language_column, self.group_column)
        return list(dict.fromkeys(column for column in named if column is not None))

    @property
    def one_delimiter(self) -> str:
        """The character between cells; the two of "\\t", as a shell passes them, are a tab."""
        return "\t" if self.delimiter == "\\t" else self.delimiter


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
        "empty"; "duplicate of TEXT_ID"; "no field 'COLUMN'"; "holds NUL (U+0000) at position N";
        "longer than N characters";
        "COLUMN is not a string: got TYPE"; "not UTF-8: byte 0xNN at position N";
        "not Unicode: lone surrogate U+NNNN at position N"; of UTF-16 and UTF-32
        "not Unicode: a lone surrogate or half a character at position N"; "not JSON: WHY";
        "not a JSON object: got TYPE"; "not CSV: WHY"; "not an image: WHY"; "cannot be
        read: WHY" (an image's file). The first of equal texts or images stays.

    Raises:
        InputError: the spec names no corpus that can be read, or no text in it is usable.
    """
    _check(spec)
    records, rejects = _Table(_schema(spec)), _Table(REJECT_SCHEMA)
    seen: dict[bytes, bytes] = {}
    with closing(_rows(spec, cache)) as rows:
        for source, row in rows:
            try:
                text, language, group, *image = _usable(row, spec)
                text_id = _new_id(image[0] if image else text.encode(), text, seen)
            except TextError as reject:
                rejects.add(source, *reject.args)
                if not records.count and rejects.count >= MAX_UNUSABLE:
                    break
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


# --- what may be read ---------------------------------------------------------


def check_spec(spec: CorpusSpec) -> None:
    """Raise InputError for settings that are wrong whatever the files hold."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,99}", spec.name):
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
    one = spec.one_delimiter
    if len(one) != 1 or one in '"\r\n\0' or not one.isascii():
        raise InputError(
            f"corpus {spec.name}: delimiter is {spec.delimiter!r}; give one character, such "
            "as ',' or ';', or \\t for a tab"
        )


def _check(spec: CorpusSpec) -> None:
    """Refuse a spec that names no readable corpus, before anything is opened."""
    check_spec(spec)
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
    if any("\0" in name for name in there):
        raise InputError(f"{where} has NUL (U+0000) in the names of its columns: {_NO_MARK}")
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
    nul = any(kind.startswith("holds NUL") for kind in kinds)
    cure = _NO_MARK if nul else f"is the format {spec.format!r} right?"
    return (
        f"no usable {what.split()[0]} in {_printable(spec.path)}: {_rejected(rejects.num_rows)} "
        f"({why}){first}. Expected at least one {what}; {cure}"
    )


def _rejected(count: int) -> str:
    whole = count < MAX_UNUSABLE
    return f"{count} rejected" if whole else f"the first {count:,} records were all rejected"


# --- one row ------------------------------------------------------------------


def _usable(row: Row, spec: CorpusSpec) -> Usable:
    """What a record is made of, or the TextError for which it is skipped."""
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
        value = _decode(value)
    if not isinstance(value, str):
        shown = "null" if value is None else str(value)
        raise _reject(f"{column} is not a string: got {_kind(value)}", shown)
    if (place := value.find("\0")) >= 0:
        # No text has one; UTF-16 without its mark is every second byte NUL.
        raise _reject(f"holds NUL (U+0000) at position {place}", value)
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
        if _is_surrogate(raw[error.start :]):
            place = len(raw[: error.start].decode())
            what = f"a lone surrogate or half a character at position {place}"
            raise _reject(f"not Unicode: {what}", raw) from error
        byte = f"byte 0x{raw[error.start]:02x} at position {error.start}"
        raise _reject(f"not UTF-8: {byte}", raw) from error


def _is_surrogate(raw: bytes) -> bool:
    """Whether these bytes begin with what `_lines` makes of half a character of UTF-16."""
    return raw[:1] == b"\xed" and b"\xa0" <= raw[1:2] <= b"\xbf"


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


def _rows(spec: CorpusSpec, cache: Path) -> Records:
    """Every row of a corpus with the name of where it stands."""
    return {"hub": _hub_rows, "images": _image_rows}.get(spec.format, _local_rows)(spec, cache)


def _local_rows(spec: CorpusSpec, cache: Path) -> Records:
    for name, file in _files(spec):
        shown = _printable(name)  # a name need not be UTF-8
        if file.exists() and not file.is_file():
            raise InputError(
                f"{_printable(str(file))} is no regular file, and only such are read: a pipe or a "
                "device may never end. Take it out of the corpus"
            )
        try:
            for number, row in enumerate(_READERS[spec.format](file, spec)):
                yield f"{shown}#{number}", row
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            raise InputError(
                f"{_printable(str(file))} cannot be read as {spec.format}: {error}. "
                "Check that it is there, readable, and of that format"
            ) from error


def _image_rows(spec: CorpusSpec, cache: Path) -> Records:
    _require(spec.columns, ["text"], "an image")
    for name, file in _files(spec):
        shown = _printable(name)  # a name need not be UTF-8
        yield f"{shown}#0", _read_image(shown, file)


def _read_image(name: str, file: Path) -> Row:
    """An image's name and bytes, once it was seen that they can be decoded."""
    if file.exists() and not file.is_file():
        return _reject("cannot be read: no regular file", "")
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
    try:
        root.stat()
    except (OSError, ValueError) as error:  # too long, or of what no name is made of
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise InputError(
                f"corpus {spec.name}: the path {_excerpt(spec.path)!r} cannot be looked up "
                f"({error.strerror if isinstance(error, OSError) else error}); "
                "give one with corpus.path=FILE"
            ) from error
    if root.suffix.lower() in _COMPRESSED:
        raise InputError(f"corpus {spec.name}: {spec.path!r} is compressed; decompress it first")
    if root.exists() and not root.is_dir():
        return [(root.name, root)]
    if not root.exists():
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
    found = None
    with suppress(ValueError, ImportError):  # "__main__" has no place of its own
        found = importlib.util.find_spec(name) if name.isidentifier() else None
    if found is None or not found.submodule_search_locations or ".." in inside:
        raise InputError(
            f"corpus {spec.name}: {spec.path!r} names no installed package; expected "
            f"{_PACKAGE}NAME/FOLDER, with NAME as it is imported: install it, or correct the name"
        )
    return Path(found.submodule_search_locations[0], *inside)


def _lines(file: Path) -> Iterator[bytes]:
    """The lines of a file in UTF-8, or whatever bytes stand there, line ends kept.

    Of a line of more than MAX_LINE characters only the beginning comes, longer than that by one.
    """
    with file.open("rb") as stream:
        mark = stream.read(4)
        coding = next((kind for first, kind in _MARKS.items() if mark.startswith(first)), None)
        start = 3 if mark.startswith(b"\xef\xbb\xbf") else 0
        # Latin-1 makes a character of every byte, so no byte is lost and none stops the reader.
        stream.seek(start if coding is None else 4 if "32" in coding else 2)
        errors = "strict" if coding is None else _HALVES
        lines = io.TextIOWrapper(stream, coding or "latin-1", errors, newline="")
        while line := lines.readline(MAX_LINE + 1):
            rest = line
            while len(rest) > MAX_LINE and not rest.endswith(("\r", "\n")):
                rest = lines.readline(MAX_LINE + 1)
            yield line.encode("utf-8", "surrogatepass") if coding else line.encode("latin-1")


def _halves(error: UnicodeError) -> tuple[str | bytes, int]:
    """Half a character of UTF-16 as a lone surrogate, so that its line alone is rejected."""
    try:
        return codecs.lookup_error("surrogatepass")(error)
    except UnicodeDecodeError as broken:
        return "\udfff", broken.end


_HALVES = "attention_topology.halves"
codecs.register_error(_HALVES, _halves)


def _read_text(file: Path, spec: CorpusSpec) -> Iterator[Row]:
    _require(spec.columns, ["text"], f"a text file such as {file}")
    return (_whole(line) or {"text": line} for line in _lines(file))


def _read_jsonl(file: Path, spec: CorpusSpec) -> Iterator[Row]:
    return (_whole(line) or _parse_json(line) for line in _lines(file))


def _whole(line: bytes) -> TextError | None:
    """What is wrong with a line that was cut: see `_lines`."""
    return _reject(f"longer than {MAX_LINE:,} characters", line) if len(line) > MAX_LINE else None


def _parse_json(line: bytes) -> Row:
    try:
        text = _decode(line)
    except TextError as reject:
        return reject
    if not text.strip():
        return _reject("empty", "")
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        return _reject(f"not JSON: {error}", line)
    except ValueError:  # Python's own sentence advises a setting of Python
        return _reject(f"a number of more than {sys.get_int_max_str_digits():,} digits", line)
    except RecursionError:
        return _reject("not JSON that can be read: nested too deeply", line)
    if not isinstance(found, dict):
        return _reject(f"not a JSON object: got {_kind(found)}", line)
    return found


def _read_csv(file: Path, spec: CorpusSpec) -> Iterator[Row]:
    with _long_cells():
        table = _csv_rows(_lines(file), spec.one_delimiter, file)
        header = next(table, [])
        if isinstance(header, TextError):
            _check_delimiter([next(_lines(file)).decode(errors="replace")], spec, file)
            raise InputError(f"{file} has no readable header: {header.args[0]}")
        _check_delimiter(header, spec, file)
        _require(spec.columns, header, str(file))
        for cells in table:
            yield cells if isinstance(cells, TextError) else _cells(cells, header, spec.columns)


def _check_delimiter(header: list[str], spec: CorpusSpec, file: Path) -> None:
    """Refuse a header whose cells another character seems to part."""
    there = spec.text_column in header
    other = next((one for one in ";\t|," if any(one in cell for cell in header)), None)
    if not there and other and other != spec.one_delimiter:
        raise InputError(
            f"{file} has no column {spec.text_column!r}: its first line seems to be parted by "
            f"{other!r}, and is read with {spec.delimiter!r}. Give the right one with "
            f"'corpus.delimiter=\"{other.encode('unicode_escape').decode()}\"'"
        )


def _csv_rows(
    lines: Iterator[bytes], delimiter: str, file: Path
) -> Iterator[list[str] | TextError]:
    """Records of cells, broken bytes in them as lone surrogates; a broken row as its TextError."""
    first: list[bytes] = []

    def decoded() -> Iterator[str]:
        number, taken, size, opened = 0, 0, 0, 0
        for number, line in enumerate(lines, 1):
            if not first:
                first.append(line)
                taken, size, opened = 0, 0, 0
            taken, size = taken + 1, size + len(line)
            if quotes := line.replace(b'""', b"").count(b'"'):
                opened = number if bool(opened) == (quotes % 2 == 0) else 0
            if taken > MAX_RECORD_LINES or size > MAX_LINE:
                raise InputError(
                    f"{file}: the quote that opens on line {opened or number - taken + 1} is not "
                    f"closed within {taken:,} lines. Close it, or double a quote within a cell"
                )
            ended = line.rstrip(b"\r\n")
            text = ended.decode(errors="surrogateescape")
            yield text if len(ended) == len(line) else f"{text}\n"

    rows = csv.reader(decoded(), strict=True, delimiter=delimiter)
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


def _read_parquet(file: Path, spec: CorpusSpec) -> Iterator[Row]:
    with file.open("rb") as stream:  # Arrow takes no name that is not UTF-8
        yield from _parquet_rows(pq.ParquetFile(stream), spec, file)


def _parquet_rows(table: pq.ParquetFile, spec: CorpusSpec, file: Path) -> Iterator[Row]:
    try:
        names = table.schema_arrow.names
    except UnicodeDecodeError as error:
        raise InputError(f"{file} has a column whose name is not UTF-8; rename it") from error
    _require(spec.columns, names, str(file))
    kinds = [_parquet_kind(table.schema_arrow, column, spec, file) for column in spec.columns]
    for batch in table.iter_batches(_BATCH_ROWS, columns=spec.columns, use_threads=False):
        cells = [
            batch.column(name).cast(kind) for name, kind in zip(spec.columns, kinds, strict=True)
        ]
        for row in zip(*(column.to_pylist() for column in cells), strict=True):
            yield dict(zip(spec.columns, row, strict=True))


def _parquet_kind(schema: pa.Schema, column: str, spec: CorpusSpec, file: Path) -> pa.DataType:
    """How a column is read: strings as bytes, whole numbers (of a label) as they are.

    Parquet does not check that its strings are UTF-8, and one that is not would end the reading
    of the whole batch.
    """
    kind = schema.field(column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_integer(kind) and column != spec.text_column:
        return kind
    if _is_stringlike(kind):
        return pa.large_binary()
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


def _hub_rows(spec: CorpusSpec, cache: Path) -> Records:
    where = f"{spec.path}@{spec.revision}"
    with _quiet(), files.scratch(cache, "datasets") as scratch:
        yield from _hub_stream(spec, where, scratch)


def _hub_stream(spec: CorpusSpec, where: str, cache: Path) -> Records:
    import datasets

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
