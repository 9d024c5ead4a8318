"""Which pairs of heads are drawn, on which text, and with which numbers.

Each diagram of dimension 0 here has one bar [0, x], or none, beside the endless one, so two of
them are min(|x - y|, max(x, y) / 2) apart. Nothing has a loop.
"""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipeline.report import pairs
from pipeline.report.run import Run
from pipeline.store import SCHEMAS
from tests.report.small import Kept

HEADS = [("m", 0, 0), ("m", 0, 1), ("m", 0, 2), ("m", 0, 3), ("n", 0, 0), ("n", 1, 0)]
TEXTS = ("t0", "t1", "t2")
# Three heads have long bars; the others have none, so they are exactly alike.
BARS = {
    ("m", 0, 0): (0.8, 0.9, 0.88),
    ("m", 0, 1): (0.7, 0.7, 0.7),
    ("n", 0, 0): (0.78, 0.78, 0.78),
}
WORDS = ["[CLS]", "<b>x</b>"]


def diagrams(model: str) -> Kept:
    """One model's diagrams, made from BARS."""
    rows = []
    for place in of_model(model, model=model).to_dict("records"):
        x = length((model, place["layer"], place["head"]), place["text_id"])
        ends = [x, np.inf] if x else [np.inf]
        rows.append({**place, "dimension": 0, "birth": [0.0] * len(ends), "death": ends})
        rows.append({**place, "dimension": 1, "birth": [], "death": []})
    return Kept(pa.Table.from_pylist(rows, SCHEMAS["diagrams"]))


def length(head: tuple, text: str) -> float:
    return BARS.get(head, (0.0, 0.0, 0.0))[TEXTS.index(text)]


def apart(a: tuple, b: tuple, text: str) -> float:
    x, y = length(a, text), length(b, text)
    return min(abs(x - y), max(x, y) / 2)


def distances() -> pd.DataFrame:
    rows = []
    for dimension in (0, 1):
        for a, b in combinations(HEADS, 2):
            values = [apart(a, b, text) if dimension == 0 else 0.0 for text in TEXTS]
            row = {"dimension": dimension, "texts": 3, "mean": np.mean(values)}
            row |= {"max": max(values), "ci_low": 0.0, "ci_high": 1.0}
            row |= dict(zip(("model_a", "layer_a", "head_a"), a, strict=True))
            rows.append(row | dict(zip(("model_b", "layer_b", "head_b"), b, strict=True)))
    return pd.DataFrame(rows)


def of_model(name: str, /, **columns) -> pd.DataFrame:
    """A row for each head of a model on each text."""
    rows = [
        {"text_id": text, "layer": layer, "head": head, **columns}
        for text in TEXTS
        for model, layer, head in HEADS
        if model == name
    ]
    return pd.DataFrame(rows)


def heads(model: str) -> pa.Table:
    return pa.Table.from_pandas(of_model(model, distance_max=0.9))


def kept(model: str) -> pd.DataFrame:
    """Maps of two of the three texts; a head's number is in its first cell."""
    frame = of_model(model, tokens=2)
    frame["attention"] = [
        np.array([head + layer / 10, 0, 0.5, 0.5], np.float32)
        for layer, head in zip(frame["layer"], frame["head"], strict=True)
    ]
    return frame[frame["text_id"] != "t2"]


@pytest.fixture
def run() -> Run:
    made = {"config": {"distance": {"rule": "jensen_shannon", "options": {}}}}
    tokens = [
        {"text_id": text, "position": at, "token": word}
        for text in TEXTS
        for at, word in enumerate(WORDS)
    ]
    how = {"metric": "bottleneck", "order": 1.0, "text_pairs": "none", "confidence": 0.95}
    return Run(
        corpus="c",
        records=pd.DataFrame({"text_id": TEXTS, "text": ["a", "b" * 500, "c"]}),
        rejects=pd.DataFrame(),
        texts={model: pd.DataFrame({"text_id": TEXTS}) for model in "mn"},
        heads={model: Kept(heads(model)) for model in "mn"},
        diagrams={model: diagrams(model) for model in "mn"},
        head_distances=distances(),
        maps={model: kept(model) for model in "mn"},
        tokens={model: pd.DataFrame(tokens) for model in "mn"},
        provenance={"config": {"comparison": how}, "made_from": {"m": made, "n": made}},
    )


