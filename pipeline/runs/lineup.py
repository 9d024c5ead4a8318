"""Several runs side by side: what becomes of the distances between heads from one to another.

Distances by different rules have different scales, so a move is measured by rank: a pair's is the
change of its rank among the pairs that both runs have, as a share of the way from first to last.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import squareform
from scipy.stats import rankdata
from sklearn.metrics import adjusted_rand_score

from pipeline.errors import InputError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

HEAD = ["model", "layer", "head"]
PAIR = [f"{column}_{side}" for side in "ab" for column in HEAD]
# What a run is lined up by: its head_distances table needs no other columns.
COLUMNS = ["dimension", *PAIR, "mean"]


class Lineup(NamedTuple):
    """Every two runs, in each dimension that both have.

    runs    a row for two runs: how many pairs and heads both have; spearman, the rank
            correlation of the pairs' distances; adjusted_rand, of the two clusterings of the
            heads (1: the same, 0: as by chance); changed, the heads that changed cluster
    heads   a row for a head: the mean distance of its pairs in each run; move, the mean size of
            its pairs' moves; its cluster in each run, and whether it changed
    pairs   a row for a pair of heads: its distance in each run, and its move
    """

    runs: pd.DataFrame
    heads: pd.DataFrame
    pairs: pd.DataFrame


def line_up(tables: Mapping[str, pd.DataFrame], clusters: int) -> Lineup:
    """Line up the head_distances tables of runs, by name; heads are cut into so many clusters."""
    found: list[Lineup] = []
    for (name_x, x), (name_y, y) in combinations(tables.items(), 2):
        dimensions = sorted({*x["dimension"]} & {*y["dimension"]})
        if not dimensions:
            raise InputError(f"{name_x} and {name_y} have no homology dimension in common.")
        for dimension in dimensions:
            about = {"run_x": name_x, "run_y": name_y, "dimension": dimension}
            pairs = _pairs(*(run[run["dimension"] == dimension] for run in (x, y)))
            if len(pairs) < 2:
                raise InputError(f"{name_x} and {name_y} have fewer than two pairs in common.")
            found.append(_lined_up(about, pairs, clusters))
    return Lineup(*(pd.concat(parts, ignore_index=True) for parts in zip(*found, strict=True)))


def _lined_up(about: dict[str, Any], pairs: pd.DataFrame, clusters: int) -> Lineup:
    heads = _heads(pairs, clusters)
    run = {
        "pairs": len(pairs),
        "heads": len(heads),
        "spearman": _correlation(pairs),
        "adjusted_rand": adjusted_rand_score(heads["cluster_x"], heads["cluster_y"]),
        "changed": int(heads["changed"].sum()),
    }
    heads = heads.sort_values("move", ascending=False, kind="stable")
    pairs = pairs.sort_values("move", key=np.abs, ascending=False, kind="stable")
    named = (pd.DataFrame([run]), heads, pairs.drop(columns=["rank_x", "rank_y"]))
    return Lineup(*(_with(about, table) for table in named))


def _with(about: dict[str, Any], table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([pd.DataFrame([about] * len(table), table.index), table], axis=1)


def _pairs(x: pd.DataFrame, y: pd.DataFrame) -> pd.DataFrame:
    """The pairs of heads that both runs have a distance for, with their ranks and moves."""
    sides = (run[[*PAIR, "mean"]].dropna(subset=["mean"]) for run in (x, y))
    first, second = (side.rename(columns={"mean": "distance"}) for side in sides)
    both = first.merge(_oriented(first, second), on=PAIR, suffixes=("_x", "_y"))
    for side in "xy":
        both[f"rank_{side}"] = rankdata(both[f"distance_{side}"])
    both["move"] = (both["rank_y"] - both["rank_x"]) / max(len(both) - 1, 1)
    return both


def _oriented(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """The second run's pairs, oriented as the first has it: models may come in another order."""
    order = {name: at for at, name in enumerate(_models(first))}
    a, b = (second[f"model_{side}"].map(order) for side in "ab")
    other = {f"{column}_{x}": f"{column}_{y}" for column in HEAD for x, y in ("ab", "ba")}
    return second.where(~(a > b), second.rename(columns=other))


def _models(pairs: pd.DataFrame) -> list[str]:
    """All models, in the order in which they are compared."""
    return list(dict.fromkeys([*pairs["model_a"], *pairs["model_b"]]))


def _correlation(pairs: pd.DataFrame) -> float:
    """Spearman's; NaN where all pairs of a run are equally far apart."""
    ranks = pairs[["rank_x", "rank_y"]].to_numpy()
    if (ranks == ranks[0]).all(axis=0).any():
        return float("nan")
    return float(np.corrcoef(ranks.T)[0, 1])


# ---- heads --------------------------------------------------------------------------------


def _heads(pairs: pd.DataFrame, clusters: int) -> pd.DataFrame:
    """Each head's mean distance and move over its pairs, and its cluster in each run."""
    size = pairs["move"].abs()
    sides = [
        pairs[[f"{column}_{side}" for column in HEAD]]
        .set_axis(HEAD, axis=1)
        .assign(distance_x=pairs["distance_x"], distance_y=pairs["distance_y"], move=size)
        for side in "ab"
    ]
    heads = pd.concat(sides).groupby(HEAD, sort=False).mean().reset_index()
    heads["cluster_x"], heads["cluster_y"] = _clusters(pairs, heads, clusters)
    heads["changed"] = heads["cluster_x"] != heads["cluster_y"]
    return heads


def _clusters(pairs: pd.DataFrame, heads: pd.DataFrame, count: int) -> tuple[Integers, Integers]:
    """Two clusterings, the second's clusters named as the first's that they overlap most."""
    a, b = (_places(pairs, heads, side) for side in "ab")
    x, y = (_cut(a, b, pairs[f"distance_{side}"].to_numpy(), len(heads), count) for side in "xy")
    return x, _named_alike(x, y)


def _places(pairs: pd.DataFrame, heads: pd.DataFrame, side: str) -> Integers:
    """Which of the heads is the first, or the second, of each pair."""
    names = pd.MultiIndex.from_frame(pairs[[f"{column}_{side}" for column in HEAD]])
    return np.asarray(pd.MultiIndex.from_frame(heads[HEAD]).get_indexer(names), np.int64)


def _cut(a: Integers, b: Integers, distances: Floats, heads: int, count: int) -> Integers:
    """Average linkage of all heads, cut at so many clusters, which count from 0."""
    D = np.full((heads, heads), np.nan)
    D[a, b] = D[b, a] = distances
    np.fill_diagonal(D, 0.0)
    if np.isnan(D).any():
        raise InputError(
            "Some pairs of heads have a distance in one run only, so that heads cannot be "
            "clustered: compare runs over texts that all models could use."
        )
    tree = linkage(squareform(D, checks=False), "average")
    return np.asarray(fcluster(tree, count, "maxclust"), np.int64) - 1


def _named_alike(x: Integers, y: Integers) -> Integers:
    count = max(x.max(), y.max()) + 1
    overlaps = np.zeros((count, count), np.int64)
    np.add.at(overlaps, (y, x), 1)
    theirs, ours = linear_sum_assignment(overlaps, maximize=True)
    return np.asarray(ours[np.argsort(theirs)][y], np.int64)
