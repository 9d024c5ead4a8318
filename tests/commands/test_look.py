"""Each thing to look at, against the same by plain transformers, SciPy, GUDHI and networkx."""

import functools
import re
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import gudhi
import networkx
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist, squareform
from scipy.stats import entropy
from sklearn.datasets import load_sample_images

from commands import look
from pipeline import models, store
from pipeline.console import sentences
from pipeline.errors import InputError, TextError
from pipeline.models import ModelSpec, load
from tests import packaged, reference, tiny

pytestmark = [pytest.mark.model, pytest.mark.integration]

TEXT = "The cat, who sat on the mat, saw = [a] dog."
OTHER = "Quantum information theory is interesting"
LAYER, HEAD = 3, 10
WORDS = ["--model", "minilm", "--layer", str(LAYER), "--head", str(HEAD)]


@functools.cache
def minilm(max_tokens=512, special_tokens=True):
    spec = packaged.spec("minilm")
    changed = {**vars(spec), "max_tokens": max_tokens, "special_tokens": special_tokens}
    return load("minilm", ModelSpec(**changed))


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch):
    monkeypatch.chdir(store.ROOT)
    ours = packaged.spec("minilm")

    def once(name, spec, cache=None, on="cpu"):
        return minilm() if (name, spec) == ("minilm", ours) else load(name, spec, cache, on)

    monkeypatch.setattr(models, "load", once)


@pytest.fixture
def seen(tmp_path):
    """The table that a command writes."""

    def see(*words):
        path = tmp_path / "seen.parquet"
        look.main([*words, "--to", str(path)])
        return pd.read_parquet(path)

    return see


@functools.cache
def plain(text):
    """Tokens, in lower case, and map of the head, by plain transformers."""
    model = minilm()
    batch = model.tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        output = model.network(**batch, output_attentions=True)
    A = output.attentions[LAYER][0, HEAD].double().numpy()
    tokens = model.tokenizer.convert_ids_to_tokens(batch["input_ids"][0])
    return [token.lower() for token in tokens], A / A.sum(1, keepdims=True)


def metric(text):
    return squareform(pdist(plain(text)[1], "jensenshannon")) / np.sqrt(np.log(2))


def square(table, column):
    n = round(len(table) ** 0.5)
    return table[column].to_numpy().reshape(n, n)


def test_attention(seen):
    tokens, A = plain(TEXT)
    table = seen("attention", *WORDS, "--text", TEXT)
    assert np.allclose(square(table, "attention"), A, atol=1e-6)
    first = table[table["key"] == 0]
    assert first["query"].tolist() == list(range(len(tokens)))
    assert first["query_token"].str.lower().tolist() == tokens
    assert set(first["key_token"]) == {"[CLS]"}


def test_what_is_printed_is_a_grid_with_tokens_at_its_sides(capsys):
    tokens, A = plain(OTHER)
    look.main(["attention", *WORDS, "--text", OTHER])
    title, header, *rows = capsys.readouterr().out.splitlines()
    assert title == "minilm layer 3 head 10: attention"
    labels = [f"{i} {token}" for i, token in enumerate(tokens)]
    assert re.split(r"\s{2,}", header.strip().lower()) == labels
    assert len({len(row) for row in (header, *rows)}) == 1
    for row, label, values in zip(rows, labels, A, strict=True):
        name, *numbers = re.split(r"\s{2,}", row)
        assert name.lower() == label
        assert np.allclose([float(number) for number in numbers], values, atol=1e-6)


def test_entropy(seen):
    table = seen("entropy", *WORDS, "--text", TEXT)
    assert np.allclose(table["entropy"], entropy(plain(TEXT)[1], base=2, axis=1), atol=1e-5)


def test_divergences_are_exact_by_default(seen):
    A = plain(TEXT)[1]
    found = square(seen("kl", *WORDS, "--text", TEXT), "divergence")
    assert np.allclose(found, entropy(A[:, None], A[None], base=2, axis=2), atol=1e-5)


def test_divergences_as_in_the_notebook(seen):
    P = np.exp(plain(TEXT)[1])
    P /= P.sum(1, keepdims=True)
    expected = [[(p * (np.log2(p + 1e-3) - np.log2(q + 1e-3))).sum() for q in P] for p in P]
    words = ("--epsilon", "1e-3", "--distribution", "resoftmax")
    found = square(seen("kl", *WORDS, "--text", TEXT, *words), "divergence")
    assert np.allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize(("layer", "rule"), [(0, "euclidean"), (6, "cosine")])
