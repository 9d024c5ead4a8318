"""docs/promises.md: every test that it names is there."""

import ast
import re

from pipeline import store

NAMED = re.compile(r"(tests/[\w/]+\.py)::(\w+)")


def test_every_test_that_holds_a_promise_is_there():
    page = (store.ROOT / "docs/promises.md").read_text("utf-8")
    named = NAMED.findall(page)
    assert len(named) > 15
    missing = [f"{file}::{name}" for file, name in named if name not in functions(file)]
    assert missing == []


def functions(file: str) -> set[str]:
    path = store.ROOT / file
    tree = ast.parse(path.read_text("utf-8")) if path.is_file() else ast.Module([], [])
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
