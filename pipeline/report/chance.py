"""Whether what a run measures is more than chance: models against their nulls."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from pipeline.head_tests import SIGNIFICANT
from pipeline.report.run import Run

# What a statistic is called, by its name and dimension.
WORDS = {
    ("tree", 0): "tokens' tree: mean edge",
    ("total_persistence", 0): "tokens' tree: length",
    ("persistence_entropy", 0): "tokens' tree: entropy of its edges, bits",
    ("total_persistence", 1): "loops: total persistence",
    ("bars", 1): "loops: number",
    ("longest", 1): "loops: the longest",
    ("persistence_entropy", 1): "loops: entropy of their lengths, bits",
    ("bottleneck", 0): "distance of two heads: bottleneck, clusters",
    ("bottleneck", 1): "distance of two heads: bottleneck, loops",
    ("wasserstein", 0): "distance of two heads: Wasserstein, clusters",
    ("wasserstein", 1): "distance of two heads: Wasserstein, loops",
}
LED = 3  # statistics that are said in a sentence, of each null


@dataclass(frozen=True)
class Row:
    """One statistic of the heads of a model, or of pairs, against a null."""

    statistic: str
    models: str
    rows: int
    observed: float
    null: float
    difference: float
    low: float
    high: float
    effect: float
    q: float
    above: float
    below: float

    @property
    def differs(self) -> bool:
        """Whether it is more than chance."""
        return self.q < SIGNIFICANT

    def __str__(self) -> str:
        side = "below" if self.difference < 0 else "above"
        return (
            f"{self.statistic} of {self.models}: {self.observed:.3g}, and {self.null:.3g} under "
            f"the null; the difference {self.difference:.3g} [{self.low:.3g}, {self.high:.3g}], "
            f"{abs(self.effect):.1f} of the null's standard deviations {side} it, q {self.q:.2g}"
        )


class Null(NamedTuple):
    """What one null says: rows that stand farthest from it first."""

    name: str
    texts: int
    clusters: int
    rows: list[Row]

    @property
    def leading(self) -> list[Row]:
        """What stands farthest from the null."""
        return [row for row in self.rows if row.differs][:LED]

    @property
    def alike(self) -> list[Row]:
        """What is not told from the null."""
        return [row for row in self.rows if not row.differs]


def build(run: Run) -> dict[str, Any] | None:
    """Variables of the template."""
    found = nulls(run.model_tests)
    return {"nulls": found, "significant": SIGNIFICANT} if found else None


def nulls(model_tests: pd.DataFrame) -> list[Null]:
    """The rows of model_tests, null by null, the largest effect first."""
    found = []
    for name, rows in model_tests.groupby("null", sort=False):
        # A null of the trained entropies has these: the statistic has nothing to say.
        known = rows[(rows["null_std"] > 0) & (rows["statistic"] != "entropy")]
        known = known.assign(effect=known["difference"] / known["null_std"])
        ranked = known.iloc[known["effect"].abs().argsort(kind="stable")[::-1]]
        if len(ranked):
            texts, clusters = (int(ranked[column].max()) for column in ("texts", "clusters"))
            made = [_row(row) for row in ranked.to_dict("records")]
            found.append(Null(str(name), texts, clusters, made))
    return found


def _row(row: Mapping[Any, Any]) -> Row:
    key = row["statistic"], int(row["dimension"])
    of = [row["model_a"], *([row["model_b"]] if isinstance(row["model_b"], str) else [])]
    return Row(
        WORDS.get(key, f"{key[0]}, dimension {key[1]}"),
        " and ".join(dict.fromkeys(of)),
        int(row["rows"]),
        *(
            float(row[name])
            for name in ("observed", "null_mean", "difference", "ci_low", "ci_high", "effect")
        ),
        *(float(row[name]) for name in ("q", "above", "below")),
    )


def text(model_tests: pd.DataFrame) -> str:
    """What stands farthest from each null, a line each."""
    lines = []
    for null in nulls(model_tests):
        lines.append(f"against {null.name}, on {null.texts} texts in {null.clusters} groups")
        lines += [f"  {row}" for row in null.leading]
        lines += ["  nothing differs from it"] * (not null.leading)
    return "\n".join(lines)
