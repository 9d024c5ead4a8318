"""Valid bytes -> bytes that a program may stumble over: flips, cuts, splices, tokens, types.

What is drawn depends on the generator alone, so that a seed gives the same inputs again.
"""

import json
import random
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import yaml

RAN = "ran"  # the file that code in an input would make
PICKLE = b"cposix\nsystem\n(S'touch %s'\ntR." % RAN.encode()
MOST = 1 << 20  # bytes of an input
DEEP = (10, 500, 5_000, 50_000)
WORD = re.compile(rb"[\w.+-]+")
EXTREMES = (
    *(b"\xff" * 4, b"\xff" * 8, b"\0" * 8, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"),
    *(b"\0\0\0\0\0\0\0\x80", b"\x01\0\0\0\0\0\0\x40", b"\0\0\xc0\x7f", b"\0\0\x80\x7f"),
)
NUMBERS = (
    *(b"0", b"-1", b"-0.0", b"1e999", b"1e-999", b"NaN", b"-Infinity", b".inf", b".nan"),
    *(b"9223372036854775808", b"1000000000", b"9" * 400, b"1" * 5_000, b"0x7fffffff", b"1_000"),
    *(b"1:30:00", b"0o17", b"1e3", b"65536", b"4294967296"),
)
TOKENS = (
    *(b"$(touch %s)", b"`touch %s`", b";touch %s;", b"|touch %s", b"${oc.env:HOME}"),
    *(b"!!python/object/apply:os.system ['touch %s']", b"!!python/name:os.system "),
    *(b"_target_: os.system\n", b"hydra: {run: {dir: %s}}\n", b"# @package hydra\n"),
    *(b"${oc.decode:'[1,2]'}", b"${.}", b"${models}", b"${", b"}", b"???", b"~", b"<<: *a\n"),
    *(
        b"&a ",
        b"*a ",
        b"!!binary abc",
        b"!!set ",
        b"!!omap ",
        b"!!timestamp ",
        b"? ",
        b"%%YAML 9\n",
    ),
    *(b"---\n", b"...\n", b"\t", b"\r", b"\r\n", b"\n\n", b'"', b"'", b'""', b",", b";", b"\\"),
    *(b"\0", b"\x1a", b"\x1b[2J", b"\x85", b"\xe2\x80\xa8", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"),
    *(
        b"\xff\xfe",
        b"\xfe\xff",
        b"\xef\xbb\xbf",
        b"\xff\xfe\0\0",
        b"\xc0\xaf",
        b"\\ud800",
        b"\\u0000",
    ),
    *(b"../../%s", b"/dev/zero", b"package:os", b"__main__", b"file:///etc/passwd", b"%%s%%n"),
    *(b"<script>", b"PAR1", b"GGUF", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", PICKLE),
)
OTHER: tuple[Any, ...] = (  # values of another type, or too much of one
    *(None, True, False, 0, -1, 1, 1.5, 10**9, 10**18, 10**30, 1e308, float("nan"), float("inf")),
    *("", " ", "a", "???", "\0", "\ud800", "é" * 300, "../..", "$(touch ran)", "${models}", "none"),
    *(
        [],
        {},
        [[]],
        [None],
        [1] * 300,
        {"": {}},
        {"a": None},
        {"_target_": "os.system"},
        "x" * 5_000,
    ),
)
KEYS = ("", "a.b", "a$(touch ran)", "_target_", "hydra", "defaults", "auto_map", "x" * 300, "\0")
CODINGS = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "utf-7", "cp1255", "cp037")

Mutation = Callable[[bytes, random.Random], bytes]


def mutated(data: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    """Valid bytes after a few mutations; with parts of others of their kind."""
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        if draw.random() < 0.12:
            data = spliced(data, draw.choice(others), draw)
        else:
            data = draw.choice(MUTATIONS)(data, draw)[:MOST]
    return data


def spliced(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """The beginning of one and the end of another."""
    return data[: draw.randint(0, len(data))] + other[draw.randint(0, len(other)) :]


def flipped(data: bytes, draw: random.Random) -> bytes:
    """Some bits are others, or whole bytes."""
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4, 16)) if data else 0):
        found[draw.randrange(len(found))] ^= 1 << draw.randrange(8)
    return bytes(found)


def cut(data: bytes, draw: random.Random) -> bytes:
    """The end is missing, or the beginning, or a part between."""
    start, stop = sorted(draw.randint(0, len(data)) for _ in range(2))
    return draw.choice((data[:start], data[start:], data[:start] + data[stop:]))


def repeated(data: bytes, draw: random.Random) -> bytes:
    """A part comes again and again."""
    start, stop = _part(data, draw)
    return data[:start] + data[start:stop] * draw.choice((2, 3, 100)) + data[stop:]


def tokens(data: bytes, draw: random.Random) -> bytes:
    """What means something to some reader stands between, or for a word."""
    token = draw.choice(TOKENS)
    token = token % RAN.encode() if b"touch %s" in token or b"dir: %s" in token else token
    start, stop = _word(data, draw) if draw.random() < 0.5 else (draw.randint(0, len(data)),) * 2
    return data[:start] + token + data[stop:]


def numbers(data: bytes, draw: random.Random) -> bytes:
    """A number is the largest, the smallest, or none: in words, or in the bytes of an integer."""
    if draw.random() < 0.5:
        start, stop = _word(data, draw)
        return data[:start] + draw.choice(NUMBERS) + data[stop:]
    start, extreme = draw.randint(0, len(data)), draw.choice(EXTREMES)
    return data[:start] + extreme + data[start + len(extreme) :]


def nested(data: bytes, draw: random.Random) -> bytes:
    """Something within itself, closed or not."""
    opened, closed = draw.choice(
        ((b"[", b"]"), (b'{"a":', b"}"), (b"- ", b""), (b"${", b"}"), (b"(", b")"), (b"a: {", b"}"))
    )
    depth, place = draw.choice(DEEP), draw.randint(0, len(data))
    return data[:place] + opened * depth + closed * draw.choice((0, depth)) + data[place:]


def recoded(data: bytes, draw: random.Random) -> bytes:
    """The same characters by another code."""
    return data.decode("utf-8", "replace").encode(draw.choice(CODINGS), "replace")


def retyped(data: bytes, draw: random.Random) -> bytes:
    """Of JSON or YAML: a value of another type, a key too many, one too few, or named otherwise."""
    tree = _tree(data)
    if tree is not None:
        return json.dumps(_changed(tree, draw)).encode()
    lines = data.split(b"\n")
    place = draw.randrange(len(lines))
    line = _tree(lines[place]) if lines[place].startswith(b"{") else None
    if line is None:
        return tokens(data, draw)
    lines[place] = json.dumps(_changed(line, draw)).encode()
    return b"\n".join(lines)


@lru_cache(64)
def _tree(data: bytes) -> dict[str, Any] | None:
    if len(data) > 1 << 16 or b"\0" in data:
        return None
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        try:
            found = yaml.safe_load(data)
        except Exception:  # PyYAML raises any kind on a wrong tag
            return None
    return found if isinstance(found, dict) else None


def _changed(tree: Any, draw: random.Random) -> Any:
    """A copy in which one thing is other than it was, at any depth."""
    if not isinstance(tree, dict) or not tree or draw.random() < 0.1:
        return draw.choice(OTHER)
    key = draw.choice(sorted(tree, key=str))
    how = draw.random()
    if how < 0.1:
        return {k: v for k, v in tree.items() if k != key}
    if how < 0.25:
        return {**tree, draw.choice(KEYS): draw.choice(OTHER)}
    if how < 0.35:
        return {draw.choice(KEYS) if k == key else k: v for k, v in tree.items()}
    return {**tree, key: _changed(tree[key], draw)}


def replaced(data: bytes, draw: random.Random) -> bytes:
    """Another file in place of it."""
    wholes = (b"", b"\0" * 4096, PICKLE, b"\x80\x04" + PICKLE, b"null", b"[]", b"{}", b"\n" * 999)
    return draw.choice(wholes)


def _word(data: bytes, draw: random.Random) -> tuple[int, int]:
    """Where a word stands, near a place drawn; that place where none does."""
    place = draw.randint(0, len(data))
    found = WORD.search(data, place, place + 200)
    return found.span() if found else (place, place)


def _part(data: bytes, draw: random.Random) -> tuple[int, int]:
    start = draw.randint(0, len(data))
    return start, min(len(data), start + draw.choice((1, 8, 64, 1024)))


MUTATIONS: tuple[Mutation, ...] = (
    *(flipped, flipped, cut, repeated, tokens, tokens, tokens, numbers, numbers),
    *(nested, recoded, retyped, retyped, retyped, replaced),
)
