"""A text under a tiny model, against the same numbers by scipy and GUDHI's SimplexTree."""

from dataclasses import replace

import gudhi
import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist, squareform
from scipy.stats import entropy

from pipeline import attention, graphs, heads, information
from pipeline.diagrams import HomologySpec
from pipeline.distances import DistanceSpec
from pipeline.errors import InputError, TextError
from pipeline.heads import Text
from pipeline.kernels import threads
from pipeline.measures import measured
from pipeline.measures.block import Block
from tests import tiny

JS = DistanceSpec("jensen_shannon", {"base": 2.0})
RIPS = HomologySpec(1, 2, 0.0)
TEXT = "the cat sat on the mat and the dog sat on the cat"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.make("gpt2", tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny.make("bert", tmp_path_factory.mktemp("bert"), special_tokens=False)


def maps(model, token_ids) -> list[np.ndarray]:
    with torch.inference_mode():
        out = model.network(input_ids=torch.tensor(token_ids)[None], output_attentions=True)
    return [layer[0].double().numpy() for layer in out.attentions]


def bars(D: np.ndarray) -> list[np.ndarray]:
    tree = gudhi.RipsComplex(distance_matrix=D).create_simplex_tree(max_dimension=2)
    tree.compute_persistence(homology_coeff_field=2)
    return [
        np.array(sorted(map(tuple, tree.persistence_intervals_in_dimension(d)))) for d in (0, 1)
    ]


def test_tables_hold_what_scipy_and_gudhi_say(model):
    made = heads.text_tables(model, [Text("t", TEXT)], JS, RIPS)
    ids = made["tokens"]["token_id"].to_numpy()
    rows = {
        (row["layer"], row["head"], row["dimension"]): row for row in made["diagrams"].to_pylist()
    }
    summary = {(row["layer"], row["head"]): row for row in made["heads"].to_pylist()}
    assert len(rows) == 2 * len(summary) == 2 * model.layers * model.heads
    for layer, layer_maps in enumerate(maps(model, ids)):
        for head, A in enumerate(layer_maps):
            A = A / A.sum(1, keepdims=True)
            D = np.nan_to_num(squareform(pdist(A, "jensenshannon")) / np.sqrt(np.log(2)))
            for dimension, expected in enumerate(bars(D)):
                row = rows[layer, head, dimension]
                found = np.column_stack([row["birth"], row["death"]])
                assert np.allclose(found, expected.reshape(-1, 2), atol=1e-7)
            row = summary[layer, head]
            assert row["entropy_mean"] == pytest.approx(entropy(A, base=2, axis=1).mean())
            assert row["entropy_max"] == pytest.approx(entropy(A, base=2, axis=1).max())
            assert row["distance_max"] == pytest.approx(D.max(), abs=1e-7)
            n = len(D)
            assert row["distance_mean"] == pytest.approx(D[~np.eye(n, dtype=bool)].mean(), abs=1e-7)


def test_information_of_every_token(model):
    made = heads.text_tables(model, [Text("t", TEXT)], JS, RIPS)
    ids = made["tokens"]["token_id"].to_numpy()
    A = np.concatenate(maps(model, ids))
    for row, P in zip(made["heads"].to_pylist(), A / A.sum(2, keepdims=True), strict=True):
        assert row["entropy"] == pytest.approx(entropy(P, base=2, axis=1), abs=1e-13)
        smoothed = np.log2(P + 1e-9)
        pairs = [
            (P[i] * (smoothed[i] - smoothed[j])).sum() for i in range(len(P)) for j in range(len(P))
        ]
        assert row["kl_mean"] == pytest.approx(sum(pairs) / (len(P) * (len(P) - 1)), rel=1e-11)


def test_clusters_are_the_components_at_each_scale(encoder):
    spec = replace(RIPS, cluster_scales=(0.4, 0.0, 0.7))
    made = heads.text_tables(encoder, [Text("t", TEXT)], JS, spec)
    special = made["tokens"]["special"].to_numpy()
    layer_maps = maps(encoder, made["tokens"]["token_id"].to_numpy())
    rows = made["clusters"].to_pylist()
    assert len(rows) == 3 * encoder.layers * encoder.heads
    for row in rows:
        A = layer_maps[row["layer"]][row["head"]][~special]
        D = information.jensen_shannon(A / A.sum(1, keepdims=True))
        count, labels = connected_components(row["scale"] >= D)
        assert row["clusters"] == count == len(row["representatives"])
        assert row["reduction"] == count / row["tokens"] == count / len(D)
        points = np.flatnonzero(~special).tolist()
        at = [points.index(position) for position in row["representatives"]]
        assert row["sizes"] == [int((labels == labels[point]).sum()) for point in at]
        assert row["largest"] == max(row["sizes"])
        for point in at:
            members = np.flatnonzero(labels == labels[point])
            sums = D[np.ix_(members, members)].sum(1)
            tie = graphs.TIE * D.max() * (len(members) - 1)
            assert sums[members == point] <= sums.min() + tie


def test_without_scales_there_are_no_clusters(model):
    assert "clusters" not in heads.text_tables(model, [Text("t", TEXT)], JS, RIPS)


def test_a_negative_scale_is_refused():
    with pytest.raises(InputError, match="distances from 0 up"):
        replace(RIPS, cluster_scales=(0.1, -0.1))


@pytest.mark.parametrize("rule", ["hidden_euclidean", "hidden_cosine"])
def test_hidden_states_make_one_space_a_layer(encoder, rule):
    spec = DistanceSpec(rule, {})
    made = heads.text_tables(encoder, [Text("t", TEXT)], spec, RIPS)
    frame = made["heads"].to_pandas()
    assert frame["layer"].tolist() == list(range(encoder.layers + 1))
    assert set(frame["head"]) == {0}
    assert frame["entropy_mean"].isna().all() and frame["entropy"].isna().all()
    points = ~made["tokens"]["special"].to_numpy()
    with torch.inference_mode():
        ids = torch.tensor(made["tokens"]["token_id"].to_numpy())[None]
        states = encoder.network(input_ids=ids, output_hidden_states=True).hidden_states
    kind = {"hidden_euclidean": "euclidean", "hidden_cosine": "cosine"}[rule]
    rows = {(row["layer"], row["dimension"]): row for row in made["diagrams"].to_pylist()}
    for layer, state in enumerate(states):
        D = squareform(pdist(state[0].double().numpy()[points], kind))
        for dimension, expected in enumerate(bars(D)):
            row = rows[layer, dimension]
            found = np.column_stack([row["birth"], row["death"]])
            assert np.allclose(found, expected.reshape(-1, 2), atol=1e-9)


def test_without_special_tokens_points_go_and_keys_stay(encoder):
    made = heads.text_tables(encoder, [Text("t", TEXT)], JS, RIPS)
    tokens = made["tokens"]
    special = tokens["special"].to_numpy()
    assert special.sum() == 2
    assert made["texts"]["tokens"].to_pylist() == [(~special).sum()]
    A = maps(encoder, tokens["token_id"].to_numpy())[0][0][~special]
    A = A / A.sum(1, keepdims=True)
    D = squareform(pdist(A, "jensenshannon")) / np.sqrt(np.log(2))
    assert made["heads"]["distance_max"][0].as_py() == pytest.approx(D.max(), abs=1e-9)


def test_a_text_is_the_same_whatever_stands_around_it(model):
    alone = heads.text_tables(model, [Text("t", TEXT)], JS, RIPS)
    among = heads.text_tables(
        model, [Text("a", "attention is a text"), Text("t", TEXT), Text("b", "mat")], JS, RIPS
    )
    for name in alone:
        mine = [row for row in among[name].to_pylist() if row["text_id"] == "t"]
        assert mine == alone[name].to_pylist()


@pytest.fixture
def one_overflows(monkeypatch):
    real = attention.each_layer

    def overflowing(model, encoding, use):
        if len(encoding.tokens) == 4:
            raise TextError("layer 1 has values that are not finite; try dtype float32")
        real(model, encoding, use)

    monkeypatch.setattr(attention, "each_layer", overflowing)


@pytest.mark.parametrize("spec", [JS, DistanceSpec("hidden_euclidean", {})])
def test_the_number_of_threads_changes_nothing(model, spec):
    """With one thread the layers are measured in turn, with more while the next is computed."""
    every = []
    for number in (1, 2, 3):
        threads.use(number)
        every.append(heads.text_tables(model, [Text("t", TEXT)], spec, RIPS))
    threads.use(None)
    assert all(made[name].equals(every[0][name]) for made in every for name in every[0])


def test_maps_that_come_faster_than_they_are_measured_give_the_same(model):
    """As from a device beside the processor."""
    expected = heads.text_tables(model, [Text("t", TEXT)], JS, RIPS)
    quick = replace(model, device="cpu:0")
    assert heads.text_tables(quick, [Text("t", TEXT)], JS, RIPS)["heads"].equals(expected["heads"])


@pytest.mark.parametrize("size", [1, 3])
def test_the_size_of_a_block_changes_nothing(model, size):
    encoding = attention.encode(model, TEXT)
    A = attention.attention_of(model, encoding, 1)
    whole = Block(encoding, attention.points(model, encoding), JS, RIPS, lambda: A)
    expected = measured(whole, 1, 0)
    for first in range(0, model.heads, size):
        few = A[first : first + size]
        found = measured(replace(whole, get_maps=lambda few=few: few), 1, first)
        for table, columns in found.items():
            rows = len(columns["head"]) // len(few)
            for name, values in columns.items():
                here = slice(first * rows, first * rows + len(values))
                whole_column = expected[table][name]
                assert pa.array(values).equals(pa.array(whole_column)[here])


def test_a_text_that_cannot_be_used_is_skipped_with_its_reason(model, one_overflows):
    texts = [
        Text("one", "a"),
        Text("nan", "the cat sat on"),
        Text("good", TEXT),
        Text("long", " ".join(["cat"] * 100_000)),
    ]
    made = heads.text_tables(model, texts, JS, RIPS)
    rows = {row["text_id"]: row for row in made["texts"].to_pylist()}
    assert rows["good"]["reason"] is None
    assert rows["long"]["reason"] is None
    assert rows["long"]["cut"]
    assert rows["long"]["tokens"] == model.spec.max_tokens < rows["long"]["total_tokens"]
    for name in ("tokens", "heads", "diagrams"):
        assert set(made[name]["text_id"].to_pylist()) == {"good", "long"}
    assert rows["one"]["reason"] == "1 token; a distance needs 2"
    assert (rows["one"]["total_tokens"], rows["one"]["tokens"]) == (1, 0)


def test_a_part_in_which_nothing_can_be_used(model):
    made = heads.text_tables(model, [Text("none", "")], JS, RIPS)
    assert list(made) == ["texts"]
    assert made["texts"]["reason"][0].as_py()


def test_min_persistence_drops_short_bars_only(model):
    every = heads.text_tables(model, [Text("t", TEXT)], JS, RIPS)["diagrams"].to_pylist()
    some = heads.text_tables(model, [Text("t", TEXT)], JS, replace(RIPS, min_persistence=0.05))
    for a, b in zip(every, some["diagrams"].to_pylist(), strict=True):
        pairs = zip(a["birth"], a["death"], strict=True)
        kept = [(birth, death) for birth, death in pairs if death - birth > 0.05]
        assert list(zip(b["birth"], b["death"], strict=True)) == kept


def test_another_field_goes_through(model):
    two = heads.text_tables(model, [Text("t", TEXT)], JS, RIPS)["diagrams"]
    eleven = heads.text_tables(model, [Text("t", TEXT)], JS, replace(RIPS, coefficient_field=11))
    assert two["dimension"].equals(eleven["diagrams"]["dimension"])


@pytest.mark.parametrize("values", [(4, 2, 0.0), (1, 6, 0.0), (1, 2, float("nan"))])
def test_homology_out_of_range(values):
    with pytest.raises(InputError):
        HomologySpec(*values)
