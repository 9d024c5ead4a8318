"""What a model's layers do with a text, and how that spreads over texts."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.figures import heads
from pipeline.report.run import Run, TextRows

# A band holds 8 texts in 10: it neither widens with the number of texts, as extremes do, nor
# narrows, as the interval of a mean does.
LOW, HIGH = 0.1, 0.9
PERSISTENCE = "total persistence, dimension "
MEASURES = {"entropy_mean": "entropy", "distance_mean": "distance between tokens"}


@cache
def of_layers(run: Run) -> pd.DataFrame:
    """A row a model, measure and layer: texts, and mean, low, high over them.

    The value of a text is the mean over the layer's heads of: the entropy of an attention row,
    in bits (left out for hidden states, which have none); the distance between two tokens;
    the total persistence, which is the sum of the lengths of a diagram's finite bars.
    """
    parts = [part for model in run.heads for part in (_of_heads(run, model), _of_bars(run, model))]
    columns = ["model", "measure", "layer", "texts", "mean", "low", "high"]
    return pd.concat(parts)[columns] if parts else pd.DataFrame(columns=columns)


@cache
def embeddings(run: Run, dimension: int) -> list[heads.Embedding]:
    """The heads as points of a plane, by their distances in one dimension."""
    return heads.embed(run.head_distances[run.head_distances["dimension"] == dimension])


def spread(values: pd.Series, by: list[str]) -> pd.DataFrame:
    """Count, mean, and the bounds of the band, of the known values of each group."""
    # .mean() and quantile skip what is not known; a group without a value is none.
    grouped = values.dropna().groupby(level=by, sort=False)
    columns = {
        "texts": grouped.size(),
        "mean": grouped.mean(),
        "low": grouped.quantile(LOW),
        "high": grouped.quantile(HIGH),
    }
    return pd.DataFrame(columns).reset_index()


def _of_heads(run: Run, model: str) -> pd.DataFrame:
    def means(rows: pa.Table) -> pd.DataFrame:
        return pd.DataFrame({column: rows[column].to_numpy() for column in MEASURES})

    over_heads = _over_heads(run.heads[model], ["layer"], means)
    if over_heads.empty:
        return over_heads
    parts = [
        spread(over_heads[column].astype(np.float64), ["layer"]).assign(model=model, measure=name)
        for column, name in MEASURES.items()
    ]
    return pd.concat(parts)


def _of_bars(run: Run, model: str) -> pd.DataFrame:
    def totals(rows: pa.Table) -> pd.DataFrame:
        return pd.DataFrame({"total": total_persistence(rows)})

    over_heads = _over_heads(run.diagrams[model], ["dimension", "layer"], totals)
    if over_heads.empty:
        return over_heads
    table = spread(over_heads["total"], ["dimension", "layer"])
    names = PERSISTENCE + table["dimension"].astype(str)
    return table.assign(model=model, measure=names).sort_values(["dimension", "layer"])


def _over_heads(
    table: TextRows, by: list[str], measure: Callable[[pa.Table], pd.DataFrame]
) -> pd.DataFrame:
    """What is measured of the rows of each text, as its mean over heads, by layer and the like."""
    found = []
    for rows in table:
        keys = [pd.Series(rows[name].to_numpy(), name=name) for name in ("text_id", *by)]
        # Only numbers are kept: a corpus may have very many texts.
        found.append(measure(rows).groupby(keys, sort=False).mean().droplevel("text_id"))
    return pd.concat(found) if found else pd.DataFrame()


def total_persistence(rows: pa.Table) -> NDArray[np.float64]:
    """Sum of the lengths of the finite bars of each diagram."""
    births, deaths = (rows[name].combine_chunks() for name in ("birth", "death"))
    owner = np.repeat(np.arange(len(rows)), np.diff(births.offsets.to_numpy()))
    lengths = deaths.flatten().to_numpy() - births.flatten().to_numpy()
    finite = np.isfinite(lengths)
    return np.bincount(owner[finite], lengths[finite], len(rows)).astype(np.float64, copy=False)
