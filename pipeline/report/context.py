"""Contextual mappings: one token in two texts, layer by layer, and vectors that are equal."""

from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pandas as pd

from pipeline.figures.curves import Panel, curves
from pipeline.report import measures
from pipeline.report.layers import curve
from pipeline.report.run import Run

# By (special, prefix), in the order of the legend.
KINDS = {
    (False, False): "outside the shared prefix",
    (False, True): "inside the shared prefix",
    (True, False): "special tokens outside it",
    (True, True): "special tokens inside it",
}
PLACES = ("within", "across", "prefix")


@dataclass(frozen=True)
class Layers:
    """Layers that follow one another with the same counts: of each place, at each tolerance."""

    name: str
    counts: dict[str, list[int]]


@dataclass(frozen=True)
class Equal:
    """How many vectors of a model are equal; pairs: of how many."""

    model: str
    texts: int
    text_pairs: int
    pairs: dict[str, int]
    tolerances: list[str]
    near: int  # counts of pairs that stand within rounding of a tolerance, in all
    rows: list[Layers]


def build(run: Run) -> dict[str, Any] | None:
    """Variables of the template."""
    cosines = of_layers(run)
    equal = [_equal(model, table) for model, table in run.context_equal.items() if len(table)]
    if cosines.empty and not equal:
        return None
    panels = [_panel(str(m), rows) for m, rows in cosines.groupby("model", sort=False)]
    return {
        "figure": curves(panels, shared_y=True) if panels else None,
        "tokens": {str(m): _counts(rows) for m, rows in cosines.groupby("model", sort=False)},
        "equal": equal,
        "names": {
            "within": "within one text",
            "across": "across two texts",
            "prefix": "shared prefix",
        },
    }


def of_layers(run: Run) -> pd.DataFrame:
    """A row a model, kind of token and layer: tokens, and mean, low, high of their cosines."""
    parts = []
    for model, table in run.context.items():
        for (special, prefix), kind in KINDS.items():
            rows = table[(table["special"] == special) & (table["prefix"] == prefix)]
            if len(rows):
                found = measures.spread(rows.set_index("layer")["cosine"], ["layer"])
                parts.append(found.assign(model=model, kind=kind).sort_values("layer"))
    columns = ["model", "kind", "layer", "tokens", "mean", "low", "high"]
    return (
        pd.concat(parts).rename(columns={"texts": "tokens"})[columns]
        if parts
        else pd.DataFrame(columns=columns)
    )


def _panel(model: str, rows: pd.DataFrame) -> Panel:
    kinds = list(KINDS.values())
    found = [
        curve(str(k), kinds.index(str(k)), part) for k, part in rows.groupby("kind", sort=False)
    ]
    return Panel(model, found, "cosine")


def _counts(rows: pd.DataFrame) -> dict[str, int]:
    return {str(kind): int(part["tokens"].max()) for kind, part in rows.groupby("kind", sort=False)}


def _equal(model: str, table: pd.DataFrame) -> Equal:
    by_layer = {
        layer: {
            place: table[f"{place}_equal"][table["layer"] == layer].tolist() for place in PLACES
        }
        for layer in sorted(table["layer"].unique().tolist())
    }
    first, tolerances = table.iloc[0], sorted(table["tolerance"].unique())
    return Equal(
        model,
        int(first["texts"]),
        int(first["text_pairs"]),
        {place: int(first[f"{place}_pairs"]) for place in PLACES},
        [f"{tolerance:g}" for tolerance in tolerances],
        int(sum(table[f"{place}_near"].sum() for place in PLACES)),
        _folded(by_layer),
    )


def _folded(by_layer: dict[int, dict[str, list[int]]]) -> list[Layers]:
    """One row for layers that follow one another with the same counts."""
    rows = []
    for counts, run in groupby(by_layer, key=by_layer.__getitem__):
        layers = list(run)
        name = f"{layers[0]}" if len(layers) == 1 else f"{layers[0]} to {layers[-1]}"
        rows.append(Layers(name, counts))
    return rows
