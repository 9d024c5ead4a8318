"""Distances between the tokens of a text, by named rule.

A rule takes the attention rows of the points of each head, (head, query, key), each row a
distribution over keys, and returns (head, query, query) distances. To add a rule, write one
function here, name it in RULES, and add conf/distance/<name>.yaml.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import information
from pipeline.errors import InputError

Rows = NDArray[np.float64]
Rule = Callable[..., NDArray[np.float64]]


@dataclass(frozen=True)
class DistanceSpec:
    """Which rule, and its options: conf/distance/*.yaml."""

    rule: str
    options: dict[str, float]

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise InputError(f"no rule is called '{self.rule}'; there are {', '.join(RULES)}")
        allowed = list(inspect.signature(RULES[self.rule]).parameters)[1:]
        unknown = sorted(set(self.options) - set(allowed))
        if unknown:
            known = ", ".join(allowed) or "none"
            raise InputError(
                f"rule '{self.rule}' has no option {', '.join(unknown)}; it has {known}"
            )
        base = self.options.get("base", 2.0)
        if not base > 1:
            raise InputError(f"base is {base}; a base of logarithms here is greater than 1")


def jensen_shannon(rows: Rows, base: float = 2.0) -> NDArray[np.float64]:
    """Jensen-Shannon distance between attention rows: the root of the divergence.

    rows (head, query, key); in [0, 1] at base 2. Endres and Schindelin 2003 prove it a metric.
    """
    return information.jensen_shannon(rows, base=base)


def resoftmax(rows: Rows, base: float = float(np.e)) -> NDArray[np.float64]:
    """Jensen-Shannon distance between rows that went through softmax once more.

    It squeezes all distances, the more the longer the text; kept because the founding
    notebook, and work that follows it, computes it (there in nats).
    """
    return information.jensen_shannon(information.resoftmax(rows), base=base)


RULES: dict[str, Rule] = {
    "jensen_shannon": jensen_shannon,
    "resoftmax": resoftmax,
}


def token_distances(rows: Rows, rule: str, options: Mapping[str, Any]) -> NDArray[np.float64]:
    """Distances between the points of each head: (head, query, key) -> (head, query, query)."""
    return RULES[rule](rows, **options)
