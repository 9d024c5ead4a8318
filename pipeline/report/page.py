"""Tables -> one self-contained HTML page: no request leaves it, all text in it is escaped."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jinja2
import pandas as pd
import plotly.graph_objects as go
import pyarrow as pa
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from pipeline.report import figures, summary

PAIRS_SHOWN = 10


@dataclass(frozen=True)
class Count:
    """What a model did with the corpus."""

    model: str
    texts: int
    tokens: int
    cut: int
    aside: int
    reasons: list[str]


@dataclass(frozen=True)
class Dimension:
    """One homology dimension's part of the page."""

    number: int
    matrix: Markup
    means: Mapping[str, float]
    lists: Mapping[str, list[summary.Pair]]


def build(
    corpus: str,
    rejects: pa.Table,
    texts: Mapping[str, pa.Table],
    head_distances: pa.Table,
    provenance: Mapping[str, Any],
) -> str:
    """The page as HTML.

    rejects          records of the corpus that were set aside
    texts            the texts table of each model
    head_distances   the table of that name
    provenance       of the head_distances table
    """
    frame = head_distances.to_pandas()
    page = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.report", "."), autoescape=True, trim_blocks=True
    ).get_template("page.html")
    return page.render(
        corpus=corpus,
        rejects=rejects.to_pylist(),
        counts=[_count(model, table.to_pandas()) for model, table in texts.items()],
        dimensions=[_dimension(number, rows) for number, rows in frame.groupby("dimension")],
        plotly=Markup(get_plotlyjs()),
        provenance=json.dumps(provenance, indent=2, sort_keys=True),
    )


def _count(model: str, texts: pd.DataFrame) -> Count:
    aside = texts["reason"].dropna()
    return Count(
        model,
        len(texts) - len(aside),
        int(texts["tokens"].sum()),
        int(texts["cut"].sum()),
        len(aside),
        [f"{count} x {reason}" for reason, count in aside.value_counts().items()],
    )


def _dimension(number: int, rows: pd.DataFrame) -> Dimension:
    across = rows[rows.model_a != rows.model_b]
    lists = {
        "Most alike": summary.extremes(rows, PAIRS_SHOWN),
        "Most alike across models": summary.extremes(across, PAIRS_SHOWN),
        "Most different": summary.extremes(rows, PAIRS_SHOWN, farthest=True),
    }
    return Dimension(
        number,
        _embedded(figures.head_matrix(rows), f"heads-{number}"),
        summary.between_models(rows),
        {title: pairs for title, pairs in lists.items() if pairs},
    )


def _embedded(figure: go.Figure, name: str) -> Markup:
    html = figure.to_html(
        full_html=False, include_plotlyjs=False, div_id=name, config={"displaylogo": False}
    )
    return Markup(html)
