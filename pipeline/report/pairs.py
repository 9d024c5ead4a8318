"""The most similar and the most different heads, drawn on a text whose maps were kept.

Heads with next to no bars are all alike, so the most similar are sought among heads with long
bars: whose longest finite bar is, on average over texts, no shorter than the median head's.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline import pairs
from pipeline.diagrams import Packed
from pipeline.distances import DistanceSpec
from pipeline.figures import text as figures
from pipeline.figures.heads import label
from pipeline.pairs import ComparisonSpec, Head
from pipeline.report.run import Run

Floats = NDArray[np.float64]
Key = tuple[int, int, int]  # layer, head, dimension
Bars = dict[Key, Floats]

TOKENS_DRAWN = 256  # of a map: four bytes a cell, and twelve maps on the page
EXCERPT = 400  # characters
# Two diagrams are the same up to so large a distance, in parts of the largest of the dimension
# where that is above 1; and how far that distance moves from one processor to another: twice
# the 5e-6 of a diagram, and some room (docs/reproduce.md).
ALIKE = 1e-4
ROUNDING = 2e-5
HEIGHT = {"map": 600, "diagram": 420}
SIDE = 400  # pixels of a map's side, about


@dataclass(frozen=True)
class Drawn:
    """One head on the text: its map, where it has one that can be drawn, and its diagrams."""

    name: str
    tokens: int
    map: go.Figure | None
    diagram: go.Figure


@dataclass(frozen=True)
class Pair:
    """Two heads: how far apart over texts, and drawn on one text, on which they are `here`."""

    title: str
    dimension: int
    mean: float
    low: float
    high: float
    texts: int
    here: float
    text_id: str
    excerpt: str
    heads: list[Drawn]


@dataclass(frozen=True)
class Dimension:
    """The pairs drawn of one homology dimension.

    alike   how many of all pairs have the same diagrams on every text, but for ALIKE
    near    how many stand so near that bound that rounding decides
    """

    number: int
    pairs: list[Pair]
    alike: int
    near: int
    all: int


def build(run: Run) -> dict[str, Any] | None:
    """Variables of the template; None where no text can be drawn."""
    kept = _Kept(run)
    if not kept.texts:
        return None
    rows = run.head_distances[run.head_distances["mean"].notna()]
    numbers = sorted(rows["dimension"].unique().tolist())
    shaped = _shaped(run)
    found = [_dimension(kept, k, rows[rows["dimension"] == k], shaped[k]) for k in numbers]
    return {
        "dimensions": found,
        "alike": f"{ALIKE:g}",
        "kept": len(kept.texts),
        "metric": kept.spec.metric,
    }


class _Kept:
    """The texts whose maps were kept and whose diagrams are there, of each model."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.spec = ComparisonSpec(**run.provenance["config"]["comparison"])
        self.excerpts = dict(zip(run.records["text_id"], run.records["text"], strict=True))
        self.bars: dict[tuple[str, str], Bars] = {
            (model, text): _bars(run.diagrams[model].rows(text))
            for model, maps in run.maps.items()
            for text in maps["text_id"].unique()
            if text in run.diagrams[model]
        }
        self.texts = list(dict.fromkeys(text for _, text in self.bars))

    def heads(self, text: str) -> set[Head]:
        """The heads of the models that used a text."""
        return {
            Head(model, layer, head)
            for (model, used), bars in self.bars.items()
            if used == text
            for layer, head, _ in bars
        }

    def with_bars(self, text: str, dimension: int) -> set[Head]:
        """Those of them that have a bar that ends, in a dimension."""
        return {
            Head(model, layer, head)
            for (model, used), bars in self.bars.items()
            if used == text
            for (layer, head, k), ends in bars.items()
            if k == dimension and np.isfinite(ends[:, 1]).any()
        }

    def diagrams(self, head: Head, text: str) -> list[Floats]:
        """A head's diagrams on a text, by dimension."""
        bars = self.bars[head.model, text]
        return [bars[key] for key in sorted(bars) if key[:2] == (head.layer, head.head)]

    def distance(self, a: Head, b: Head, dimension: int, text: str) -> float:
        """The distance between two heads on one text."""
        pair = [self.bars[head.model, text][head.layer, head.head, dimension] for head in (a, b)]
        ends = np.cumsum([0, *map(len, pair)])
        packed = Packed(np.concatenate(pair), ends)
        return float(pairs.compare(packed, np.array([0]), np.array([1]), self.spec)[0])


