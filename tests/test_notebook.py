"""The founding notebook's conventions, its formulas taken literally.

What it printed, which needs its own models, is in test_attention.py.
"""

from pathlib import Path

import gudhi
import numpy as np
import pytest

from pipeline import attention, heads, information
from pipeline.comparison import bottleneck
from pipeline.diagrams import HomologySpec
from pipeline.distances import DistanceSpec, token_distances
from pipeline.heads import Text
from pipeline.models import load
from stages import compose
from tests import packaged, reference

pytestmark = pytest.mark.model

CONF = Path(__file__).parents[1] / "conf"
TEXTS = [
    "Quantum information theory is interesting",
    "Quantum information theory is fascinating",
    "Quantum information theory allows us to study attention using entanglement",
]


def spec(kind, name):
    values = compose.values(kind, name, CONF)
    if kind == "homology":
        return HomologySpec(**values | {"cluster_scales": tuple(values["cluster_scales"])})
    return DistanceSpec(**values)


@pytest.fixture(scope="module", params=["minilm", "smollm2"])
def model(request, tmp_path_factory):
    if request.param == "smollm2":
        return packaged.smollm2()
    return load("minilm", packaged.spec("minilm"))


def every_map(model, text):
    found = []
    attention.for_each_layer(model, attention.encode(model, text), lambda _, A: found.append(A))
    return np.stack(found)


def a_few(maps):
    layers, heads, *_ = maps.shape
    return [(0, 0), (layers // 2, heads - 1), (layers - 1, 1)]


def test_the_experiment_is_the_notebooks():
    _, settings = compose.compose(["experiment=notebook"])
    assert settings.corpus.name == "notebook"
    assert settings.distance == DistanceSpec("resoftmax", {"base": np.e})
    assert settings.homology == spec("homology", "notebook")
    assert settings.homology == HomologySpec(0, 11, 0.01, settings.homology.cluster_scales)
    written = (CONF.parent / "data/raw/notebook.jsonl").read_text()
    assert all(text in written for text in TEXTS)


def test_distances_and_divergences_by_the_literal_formulas(model):
    maps = every_map(model, TEXTS[2])
    once, root = spec("distance", "notebook"), spec("distance", "notebook_root")
    for layer, head in a_few(maps):
        A = maps[layer, head]
        D = reference.notebook_distances(A)
        found = token_distances(A[None], once.rule, once.options)[0]
        assert np.abs(found - D).max() <= 1e-12
        twice = token_distances(A[None], root.rule, root.options)[0]
        # The root takes a difference of 1e-16 to one of 1e-8, where rows are equal.
        assert np.abs(twice**2 - D).max() <= 1e-12
        K = reference.notebook_divergences(A)
        again = information.resoftmax(A)
        assert np.abs(information.kl_divergence(again, epsilon=1e-9) - K).max() <= 1e-12


def test_diagrams_and_bottleneck_by_the_libraries_it_calls(model):
    distance, homology = spec("distance", "notebook"), spec("homology", "notebook")
    made = heads.text_tables(
        model, [Text(str(i), t) for i, t in enumerate(TEXTS)], distance, homology
    )
    rows = made["diagrams"].to_pylist()
    ours = {
        (int(row["text_id"]), row["layer"], row["head"]): np.column_stack(
            [row["birth"], row["death"]]
        )
        for row in rows
    }
    assert {row["dimension"] for row in rows} == {0}
    maps = [every_map(model, text) for text in TEXTS[:2]]
    for layer, head in a_few(maps[0]):
        pair = []
        for text, of_text in enumerate(maps):
            tree = gudhi.RipsComplex(
                distance_matrix=reference.notebook_distances(of_text[layer, head])
            ).create_simplex_tree(max_dimension=2)
            tree.persistence(min_persistence=0.01)
            bars = tree.persistence_intervals_in_dimension(0)
            mine = ours[text, layer, head]
            assert mine == pytest.approx(bars[np.argsort(bars[:, 1])], abs=1e-12)
            pair.append(bars)
        finite = [bars[np.isfinite(bars[:, 1])] for bars in pair]
        expected = reference.hera_bottleneck(*finite)
        both = [ours[0, layer, head], ours[1, layer, head]]
        assert bottleneck(both)[0, 1] == pytest.approx(expected, abs=1e-12)
