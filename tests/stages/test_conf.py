"""Each way a run can look right and not be, and what says so."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import store
from pipeline.errors import InputError
from stages import app, compose, conf
from stages.repository import machine, pins
from stages.repository.git import changed
from tests.clone import git


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """The real conf/ and params.yaml, committed."""
    shutil.copytree(store.ROOT / "conf", tmp_path / "conf")
    shutil.copy(store.ROOT / "params.yaml", tmp_path)
    git(tmp_path, "init", "-q")
    git(tmp_path, "config", "user.name", "A Reader")
    git(tmp_path, "config", "user.email", "reader@example.invalid")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "As it is")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def edit(name: str, before: str, after: str) -> None:
    text = Path(name).read_text("utf-8")
    assert before in text
    Path(name).write_text(text.replace(before, after), "utf-8")


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("conf/homology/rips.yaml", "max_dimension: 1", "max_dimension: 0"),
        ("conf/model/minilm.yaml", "source: package", "source: package\nmax_tokens: 256"),
        ("conf/model/base.yaml", "max_tokens: 512", "max_tokens: 256"),
        ("conf/corpus/parallel.yaml", "format: jsonl", "format: jsonl\nlimit: 3"),
        ("conf/corpus/base.yaml", "limit: null", "limit: 3"),
        ("conf/config.yaml", "  - model@models.smollm2: smollm2\n", ""),
    ],
)
def test_params_that_conf_has_left_behind_are_found(tree, name, before, after):
    conf.check_params()
    edit(name, before, after)
    with pytest.raises(InputError, match=f"still holds what {name} said"):
        conf.check_params()
    compose.write([])
    conf.check_params()


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("conf/homology/rips.yaml", "max_dimension: 1", "# the last\nmax_dimension: 1"),
        ("conf/homology/notebook.yaml", "max_dimension: 0", "max_dimension: 1"),
        ("conf/model/gpt2.yaml", "max_tokens: 1024", "max_tokens: 512"),
        ("conf/config.yaml", "# How the work", "# In what portions the work"),
    ],
)
def test_what_does_not_enter_params_is_no_fault(tree, name, before, after):
    edit(name, before, after)
    conf.check_params()


def test_a_choice_other_than_the_default_is_seen_too(tree):
    compose.write(["homology=notebook"])
    edit("conf/homology/notebook.yaml", "min_persistence: 0.01", "min_persistence: 0.02")
    with pytest.raises(InputError, match=r"conf/homology/notebook\.yaml"):
        conf.check_params()


@pytest.mark.parametrize(
    ("name", "words", "before", "after"),
    [
        ("notebook", [], "override /homology: notebook", "override /homology: rips"),
        (
            "notebook",
            ["corpus.limit=2"],
            "override /distance: notebook",
            "override /distance: attention_graph",
        ),
        ("vision", [], "text_pairs: all", "text_pairs: none"),
        ("vision", [], "override /model@models.smollm2: null", "override /cluster: slurm"),
    ],
)
def test_an_experiment_that_was_edited_after_it_was_composed_is_found(
    tree, name, words, before, after
):
    compose.write([f"experiment={name}", *words])
    conf.check_params()
    edit(f"conf/experiment/{name}.yaml", before, after)
    with pytest.raises(InputError, match=rf"conf/experiment/{name}\.yaml"):
        conf.check_params()
    compose.write([])  # another choice, which the edit does not touch
    conf.check_params()


def test_without_git_nothing_is_claimed(tree):
    shutil.rmtree(tree / ".git")
    edit("conf/homology/rips.yaml", "max_dimension: 1", "max_dimension: 0")
    conf.check_params()
    assert changed() == []


@pytest.mark.integration
def test_dvc_repro_fails_where_it_would_say_up_to_date(ran):
    assert "up to date" in ran.run("dvc", "repro")
    ran.edit("conf/homology/rips.yaml", "min_persistence: 0.0", "min_persistence: 0.1")
    try:
        answer = ran.say("dvc", "repro")
        assert answer.returncode != 0
        assert "params.yaml still holds what conf/homology/rips.yaml said" in answer.stderr
    finally:
        git(ran.folder, "checkout", "-q", "--", "conf")


EVIL = "a$(touch expanded)"


@pytest.mark.integration
@pytest.mark.parametrize("words", [(), ("--single-item", f"equivariance@{EVIL}")])
def test_a_name_in_params_never_reaches_the_shell(ran, words):
    ran.edit("params.yaml", "\n  tiny:\n", f"\n  {EVIL}:\n")
    (ran.folder / "outputs/checked.txt").write_text("params.yaml was checked.\n")
    try:
        answer = ran.say("dvc", "repro", *words)
        assert answer.returncode != 0
        assert f"'{EVIL}' cannot name a model" in answer.stderr
        assert not (ran.folder / "expanded").exists()
    finally:
        git(ran.folder, "checkout", "-q", "--", ".")


CALL = "{_target_: shutil.copyfile, src: params.yaml, dst: called}"
LOGS = "{version: 1, handlers: {a: {(): shutil.copyfile, src: params.yaml, dst: called}}}"


def _bomb() -> str:
    """Aliases of aliases: 2 KB that unfold to 10^20 values."""
    return "".join(
        f"a{n}: &a{n} [{','.join([f'*a{n - 1}' if n else '*a'] * 9)}]\n" for n in range(20)
    )


@pytest.mark.integration
@pytest.mark.parametrize(
    ("line", "says"),
    [
        (f"hydra: {{callbacks: {{a: {CALL}}}}}", "'hydra' is not known"),
        (f"hydra: {{job_logging: {LOGS}, callbacks: null}}", "'hydra' is not known"),
        ("defaults: [override hydra/launcher: basic]", "'defaults' is not known"),
        ("# @package hydra.callbacks", "'@package'"),
        ("x: ${x}", "params.yaml"),
        ("x: ${nowhere}", "Interpolation key 'nowhere' not found"),
        ("a: &a [" + "1," * 9 + "]\n" + _bomb(), "unfolds to"),
        ("- a\n- b\nc", "params.yaml is not YAML"),
        ("null: 1", "Incompatible key type"),
    ],
)
def test_params_that_set_hydra_are_refused(tree, line, says):
    text = Path("params.yaml").read_text("utf-8")
    Path("params.yaml").write_text(f"{line}\n{text}", "utf-8")
    for module in ("stages.equivariance", "stages.conf"):
        answer = typed(module)
        assert answer.returncode == 1
        assert says in answer.stderr, answer.stderr
    assert not Path("called").exists()


def test_code_named_within_a_configuration_is_refused(tree):
    edit("params.yaml", "    base: 2.0", "    base: {_target_: os.getcwd}")
    answer = typed("stages.corpus")
    assert "'distance.options.base._target_' names code to run" in answer.stderr


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("experiment/mine", f"# @package _global_\nhydra: {{callbacks: {{a: {CALL}}}}}\n"),
        ("experiment/mine", f"# @package hydra.callbacks\na: {CALL}\n"),
        ("experiment/mine", f"a: {CALL}\n"),
        ("hydra/callbacks/mine", f"a: {CALL}\n"),
        ("experiment/mine", "defaults: [/model@hydra.job_logging: bert]\n"),
    ],
)
def test_a_file_of_conf_that_sets_hydra_or_names_code_is_refused(tree, name, text):
    file = Path("conf") / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")
    for module in ("commands.sweep", "commands.demo"):
        answer = typed(module, "+experiment=mine")
        assert answer.returncode == 1
        assert f"{file}" in answer.stderr
        assert "sets Hydra itself" in answer.stderr or "names code to run" in answer.stderr
    assert not Path("called").exists()


def typed(module: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *words],
        env={**os.environ, "PYTHONPATH": str(store.ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_stage_takes_its_model_from_the_cell_that_dvc_runs(monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "diagrams@tiny")
    assert app._cell("diagrams") == "tiny"
    assert app._cell("context") is None
    monkeypatch.setenv("DVC_STAGE", "corpus")
    assert app._cell("corpus") in (None, "")
    monkeypatch.delenv("DVC_STAGE")
    assert app._cell("") in (None, "")


def test_packages_off_their_pins_are_found():
    here = (store.ROOT / "constraints.txt").read_text()
    assert pins.off("numpy==1.0\n# nothing\nno-such-thing==2.0  # why\ntorch>=1\n") == {
        "numpy": ("1.0", pins._installed("numpy")),
        "no-such-thing": ("2.0", None),
    }
    assert "torch" not in pins.off(here), "2.13.0+cpu is 2.13.0"
    assert pins.listed({"numpy": ("1.0", "2.0"), "x": ("1", None)}) == (
        "numpy 2.0 (pinned 1.0), x missing (pinned 1)"
    )


def test_a_stage_ends_where_what_makes_its_numbers_is_off_its_pins(
    tmp_path, monkeypatch, capsys, settings
):
    monkeypatch.chdir(tmp_path)
    Path("constraints.txt").write_text("numpy==1.0\n")
    with pytest.raises(InputError, match=r"numpy 2\S+ \(pinned 1\.0\).*`make setup` mends it"):
        app._off_pins()
    monkeypatch.setenv(pins.ALLOWED, "1")
    off = app._off_pins()
    assert "warning: not as constraints.txt pins: numpy 2" in capsys.readouterr().err
    app._log("corpus", None, 1.0, 1, settings.engine, off)
    line = json.loads((store.LOGS / "runs.jsonl").read_text())
    assert line["off_pins"]["numpy"][0] == "1.0"


@pytest.mark.usefixtures("nothing_chosen")
def test_the_run_log_says_what_may_move_a_bit(tmp_path, monkeypatch, settings):
    import numba
    import torch

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    app._log("diagrams", "tiny", 1.0, 1, settings.engine, {})
    line = json.loads((store.LOGS / "runs.jsonl").read_text())
    assert line["threads"] == {
        "torch": torch.get_num_threads(),
        "numba": numba.get_num_threads(),
    }
    assert line["torch_capability"] == torch.backends.cpu.get_cpu_capability()
    assert line["chosen"] == {"ATEN_CPU_CAPABILITY": "default"}
    assert machine.shown(line).endswith("(ATEN_CPU_CAPABILITY=default)")
    # As an image sets it; the order is that of the list, not of the environment.
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert machine.shown(machine.describe()).endswith(
        "(ATEN_CPU_CAPABILITY=default OPENBLAS_CORETYPE=Haswell)"
    )


def test_a_tool_off_its_pin_is_a_warning(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("constraints.txt").write_text("pytest==1.0\n")
    assert list(app._off_pins()) == ["pytest"]
    assert "warning: not as constraints.txt pins: pytest" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/cpuinfo is Linux's")
def test_the_processor_is_described():
    found = machine.describe()
    assert found["cpu"]
    assert found["features"]
    flags = set(Path("/proc/cpuinfo").read_text().split())
    assert set(found["features"]) == set(machine.FEATURES) & flags
