"""How entropy, distance and persistence change from layer to layer."""

from typing import Any

import pandas as pd

from pipeline.figures.curves import Curve, Panel, curves
from pipeline.report import measures
from pipeline.report.run import Run

UNITS = {"entropy": "bits"}


def build(run: Run) -> dict[str, Any] | None:
    """Variables of the template."""
    table = measures.of_layers(run)
    if table.empty:
        return None
    panels = [
        _panel(str(measure), rows, run.models)
        for measure, rows in table.groupby("measure", sort=False)
    ]
    by_model = table.groupby("model", sort=False)
    return {
        "figure": curves(panels),
        "depth": [_depth(str(model), rows) for model, rows in by_model],
        "relative": by_model["layer"].max().nunique() > 1,
        "entropy": "entropy" in set(table["measure"]),
    }


def _depth(model: str, rows: pd.DataFrame) -> str:
    layers, texts = rows["layer"].nunique(), int(rows["texts"].max())
    return f"{model}: {layers} layer{'s' * (layers != 1)}, {texts} text{'s' * (texts != 1)}"


def _panel(measure: str, rows: pd.DataFrame, models: list[str]) -> Panel:
    found = [
        curve(str(model), models.index(str(model)), part)
        for model, part in rows.groupby("model", sort=False)
    ]
    return Panel(measure, found, UNITS.get(measure, ""))


def curve(name: str, number: int, rows: pd.DataFrame) -> Curve:
    """Rows of layer, mean, low, high as one curve."""
    # Five digits: more than any screen shows, a third of the bytes.
    values = {
        key: [float(f"{x:.5g}") for x in rows[key].tolist()] for key in ("mean", "low", "high")
    }
    return Curve(name, number, rows["layer"].tolist(), **values)