def test_distances_between_hidden_states(seen, layer, rule):
    words = ["--model", "minilm", "--layer", str(layer), "--head", "0", "--text", TEXT]
    found = square(seen("distances", *words, "--distance", f"hidden_{rule}"), "distance")
    model = minilm()
    with torch.inference_mode():
        batch = model.tokenizer(TEXT, return_tensors="pt")
        states = model.network(**batch, output_hidden_states=True).hidden_states
    expected = squareform(pdist(states[layer][0].double().numpy(), rule))
    assert found == pytest.approx(expected, abs=1e-9)


def test_an_image_in_place_of_a_text(monkeypatch, tmp_path, seen):
    model = tiny.make("vit", tmp_path)
    monkeypatch.setattr(models, "load", lambda *_: model)
    photograph = Path(load_sample_images().filenames[0])
    words = ["--model", "vit", "--layer", "1", "--head", "1", "--image", str(photograph)]
    found = square(seen("attention", *words), "attention")
    batch = model.processor(images=Image.open(photograph), return_tensors="pt")
    with torch.inference_mode():
        A = model.network(**batch, output_attentions=True).attentions[1][0, 1].double().numpy()
    assert found == pytest.approx(A / A.sum(1, keepdims=True), abs=1e-6)
    tokens = seen("graph", *words)["query_token"].unique().tolist()
    assert tokens == ["[CLS]", *(f"{row},{column}" for row in range(4) for column in range(4))]
    with pytest.raises(InputError, match="takes 2 --text, and 1 came"):
        look.main(["bottleneck", *words])
    with pytest.raises(InputError, match=r"The image 'nowhere\.png' cannot be read: No such file"):
        look.main(["entropy", *words[:-1], "nowhere.png"])
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.raises(TextError, match="not an image"):
        look.main(["entropy", *words[:-1], str(broken)])


def test_context_of_two_texts(seen):
    texts = "The cat sat on the mat.", "The cat chased the mouse."
    found = seen("context", "--model", "minilm", "--text", texts[0], "--text", texts[1])
    model = minilm()
    with torch.inference_mode():
        u, v = (
            model.network(
                **model.tokenizer(text, return_tensors="pt"), output_hidden_states=True
            ).hidden_states
            for text in texts
        )
    for row in found.itertuples():
        pair = u[row.layer][0, row.position_a], v[row.layer][0, row.position_b]
        expected = torch.nn.functional.cosine_similarity(*pair, dim=0).item()
        assert row.cosine == pytest.approx(expected, abs=1e-5)
    cats = found[found.token == "cat"]
    assert cats.layer.tolist() == list(range(model.layers + 1))
    assert set(cats.position_a) == set(cats.position_b) == {2}


def test_a_text_of_the_corpus_by_its_id(seen, monkeypatch, tmp_path):
    corpus = tmp_path / "corpus.parquet"
    rows = {"text_id": ["aa", "bb"], "text": [OTHER, TEXT]}
    pd.DataFrame(rows).to_parquet(corpus)
    monkeypatch.setattr(store, "path", lambda table, name: corpus)
    named = seen("entropy", *WORDS, "--text-id", "bb")
    assert named.equals(seen("entropy", *WORDS, "--text", TEXT))
    mixed = seen("bottleneck", *WORDS, "--text-id", "aa", "--text", TEXT)
    assert mixed.equals(seen("bottleneck", *WORDS, "--text", OTHER, "--text", TEXT))
    with pytest.raises(InputError, match=r"corpus\.parquet has no text 'cc': take an id from"):
        look.main(["entropy", *WORDS, "--text-id", "cc"])


def test_context_has_no_head(capsys):
    with pytest.raises(SystemExit), sentences():
        look.main(["context", *WORDS, "--text", TEXT, "--text", OTHER])
    assert "nrecognized arguments: --layer 3 --head 10" in capsys.readouterr().err


def test_distances_in_the_attention_graph(seen):
    found = square(
        seen("distances", *WORDS, "--text", TEXT, "--distance", "attention_graph"), "distance"
    )
    A = plain(TEXT)[1]
    expected = 1 - np.maximum(A, A.T)
    np.fill_diagonal(expected, 0)
    assert found == pytest.approx(expected, abs=1e-12)


