"""commands.__main__: the list of commands; and the help of every command and stage, anywhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from commands import __main__ as listing
from pipeline import store
from pipeline.errors import InputError

STAGES = list(yaml.safe_load((store.ROOT / "dvc.yaml").read_text("utf-8"))["stages"])
MODULES = [
    "commands",
    *(f"commands.{name}" for name in listing.NAMES),
    *(f"stages.{name}" for name in STAGES),
]
# What takes long to import, and is for the work alone.
HEAVY = {
    "dvc",
    "hydra",
    "numba",
    "numpy",
    "omegaconf",
    "pandas",
    "pyarrow",
    "torch",
    "transformers",
}


def answered(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What a person sees in a folder that is no checkout; on stderr what was imported."""
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(store.ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_is_there_at_once_outside_a_checkout(module, word, tmp_path):
    answer = answered(tmp_path, module, word)
    assert answer.returncode == 0
    assert answer.stdout.startswith("usage: ")
    lines = [line for line in answer.stderr.splitlines() if not line.startswith("import time:")]
    assert lines == []
    loaded = {line.rpartition("|")[2].strip() for line in answer.stderr.splitlines()}
    assert "os" in loaded
    assert not loaded & HEAVY
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", [one for one in MODULES if one != "commands"])
def test_help_says_what_the_module_does(module, tmp_path):
    package, name = module.split(".")
    first = (store.ROOT / package / f"{name}.py").read_text("utf-8").partition("\n")[0]
    assert first.strip('"') in answered(tmp_path, module, "--help").stdout


def test_every_command_is_listed_with_a_line_of_what_it_answers():
    lines = listing.listed().splitlines()
    assert all(len(line) <= 100 for line in lines)
    found = {line.split()[0]: line.split(None, 1)[1] for line in lines if line.startswith("  ")}
    assert list(found) == listing.NAMES
    assert all(about.endswith(".") for about in found.values())


def test_a_command_is_run_with_its_own_words_and_status(tmp_path):
    answer = answered(tmp_path, "commands", "look", "entropy", "--help")
    assert answer.returncode == 0
    assert answer.stdout.startswith("usage: python -m commands.look entropy ")
    answer = answered(tmp_path, "commands", "reproduce", "--source", "guess")
    assert answer.returncode == 2
    assert "error: Argument --source: invalid choice: 'guess'" in answer.stderr


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("lok", "No command is called 'lok'; did you mean look[?] `attention-topology` lists all."),
        ("xyzzy", "No command is called 'xyzzy'. `attention-topology` lists all."),
    ],
)
def test_an_unknown_command_is_a_sentence_with_the_nearest(word, says):
    with pytest.raises(InputError, match=says):
        listing.command([word])


def test_a_stage_that_is_only_imported_answers_no_help(tmp_path):
    """As by pytest --help, or by a command that takes --help itself."""
    words = ("-c", "import stages; print('imported')", "--help")
    answer = subprocess.run(
        [sys.executable, *words], cwd=store.ROOT, capture_output=True, text=True, check=False
    )
    assert answer.stdout == "imported\n"
