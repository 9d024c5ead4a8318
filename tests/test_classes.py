"""Hidden states of classes that keep them in ways of their own: theirs to the bit, or a sentence.

All classes of transformers that could be built small were looked at once, as this does; these
are one of each kind.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import CONFIG_MAPPING, MODEL_MAPPING, AutoModel, GPT2Config

from pipeline import models
from pipeline.attention import encode, for_each_layer, hidden_states
from pipeline.errors import InputError
from pipeline.models import Model, attention_modules, load
from tests import tiny

TEXT = tiny.SENTENCES[0]
SIZE = tiny.SIZE | tiny.POSITIONS | tiny.FEED | {"num_hidden_layers": 2}
FEW = {"num_key_value_heads": 2, "head_dim": 8}
STREAMS = {
    "intermediate_size": [48, 48],
    "layer_types": ["full_attention"] * 2,
    "activation_sparsity_pattern": [0.0] * 2,
    "num_kv_shared_layers": 0,
    "vocab_size_per_layer_input": 320,
    "hidden_size_per_layer_input": 8,
}
# Whether the last one is the output of the network, or None where the output has no such name.
EQUAL: dict[str, tuple[dict[str, Any], bool | None]] = {
    "clip_text_model": ({}, False),
    "dpr": ({}, None),
    "albert": ({"embedding_size": 16}, True),
    "ibert": ({}, True),
    "llama4_text": (FEW | {"num_local_experts": 2, "intermediate_size_mlp": 48}, True),
    "gemma2": (FEW, True),
}
NO_STATES = "gives no {} hidden states of one vector for each of 15 tokens, but {}"
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "gemma3n_text": (FEW | STREAMS, NO_STATES.format(3, r"3 of shape \(4, 1, 15, 32\)")),
    "embedding_gemma2_text": (FEW, NO_STATES.format(3, r"3 of shape \(1, 15, 32\), \(1, 15, 768")),
    "blip_2_qformer": ({"encoder_hidden_size": 32}, "has no embeddings of tokens"),
    "idefics3_vision": ({"image_size": 32, "patch_size": 8}, "has no embeddings of tokens"),
    "exaone4_5_vision": ({"depth": 2, "num_heads": 4}, "has no embeddings of tokens"),
}


def save(kind: str, folder: Path, sizes: dict[str, Any]) -> Path:
    """Save a tiny model of a class, by its name in transformers, as tests.tiny does of others."""
    vocabulary = tiny.byte_pairs(folder, "PreTrainedTokenizerFast", [])
    config = CONFIG_MAPPING[kind](vocab_size=vocabulary, **(SIZE | sizes))
    network = MODEL_MAPPING[type(config)]
    tiny.network(network[0] if isinstance(network, tuple) else network, folder, config)
    return folder


def entering(model: Model) -> list[np.ndarray]:
    """What the module around each attention module, the block of a layer, is given."""
    found: list[np.ndarray] = []
    # As "encoder.layer.0" of "encoder.layer.0.attention"; one block of ALBERT is all its layers.
    paths = [re.match(r"(?:.*?\.)?\d+(?=\.)", path) for path, _ in attention_modules(model.network)]
    blocks = {path.group(): model.network.get_submodule(path.group()) for path in paths if path}

    def keep(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = args[0] if args else kwargs["hidden_states"]
        found.append(given[0].double().numpy().copy())

    hooks = [block.register_forward_pre_hook(keep, with_kwargs=True) for block in blocks.values()]
    try:
        for_each_layer(model, encode(model, TEXT), lambda *_: None)
    except InputError:  # it gives no maps, which is not what is looked at
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return found


@pytest.mark.parametrize("kind", EQUAL)
def test_they_are_the_models_own_and_what_enters_each_layer(kind: str, tmp_path: Path) -> None:
    sizes, is_output = EQUAL[kind]
    folder = save(kind, tmp_path, sizes)
    model = load(kind, tiny.spec(folder))
    encoding = encode(model, TEXT)
    found = hidden_states(model, encoding)
    plain = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    ids = torch.from_numpy(encoding.token_ids)[None]
    with torch.inference_mode():
        own = plain(input_ids=ids, use_cache=False, output_hidden_states=True)
    assert np.array_equal(found, np.stack([state[0].numpy() for state in own.hidden_states]))
    for k, given in enumerate(entering(model)):
        assert np.array_equal(found[k], given)
    assert k == model.layers - 1
    last = getattr(own, "last_hidden_state", None)
    same = None if last is None else np.array_equal(found[-1], last[0].numpy())
    assert same is is_output


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_fit_is_refused_with_a_sentence(kind: str, tmp_path: Path) -> None:
    sizes, says = REFUSED[kind]
    folder = save(kind, tmp_path, sizes)
    with pytest.raises(InputError, match=f"Model {kind} .* {says}"):
        model = load(kind, tiny.spec(folder))
        hidden_states(model, encode(model, TEXT))


class Seeing(nn.Module):
    """A network with positions of patches, which no text meets, and of tokens."""

    def __init__(self, of_texts: int, of_patches: int) -> None:
        super().__init__()
        self.text, self.vision = nn.Module(), nn.Module()
        self.text.position_embeddings = nn.Embedding(of_texts, 4)
        self.vision.position_embedding = nn.Embedding(of_patches, 4)
        self.text.forward = lambda ids: self.text.position_embeddings(torch.arange(ids.shape[1]))

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
        return self.text(input_ids)


def test_positions_of_patches_limit_no_text(tmp_path: Path) -> None:
    config, spec = GPT2Config(n_positions=64), tiny.spec(tmp_path)
    models._check_length("both", spec, Seeing(64, 16), config)
    with pytest.raises(InputError, match="max_tokens is 48, but Seeing has 40 positions"):
        models._check_length("both", spec, Seeing(40, 16), config)
    with pytest.raises(InputError, match="max_tokens is 48, but Seeing has 40 positions"):
        models._check_length("both", spec, Seeing(40, 100), config)