def test_distances_are_by_the_rule_of_params_or_the_one_named(seen):
    found = square(seen("distances", *WORDS, "--text", TEXT), "distance")
    assert np.allclose(found, metric(TEXT), atol=1e-5)
    P = np.exp(plain(TEXT)[1])
    named = square(seen("distances", *WORDS, "--text", TEXT, "--distance", "notebook"), "distance")
    assert np.allclose(named, squareform(pdist(P, "jensenshannon")), atol=1e-5)


def diagrams(text):
    tree = gudhi.RipsComplex(distance_matrix=metric(text)).create_simplex_tree(max_dimension=2)
    tree.compute_persistence(homology_coeff_field=2)
    return [np.array(tree.persistence_intervals_in_dimension(d)).reshape(-1, 2) for d in (0, 1)]


def test_diagrams(seen):
    table = seen("diagrams", *WORDS, "--text", TEXT)
    assert set(table["dimension"]) == {0, 1}
    for dimension, expected in enumerate(diagrams(TEXT)):
        found = table.loc[table["dimension"] == dimension, ["birth", "death"]].to_numpy()
        expected = expected[np.lexsort(expected.T[::-1])]
        assert np.allclose(found, expected, atol=1e-5)
    assert set(seen("diagrams", *WORDS, "--text", TEXT, "--homology", "notebook")["dimension"]) == {
        0
    }


def test_bottleneck_of_two_texts(seen):
    table = seen("bottleneck", *WORDS, "--text", TEXT, "--text", OTHER)
    pairs = zip(diagrams(TEXT), diagrams(OTHER), strict=True)
    expected = [reference.hera_bottleneck(a, b) for a, b in pairs]
    assert table["dimension"].tolist() == [0, 1]
    assert np.allclose(table["bottleneck"], expected, atol=1e-5)
    assert expected[0] > 0.01


def test_graph_as_edges_and_as_graphml(seen, tmp_path):
    tokens, A = plain(TEXT)
    table = seen("graph", *WORDS, "--text", TEXT, "--threshold", "0.1")
    edges = np.argwhere(A >= 0.1).tolist()
    assert table[["query", "key"]].to_numpy().tolist() == edges
    assert np.allclose(table["weight"], A[A >= 0.1], atol=1e-6)
    path = tmp_path / "head.graphml"
    look.main(["graph", *WORDS, "--text", TEXT, "--to", str(path)])
    graph = networkx.read_graphml(path, node_type=int)
    assert graph.is_directed()
    assert np.allclose(networkx.to_numpy_array(graph, nodelist=range(len(A))), A, atol=1e-6)
    assert [graph.nodes[i]["token"].lower() for i in range(len(A))] == tokens


def test_a_graph_without_edges(seen):
    assert len(seen("graph", *WORDS, "--text", TEXT, "--threshold", "2")) == 0


def test_symmetrised(seen, tmp_path):
    A = plain(TEXT)[1]
    expected = np.maximum(A, A.T)
    found = square(seen("symmetrised", *WORDS, "--text", TEXT), "weight")
    assert np.allclose(found, expected, atol=1e-6)
    path = tmp_path / "head.graphml"
    look.main(["symmetrised", *WORDS, "--text", TEXT, "--to", str(path)])
    graph = networkx.read_graphml(path, node_type=int)
    assert not graph.is_directed()
    W = networkx.to_numpy_array(graph, nodelist=range(len(A)))
    assert np.allclose(W, expected, atol=1e-6)


def components(D, scale):
    return connected_components(scale >= D, directed=False)


def test_clusters_at_a_scale(seen, capsys):
    D, scale = metric(TEXT), 0.3
    number, labels = components(D, scale)
    table = seen("clusters", *WORDS, "--text", TEXT, "--scale", str(scale))
    assert 1 < number == len(table) < len(D)
    shown = [[int(i) for i in row.split()] for row in table["positions"]]
    assert {tuple(row) for row in shown} == {
        tuple(np.flatnonzero(labels == label)) for label in range(number)
    }
    assert table["size"].tolist() == [len(row) for row in shown]
    for row, medoid in zip(shown, table["representative"], strict=True):
        total = D[np.ix_(row, row)].sum(1)
        assert total[row.index(medoid)] == pytest.approx(total.min(), abs=1e-5)
    tokens = plain(TEXT)[0]
    assert table["token"].str.lower().tolist() == [tokens[i] for i in table["representative"]]
    look.main(["clusters", *WORDS, "--text", TEXT, "--scale", str(scale)])
    title = capsys.readouterr().out.splitlines()[0]
    assert title.endswith(f"{number} of {len(D)} tokens, reduction {number / len(D):.4g}")


