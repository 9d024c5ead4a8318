"""Who may import whom, and what dvc.yaml must list."""

import ast
from pathlib import Path

import pytest
import yaml

from commands.__main__ import NAMES
from pipeline import store

ROOT = store.ROOT
DOMAIN = [
    file
    for file in sorted((ROOT / "pipeline").rglob("*.py"))
    if file.name not in ("config.py", "console.py")
    and file.parent.name not in ("jobs", "runs", "store", "work")
]


def imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_the_walk_sees_imports():
    assert "pipeline.store" in imported(ROOT / "pipeline" / "jobs" / "diagrams.py")
    assert len(DOMAIN) > 10


@pytest.mark.parametrize("file", DOMAIN, ids=lambda file: str(file.relative_to(ROOT)))
def test_domain_modules_know_no_hydra_dvc_store_or_config(file):
    forbidden = ("hydra", "omegaconf", "dvc", "pipeline.store", "pipeline.config", "stages")
    found = {
        name for name in imported(file) for bad in forbidden if f"{name}.".startswith(f"{bad}.")
    }
    assert not found


ROOMS = ["pipeline", "stages", "commands"]  # each may import those before it
MODULES = [file.relative_to(ROOT) for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))]
COMMANDS = [f"commands.{name}" for name in NAMES]


@pytest.mark.parametrize("file", MODULES, ids=str)
def test_commands_import_stages_import_pipeline_and_never_back(file):
    above = ROOMS[ROOMS.index(file.parts[0]) + 1 :]
    assert not {name for name in imported(ROOT / file) if name.split(".")[0] in above}


@pytest.mark.parametrize("file", MODULES, ids=str)
def test_nothing_imports_a_command(file):
    assert not {
        name
        for name in imported(ROOT / file)
        for one in COMMANDS
        if f"{name}.".startswith(f"{one}.")
    }


def test_the_commands_are_the_modules_of_their_folder():
    found = {file.stem for file in (ROOT / "commands").glob("[a-z]*.py")}
    assert found == set(NAMES)


@pytest.mark.parametrize(
    ("stage", "science"),
    [
        ("corpus", "pipeline.corpus"),
        ("diagrams", "pipeline.heads"),
        ("attention", "pipeline.maps"),
        ("context", "pipeline.context"),
        ("comparison", "pipeline.pairs"),
        ("report", "pipeline.report.page"),
        ("equivariance", "pipeline.equivariance"),
    ],
)
def test_dvc_watches_the_code_that_decides_a_stage(stage, science):
    entry = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]
    listed = [
        dep for dep in entry.get("do", entry)["deps"] if dep.startswith(("pipeline", "stages"))
    ]
    needed = {str(file) for file in store.source_files(science) - store.AROUND}
    needed |= {"pipeline/store", f"stages/{stage}.py"}
    if (ROOT / f"pipeline/jobs/{stage}.py").is_file():
        needed.add(f"pipeline/jobs/{stage}.py")
    uncovered = {
        file
        for file in needed
        if not any(file == dep or file.startswith(f"{dep}/") for dep in listed)
    }
    assert uncovered == set()
    assert [dep for dep in listed if not (ROOT / dep).exists()] == []


def test_no_module_imports_itself_by_way_of_others():
    """Imports at the head of a module, and within its functions too."""
    files = [
        file for room in ("commands", "pipeline", "stages") for file in (ROOT / room).rglob("*.py")
    ]
    modules = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in files}
    edges = {name: imported(file) & modules.keys() for name, file in modules.items()}

    def reached(name: str) -> set[str]:
        found: set[str] = set()
        waiting = [*edges[name]]
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting.extend(edges[one])
        return found

    assert [name for name in modules if name in reached(name)] == []
