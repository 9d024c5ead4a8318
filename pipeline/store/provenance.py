"""What made a table: digests of code, libraries, and the value that a table carries of them."""

import ast
import hashlib
import importlib.metadata
import json
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.files import sha256
from pipeline.store import layout

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


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values, equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(value: Any) -> str:
    """Hexadecimal SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


# What modules of the science import and what decides no byte of a table. It enters no digest of
# code, and DVC does not watch it: one set for both, for if only DVC left it out, a change of it
# would alter the provenance in a table while DVC says that nothing changed.
AROUND = frozenset(
    Path("pipeline") / name for name in ("__init__.py", "console.py", "errors.py", "files.py")
)


@cache
def libraries() -> dict[str, str]:
    """Versions of the libraries whose numbers enter the tables."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


@cache
def code_digest(*modules: str) -> str:
    """One digest of the modules named and of all project modules they import, but AROUND."""
    files = sorted(source_files(*modules) - AROUND)
    return digest({str(file): sha256(layout.ROOT / file) for file in files})


def source_files(*modules: str) -> set[Path]:
    """Files, relative to the root, of the modules named and all project modules they import."""
    found: set[Path] = set()
    waiting = list(modules)
    while waiting:
        file = _file_of(waiting.pop())
        if file and file not in found:
            found.add(file)
            waiting.extend(_imports(layout.ROOT / file))
    return found


def _file_of(module: str) -> Path | None:
    base = Path(*module.split("."))
    for file in (base.with_suffix(".py"), base / "__init__.py"):
        if (layout.ROOT / file).is_file():
            return file
    return None


def _imports(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.split(".")[0] in ("commands", "pipeline", "stages")}
