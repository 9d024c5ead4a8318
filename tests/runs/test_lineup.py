"""Runs side by side, on distances whose ranks and clusters are known."""

import re
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from pipeline.errors import InputError
from pipeline.report import lineup as page
from pipeline.runs import lineup


def table(D: np.ndarray, models: tuple[str, ...] = ("m",), dimension: int = 0) -> pd.DataFrame:
    """Head distances of points, so many heads a model."""
    each = len(D) // len(models)
    heads = [(models[i // each], 0, i % each) for i in range(len(D))]
    rows = [(dimension, *heads[i], *heads[j], D[i, j]) for i, j in combinations(range(len(D)), 2)]
    return pd.DataFrame(rows, columns=lineup.COLUMNS)


def on_a_line(*places: float) -> np.ndarray:
    x = np.array(places)
    return np.abs(x[:, None] - x)


APART = on_a_line(0, 0.1, 0.2, 10, 10.15, 10.3)


def test_a_run_beside_itself_is_the_same():
    lined_up = lineup.line_up({"a": table(APART), "b": table(APART)}, 2)
    [run] = lined_up.runs.itertuples()
    assert (run.pairs, run.heads, run.changed) == (15, 6, 0)
    assert run.spearman == pytest.approx(1)
    assert run.adjusted_rand == 1
    assert set(lined_up.pairs["move"]) == {0}
    assert lined_up.heads.groupby("cluster_x")["head"].apply(set).tolist() == [{0, 1, 2}, {3, 4, 5}]


def test_ranks_do_not_see_scale_but_see_order():
    reversed_ = table(APART)
    reversed_["mean"] = 100 - 7 * reversed_["mean"]
    scaled = table(1000 * APART)
    runs = lineup.line_up({"a": table(APART), "s": scaled, "r": reversed_}, 2).runs
    assert runs.set_index(["run_x", "run_y"])["spearman"].round(12).to_dict() == {
        ("a", "s"): 1,
        ("a", "r"): -1,
        ("s", "r"): -1,
    }


def test_rank_correlation_is_scipys():
    rng = np.random.default_rng(3)
    a, b = (table(on_a_line(*rng.integers(0, 9, 12))) for _ in "ab")  # with ties
    [found] = lineup.line_up({"a": a, "b": b}, 3).runs["spearman"]
    assert found == pytest.approx(spearmanr(a["mean"], b["mean"]).statistic)


def test_the_head_that_moves_is_named():
    moved = on_a_line(0, 0.1, 10.4, 10, 10.15, 10.3)  # head 2 goes to the others
    lined_up = lineup.line_up({"a": table(APART), "b": table(moved)}, 2)
    assert lined_up.heads["head"].iloc[0] == 2
    assert lined_up.heads.loc[lined_up.heads["changed"], "head"].tolist() == [2]
    assert lined_up.runs["changed"].tolist() == [1]
    # Its way to head 0 grew from the fourth shortest to the longest of 15.
    to_first = lined_up.pairs.query("head_a == 0 and head_b == 2").iloc[0]
    assert to_first[["distance_x", "distance_y"]].tolist() == pytest.approx([0.2, 10.4])
    assert to_first["move"] == pytest.approx((15 - 5) / 14)


def test_models_in_another_order_are_the_same_heads():
    order = [3, 4, 5, 0, 1, 2]
    a, b = table(APART, ("m", "n")), table(APART[np.ix_(order, order)], ("n", "m"))
    [run] = lineup.line_up({"a": a, "b": b}, 2).runs.itertuples()
    assert (run.pairs, run.adjusted_rand, run.changed) == (15, 1, 0)
    assert run.spearman == pytest.approx(1)


def test_only_what_both_have_is_lined_up():
    fewer = table(APART[:4, :4])
    both = pd.concat([table(APART), table(APART, dimension=1)])
    runs = lineup.line_up({"a": both, "b": fewer}, 2).runs
    assert runs[["dimension", "pairs", "heads"]].to_numpy().tolist() == [[0, 6, 4]]


def test_equal_distances_have_no_rank_correlation():
    flat = table(np.ones((4, 4)))
    assert lineup.line_up({"a": flat, "b": flat}, 2).runs["spearman"].isna().all()


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (table(APART, dimension=1), "no homology dimension in common"),
        (table(APART, ("other",)), "fewer than two pairs in common"),
    ],
)
def test_runs_without_anything_in_common(other, says):
    with pytest.raises(InputError, match=says):
        lineup.line_up({"a": table(APART), "b": other}, 2)


def test_as_a_page_it_shows_what_moved_and_no_name_as_markup():
    other = APART.copy()
    other[0, 1] = other[1, 0] = 5.0
    tables = {"<b>a</b>": table(APART), "b": table(other)}
    found = lineup.line_up(tables, 2)
    html = page.build(found, clusters=2, rows=3)
    assert "<b>a</b>" not in html
    assert "&lt;b&gt;a&lt;/b&gt; to b, dimension 0" in html
    rows = re.findall(r"<tr><td>m 0\.(\d)</td><td>m 0\.(\d)</td><td[^>]*>([-+.\d]+)", html)
    top = found.pairs.iloc[0]
    assert len(rows) == 3
    assert rows[0] == (str(top.head_a), str(top.head_b), f"{top.move:+.4f}")
