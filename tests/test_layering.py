"""Who may import whom, and what dvc.yaml must list."""

import ast
from pathlib import Path

import pytest
import yaml

from pipeline import store

ROOT = store.ROOT
DOMAIN = [
    file
    for file in sorted((ROOT / "pipeline").rglob("*.py"))
    if file.name not in ("config.py", "store.py", "parts.py", "engine.py")
    and file.parent.name != "jobs"
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


@pytest.mark.parametrize("file", sorted((ROOT / "pipeline").rglob("*.py")), ids=lambda f: f.name)
def test_pipeline_never_imports_stages(file):
    assert not {name for name in imported(file) if name.split(".")[0] == "stages"}


@pytest.mark.parametrize(
    ("stage", "science"),
    [
        ("corpus", "pipeline.corpus"),
        ("diagrams", "pipeline.heads"),
        ("attention", "pipeline.maps"),
        ("context", "pipeline.context"),
        ("comparison", "pipeline.tables"),
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
    needed |= {"pipeline/store.py", f"stages/{stage}.py"}
    if (ROOT / f"pipeline/jobs/{stage}.py").is_file():
        needed.add(f"pipeline/jobs/{stage}.py")
    uncovered = {
        file
        for file in needed
        if not any(file == dep or file.startswith(f"{dep}/") for dep in listed)
    }
    assert uncovered == set()
    assert [dep for dep in listed if not (ROOT / dep).exists()] == []