def test_clusters_at_all_scales(seen):
    D = metric(TEXT)
    table = seen("clusters", *WORDS, "--text", TEXT)
    assert table["scale"].is_monotonic_increasing and table["clusters"].iloc[-1] == 1
    for row in table.itertuples():
        assert row.clusters == components(D, row.scale + 1e-5)[0]
        assert row.reduction == row.clusters / len(D)


def test_simplices(seen):
    D = metric(TEXT)
    table = seen("simplices", *WORDS, "--text", TEXT)
    for dimension in (1, 2):
        rows = table[table["dimension"] == dimension]
        found = {
            tuple(map(int, row.split())): scale
            for row, scale in zip(rows["positions"], rows["scale"], strict=True)
        }
        expected = {
            members: max(D[i, j] for i, j in combinations(members, 2))
            for members in combinations(range(len(D)), dimension + 1)
        }
        assert found == pytest.approx(expected, abs=1e-5)
        assert rows["scale"].is_monotonic_increasing
    short = seen("simplices", *WORDS, "--text", TEXT, "--scale", "0.3")
    assert len(short) == (table["scale"] <= 0.3).sum() < len(table)


@pytest.mark.parametrize("what", look.WHATS)
def test_all_can_be_printed_and_written_as_csv(what, tmp_path, capsys):
    words = WORDS[:2] if what in look.TEXTS else WORDS
    texts = ["--text", TEXT, *(["--text", OTHER] if what in look.PAIRS else [])]
    look.main([what, *words, *texts])
    assert len(capsys.readouterr().out.splitlines()) > 2
    look.main([what, *words, *texts, "--to", str(tmp_path / "new" / "x.csv")])
    assert len(pd.read_csv(tmp_path / "new" / "x.csv")) > 0
    assert capsys.readouterr().out == ""
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["x.csv"]


def test_points_only_where_special_tokens_are_left_out(monkeypatch, seen):
    monkeypatch.setattr(models, "load", lambda *_: minilm(special_tokens=False))
    A = plain(OTHER)[1][1:-1]
    table = seen("entropy", *WORDS, "--text", OTHER)
    assert table["position"].tolist() == list(range(1, len(A) + 1))
    assert np.allclose(table["entropy"], entropy(A, base=2, axis=1), atol=1e-5)
    clusters = seen("clusters", *WORDS, "--text", OTHER, "--scale", "1")
    assert clusters["positions"].tolist() == ["1 2 3 4 5"]
    number = square(seen("distances", *WORDS, "--text", OTHER), "distance")
    assert np.allclose(number, metric(OTHER)[1:-1, 1:-1], atol=1e-5)


def test_a_cut_is_said(monkeypatch, capsys):
    monkeypatch.setattr(models, "load", lambda *_: minilm(max_tokens=5))
    look.main(["entropy", *WORDS, "--text", OTHER])
    said = capsys.readouterr()
    assert said.err == "The text was cut to 5 of its 7 tokens.\n"
    assert len(said.out.splitlines()) == 2 + 5


def test_a_text_cannot_steer_the_terminal(capsys):
    look.main(["entropy", *WORDS, "--text", "a\x1b[31mb \x9b2J \u202e c\x07"])
    said = capsys.readouterr().out
    assert all(c.isprintable() or c == "\n" for c in said)


def told(words, capsys):
    """The one sentence of a command that fails."""
    with pytest.raises(SystemExit) as stop, sentences():
        look.main(words)
    assert stop.value.code == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert "not an error we foresaw" not in said.err
    return said.err


