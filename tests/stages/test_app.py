import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import store
from pipeline.errors import InputError
from stages.app import sentences


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (InputError("What came, and the cure."), "error: What came, and the cure.\n"),
        (OSError(errno.ENOSPC, "No space left on device"), "set ATTENTION_TOPOLOGY_WORK to a"),
        (OSError(errno.EIO, "Input/output error"), "not an error we foresaw"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero. This is"),
    ],
)
def test_an_error_is_a_sentence(error, says, capsys, monkeypatch):
    monkeypatch.delenv("ATTENTION_TOPOLOGY_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as stop, sentences():
        raise error
    assert stop.value.code == 1
    said = capsys.readouterr().err
    assert says in said
    assert len(said.splitlines()) == 1


def test_where_an_error_arose_can_be_seen(monkeypatch):
    monkeypatch.setenv("ATTENTION_TOPOLOGY_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError), sentences():
        raise ZeroDivisionError


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
