import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import store
from pipeline.errors import InputError
from stages import compose

MODELS = compose.choices("model", store.ROOT / "conf")


@pytest.fixture(autouse=True)
def at_the_top(monkeypatch):
    monkeypatch.chdir(store.ROOT)


def test_the_committed_params_are_what_conf_composes_to():
    written, _ = compose.compose([])
    assert Path("params.yaml").read_bytes() == written


@pytest.mark.parametrize("model", MODELS)
def test_every_model_file_fits_the_schema(model):
    _, found = compose.compose([f"+model@models.another={model}"])
    assert found.models["another"].dtype == "float32"


def test_the_named_models_are_there():
    named = {"minilm", "smollm2", "gpt2", "bert", "mbert", "distilbert", "roberta", "alephbert"}
    assert named <= set(MODELS)


@pytest.mark.parametrize(
    ("group", "key"),
    [("distance", "distance"), ("homology", "homology"), ("comparison", "comparison")],
)
def test_every_file_of_a_group_fits_the_schema(group, key):
    files = sorted((store.ROOT / "conf" / group).glob("*.yaml"))
    assert len(files) > 1
    for file in files:
        compose.compose([f"{group}={file.stem}", "null=[random_weights]"])


def test_every_corpus_fits_once_it_has_a_path():
    for name in compose.choices("corpus"):
        given = ["corpus.path=x"] if compose.as_written("corpus", name)["path"] == "???" else []
        compose.compose([f"corpus={name}", *given])


@pytest.mark.parametrize("base", [["corpus=base"], ["+model@models.another=base"]])
def test_a_base_is_no_choice_of_its_own(base):
    with pytest.raises(InputError, match=r"(corpus|models\.another)\.\w+"):
        compose.compose(base)


def test_the_notebook_experiment_is_a_delta():
    _, found = compose.compose(["experiment=notebook"])
    assert found.corpus.name == "notebook"
    assert (found.distance.rule, found.distance.options["base"]) == ("resoftmax", 2.718281828459045)
    assert (found.homology.max_dimension, found.homology.min_persistence) == (0, 0.01)
    assert found.homology.coefficient_field == 11


def test_the_vision_experiment_takes_the_models_of_texts_out():
    _, found = compose.compose(["experiment=vision"])
    assert list(found.models) == ["vit"]
    assert found.corpus.name == "photographs"
    assert found.comparison.text_pairs == "all"
    _, mine = compose.compose(["experiment=vision", "corpus=images", "corpus.path=x"])
    assert (mine.corpus.name, mine.corpus.path, mine.corpus.watch) == ("images", "x", "x")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["corpus=nope"],
            "Could not find 'corpus/nope' Available options in 'corpus': base csv images",
        ),
        (["+model@models.x=nope"], "Could not find 'model/nope' Available options"),
        (["homology.max_dim=2"], "Could not override 'homology.max_dim'"),
        (["corpus=text"], "corpus.path=VALUE"),
        (["corpus.limit=many"], "'corpus.limit' is 'many'"),
        (["=("], "Hydra's grammar has no such override"),
    ],
)
def test_a_wrong_word_is_a_sentence(words, says):
    with pytest.raises(InputError, match=says):
        compose.compose(words)


def typed(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=store.ROOT, capture_output=True, text=True, check=False
    )


def test_at_the_command_line_an_error_is_one_line():
    answer = typed("commands.compose", "corpus=nope")
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: ")
    assert len(answer.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("stages.diagrams",), "no model was given; add +model=NAME, one of: minilm, smollm2"),
        (("stages.diagrams", "+model=gpt2"), "model 'gpt2' is not in the configuration"),
        (("stages.corpus", "corpus.path=nowhere.txt"), "nowhere.txt"),
        (("stages.corpus", "+corpus.colour=red"), "'corpus.colour' is not known"),
    ],
)
def test_a_stage_fails_with_a_sentence(words, says):
    answer = typed(*words)
    assert answer.returncode == 1
    assert says in answer.stderr
    assert "Traceback" not in answer.stderr


def test_check_says_when_params_are_stale(tmp_path, monkeypatch):
    (tmp_path / "conf").symlink_to(store.ROOT / "conf")
    monkeypatch.chdir(tmp_path)
    compose.write([])
    compose.check([])
    stale = Path("params.yaml").read_text().replace("max_dimension: 1", "max_dimension: 0")
    Path("params.yaml").write_text(stale)
    with pytest.raises(InputError, match=r"params\.yaml is not what conf/ composes to"):
        compose.check([])
    assert Path("params.yaml").read_text() == stale


def test_an_override_that_would_be_read_for_minutes_is_refused():
    numbers = ",".join(["0.1"] * 20_000)
    with pytest.raises(InputError, match=r"'homology\.cluster_scales.* has 80,0\d\d characters"):
        compose.compose([f"homology.cluster_scales=[{numbers}]"])
