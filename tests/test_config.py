import copy
import re

import pytest

from pipeline import config
from pipeline.errors import InputError
from stages import compose


def changed(composed: dict, key: str, value: object) -> dict:
    """A copy in which the dotted key has the value."""
    result = copy.deepcopy(composed)
    *path, last = key.split(".")
    inner = result
    for step in path:
        inner = inner[step]
    inner[last] = value
    return result


def without(composed: dict, key: str) -> dict:
    result = changed(composed, key, None)
    *path, last = key.split(".")
    inner = result
    for step in path:
        inner = inner[step]
    del inner[last]
    return result


def test_the_committed_default_fits(composed):
    found = config.check(composed)
    assert list(found.models) == ["minilm", "smollm2"]
    assert found.models["minilm"].max_tokens == 512
    assert found.homology.max_dimension == 1


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("homology.max_dim", 1, "'homology.max_dim' is not known.*max_dimension"),
        ("models.minilm.layers", 1, "'models.minilm.layers' is not known.*max_tokens"),
        ("colour", "red", "'colour' is not known; allowed here: models, nulls, corpus"),
        ("homology.max_dimension", "one", "'homology.max_dimension' is 'one'.*integer"),
        ("homology.max_dimension", True, "'homology.max_dimension' is True.*integer"),
        ("models.minilm.special_tokens", 1, "'models.minilm.special_tokens' is 1.*boolean"),
        ("corpus.limit", "many", "'corpus.limit' is 'many'.*integer"),
        ("comparison.metric", "frechet", "'comparison.metric'.*'bottleneck' or 'wasserstein'"),
        ("comparison.text_pairs", "some", "'comparison.text_pairs'.*'group', 'all' or 'none'"),
        ("comparison.confidence", 95.0, "confidence is 95.0; it must lie between 0 and 1"),
        ("comparison.order", 0.5, "order is 0.5"),
        ("homology.max_dimension", 7, "max_dimension is 7; it must be 0 to 3"),
        ("homology.coefficient_field", 4, "coefficient_field is 4; give a prime"),
        ("homology.min_persistence", -0.1, "min_persistence is -0.1"),
        ("distance.rule", "euclid", "no rule is called 'euclid'; there are jensen_shannon"),
        ("distance.options", {"bass": 2.0}, "has no option bass; it has base"),
        ("distance.options", {"base": 1.0}, "base is 1.0"),
        ("context.text_pairs", "none", "'context.text_pairs'.*'group' or 'all'"),
        ("context.tolerances", [0.2, 0.1], "give each once, ascending"),
        ("context.tolerances", ["x"], "'context.tolerances.0' is 'x'.*number"),
        ("engine.part_texts", 0, "part_texts is 0; it must be at least 1"),
        ("engine.workers", 0, "workers is 0; it must be at least 1"),
        ("engine.threads", 0, "threads is 0; it must be at least 1"),
        ("engine.max_aside", 1.5, "max_aside is 1.5; give a share, from 0 to 1"),
        ("engine.device", "gpu", "device is 'gpu'; give one of auto, cpu, cuda"),
        ("corpus.name", "../up", "'../up' cannot name a file"),
        ("corpus.name", "x" * 300, "cannot name a file"),
        ("corpus.path", "???", "'corpus.path' has no value; give one with corpus.path=VALUE"),
        ("models", {}, "models is empty"),
        ("models.minilm.max_tokens", 0, "Model minilm: max_tokens is 0: set it to 1"),
        ("models.minilm.dtype", "foo", "Model minilm: dtype is 'foo'"),
        ("corpus.limit", 0, "limit is 0; give at least 1"),
        ("corpus.format", "xml", "format 'xml' is unknown"),
        ("models", 3, "'models' is 3"),
    ],
)
def test_a_fault_is_named_with_what_is_allowed(composed, key, value, says):
    with pytest.raises(InputError, match=re.compile(says, re.DOTALL)):
        config.check(changed(composed, key, value))


@pytest.mark.parametrize(
    "key", ["homology", "homology.min_persistence", "models.smollm2.max_tokens", "corpus.limit"]
)
def test_a_missing_key_is_named(composed, key):
    with pytest.raises(InputError, match=f"'{key}' is missing"):
        config.check(without(composed, key))


def test_a_model_name_stays_in_its_folder(composed):
    models = composed["models"]
    for name in ("../minilm", "k" * 300):
        with pytest.raises(InputError, match="cannot name a model"):
            config.check(changed(composed, "models", {name: models["minilm"]}))


def test_a_dot_in_a_model_name_is_told_as_such(composed):
    models = {"a": {"b": composed["models"]["minilm"]}}
    with pytest.raises(InputError, match=r"^'a\.b' cannot name a model: a name has no '\.'"):
        config.check(changed(composed, "models", models))


def test_all_faults_are_told_together(composed):
    broken = changed(without(composed, "distance"), "homology.max_dim", 1)
    with pytest.raises(InputError, match=r"'distance' is missing; 'homology.max_dim' is not known"):
        config.check(broken)


@pytest.mark.parametrize(
    ("value", "kind"), [(b"hello", "bytes"), ({1, 2}, "set"), ([[b""]], "bytes"), (1j, "complex")]
)
def test_a_value_that_is_no_plain_value_is_named(composed, value, kind):
    """`!!binary` in a YAML file ended in json's own error."""
    model = {**composed["models"]["minilm"], "dtype": value}
    with pytest.raises(InputError, match=rf"'models\.minilm\.dtype.*' is of type {kind}"):
        config.check({**composed, "models": {"minilm": model}})


def test_shuffled_rows_have_no_hidden_states():
    with pytest.raises(
        InputError, match=r"its null is \w+, which acts on .* set null=\[random_weights\]"
    ):
        compose.compose(["experiment=nulls", "distance=hidden_cosine"])
