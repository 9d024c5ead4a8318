"""Every kind of source gives the same records; what is broken is skipped with its reason."""

import csv
import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import datasets
import huggingface_hub.constants
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import pipeline.corpus as corpus
from pipeline.corpus import IMAGE_SCHEMA, RECORD_SCHEMA, REJECT_SCHEMA, CorpusSpec, read
from pipeline.errors import InputError

LOCAL = ("text", "jsonl", "csv", "parquet")
ENDINGS = {"text": "txt", "jsonl": "jsonl", "csv": "csv", "parquet": "parquet"}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write(path: Path, format: str, texts: list[str]) -> CorpusSpec:
    """Texts as a file of a format, by other means than the module under test."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if format == "text":
        path.write_bytes(b"\xef\xbb\xbf" + "".join(f"{text}\n" for text in texts).encode())
    elif format == "jsonl":
        path.write_bytes("".join(json.dumps({"text": text}) + "\n" for text in texts).encode())
    elif format == "csv":
        table = io.StringIO(newline="")
        csv.writer(table).writerows([["text", "n"], *([text, "1"] for text in texts)])
        path.write_bytes(b"\xef\xbb\xbf" + table.getvalue().encode())
    else:
        pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), path)
    return CorpusSpec("trial", format, str(path))


def read_bytes(folder: Path, format: str, content: bytes, **changes) -> tuple[list, list]:
    file = folder / f"file.{ENDINGS[format]}"
    file.write_bytes(content)
    spec = replace(CorpusSpec("trial", format, str(file)), **changes)
    records, rejects = read(spec, folder / "cache")
    return records.to_pylist(), rejects.to_pylist()


def texts_of(rows) -> list[str]:
    return [row["text"] for row in rows]


# --- what is read -------------------------------------------------------------


@pytest.mark.parametrize("format", LOCAL)
def test_a_record_has_its_name_its_text_and_its_source(tmp_path, format):
    spec = write(tmp_path / f"two.{format}", format, ["one text", "דער צווייטער טעקסט"])
    records, rejects = read(replace(spec, language="yi"), tmp_path / "cache")
    assert records.schema.equals(RECORD_SCHEMA)
    assert rejects.schema.equals(REJECT_SCHEMA)
    assert rejects.num_rows == 0
    # From a shell: printf 'one text' | sha256sum
    assert records.to_pylist()[0] == {
        "text_id": "b94ddd8ea66566c0",
        "text": "one text",
        "language": "yi",
        "group": None,
        "source": f"two.{format}#0",
    }
    assert records["text"].to_pylist()[1] == "דער צווייטער טעקסט"
    assert records["source"].to_pylist()[1] == f"two.{format}#1"


@pytest.mark.parametrize("format", LOCAL)
def test_a_folder_is_read_by_name_and_numbered_by_file(tmp_path, format):
    ending = ENDINGS[format]
    for name, texts in (("b", ["third"]), ("a", ["first", "second"]), ("sub/c", ["fourth"])):
        write(tmp_path / f"in/{name}.{ending}", format, texts)
    write(tmp_path / f"in/.hidden.{ending}", format, ["never"])
    write(tmp_path / f"in/.cache/d.{ending}", format, ["never"])
    (tmp_path / "in/notes.md").write_text("never")
    records, _ = read(CorpusSpec("trial", format, str(tmp_path / "in")), tmp_path / "cache")
    assert records["text"].to_pylist() == ["first", "second", "third", "fourth"]
    names = [f"a.{ending}#0", f"a.{ending}#1", f"b.{ending}#0", f"sub/c.{ending}#0"]
    assert records["source"].to_pylist() == names


ODD_NAMES = ["a[1].txt", "*.txt", "b?.txt", "{x,y}.txt", "~.txt", "README.md", "a::b.txt", "זה"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_file_name_is_no_pattern(tmp_path, name, monkeypatch):
    (tmp_path / "other.txt").write_text("other\n")
    (tmp_path / "a1.txt").write_text("other too\n")
    (tmp_path / name).write_text("this one\n")
    monkeypatch.chdir(tmp_path)
    records, _ = read(CorpusSpec("trial", "text", name), tmp_path / "cache")
    assert records["text"].to_pylist() == ["this one"]


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\ntwo", ["one", "two"]),
        (b"one\r\ntwo\r\n", ["one", "two"]),
        (b"one\rtwo\r", ["one", "two"]),
        (b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n", ["one", "\ufefftwo"]),
        (b" \tone \xc2\xa0\n\xe3\x80\x80two\n", ["one", "two"]),
        (
            "one\u2028line\ntwo\x85\x0c\x1cparts\n".encode(),
            ["one\u2028line", "two\x85\x0c\x1cparts"],
        ),
        (b"null\nNA\nnan\n", ["null", "NA", "nan"]),
        (b"BZh is no archive\nPK\x03\x04 neither\n", ["BZh is no archive", "PK\x03\x04 neither"]),
        ("caf\u00e9\ncafe\u0301\n".encode(), ["caf\u00e9", "cafe\u0301"]),
        (b"x" * 3_000_000 + b"\nshort", ["x" * 3_000_000, "short"]),
    ],
)
def test_lines_of_text(tmp_path, content, texts):
    records, rejects = read_bytes(tmp_path, "text", content)
    assert texts_of(records) == texts
    assert rejects == []


@pytest.mark.parametrize("start", ["BZh", "PK\x03\x04", "(\xb5/", "Rar!\x1a\x07", "\x1f\x1f"])
def test_a_file_that_seems_compressed_and_is_not(tmp_path, start):
    (tmp_path / "x.md").write_text(start + " and more\n")
    records, _ = read(CorpusSpec("trial", "text", str(tmp_path / "x.md")), tmp_path / "cache")
    assert texts_of(records.to_pylist()) == [(start + " and more").strip()]


def test_csv_keeps_quotes_newlines_commas_and_words_that_look_like_nothing(tmp_path):
    long = "x" * 200_000  # beyond the limit of 131,072 characters that `csv` starts with
    content = (
        f'n,text\r\n1,"say ""hi"", twice"\r\n2,"two\r\nlines"\r\n3,NA\r\n4,null\r\n5,{long}\r\n'
    )
    before = csv.field_size_limit()
    records, rejects = read_bytes(tmp_path, "csv", b"\xef\xbb\xbf" + content.encode())
    assert texts_of(records) == ['say "hi", twice', "two\nlines", "NA", "null", long]
    assert [row["source"] for row in records] == [f"file.csv#{n}" for n in range(5)]
    assert rejects == []
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("column", ["texte", "מזהה", "a b"])
def test_the_text_column_is_named(tmp_path, column):
    spec = {"text_column": column}
    content = f"{column},text\nright,wrong\n".encode()
    assert texts_of(read_bytes(tmp_path, "csv", content, **spec)[0]) == ["right"]
    content = json.dumps({column: "right", "text": "wrong"}).encode()
    assert texts_of(read_bytes(tmp_path, "jsonl", content, **spec)[0]) == ["right"]
    table = pa.table({column: ["right"], "text": ["wrong"]})
    pq.write_table(table, tmp_path / "file.parquet")
    parquet = CorpusSpec("trial", "parquet", str(tmp_path / "file.parquet"), **spec)
    assert texts_of(read(parquet, tmp_path / "cache")[0].to_pylist()) == ["right"]


def test_languages_and_groups(tmp_path):
    rows = [
        {"text": "a", "tongue": "en", "set": "rain", "more": [1]},
        {"text": "b", "tongue": None, "set": 7},
        {"text": "c"},
        {"text": "d", "tongue": " he ", "set": " "},
    ]
    content = "\n".join(map(json.dumps, rows)).encode()
    columns = {"language_column": "tongue", "group_column": "set"}
    records, rejects = read_bytes(tmp_path, "jsonl", content, **columns)
    assert [row["language"] for row in records] == ["en", None, None, "he"]
    assert [row["group"] for row in records] == ["rain", "7", None, None]
    assert rejects == []
    records, _ = read_bytes(tmp_path, "jsonl", content, language="yi", **columns)
    assert [row["language"] for row in records] == ["en", "yi", "yi", "he"]
    content = b"text,tongue,set\na,en,7\nb,,\n"
    records, _ = read_bytes(tmp_path, "csv", content, **columns)
    assert [(row["language"], row["group"]) for row in records] == [("en", "7"), (None, None)]


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.dictionary(pa.int8(), pa.string()),
    ],
    ids=str,
)
def test_parquet_strings_of_every_kind(tmp_path, kind):
    text = pa.array(["a", None, "שלום"], pa.string()).cast(kind)
    unread = pa.array([[("k", 1)]] * 3, pa.map_(pa.string(), pa.int32()))
    pq.write_table(pa.table({"text": text, "set": [1, 2, None], "m": unread}), tmp_path / "x.pq")
    spec = CorpusSpec("trial", "parquet", str(tmp_path / "x.pq"), group_column="set")
    records, rejects = read(spec, tmp_path / "cache")
    assert records["text"].to_pylist() == ["a", "שלום"]
    assert records["group"].to_pylist() == ["1", None]
    assert rejects["reason"].to_pylist() == ["text is not a string: got null"]


def test_parquet_in_several_row_groups_and_an_empty_one(tmp_path):
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "in/a.parquet")
    many = pa.table({"text": [f"text {n}" for n in range(25_000)]})
    pq.write_table(many, tmp_path / "in/b.parquet", row_group_size=7_000)
    records, _ = read(CorpusSpec("trial", "parquet", str(tmp_path / "in")), tmp_path / "cache")
    assert records["text"].to_pylist() == many["text"].to_pylist()
    assert records["source"][24_999].as_py() == "b.parquet#24999"


@pytest.mark.parametrize("format", LOCAL)
def test_the_limit_counts_usable_texts_from_the_start(tmp_path, format):
    spec = write(tmp_path / f"x.{format}", format, ["a", " ", "b", "a", "c", "d"])
    records, rejects = read(replace(spec, limit=3), tmp_path / "cache")
    assert records["text"].to_pylist() == ["a", "b", "c"]
    assert rejects["source"].to_pylist() == [f"x.{format}#1", f"x.{format}#3"]
    records, _ = read(replace(spec, limit=100), tmp_path / "cache")
    assert records["text"].to_pylist() == ["a", "b", "c", "d"]


def test_a_changed_file_is_read_anew(tmp_path):
    spec = write(tmp_path / "x.jsonl", "jsonl", ["before"])
    read(spec, tmp_path / "cache")
    os.utime(tmp_path / "x.jsonl", (1, 1))
    write(tmp_path / "x.jsonl", "jsonl", ["after!"])
    os.utime(tmp_path / "x.jsonl", (1, 1))
    records, _ = read(spec, tmp_path / "cache")
    assert records["text"].to_pylist() == ["after!"]


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), max_size=40)
WRITABLE = {"text": LINES, "jsonl": ANY_TEXT, "csv": ANY_TEXT, "parquet": ANY_TEXT}


@pytest.mark.parametrize("format", LOCAL)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_what_is_written_is_read_back(tmp_path, format, data):
    texts = [*data.draw(st.lists(WRITABLE[format], max_size=12)), "the last one"]
    spec = write(tmp_path / f"x.{format}", format, texts)
    if format == "csv":
        texts = [text.replace("\r\n", "\n").replace("\r", "\n") for text in texts]
    expected = list(dict.fromkeys(text.strip() for text in texts if text.strip()))
    records, rejects = read(spec, tmp_path / "cache")
    assert records["text"].to_pylist() == expected
    ids = [sha256(text.encode()).hexdigest()[:16] for text in expected]
    assert records["text_id"].to_pylist() == ids
    assert records.num_rows + rejects.num_rows == len(texts)
    numbers = [int(source.split("#")[1]) for source in records["source"].to_pylist()]
    assert [texts[number].strip() for number in numbers] == expected


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    format=st.sampled_from(["text", "jsonl", "csv"]),
    noise=st.lists(
        st.sampled_from([*b'"\xff\xc3\xa9,\r\n{}[]:\\\x00a ', 0x80]).map(chr), max_size=60
    ),
)
def test_no_bytes_end_the_run(tmp_path, format, noise):
    """Whatever stands after a good record, that record is read and the rest is accounted for."""
    good = {"text": b"good\n", "jsonl": b'{"text": "good"}\n', "csv": b"text,n\ngood,1\n"}[format]
    records, rejects = read_bytes(tmp_path, format, good + "".join(noise).encode("latin-1"))
    assert texts_of(records)[0] == "good"
    numbers = [int(row["source"].split("#")[1]) for row in records + rejects]
    assert sorted(numbers) == list(range(len(numbers)))
    assert all(row["excerpt"].isprintable() and len(row["excerpt"]) <= 80 for row in rejects)


def test_ten_thousand_lines_with_dirt(tmp_path):
    lines = []
    for n in range(10_000):
        kind = n % 100
        if kind == 17:
            lines.append(b"")
        elif kind == 42:
            lines.append(b"broken \xff line")
        elif kind == 99:
            lines.append(b"text number 0")
        else:
            lines.append(f"text number {n}".encode())
    records, rejects = read_bytes(tmp_path, "text", b"\n".join(lines))
    assert len(records) == 9_700
    assert [row["source"] for row in records[16:18]] == ["file.txt#16", "file.txt#18"]
    first = records[0]["text_id"]
    assert Counter(row["reason"] for row in rejects) == {
        "empty": 100,
        "not UTF-8: byte 0xff at position 7": 100,
        f"duplicate of {first}": 100,
    }


# --- what is skipped --------------------------------------------------------

REJECTED = [
    ("text", b" \t", "empty", ""),
    ("text", b"caf\xe9 au lait", "not UTF-8: byte 0xe9 at position 3", "caf\\xe9 au lait"),
    ("text", b"cut \xd7", "not UTF-8: byte 0xd7 at position 4", "cut \\xd7"),
    (
        "text",
        b"\xed\xa0\x80",
        "not Unicode: a lone surrogate or half a character at position 0",
        "\\xed\\xa0\\x80",
    ),
    ("jsonl", b"", "empty", ""),
    ("jsonl", b'{"text": " "}', "empty", ""),
    ("jsonl", b'{"text": "\xff"}', "not UTF-8: byte 0xff at position 10", '{"text": "\\xff"}'),
    ("jsonl", b'{"text": "a"', "not JSON: Expecting ',' delimiter", '{"text": "a"'),
    ("jsonl", b'{"text": "a"} {}', "not JSON: Extra data", '{"text": "a"} {}'),
    ("jsonl", b"[" * 100_000, "not JSON that can be read: nested", "[" * 79 + "…"),
    ("jsonl", b'{"n": ' + b"9" * 5000 + b"}", "a number of more than 4,300 digits", '{"n": 9'),
    ("jsonl", b'["a"]', "not a JSON object: got list", '["a"]'),
    ("jsonl", b"null", "not a JSON object: got null", "null"),
    ("jsonl", b'{"texte": "a"}', "no field 'text'", "{'texte': 'a'}"),
    ("jsonl", b'{"text": 12}', "text is not a string: got int", "12"),
    ("jsonl", b'{"text": null}', "text is not a string: got null", "null"),
    ("jsonl", b'{"text": ["a"]}', "text is not a string: got list", "['a']"),
    (
        "jsonl",
        b'{"text": "a\\ud800"}',
        "not Unicode: lone surrogate U+D800 at position 1",
        "a\\ud800",
    ),
    ("jsonl", b'{"text": "a", "set": 1.5}', "set is not a string: got float", "1.5"),
    ("jsonl", b'{"text": "a", "set": true}', "set is not a string: got bool", "True"),
    ("csv", b"", "empty", ""),
    ("csv", b",", "empty", ""),
    ("csv", b" ,3", "empty", ""),
    ("csv", b"caf\xe9,", "not UTF-8: byte 0xe9 at position 3", "caf\\xe9"),
    ("csv", b"a,\xe9", "not UTF-8: byte 0xe9 at position 0", "\\xe9"),
    ("csv", b"a,b,c", "not CSV: 3 cells where the header has 2", "a,b,c"),
    ("csv", b"a", "not CSV: 1 cells where the header has 2", "a"),
    ("csv", b'"a"b,c', "not CSV: ',' expected after '\"' (lines 3 to 3)", '"a"b,c'),
]


@pytest.mark.parametrize(("format", "line", "reason", "excerpt"), REJECTED)
def test_a_broken_record_is_skipped(tmp_path, format, line, reason, excerpt):
    before = {"text": b"", "jsonl": b"", "csv": b"text,set\n"}[format]
    good = {
        "text": b"one\n%s\ntwo\n",
        "jsonl": b'{"text": "one"}\n%s\n{"text": "two"}\n',
        "csv": b"one,1\n%s\ntwo,2\n",
    }[format]
    columns = {} if format == "text" else {"group_column": "set"}
    records, rejects = read_bytes(tmp_path, format, before + good % line, **columns)
    assert texts_of(records) == ["one", "two"]
    assert [row["source"] for row in rejects] == [f"file.{ENDINGS[format]}#1"]
    assert rejects[0]["reason"].startswith(reason)
    assert rejects[0]["excerpt"].startswith(excerpt)


def test_the_first_of_equal_texts_stays(tmp_path):
    records, rejects = read_bytes(tmp_path, "text", b"a\nb\n a \na\nA\n")
    assert texts_of(records) == ["a", "b", "A"]
    assert [row["source"] for row in rejects] == ["file.txt#2", "file.txt#3"]
    assert {row["reason"] for row in rejects} == {"duplicate of ca978112ca1bbdca"}
    assert {row["excerpt"] for row in rejects} == {"a"}


def test_equal_texts_in_two_files_are_one(tmp_path):
    write(tmp_path / "in/a.txt", "text", ["same", "one"])
    write(tmp_path / "in/b.txt", "text", ["two", "same"])
    records, rejects = read(CorpusSpec("trial", "text", str(tmp_path / "in")), tmp_path / "cache")
    assert records["text"].to_pylist() == ["same", "one", "two"]
    assert rejects["source"].to_pylist() == ["b.txt#1"]


def test_an_excerpt_is_short_and_printable(tmp_path):
    line = b"\x1b[31m" + "ש".encode() * 200 + b"\xff"
    _, rejects = read_bytes(tmp_path, "text", line + b"\nfine\n")
    assert rejects[0]["reason"] == "not UTF-8: byte 0xff at position 405"
    assert rejects[0]["excerpt"] == "\\x1b[31m" + "ש" * 71 + "…"


def test_a_csv_quote_that_never_closes_takes_the_rest_and_says_so(tmp_path):
    content = b'text,n\nfirst,1\n"open,2\nlost,3\nlost too,4\n'
    records, rejects = read_bytes(tmp_path, "csv", content)
    assert texts_of(records) == ["first"]
    assert [row["source"] for row in rejects] == ["file.csv#1"]
    assert rejects[0]["reason"] == "not CSV: unexpected end of data (lines 3 to 5)"
    assert rejects[0]["excerpt"] == '"open,2'


def test_broken_bytes_in_a_column_that_is_not_read_do_no_harm(tmp_path):
    records, rejects = read_bytes(tmp_path, "csv", b"text,author\nfine,Ren\xe9\n")
    assert texts_of(records) == ["fine"]
    assert rejects == []


def test_broken_bytes_in_parquet(tmp_path):
    ends, broken = pa.py_buffer(bytes([0, 0, 0, 0, 3, 0, 0, 0, 5, 0, 0, 0])), b"a\xff\xfeok"
    strings = pa.Array.from_buffers(pa.string(), 2, [None, ends, pa.py_buffer(broken)])
    pq.write_table(pa.table({"text": strings}), tmp_path / "x.parquet")
    spec = CorpusSpec("trial", "parquet", str(tmp_path / "x.parquet"))
    records, rejects = read(spec, tmp_path / "cache")
    assert records["text"].to_pylist() == ["ok"]
    assert rejects["reason"].to_pylist() == ["not UTF-8: byte 0xff at position 1"]


# --- the door -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "my/corpus"}, "'my/corpus' cannot name a file: use lower-case letters"),
        ({"name": ".."}, "cannot name a file"),
        ({"name": "Mine"}, "cannot name a file"),
        ({"name": ""}, "cannot name a file"),
        (
            {"format": "xml"},
            "format 'xml' is unknown; use one of text, jsonl, csv, parquet, images, hub",
        ),
        ({"path": "???"}, "has no path: give one with corpus.path=FILE"),
        ({"path": ""}, "has no path"),
        ({"limit": 0}, "limit is 0; give at least 1, or null"),
        ({"limit": -3}, "limit is -3"),
        ({"path": "fine.txt.gz"}, "'fine.txt.gz' is compressed; decompress it first"),
        ({"path": "absent.txt"}, "no file or folder 'absent.txt' in .*corpus.path=FILE"),
        ({"path": "empty"}, "the folder 'empty' has no text file; .* end in .txt"),
        (
            {"path": "dangling"},
            "dangling/x.txt cannot be read as text: .*No such file.*dangling/x",
        ),
        ({"revision": COMMIT}, "revision, subset and split belong to format 'hub'"),
        ({"split": "test"}, "leave them null, null and 'train'"),
        ({"text_column": "body"}, "has no column 'body'; the columns there are: 'text'"),
        ({"language_column": "lang"}, "has no column 'lang'"),
        ({"format": "hub", "path": "???"}, "corpus.path=OWNER/NAME"),
        (
            {"format": "hub", "path": "a/b"},
            "revision is None; .* commit of 40 .*corpus.revision=COM",
        ),
        ({"format": "hub", "path": "a/b", "revision": "main"}, "revision is 'main'"),
        ({"format": "hub", "path": "a/b", "revision": "???"}, r"revision is '\?\?\?'"),
        ({"format": "hub", "path": "text", "revision": COMMIT}, "'text' is no data set of the hub"),
        ({"format": "hub", "path": "own/er", "revision": COMMIT}, "'own/er' is also a folder"),
    ],
)
def test_a_spec_that_names_no_corpus(tmp_path, monkeypatch, changes, sentence):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty/inner.txt", "dangling", "own/er"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "dangling/x.txt").symlink_to(tmp_path / "gone")
    (tmp_path / "fine.txt").write_text("fine\n")
    with pytest.raises(InputError, match=sentence):
        read(replace(CorpusSpec("trial", "text", "fine.txt"), **changes), tmp_path / "cache")


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    spec = write(tmp_path / "x.txt", "text", ["fine"])
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"x\.txt cannot be read as text: .*Permission denied"):
        read(spec, tmp_path / "cache")


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        (b"texte;langue\n", r"parted by ';', and is read with ','.*corpus.delimiter=\";\""),
        (b"a,b\n", "no column 'text'; the columns there are: 'a', 'b'"),
        (b"text,n,text\n", "2 columns 'text'"),
        (b'"text"x,n\n', "has no readable header: not CSV"),
    ],
)
def test_a_csv_file_without_the_column(tmp_path, header, sentence):
    with pytest.raises(InputError, match=sentence):
        read_bytes(tmp_path, "csv", header + b"a,b,c\n")


def test_an_empty_csv_file(tmp_path):
    with pytest.raises(InputError, match="no column 'text'; the columns there are: none"):
        read_bytes(tmp_path, "csv", b"")


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"body": ["a"], "n": [1]}, "no column 'text'; the columns there are: 'body', 'n'"),
        ({"text": [1]}, "column 'text' holds int64; expected strings"),
        ({"text": [["a"]]}, "column 'text' holds list"),
        ({"text": ["a"], "set": [1.5]}, "column 'set' holds double; expected strings"),
    ],
)
def test_a_parquet_file_without_the_column(tmp_path, table, sentence):
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    group = "set" if "set" in table else None
    spec = CorpusSpec("trial", "parquet", str(tmp_path / "x.parquet"), group_column=group)
    with pytest.raises(InputError, match=sentence):
        read(spec, tmp_path / "cache")


@pytest.mark.parametrize("damage", ["cut", "junk", "middle"])
def test_a_damaged_parquet_file(tmp_path, damage, caplog):
    file = tmp_path / "x.parquet"
    table = pa.table({"text": [f"text {n}" for n in range(5_000)]})
    pq.write_table(table, file, compression="zstd", write_page_checksum=True)
    content = bytearray(file.read_bytes())
    if damage == "middle":
        content[200:2_000] = bytes(1_800)
    file.write_bytes({"cut": content[:-9], "junk": b"junk", "middle": content}[damage])
    with pytest.raises(InputError, match=r"x\.parquet cannot be read as parquet: "):
        read(CorpusSpec("trial", "parquet", str(file)), tmp_path / "cache")


def test_no_usable_text(tmp_path):
    with pytest.raises(InputError, match=r"4 rejected \(3 empty, 1 not UTF-8\); the first is .*#0"):
        read_bytes(tmp_path, "text", b"\n\n\xff\xfe\n\n")
    with pytest.raises(InputError, match=r"0 rejected \(it is empty\)"):
        read_bytes(tmp_path, "jsonl", b"")
    with pytest.raises(InputError, match=r"2 rejected \(2 no field 'text'\)"):
        read_bytes(tmp_path, "jsonl", b'{"a": 1}\n{"a": 2}\n')


def test_two_texts_of_one_name(tmp_path, monkeypatch):
    def half_blind(content: bytes):
        return SimpleNamespace(digest=lambda: bytes(8) + sha256(content).digest()[8:])

    monkeypatch.setattr(corpus, "sha256", half_blind)
    with pytest.raises(InputError, match=r"two different texts share the text_id 0{16}; .*'b'"):
        read_bytes(tmp_path, "text", b"a\na\nb\n")


# --- the hub ------------------------------------------------------------------

HUB = CorpusSpec("trial", "hub", "owner/name", COMMIT, "small", "test", group_column="set")
HUB_ROWS = [
    {"text": "a", "set": 1, "image": None},
    {"text": None, "set": 2, "image": None},
    {"text": "b ", "set": None, "image": None},
]


@pytest.fixture
def hub(monkeypatch):
    """Stands for the hub: the calls made and the rows it gives."""
    made = SimpleNamespace(calls=[], rows=datasets.IterableDataset.from_list(HUB_ROWS))

    def load_dataset(*args, **kwargs):
        made.calls.append((args, kwargs))
        return made.rows

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return made


def test_the_hub_is_asked_for_one_commit_as_a_stream(tmp_path, hub):
    records, rejects = read(HUB, tmp_path / "cache")
    ((args, kwargs),) = hub.calls
    assert args == ("owner/name",)
    assert Path(kwargs.pop("cache_dir")).is_relative_to(tmp_path / "cache")
    assert kwargs == {"name": "small", "revision": COMMIT, "split": "test", "streaming": True}
    assert records["text"].to_pylist() == ["a", "b"]
    assert records["group"].to_pylist() == ["1", None]
    where = f"owner/name@{COMMIT}"
    assert records["source"].to_pylist() == [f"{where}#0", f"{where}#2"]
    assert rejects["reason"].to_pylist() == ["text is not a string: got null"]


def test_a_column_of_the_hub_that_is_not_named_is_not_read(tmp_path, hub):
    ends, broken = pa.py_buffer(bytes([0, 0, 0, 0, 1, 0, 0, 0])), pa.py_buffer(b"\xff")
    unread = pa.Array.from_buffers(pa.string(), 1, [None, ends, broken])
    pq.write_table(pa.table({"text": ["a"], "set": ["b"], "bad": unread}), tmp_path / "x.parquet")
    hub.rows = datasets.IterableDataset.from_parquet(
        str(tmp_path / "x.parquet"), cache_dir=str(tmp_path / "hub")
    )
    records, _ = read(HUB, tmp_path / "cache")
    assert records["text"].to_pylist() == ["a"]


def test_a_column_that_the_hub_has_not(tmp_path, hub):
    with pytest.raises(
        InputError, match="no column 'body'; the columns there are: 'text', 'set', 'im"
    ):
        read(replace(HUB, text_column="body"), tmp_path / "cache")


def test_the_hub_is_read_no_further_than_the_limit(tmp_path, hub):
    def rows():
        yield from HUB_ROWS
        raise AssertionError("read beyond the limit")

    hub.rows = datasets.IterableDataset.from_generator(rows)
    records, _ = read(replace(HUB, limit=2), tmp_path / "cache")
    assert records["text"].to_pylist() == ["a", "b"]


def test_a_hub_that_breaks_off(tmp_path, hub):
    def rows():
        yield from HUB_ROWS
        raise ConnectionError("gone")

    hub.rows = datasets.IterableDataset.from_generator(rows)
    with pytest.raises(InputError, match=f"owner/name@{COMMIT} cannot be read from the hub: gone"):
        read(HUB, tmp_path / "cache")


@pytest.mark.parametrize(
    "error", [ValueError("Unknown split"), RuntimeError("scripts"), OSError("x")]
)
def test_a_hub_that_refuses(tmp_path, monkeypatch, error):
    def load_dataset(*_, **__):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(InputError, match=f"cannot be read from the hub: {error}.*corpus.path=FILE"):
        read(HUB, tmp_path / "cache")


def test_the_hub_offline(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"cannot be read from the hub: .*HF_HUB_OFFLINE unset"):
        read(HUB, tmp_path / "cache")


# --- the house ----------------------------------------------------------------

QUIET_READ = """
import socket, sys
from pathlib import Path
from pipeline.corpus import CorpusSpec, read