GOOD = [*WORDS, "--text", TEXT]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "required: WHAT; see python -m commands.look --help"),
        (["nothing", *GOOD], "'nothing'.*attention.*simplices"),
        (["entropy"], "required: --model, --layer, --head; see .*look entropy --help"),
        (["entropy", *GOOD, "--scale", "1"], "Unrecognized arguments: --scale 1"),
        (["entropy", *GOOD, "--text", OTHER], "entropy takes 1 --text, and 2 came"),
        (["bottleneck", *GOOD], "bottleneck takes 2 --text, and 1 came"),
        (["entropy", *WORDS, "--text", ""], "no tokens of its own"),
        (["entropy", *WORDS, "--text", "a\udcff"], "not Unicode"),
        (["entropy", *GOOD, "--layer", "6"], "no layer 6: its layers are 0 to 5"),
        (["entropy", *GOOD, "--layer", "-1"], "no layer -1: its layers are 0 to 5"),
        (["entropy", *GOOD, "--layer", "x"], "--layer: invalid int value: 'x'"),
        (["entropy", *GOOD, "--head", "12"], "no head 12: the heads of each layer are 0 to 11"),
        (["entropy", *GOOD, "--head", "-1"], "no head -1"),
        (
            ["entropy", *GOOD, "--model", "m\x1b"],
            r"No model is called 'm\\x1b'; .*gpt2, mbert, min",
        ),
        (
            ["distances", *GOOD, "--layer", "7", "--distance", "hidden_cosine"],
            "Model minilm has no hidden states 7: 0 to 5 enter the layer of that number, 6 leave",
        ),
        (["diagrams", *GOOD, "--distance", "../x"], r"No distance is called '\.\./x'; .*notebook"),
        (["diagrams", *GOOD, "--homology", "x"], "No homology is called 'x'; .*notebook, rips"),
        (["clusters", *GOOD, "--scale", "-1"], "The scale is -1.0; give a distance"),
        (["simplices", *GOOD, "--scale", "nan"], "The scale is nan; give a distance"),
        (["kl", *GOOD, "--epsilon", "-1"], "epsilon is -1.0"),
        (["kl", *GOOD, "--distribution", "x"], "invalid choice: 'x'"),
        (["entropy", *GOOD, "--to", "x.txt"], r"'x\.txt'; end the name in \.csv or \.parquet\."),
        (["entropy", *GOOD, "--to", "x.graphml"], r"end the name in \.csv or \.parquet\."),
        (["graph", *GOOD, "--to", "x"], r"end the name in \.csv or \.parquet or \.graphml"),
    ],
)
def test_a_slip_is_a_sentence(words, says, capsys):
    said = told(words, capsys)
    assert re.search(says, said), said
    assert all(c.isprintable() or c == "\n" for c in said)


@pytest.mark.parametrize("what", ["distances", "diagrams", "clusters", "simplices"])
def test_one_token_has_no_distance(what, monkeypatch, capsys):
    monkeypatch.setattr(models, "load", lambda *_: minilm(special_tokens=False))
    said = told([what, *WORDS, "--text", "cat"], capsys)
    assert said == "error: This input cannot be used: 1 token; a distance needs 2.\n"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder with a configuration of its own."""
    shutil.copytree(store.ROOT / "conf", tmp_path / "conf")
    shutil.copy(store.ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)


def test_missing_weights_are_a_sentence(elsewhere, capsys):
    lines = Path("conf/model/minilm.yaml").read_text().splitlines()
    mine = [line for line in lines if not line.startswith(("source", "path", "requirement"))]
    mine += ["source: folder", "path: weights/none", "requirement: null"]
    Path("conf/model/mine.yaml").write_text("\n".join(mine))
    said = told(["entropy", *GOOD, "--model", "mine"], capsys)
    assert "Model mine" in said and "weights/none" in said


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("params.yaml", "a\n  b: 1", "params.yaml is not YAML"),
        ("conf/homology/mine.yaml", "a\n  b: 1", r"conf/homology/mine\.yaml is not YAML"),
        ("conf/homology/mine.yaml", "max_dim: 1", "'homology.max_dim' is not known"),
    ],
)
def test_a_slip_in_the_configuration_is_a_sentence(file, text, says, elsewhere, capsys):
    Path(file).write_text(text)
    assert re.search(says, told(["diagrams", *GOOD, "--homology", "mine"], capsys))


def test_without_params_the_sentence_says_how_to_make_them(elsewhere, capsys):
    Path("params.yaml").unlink()
    assert "python -m commands.compose" in told(["entropy", *GOOD], capsys)


def test_at_the_command_line():
    words = ["-m", "commands.look", "entropy", "--model", "nope", *WORDS[2:], "--text", "a"]
    answer = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: No model is called 'nope'; there are alephbert, bert,")
    assert len(answer.stderr.splitlines()) == 1
