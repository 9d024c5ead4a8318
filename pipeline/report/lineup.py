"""Runs side by side as a page: what moved from one to another."""

from typing import Any

import pandas as pd

from pipeline.figures.moves import moves
from pipeline.report.page import section, whole
from pipeline.runs.lineup import Lineup

KEY = ["run_x", "run_y", "dimension"]


def build(found: Lineup, clusters: int, rows: int) -> str:
    """The page as HTML, with the first rows of each table of heads and of pairs."""
    two = [_two(found, key, rows) for key in found.runs[KEY].itertuples(index=False, name=None)]
    runs = list(dict.fromkeys([*found.runs["run_x"], *found.runs["run_y"]]))
    return whole(
        "lineup.html",
        [
            section(f"moved-{number}", "moved.html", two=values, number=number)
            for number, values in enumerate(two)
        ],
        runs=runs,
        clusters=clusters,
    )


def _two(found: Lineup, key: tuple[Any, ...], rows: int) -> dict[str, Any]:
    """What is said of two runs in one dimension."""
    run, heads, pairs = (_of(table, key) for table in found)
    [said] = run.to_dict("records")
    return {
        **{str(name): value for name, value in said.items()},
        "figure": moves(heads, key[0], key[1]),
        "changed_heads": heads[heads["changed"]].to_dict("records"),
        "top_heads": heads.head(rows).to_dict("records"),
        "top_pairs": pairs.head(rows).to_dict("records"),
    }


def _of(table: pd.DataFrame, key: tuple[Any, ...]) -> pd.DataFrame:
    return table[(table[KEY] == list(key)).all(axis=1)]