def refuse(*address):
    sys.exit(f"reached for the network: {address}")

socket.getaddrinfo = socket.socket.connect = refuse
for format in ("text", "jsonl", "csv", "parquet"):
    records, _ = read(CorpusSpec("trial", format, f"x.{format}"), Path("cache"))
    assert records["text"].to_pylist() == ["one", "two"]
"""


def test_local_files_need_no_network_and_leave_nothing_behind(tmp_path):
    for format in LOCAL:
        write(tmp_path / f"x.{format}", format, ["one", "two"])
    (tmp_path / "home").mkdir()
    drop = ("HF_", "HUGGINGFACE", "XDG_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(drop)}
    root = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", QUIET_READ],
        cwd=tmp_path,
        env=kept | {"HOME": str(tmp_path / "home"), "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list((tmp_path / "home").iterdir()) == []
    assert not (tmp_path / "cache").exists()


def test_progress_bars_are_hidden_off_terminal_and_then_as_before(tmp_path, monkeypatch):
    def rows(*_, **__):
        assert datasets.are_progress_bars_disabled()
        return [{"text": "fine"}]

    datasets.enable_progress_bars()
    spec = write(tmp_path / "x.txt", "text", ["fine"])
    monkeypatch.setattr(datasets.IterableDataset, "from_text", rows)
    read(spec, tmp_path / "cache")
    assert not datasets.are_progress_bars_disabled()


# --- images -------------------------------------------------------------------


def drawn(colour: tuple[int, int, int], format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (5, 4), colour).save(file, format)
    return file.getvalue()


RED, BLUE = drawn((255, 0, 0)), drawn((0, 0, 255), "JPEG")


def images_in(folder: Path, files: dict[str, bytes], **changes) -> tuple[pa.Table, list[dict]]:
    for name, data in files.items():
        (folder / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "in" / name).write_bytes(data)
    spec = replace(CorpusSpec("trial", "images", str(folder / "in")), **changes)
    records, rejects = read(spec, folder / "cache")
    return records, rejects.to_pylist()


def test_an_image_has_its_name_its_bytes_and_its_source(tmp_path):
    files = {"b.png": RED, "a/c.JPG": BLUE, "README.txt": b"no", "notes.md": b"no", ".h.png": RED}
    records, rejects = images_in(tmp_path, files, language="none")
    assert records.schema.equals(IMAGE_SCHEMA)
    assert rejects == []
    assert records.to_pylist() == [
        {
            "text_id": sha256(data).hexdigest()[:16],
            "text": name,
            "language": "none",
            "group": None,
            "source": f"{name}#0",
            "image": data,
        }
        for name, data in (("a/c.JPG", BLUE), ("b.png", RED))
    ]


def test_one_image_may_be_a_corpus(tmp_path):
    (tmp_path / "one.image").write_bytes(RED)
    spec = CorpusSpec("trial", "images", str(tmp_path / "one.image"))
    assert texts_of(read(spec, tmp_path / "cache")[0].to_pylist()) == ["one.image"]


def test_a_file_that_is_no_usable_image_is_skipped(tmp_path):
    files = {
        "a.png": RED,
        "b.png": RED,
        "c.png": b"",
        "d.jpg": b"<html>\x00 no</html>",
        "e.jpg": drawn((1, 2, 3), "JPEG")[:200],
        "f.jpg": BLUE,
    }
    (tmp_path / "in").mkdir()
    (tmp_path / "in/g.png").symlink_to(tmp_path / "gone")
    records, rejects = images_in(tmp_path, files)
    assert records["text"].to_pylist() == ["a.png", "f.jpg"]
    assert [row["source"] for row in rejects] == [f"{name}#0" for name in NOT_USABLE]
    for row, reason in zip(rejects, NOT_USABLE.values(), strict=True):
        assert row["reason"].startswith(reason)
    assert [row["excerpt"] for row in rejects[:3]] == ["b.png", "", "<html>\\x00 no</html>"]


NOT_USABLE = {
    "b.png": f"duplicate of {sha256(RED).hexdigest()[:16]}",
    "c.png": "empty",
    "d.jpg": "not an image: its bytes are no BMP",
    "e.jpg": "not an image: ",
    "g.png": "cannot be read: No such file",
}


def test_a_file_s_name_is_escaped(tmp_path):
    (tmp_path / "in").mkdir()
    Path(os.fsdecode(bytes(tmp_path / "in") + b"/\xff\n.png")).write_bytes(RED)
    records, _ = images_in(tmp_path, {})
    assert records["text"].to_pylist() == ["\\udcff\\n.png"]
    assert records["source"].to_pylist() == ["\\udcff\\n.png#0"]


def test_the_limit_counts_usable_images(tmp_path):
    records, _ = images_in(tmp_path, {"a.png": b"", "b.png": RED, "c.png": BLUE}, limit=1)
    assert records["text"].to_pylist() == ["b.png"]


def test_no_usable_image(tmp_path):
    with pytest.raises(InputError, match=r"no usable image in .*1 not an image.*one image; is"):
        images_in(tmp_path, {"a.png": b"no"})


def test_images_have_no_columns(tmp_path):
    with pytest.raises(InputError, match="an image has no column 'label'"):
        images_in(tmp_path, {"a.png": RED}, group_column="label")


def test_a_text_keeps_no_field_called_image(tmp_path):
    rows, rejects = read_bytes(tmp_path, "jsonl", b'{"text": "a", "image": "b"}\n')
    assert list(rows[0]) == RECORD_SCHEMA.names
    assert rejects == []


# --- what a package carries ---------------------------------------------------


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package, which must not be imported to be found."""
    (tmp_path / "carrier/data").mkdir(parents=True)
    (tmp_path / "carrier/__init__.py").write_text("raise SystemError\n")
    (tmp_path / "carrier/data/a.txt").write_text("carried\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("path", ["carrier/data", "carrier/data/a.txt", "carrier"])
def test_a_package_carries_a_corpus(tmp_path, package, path):
    records, _ = read(CorpusSpec("trial", "text", f"package:{path}"), tmp_path / "cache")
    assert records["text"].to_pylist() == ["carried"]


@pytest.mark.parametrize(
    "path", ["", "/", "nowhere/data", "a.b", "json.tool", "carrier/../x", ".."]
)
def test_a_package_that_is_none(tmp_path, package, path):
    with pytest.raises(InputError, match="names no installed package; expected package:NAME/FOLDE"):
        read(CorpusSpec("trial", "text", f"package:{path}"), tmp_path / "cache")


def test_a_folder_that_the_package_has_not(tmp_path, package):
    with pytest.raises(InputError, match="there is no file or folder 'package:carrier/gone'"):
        read(CorpusSpec("trial", "text", "package:carrier/gone"), tmp_path / "cache")


# ---------------------------------------------------------------- found by attacking it

CODED = {
    "text": "one\nשלום 🙂\n",
    "jsonl": '{"text": "one"}\n{"text": "שלום 🙂"}\n',
    "csv": 'text\none\n"שלום 🙂"\n',
}


@pytest.mark.parametrize("format", CODED)
@pytest.mark.parametrize("coding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_file_with_a_mark_is_read_by_it(tmp_path, format, coding):
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(coding, b"")
    records, rejects = read_bytes(tmp_path, format, mark + CODED[format].encode(coding))
    assert (texts_of(records), rejects) == (["one", "שלום 🙂"], [])


@pytest.mark.parametrize("format", CODED)
def test_utf_16_without_its_mark_is_no_text(tmp_path, format):
    content = (CODED[format] * 100).encode("utf-16-le")
    with pytest.raises(InputError, match=r"iconv|not JSON"):
        read_bytes(tmp_path, format, content)


def test_a_text_with_nul_is_skipped(tmp_path):
    records, rejects = read_bytes(tmp_path, "text", b"one\x00null\ntwo\n")
    assert texts_of(records) == ["two"]
    assert [one["reason"] for one in rejects] == ["holds NUL (U+0000) at position 3"]


@pytest.mark.parametrize(
    ("end", "place"), [(b"b", 0), (b"b\x00\x00\xd8", 1), (b"\x00\xd8\n\x00", 0)]
)
def test_half_a_character_of_utf_16_costs_its_own_line_only(tmp_path, end, place):
    records, rejects = read_bytes(tmp_path, "text", b"\xff\xfea\x00\n\x00" + end)
    assert texts_of(records) == ["a"]
    assert [one["reason"] for one in rejects] == [
        f"not Unicode: a lone surrogate or half a character at position {place}"
    ]


def test_a_pipe_or_a_device_is_no_corpus(tmp_path):
    os.mkfifo(tmp_path / "a.csv")
    for path in (tmp_path / "a.csv", Path("/dev/zero")):
        with pytest.raises(InputError, match="is no regular file"):
            read(CorpusSpec("trial", "csv", str(path)), tmp_path / "cache")


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
@pytest.mark.parametrize("quoted", [False, True])
def test_the_cure_for_another_delimiter_is_taken_word_for_word(tmp_path, delimiter, quoted):
    cells = [["id", "text", "label"], ["1", "hello, there", "x"]]
    mark = '"' if quoted else ""
    lines = [delimiter.join(f"{mark}{cell}{mark}" for cell in row) for row in cells]
    file = tmp_path / "a.csv"
    file.write_text("\n".join(lines))
    with pytest.raises(InputError) as said:
        read(CorpusSpec("trial", "csv", str(file)), tmp_path / "cache")
    cure = shlex.split(re.search(r"'corpus\.delimiter=.*'$", str(said.value))[0])[0]
    parsed = OverridesParser.create().parse_override(cure).value()
    records, rejects = read(
        CorpusSpec("trial", "csv", str(file), delimiter=parsed), tmp_path / "cache"
    )
    assert (texts_of(records.to_pylist()), rejects.num_rows) == (["hello, there"], 0)


def test_an_open_quote_is_named_by_its_line(tmp_path):
    lines = [f"{n},fine" for n in range(20)] + ['20,"never closed'] + ["more,of it"] * 20_000
    with pytest.raises(InputError, match=r"the quote that opens on line 22 is not closed within"):
        read_bytes(tmp_path, "csv", "\n".join(["n,text", *lines]).encode())


def test_a_quote_that_opens_late_in_a_record_is_named_by_its_line(tmp_path):
    lines = ['0,"two', 'lines","and', *["more"] * 20_000]
    with pytest.raises(InputError, match=r"the quote that opens on line 3 is not closed within"):
        read_bytes(tmp_path, "csv", "\n".join(["n,text,x", *lines]).encode())


@pytest.mark.parametrize("format", ["text", "jsonl"])
def test_a_line_without_end_is_skipped(tmp_path, format, monkeypatch):
    monkeypatch.setattr(corpus, "MAX_LINE", 1000)
    good = {"text": b"fine", "jsonl": b'{"text": "fine"}'}[format]
    records, rejects = read_bytes(tmp_path, format, b"x" * 5_500 + b"\n" + good + b"\n")
    assert texts_of(records) == ["fine"]
    assert [one["reason"] for one in rejects] == ["longer than 1,000 characters"]
    assert rejects[0]["source"].endswith("#0")
    assert records[0]["source"].endswith("#1")


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_delimiters(tmp_path, delimiter):
    (tmp_path / "x.csv").write_text(f"id{delimiter}text\n0{delimiter}a, b\n")
    spec = CorpusSpec("trial", "csv", str(tmp_path / "x.csv"))
    with pytest.raises(InputError, match=r"seems to be parted by .*corpus\.delimiter="):
        read(spec, tmp_path)
    records, _ = read(replace(spec, delimiter=delimiter), tmp_path)
    assert texts_of(records.to_pylist()) == ["a, b"]


@pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n", "\0", "€"])
def test_what_cannot_be_a_delimiter(tmp_path, delimiter):
    with pytest.raises(InputError, match="give one character"):
        read(CorpusSpec("trial", "csv", "x.csv", delimiter=delimiter), tmp_path)


@pytest.mark.parametrize("format", [*LOCAL, "images"])
def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path, format):
    suffix = corpus.SUFFIXES[format][0]
    os.mkfifo(tmp_path / f"a{suffix}")
    with pytest.raises(InputError, match="no regular file"):
        read(CorpusSpec("trial", format, str(tmp_path)), tmp_path / "cache")
    with pytest.raises(InputError, match="no regular file"):
        read(CorpusSpec("trial", format, str(tmp_path / f"a{suffix}")), tmp_path / "cache")


def test_a_link_to_a_device_with_the_name_of_an_image_is_skipped(tmp_path):
    (tmp_path / "a.png").symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"a\.png#0: cannot be read: no regular file"):
        read(CorpusSpec("trial", "images", str(tmp_path)), tmp_path / "cache")


