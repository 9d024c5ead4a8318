"""Files made to do harm, through every door: those of tests/hostile, and some that are generated.

`python -m benchmarks.soak --only hostile` lets in 10,000. It forks, so it has a process of its own.
"""

import json
import os
import subprocess
import sys

import pytest

from benchmarks.soak import hostile
from pipeline import store

# DOOR/FAULT -> a word of what is said; "" where the file is good.
SAID = {
    "conf/alias-bomb": "unfolds to",
    "conf/defaults-of-a-number": "Unsupported type in defaults",
    "conf/hydra": "sets Hydra itself",
    "conf/hydra-group": "sets Hydra itself",
    "conf/package-hydra": "sets Hydra itself",
    "conf/reference-to-the-parent": "parent node",
    "conf/target": "names code to run",
    "csv/no-rows": "no usable text",
    "csv/nul": "holds NUL",
    "csv/open-quote": "the quote that opens on line 3",
    "csv/semicolons": "corpus.delimiter",
    "csv/quoted-semicolons": "corpus.delimiter",
    "csv/utf-16-without-a-mark": "iconv",
    "gguf/empty-arrays": "not a whole GGUF file",
    "gguf/long-array": "not a whole GGUF file",
    "gguf/long-string": "not a whole GGUF file",
    "gguf/many-keys": "not a whole GGUF file",
    "gguf/nested-arrays": "not a whole GGUF file",
    "gguf/no-gguf": "not a whole GGUF file",
    "gguf/no-such-quantisation": "does not know",
    "gguf/quantisation-an-array": "not a whole GGUF file",
    "images/a-line": "one side over 100 times",
    "images/bomb": "decompression bomb",
    "images/no-image": "not an image",
    "images/postscript": "not an image",
    "jsonl/5000-digits": "more than 4,300 digits",
    "jsonl/lone-surrogate": "lone surrogate",
    "jsonl/nested": "not JSON",
    "jsonl/no-object": "not a JSON object",
    "jsonl/nul": "holds NUL",
    "jsonl/utf-16-without-a-mark": "not JSON",
    "model/config-0-heads": "Model tiny",
    "model/config-a-billion-layers": "layers",
    "model/config-a-billion-wide": "Model tiny",
    "model/config-a-list": "holds a list",
    "model/config-auto-map": "code of its own",
    "model/config-is-code": "not JSON",
    "model/config-negative-layers": "Model tiny",
    "model/config-nested": "not JSON",
    "model/config-other-weights": "transformers_weights",
    "model/config-utf-16": "not JSON",
    "model/index-a-list": "holds a list",
    "model/index-no-strings": "no weight_map",
    "model/index-out-of-the-folder": "leads out of",
    "model/pickle": "could run code",
    "model/safetensors-header": "Model tiny",
    "model/tokenizer-nested": "Model tiny",
    "overrides/1000-numbers": "",
    "overrides/a-number-for-a-group": "Hydra cannot read",
    "overrides/key-for-the-shell": "touch ran",
    "overrides/name-too-long": "too long",
    "overrides/no-such-choice": "Could not find",
    "overrides/not-utf-8": "corpus.path",
    "overrides/reference-to-the-parent": "Hydra cannot read",
    "params/a-number": "params.yaml",
    "params/alias-bomb": "unfolds to",
    "params/binary": "is of type bytes",
    "params/dotted-key": "cannot name a model",
    "params/huge-integer": "not YAML",
    "params/hydra": "'hydra' is not known",
    "params/key-for-the-shell": "cannot name a model",
    "params/max-tokens-0": "max_tokens is 0",
    "params/nested": "not YAML",
    "params/no-mapping": "holds no keys",
    "params/no-such-reference": "not found",
    "params/null-key": "not YAML",
    "params/package-hydra": "@package",
    "params/python-tag": "not YAML",
    "params/self-reference": "Recursive interpolation",
    "params/target": "names code to run",
    "params/references": "characters",
    "params/timestamp-tag": "not YAML",
    "params/utf-16": "not YAML",
    "parquet/cut": "cannot be read as parquet",
    "parquet/damaged-schema": "cannot be read as parquet",
    "parquet/name-not-utf-8": "utf-8",
    "parquet/numbers": "expected strings",
    "table/cut": "is damaged",
    "table/not-ours": "does not say what made it",
    "table/words-not-utf-8": "is damaged",
    "table/provenance-a-list": "does not say what made it",
    "text/empty": "no usable text",
    "text/not-utf-8": "not UTF-8",
    "text/nul": "holds NUL",
    "text/utf-16-cut": "half a character",
    "text/utf-16-with-a-mark": "",
    "text/utf-16-without-a-mark": "holds NUL",
}
GENERATED = 200
SCRIPT = """
import json, sys
from pathlib import Path
from benchmarks.soak import hostile
with hostile.Reader(Path(sys.argv[1])) as reader:
    kept = hostile.kept_inputs()
    made = hostile.generated(int(sys.argv[2]), reader.valid, 14)
    print(json.dumps([[*reader.read(given)] for given in [*kept, *made]]))
"""


def faults() -> list[str]:
    files = [path for path in sorted(hostile.KEPT.rglob("*")) if path.is_file()]
    return ["/".join(path.relative_to(hostile.KEPT).parts[:2]) for path in files]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> list[list[str]]:
    folder = tmp_path_factory.mktemp("hostile")
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT, folder, str(GENERATED)],
        cwd=store.ROOT,
        env={**os.environ, "PYTHONPATH": str(store.ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def test_every_kept_file_has_its_expectation():
    assert faults() == sorted(SAID)


@pytest.mark.parametrize("fault", SAID)
def test_a_kept_file_ends_as_expected(outcomes, fault):
    how, said, _ = outcomes[faults().index(fault)]
    assert how != "wrong", said
    assert SAID[fault] in said
    assert (how == "a result") == (not SAID[fault])


def test_generated_inputs_end_well(outcomes):
    made = outcomes[len(SAID) :]
    assert len(made) == GENERATED
    assert [said for how, said, _ in made if how == "wrong"] == []