def _bars(rows: pa.Table) -> Bars:
    return dict(zip(_keys(rows), pairs.pack(rows).unpack(), strict=True))


def _keys(rows: pa.Table) -> Iterator[Key]:
    return zip(*(rows[name].to_pylist() for name in ("layer", "head", "dimension")), strict=True)


def _longest(rows: pa.Table) -> Floats:
    """The longest finite bar of each diagram, 0 where there is none."""
    points, offsets = pairs.pack(rows)
    longest = np.zeros(len(rows))
    lengths = np.where(np.isfinite(points[:, 1]), points[:, 1] - points[:, 0], 0.0)
    np.maximum.at(longest, np.repeat(np.arange(len(rows)), np.diff(offsets)), lengths)
    return longest


# ---- which pairs --------------------------------------------------------------------------


def _dimension(kept: _Kept, number: int, rows: pd.DataFrame, shaped: set[Head]) -> Dimension:
    across = rows["model_a"] != rows["model_b"]
    alike = {text: shaped & kept.with_bars(text, number) for text in kept.texts}
    size = max(1.0, float(rows["max"].max())) if len(rows) else 1.0
    wanted = (
        ("Most alike across models", _nearest(rows[across]), alike),
        ("Most alike within a model", _nearest(rows[~across]), alike),
        (
            "Most different",
            rows[rows["mean"] > ALIKE * size].sort_values("mean", ascending=False, kind="stable"),
            {text: kept.heads(text) for text in kept.texts},
        ),
    )
    pairs = [_first(kept, title, number, ranked, usable) for title, ranked, usable in wanted]
    beyond = rows["max"] - ALIKE * size
    same, near = int((beyond <= 0).sum()), int((beyond.abs() <= ROUNDING * size).sum())
    return Dimension(number, [pair for pair in pairs if pair], same, near, len(rows))