@pytest.mark.parametrize("format", LOCAL)
def test_a_file_name_that_is_not_utf_8_is_shown_escaped(tmp_path, format):
    plain = tmp_path / f"x{corpus.SUFFIXES[format][0]}"
    write(plain, format, ["one"])
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff" + os.fsencode(plain.name)))
    plain.rename(odd)
    for path in (tmp_path, odd):
        records, _ = read(CorpusSpec("trial", format, str(path)), tmp_path / "cache")
        assert records.to_pylist()[0]["source"] == f"\\udcff{plain.name}#0"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("a/" * 3000, "cannot be looked up"),
        ("a" * 300, "cannot be looked up"),
        ("\ud800.txt", "cannot be looked up"),
        ("a\0b", "cannot be looked up"),
        ("package:__main__/x", "names no installed package"),
        ("package:pathlib/x", "names no installed package"),
    ],
)
def test_paths_that_no_file_can_have(tmp_path, path, says):
    with pytest.raises(InputError, match=says):
        read(CorpusSpec("trial", "text", path), tmp_path)


def test_a_parquet_column_whose_name_is_not_utf_8(tmp_path):
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": ["one"], "qqqq": ["two"]}), file)
    file.write_bytes(file.read_bytes().replace(b"qqqq", b"\xff\xfe\xff\xfe"))
    with pytest.raises(InputError, match=r"not UTF-8|cannot be read as parquet"):
        read(CorpusSpec("trial", "parquet", str(file)), tmp_path)


