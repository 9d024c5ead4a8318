"""The real models that packages carry, each read once for all tests: a GGUF file takes 20 s."""

import functools
import tempfile
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.models import Model, ModelSpec, find, gguf_files, load, quiet
from stages import compose

CONF = Path(__file__).parent.parent / "conf"


def spec(name: str) -> ModelSpec:
    return ModelSpec(**compose.values("model", name, CONF))


@functools.cache
def smollm2() -> Model:
    """Read the GGUF file itself."""
    return load("smollm2", spec("smollm2"))


@functools.cache
def _folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory()


@functools.cache
def smollm2_cache() -> Path:
    """Give a model cache that holds the conversion, for `load("smollm2", spec, cache)`."""
    direct, cache = smollm2(), Path(_folder().name)
    path = find("smollm2", direct.spec) / str(direct.spec.gguf_file)
    with quiet():
        gguf_files.converted(
            path, direct.weights_sha256, cache, lambda _: (direct.tokenizer, direct.network)
        )
    return cache


def at_hand(name: str) -> Model:
    """Load a model of the hub from its cache, or skip."""
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
            return load(name, spec(name))
    except InputError as error:
        pytest.skip(f"the weights of {name} are not at hand: {error}")
