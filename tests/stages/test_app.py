import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import store
from pipeline.errors import InputError
from stages import app


@pytest.mark.integration
@pytest.mark.parametrize("words", [("-m", "+model=x,y"), ("+model=x,y", "-m")])
def test_several_runs_at_once_put_nothing_into_the_tree(words, tmp_path):
    """As `-m +model=minilm,smollm2`, here with models that there are not."""
    (tmp_path / "params.yaml").write_bytes((store.ROOT / "params.yaml").read_bytes())
    answer = typed(tmp_path, "stages.diagrams", *words)
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: model 'x' is not in the configuration")
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert found == {"params.yaml", "outputs/logs/multirun.yaml"}


@pytest.mark.integration
def test_a_slip_in_params_yaml_is_a_sentence(tmp_path):
    (tmp_path / "params.yaml").write_text("distance\n  rule: jensen_shannon\n")
    answer = typed(tmp_path, "stages.comparison")
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: params.yaml is not YAML")
    assert len(answer.stderr.splitlines()) == 1


def typed(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What a person sees who runs a stage in a folder."""
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(store.ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.integration
@pytest.mark.parametrize(
    "module", ["commands.demo", "stages.corpus", "commands.look", "commands.reproduce"]
)
def test_an_interrupt_while_modules_are_imported_is_a_line(module):
    script = (
        "import builtins, runpy\n"
        "real = builtins.__import__\n"
        "def importing(name, *rest, **more):\n"
        "    if name.startswith('pipeline'):\n"
        "        raise KeyboardInterrupt\n"
        "    return real(name, *rest, **more)\n"
        "builtins.__import__ = importing\n"
        f"runpy.run_module({module!r}, run_name='__main__')\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=store.ROOT, capture_output=True, text=True, check=False
    )
    assert answer.returncode != 0
    assert answer.stderr == "stopped: nothing was begun\n"


@pytest.mark.parametrize("value", ["!!timestamp x", "!!bool x", '!!int ""', "!!float []", "!!y x"])
def test_a_tag_that_its_value_does_not_fit_is_a_sentence(tmp_path, value):
    """PyYAML raises AttributeError, KeyError or IndexError there."""
    path = tmp_path / "a.yaml"
    path.write_text(f"a: {value}\n")
    with pytest.raises(InputError, match=r"a\.yaml is not YAML"):
        app.load_yaml(path, "Correct it.")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("corpus.path=${corpus.path}", "An override does not fit: Recursive interpolation"),
        ("corpus.path=${nope.x}", "An override does not fit: Interpolation key 'nope.x' not found"),
        ("corpus.delimiter=;;", ""),
        ("corpus.pth=x", "Could not override 'corpus.pth'"),
        ("corpus.path=~nobody/x", "Hydra's grammar has no such override: 'corpus.path=~nobody/x'"),
        ("corpus.path=" + "[" * 1000, "Hydra's grammar has no such override: 'corpus.path=[["),
        ("corpus=text", "'corpus=text' chooses a file of conf/, and a stage reads params.yaml"),
    ],
)
def test_an_override_that_does_not_fit_is_a_sentence(word, said, tmp_path):
    (tmp_path / "params.yaml").write_bytes((store.ROOT / "params.yaml").read_bytes())
    answer = typed(tmp_path, "stages.corpus", word)
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"error: {said}")
    assert len(answer.stderr.splitlines()) == 1
    assert "HYDRA_FULL_ERROR" not in answer.stderr
