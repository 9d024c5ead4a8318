"""What a model's layers do with a text, and how that spreads over texts."""

from functools import cache

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.figures import heads
from pipeline.report.run import Run

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
    table = run.heads[model]
    grouped = table.groupby(["text_id", "layer"], sort=False, observed=True)
    over_heads = grouped[list(MEASURES)].mean()
    parts = [
        spread(over_heads[column].astype(np.float64), ["layer"]).assign(model=model, measure=name)
        for column, name in MEASURES.items()
    ]
    return pd.concat(parts)


def _of_bars(run: Run, model: str) -> pd.DataFrame:
    diagrams = run.diagrams[model]
    # One text's bars are in memory at a time, whatever the corpus.
    found = [_totals(diagrams.rows(t)) for t in run.texts[model]["text_id"] if t in diagrams]
    if not found:
        return pd.DataFrame()
    table = spread(pd.concat(found), ["dimension", "layer"])
    names = PERSISTENCE + table["dimension"].astype(str)
    return table.assign(model=model, measure=names).sort_values(["dimension", "layer"])


def _totals(rows: pa.Table) -> pd.Series:
    """Total persistence of one text by dimension and layer, mean over heads."""
    names = ["dimension", "layer"]
    places = pd.MultiIndex.from_arrays([rows[name].to_numpy() for name in names], names=names)
    return pd.Series(total_persistence(rows), places).groupby(level=names).mean()


def total_persistence(rows: pa.Table) -> NDArray[np.float64]:
    """Sum of the lengths of the finite bars of each diagram."""
    births, deaths = (rows[name].combine_chunks() for name in ("birth", "death"))
    owner = np.repeat(np.arange(len(rows)), np.diff(births.offsets.to_numpy()))
    lengths = deaths.flatten().to_numpy() - births.flatten().to_numpy()
    finite = np.isfinite(lengths)
    return np.bincount(owner[finite], lengths[finite], len(rows)).astype(np.float64, copy=False)