def test_a_parquet_whose_schema_is_damaged(tmp_path):
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": ["one"]}), file)
    content = file.read_bytes()
    place = content.index(b"ARROW:schema") + len(b"ARROW:schema") + 6
    file.write_bytes(content[:place] + b"AAAAAAAA" + content[place + 8 :])
    with pytest.raises(InputError, match="cannot be read as parquet"):
        read(CorpusSpec("trial", "parquet", str(file)), tmp_path)


def test_many_records_of_which_none_can_be_used_end_early(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "MAX_UNUSABLE", 100)
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": pa.nulls(5_000, pa.string())}), file)
    with pytest.raises(InputError, match="the first 100 records"):
        read(CorpusSpec("trial", "parquet", str(file)), tmp_path)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), format=st.sampled_from([*LOCAL, "images"]))
def test_any_bytes_are_texts_rejects_or_a_sentence(tmp_path, format, data):
    file = tmp_path / f"x{corpus.SUFFIXES[format][0]}"
    if format in LOCAL and data.draw(st.booleans()):
        write(file, format, ["one", "two, and three"])
        content = bytearray(file.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        file.write_bytes(bytes(content))
    else:
        file.write_bytes(data.draw(st.binary(max_size=300)))
    try:
        records, _ = read(CorpusSpec("trial", format, str(file)), tmp_path / "cache")
    except InputError:
        return
    assert len(records) > 0