def _nearest(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.sort_values("mean", kind="stable")


def _shaped(run: Run) -> dict[int, set[Head]]:
    """In each dimension, the heads with long bars: see the top of this file."""
    means = [_mean_longest(run, model) for model in run.models]
    lengths = {key: mean for found in means for key, mean in found.items()}
    shaped = {}
    for dimension in {k for _, k in lengths}:
        here = {head: length for (head, k), length in lengths.items() if k == dimension}
        median = np.median([*here.values()])
        shaped[dimension] = {head for head, length in here.items() if length >= median}
    return shaped


def _mean_longest(run: Run, model: str) -> dict[tuple[Head, int], float]:
    """Each head's longest finite bar in each dimension, on average over the model's texts."""
    names = ["layer", "head", "dimension"]
    found = []
    for rows in run.diagrams[model]:
        keys = [pd.Series(rows[name].to_numpy(), name=name) for name in names]
        found.append(pd.Series(_longest(rows)).groupby(keys).agg(["sum", "size"]))
    if not found:
        return {}
    over_texts = pd.concat(found).groupby(level=names).sum().reset_index()
    means = over_texts["sum"] / over_texts["size"]
    places = zip(*(over_texts[name].tolist() for name in names), means.tolist(), strict=True)
    return {(Head(model, layer, head), k): mean for layer, head, k, mean in places}


def _first(
    kept: _Kept,
    title: str,
    dimension: int,
    ranked: pd.DataFrame,
    usable: Mapping[str, set[Head]],
) -> Pair | None:
    """The first pair whose heads are both usable on a text, on that nearest to their mean."""
    for row, a, b in _named(ranked):
        texts = [text for text, heads in usable.items() if a in heads and b in heads]
        if texts:
            here = {text: kept.distance(a, b, dimension, text) for text in texts}
            text = min(texts, key=lambda text: abs(here[text] - row["mean"]))
            return _pair(kept, title, dimension, row, (a, b), text, here[text])
    return None


def _named(ranked: pd.DataFrame) -> Iterator[tuple[Mapping[Any, Any], Head, Head]]:
    for position in range(len(ranked)):
        row = ranked.iloc[position].to_dict()
        yield (
            row,
            Head(row["model_a"], row["layer_a"], row["head_a"]),
            Head(row["model_b"], row["layer_b"], row["head_b"]),
        )


# ---- how they are drawn -------------------------------------------------------------------


def _pair(
    kept: _Kept,
    title: str,
    dimension: int,
    row: Mapping[Any, Any],
    heads: tuple[Head, Head],
    text: str,
    here: float,
) -> Pair:
    words = kept.excerpts.get(text, "")
    return Pair(
        title,
        dimension,
        row["mean"],
        row["ci_low"],
        row["ci_high"],
        row["texts"],
        here,
        text,
        words if len(words) <= EXCERPT else f"{words[:EXCERPT]}…",
        _drawn(kept, heads, text),
    )


def _drawn(kept: _Kept, heads: Sequence[Head], text: str) -> list[Drawn]:
    """Both heads on the same scales, so that they can be compared by eye."""
    maps = [_map(kept.run, head, text) for head in heads]
    top = max((float(A.max()) for A in maps if A is not None), default=1.0)
    diameter = max(_diameter(kept.run, head, text) for head in heads)
    return [
        Drawn(
            label(*head),
            len(_labels(kept.run, head.model, text)),
            None if A is None else _heatmap(A, _labels(kept.run, head.model, text), top),
            _small(figures.diagram(kept.diagrams(head, text), diameter), HEIGHT["diagram"]),
        )
        for head, A in zip(heads, maps, strict=True)
    ]


def _map(run: Run, head: Head, text: str) -> NDArray[np.float32] | None:
    """A head's kept map, (query, key); None where it is too long to draw or not of attention."""
    made = run.provenance["made_from"][head.model]["config"]["distance"]
    if DistanceSpec(**made).of_states:
        return None
    maps = run.maps[head.model]
    row = maps[(maps.text_id == text) & (maps.layer == head.layer) & (maps["head"] == head.head)]
    tokens = int(row["tokens"].iloc[0])
    if tokens > TOKENS_DRAWN:
        return None
    return np.asarray(row["attention"].iloc[0], np.float32).reshape(tokens, tokens)


def _labels(run: Run, model: str, text: str) -> list[str]:
    tokens = run.tokens[model]
    rows = tokens[tokens["text_id"] == text]
    return [f"{at} {token}" for at, token in zip(rows["position"], rows["token"], strict=True)]


def _diameter(run: Run, head: Head, text: str) -> float:
    rows = run.heads[head.model].rows(text)
    here = pc.and_(pc.equal(rows["layer"], head.layer), pc.equal(rows["head"], head.head))
    return float(rows.filter(here)["distance_max"][0].as_py())


def _heatmap(A: NDArray[np.float32], labels: list[str], top: float) -> go.Figure:
    """A map as wide as half the page: its scale lies above it, its labels shrink as they must."""
    figure = figures.heatmap(A, labels, labels, bounds=(0.0, top))
    scale = {"orientation": "h", "y": 1, "yanchor": "bottom", "thickness": 10}
    figure.update_traces(colorbar={**scale, "title": {"side": "top"}}, selector={"type": "heatmap"})
    size = min(11, max(7, SIDE // len(figure.layout.yaxis.ticktext)))
    figure.update_xaxes(tickfont={"size": size}, title_standoff=30)
    figure.update_yaxes(tickfont={"size": size}, constraintoward="top")
    return _small(figure, HEIGHT["map"])


def _small(figure: go.Figure, height: int) -> go.Figure:
    """The same figure as wide as its place on the page."""
    figure.update_layout(width=None, height=height)
    return figure