def test_alike_are_heads_with_long_bars(run):
    dimension = pairs.build(run)["dimensions"][0]
    found = {pair.title: [head.name for head in pair.heads] for pair in dimension.pairs}
    assert found == {
        "Most alike across models": ["m 0.0", "n 0.0"],
        "Most alike within a model": ["m 0.0", "m 0.1"],
        "Most different": ["m 0.0", "m 0.2"],
    }
    assert (dimension.alike, dimension.near, dimension.all) == (3, 0, 15)


def test_alike_is_up_to_rounding_and_what_rounding_decides_is_counted(run):
    """The same counts, whether a processor makes 0 of a distance or 1e-7."""
    moves = (1e-7, pairs.ALIKE - pairs.ROUNDING / 2, pairs.ALIKE + pairs.ROUNDING / 2)
    rows = run.head_distances.copy()
    rows.loc[rows["max"] == 0, "max"] = 1e-7
    rows.loc[rows["dimension"] == 1, "max"] = [*moves, *[0.5] * 12]
    first, second = pairs.build(replace(run, head_distances=rows))["dimensions"]
    assert (first.alike, first.near) == (3, 0)
    assert (second.alike, second.near, second.all) == (2, 2, 15)


def test_the_text_is_the_one_nearest_the_mean(run):
    pair = pairs.build(run)["dimensions"][0].pairs[0]
    # 0.02, 0.12 and 0.1 on the three texts; the third has no map.
    assert pair.mean == pytest.approx(0.08)
    assert pair.text_id == "t1"
    assert pair.here == pytest.approx(0.12)
    assert pair.excerpt == "b" * 400 + "…"


def test_what_is_drawn_is_what_was_kept(run):
    first, second = pairs.build(run)["dimensions"][0].pairs[1].heads
    assert np.array_equal(first.map.data[0].z, np.array([[0, 0], [0.5, 0.5]], np.float32))
    assert np.array_equal(second.map.data[0].z, np.array([[1, 0], [0.5, 0.5]], np.float32))
    assert first.map.data[0].zmax == second.map.data[0].zmax == 1
    assert list(first.map.layout.xaxis.ticktext) == ["0 [CLS]", "1 &lt;b&gt;x&lt;/b&gt;"]
    bars = [trace for trace in first.diagram.data if trace.name and trace.name.startswith("0")]
    assert np.array_equal(bars[0].x, [0, 0])
    assert bars[0].y[0] == 0.9


def test_heads_without_loops_are_neither_called_alike_nor_different(run):
    dimension = pairs.build(run)["dimensions"][1]
    assert dimension.pairs == []
    assert (dimension.alike, dimension.all) == (15, 15)


def test_the_distance_is_the_one_of_the_run(run):
    how = {"metric": "wasserstein", "order": 2.0, "text_pairs": "none", "confidence": 0.95}
    provenance = {**run.provenance, "config": {"comparison": how}}
    pair = pairs.build(replace(run, provenance=provenance))["dimensions"][0].pairs[2]
    # One bar [0, x] to nothing: the root of one square, of half the bar, whatever the order.
    assert pair.here == pytest.approx(length(("m", 0, 0), pair.text_id) / 2)


def test_hidden_states_have_no_map(run):
    made = {"config": {"distance": {"rule": "hidden_cosine", "options": {}}}}
    provenance = {**run.provenance, "made_from": {"m": made, "n": made}}
    found = pairs.build(replace(run, provenance=provenance))["dimensions"][0].pairs
    assert {head.map for pair in found for head in pair.heads} == {None}


def test_a_map_too_long_to_read_is_left_out(run, monkeypatch):
    monkeypatch.setattr(pairs, "TOKENS_DRAWN", 1)
    assert pairs.build(run)["dimensions"][0].pairs[0].heads[0].map is None


def test_without_kept_texts_the_section_is_left_out(run):
    none = {model: of_model(model)[:0] for model in "mn"}
    assert pairs.build(replace(run, maps=none)) is None


def test_a_model_that_kept_no_text_is_not_drawn(run):
    maps = {**run.maps, "n": run.maps["n"][:0]}
    found = pairs.build(replace(run, maps=maps))["dimensions"][0].pairs
    assert {head.name[0] for pair in found for head in pair.heads} == {"m"}
