"""Tiny models of every architecture, from its config with a fixed seed, saved as the hub has them.

Each is saved with the head it was trained with on the hub, so that loading meets the same
missing and unexpected keys, and with a tokenizer trained here on a few sentences.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.models import Model, ModelSpec, load, quiet

SENTENCES = [
    "the cat sat on the mat and the dog sat on the cat",
    "quantum information theory is interesting and fascinating",
    "attention is a distribution over the tokens of a text",
    "שלום עולם",
    "אַ ייִדישע שפּראַך",
]
SEED = 20
SIZE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
# Wide enough that random attention is far from uniform.
WIDE = {"initializer_range": 0.3}
POSITIONS = {"max_position_embeddings": 64}
FEED = {"intermediate_size": 37}
VISION = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def spec(folder: Path, **changes: Any) -> ModelSpec:
    values: dict[str, Any] = {
        "source": "folder",
        "path": str(folder),
        "revision": None,
        "gguf_file": None,
        "dtype": "float32",
        "max_tokens": 48,
        "special_tokens": True,
        "trust_remote_code": False,
    }
    return ModelSpec(**(values | changes))


def make(kind: str, folder: Path, **changes: Any) -> Model:
    """Save a tiny model of a kind in a folder, and load it as the pipeline does."""
    return load(kind, spec(save(kind, folder), **changes))


def save(kind: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        MODELS[kind](folder)
    return folder


def network(kind: type, folder: Path, config: Any, pickled: bool = False) -> None:
    import torch

    torch.manual_seed(SEED)
    made = kind(config).eval()
    if pickled:
        made.config.save_pretrained(folder)
        torch.save(made.state_dict(), folder / "pytorch_model.bin")
    else:
        made.save_pretrained(folder)


def word_pieces(folder: Path, lower: bool) -> int:
    from tokenizers import BertWordPieceTokenizer

    trained = BertWordPieceTokenizer(lowercase=lower, strip_accents=lower)
    trained.train_from_iterator(SENTENCES, vocab_size=150, min_frequency=1, show_progress=False)
    trained.save_model(str(folder))
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": lower}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return int(trained.get_vocab_size())


def byte_pairs(folder: Path, kind: str, special: list[str]) -> int:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    trained.train_from_iterator(SENTENCES, trainer)
    if kind == "PreTrainedTokenizerFast":
        trained.save(str(folder / "tokenizer.json"))
    else:
        trained.model.save(str(folder))
    settings = {"tokenizer_class": kind}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return int(trained.get_vocab_size())


def bert(folder: Path) -> None:
    from transformers import BertConfig, BertForPreTraining

    size = word_pieces(folder, lower=True)
    config = BertConfig(vocab_size=size, **SIZE, **WIDE, **POSITIONS, **FEED)
    network(BertForPreTraining, folder, config)


def mbert(folder: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM

    size = word_pieces(folder, lower=False)
    config = BertConfig(vocab_size=size, **SIZE, **WIDE, **POSITIONS, **FEED)
    network(BertForMaskedLM, folder, config)  # it has no pooler


def alephbert(folder: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM

    size = word_pieces(folder, lower=False)
    config = BertConfig(vocab_size=size, **SIZE, **WIDE, **POSITIONS, **FEED)
    network(BertForMaskedLM, folder, config, pickled=True)


def distilbert(folder: Path) -> None:
    from transformers import DistilBertConfig, DistilBertForMaskedLM

    size = word_pieces(folder, lower=True)
    config = DistilBertConfig(
        vocab_size=size, dim=32, n_layers=3, n_heads=4, hidden_dim=37, **WIDE, **POSITIONS
    )
    network(DistilBertForMaskedLM, folder, config)


def roberta(folder: Path) -> None:
    from transformers import RobertaConfig, RobertaForMaskedLM

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    size = byte_pairs(folder, "RobertaTokenizer", special)
    config = RobertaConfig(vocab_size=size, **SIZE, **WIDE, **FEED, max_position_embeddings=66)
    network(RobertaForMaskedLM, folder, config)


def gpt2(folder: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    size = byte_pairs(folder, "GPT2Tokenizer", ["<|endoftext|>"])
    config = GPT2Config(vocab_size=size, n_embd=32, n_layer=3, n_head=4, n_positions=64, **WIDE)
    network(GPT2LMHeadModel, folder, config)


def smollm2(folder: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    size = byte_pairs(folder, "GPT2Tokenizer", ["<|endoftext|>"])
    config = LlamaConfig(
        vocab_size=size,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        **SIZE,
        **WIDE,
        **POSITIONS,
        **FEED,
    )
    network(LlamaForCausalLM, folder, config)


def mamba(folder: Path) -> None:
    from transformers import MambaConfig, MambaModel

    size = byte_pairs(folder, "PreTrainedTokenizerFast", [])
    config = MambaConfig(vocab_size=size, hidden_size=32, num_hidden_layers=2, state_size=4)
    network(MambaModel, folder, config)


def jamba(folder: Path) -> None:
    """Every other layer is a state space and has no attention."""
    from transformers import JambaConfig, JambaModel

    size = byte_pairs(folder, "PreTrainedTokenizerFast", [])
    config = JambaConfig(
        vocab_size=size,
        num_key_value_heads=2,
        attn_layer_period=2,
        attn_layer_offset=1,
        expert_layer_period=2,
        expert_layer_offset=1,
        num_experts=2,
        mamba_d_state=4,
        **(SIZE | {"num_hidden_layers": 4}),
        **POSITIONS,
        intermediate_size=32,
    )
    network(JambaModel, folder, config)


def longformer(folder: Path) -> None:
    from transformers import LongformerConfig, LongformerModel

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    size = byte_pairs(folder, "RobertaTokenizer", special)
    config = LongformerConfig(
        vocab_size=size, attention_window=8, **SIZE, **FEED, max_position_embeddings=66
    )
    network(LongformerModel, folder, config)


def big_bird(folder: Path) -> None:
    from transformers import BigBirdConfig, BigBirdModel

    size = word_pieces(folder, lower=True)
    config = BigBirdConfig(
        vocab_size=size,
        attention_type="block_sparse",
        block_size=4,
        num_random_blocks=1,
        **SIZE,
        **FEED,
        max_position_embeddings=256,
    )
    network(BigBirdModel, folder, config)


def gpt_oss(folder: Path) -> None:
    """Its softmax has one more place, the sink, which no key gets."""
    from transformers import GptOssConfig, GptOssModel

    size = byte_pairs(folder, "PreTrainedTokenizerFast", [])
    config = GptOssConfig(
        vocab_size=size,
        num_key_value_heads=2,
        head_dim=8,
        num_local_experts=2,
        num_experts_per_tok=1,
        sliding_window=16,
        **SIZE,
        **WIDE,
        **POSITIONS,
        intermediate_size=32,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    network(GptOssModel, folder, config)


def t5(folder: Path) -> None:
    from transformers import T5Config, T5Model

    size = word_pieces(folder, lower=True)
    config = T5Config(vocab_size=size, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
    network(T5Model, folder, config)


def image_processor(folder: Path, size: int, patch: int) -> dict[str, int]:
    """Save an image processor of the class that the hub's ViT names; return the config's sizes."""
    from transformers import ViTImageProcessorPil

    ViTImageProcessorPil(size={"height": size, "width": size}).save_pretrained(folder)
    return {"image_size": size, "patch_size": patch}


def vit(folder: Path) -> None:
    from transformers import ViTConfig, ViTForImageClassification

    sizes = image_processor(folder, 32, 8)
    config = ViTConfig(**VISION, **WIDE, **FEED, **sizes)
    network(ViTForImageClassification, folder, config)  # it has no pooler


def deit(folder: Path) -> None:
    """It has a distillation token beside the class token."""
    from transformers import DeiTConfig, DeiTForImageClassificationWithTeacher

    sizes = image_processor(folder, 32, 8)
    config = DeiTConfig(**VISION, **WIDE, **FEED, **sizes)
    network(DeiTForImageClassificationWithTeacher, folder, config)


def dinov2_with_registers(folder: Path) -> None:
    """It has four registers between the class token and the patches."""
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    sizes = image_processor(folder, 24, 8)
    network(Dinov2WithRegistersModel, folder, Dinov2WithRegistersConfig(**VISION, **WIDE, **sizes))


def vit_mae(folder: Path) -> None:
    """It hides three patches of four, at random."""
    from transformers import ViTMAEConfig, ViTMAEModel

    sizes = image_processor(folder, 32, 8)
    network(ViTMAEModel, folder, ViTMAEConfig(**VISION, **WIDE, **FEED, **sizes))


def yolos(folder: Path) -> None:
    """It has tokens of its own behind the patches too."""
    from transformers import YolosConfig, YolosModel

    image_processor(folder, 32, 8)
    config = YolosConfig(
        **VISION, **WIDE, **FEED, image_size=[32, 32], patch_size=8, num_detection_tokens=3
    )
    network(YolosModel, folder, config)


def swin(folder: Path) -> None:
    """Its attention is within windows, and it merges patches."""
    from transformers import SwinConfig, SwinModel

    sizes = image_processor(folder, 32, 4)
    config = SwinConfig(embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4, **sizes)
    network(SwinModel, folder, config)


def clip_vision(folder: Path) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    sizes = image_processor(folder, 32, 8)
    network(CLIPVisionModel, folder, CLIPVisionConfig(**VISION, **FEED, **sizes))


def gguf(path: Path) -> None:
    """Write a Llama-type model of two layers as a GGUF file, quantised as Q8_0."""
    import numpy as np
    from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType
    from gguf.quants import quantize

    byte_pairs(path.parent, "PreTrainedTokenizerFast", [])
    pieces = json.loads((path.parent / "tokenizer.json").read_text("utf-8"))["model"]
    (path.parent / "tokenizer.json").unlink()
    (path.parent / "tokenizer_config.json").unlink()
    writer = GGUFWriter(path, "llama")
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0)
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(16)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(pieces["vocab"]))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(sorted(pieces["vocab"], key=pieces["vocab"].__getitem__))
    writer.add_token_types([1] * len(pieces["vocab"]))
    writer.add_token_merges([" ".join(merge) for merge in pieces["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    random = np.random.default_rng(SEED)
    layer = {"attn_q": 64, "attn_k": 32, "attn_v": 32, "attn_output": 64}
    layer |= {"ffn_gate": 64, "ffn_up": 64, "ffn_down": 64}
    shapes = {"token_embd": len(pieces["vocab"])}
    shapes |= {f"blk.{k}.{part}": rows for k in range(2) for part, rows in layer.items()}
    for name, rows in shapes.items():
        values = random.normal(0, 0.3, (rows, 64)).astype(np.float32)
        kind = GGMLQuantizationType.Q8_0
        writer.add_tensor(f"{name}.weight", quantize(values, kind), raw_dtype=kind)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "blk.1.attn_norm", "blk.1.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(64, dtype=np.float32))
    writer.add_tensor("output_norm.weight", np.ones(64, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


ENCODERS = ("bert", "mbert", "alephbert", "distilbert", "roberta")
DECODERS = ("gpt2", "smollm2")
SEEING = ("vit", "deit", "dinov2_with_registers", "clip_vision")
MODELS: dict[str, Callable[[Path], None]] = {
    function.__name__: function
    for function in (
        bert,
        mbert,
        alephbert,
        distilbert,
        roberta,
        gpt2,
        smollm2,
        mamba,
        jamba,
        longformer,
        big_bird,
        gpt_oss,
        t5,
        vit,
        deit,
        dinov2_with_registers,
        vit_mae,
        yolos,
        swin,
        clip_vision,
    )
}
