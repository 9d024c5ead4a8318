"""What the order of the tokens changes in each part of a network."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.report.run import Run

MASKS = {"none": "no mask", "causal": "causal mask"}


@dataclass(frozen=True)
class Cell:
    """One component in one setting: in how many of its rows (layers) it holds.

    relative   the largest relative error; none: there are no numbers
    note       number of the reason why there are none
    """

    holds: int
    rows: int
    relative: float | None
    note: int | None


@dataclass(frozen=True)
class Table:
    """One model's table: components by settings; near: rows whose error is near the tolerance."""

    model: str
    tokens: int
    permutations: int
    near: int
    settings: list[tuple[str, str]]
    rows: dict[str, list[Cell | None]]
    reasons: list[str]


def build(run: Run) -> dict[str, Any] | None:
    """Variables of the template."""
    tables = [_table(model, rows) for model, rows in run.equivariance.items() if len(rows)]
    return {"tables": tables, "masks": MASKS} if tables else None


def _table(model: str, rows: pd.DataFrame) -> Table:
    settings = list(dict.fromkeys(zip(rows["positions"], rows["mask"], strict=True)))
    reasons = list(dict.fromkeys(rows["reason"].dropna()))
    found = {
        (component, positions, mask): _cell(part, reasons)
        for (component, positions, mask), part in rows.groupby(
            ["component", "positions", "mask"], sort=False, observed=True
        )
    }
    return Table(
        model,
        int(rows["tokens"].max()),
        int(rows["permutations"].max()),
        int(rows["near"].eq(True).sum()),
        settings,
        {
            name: [found.get((name, *setting)) for setting in settings]
            for name in dict.fromkeys(rows["component"])
        },
        reasons,
    )


def _cell(rows: pd.DataFrame, reasons: list[str]) -> Cell:
    measured, refused = rows[rows["reason"].isna()], rows["reason"].dropna()
    return Cell(
        int(measured["holds"].astype(bool).sum()),
        len(measured),
        float(measured["relative"].max()) if len(measured) else None,
        reasons.index(refused.iloc[0]) + 1 if len(refused) else None,
    )
