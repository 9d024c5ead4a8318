"""What docs/ says of the code: names that are there, variables that are read."""

import ast
import re

import pytest

from pipeline import store

ROOT = store.ROOT
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text("utf-8")
SOURCES = [
    file for room in ("pipeline", "stages", "commands") for file in (ROOT / room).rglob("*.py")
]


def named(node: ast.AST) -> str | None:
    """The variable that an expression reads or sets, as os.environ[...] or os.environ.get(...)."""
    match node:
        case ast.Subscript(value=ast.Attribute(attr="environ"), slice=name):
            return getattr(name, "value", None)
        case ast.Call(
            func=ast.Attribute(value=ast.Attribute(attr="environ"), attr="get" | "setdefault"),
            args=[name, *_],
        ):
            return getattr(name, "value", None)
    return None


def test_the_table_of_environment_variables_is_whole():
    read = {
        name
        for file in SOURCES
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(name := named(node), str)
    }
    table = ARCHITECTURE.partition("## Environment variables")[2]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert "ATTENTION_TOPOLOGY_WORK" in read
    # By a name of its own: pins.ALLOWED.
    assert told == read | {"ATTENTION_TOPOLOGY_OFF_PINS"}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:\w+/)+[\w.]*)`", ARCHITECTURE))))
def test_files_that_are_named_are_there(name):
    assert (ROOT / name).exists()


@pytest.mark.parametrize("row", re.findall(r"^\| (`pipeline/.*?) \| (`.*?) \|", ARCHITECTURE, re.M))
def test_functions_that_a_text_passes_are_there(row):
    places, functions = (re.findall(r"`([\w./]+)`", cell) for cell in row)
    first = ROOT / places[0]
    paths = [first, *(first.parent / place for place in places[1:])]
    files = [file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path])]
    text = "\n".join(file.read_text("utf-8") for file in files)
    for function in functions:
        assert re.search(rf"(def|class) {function.rpartition('.')[2]}\b", text), function
