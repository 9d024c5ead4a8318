"""Distances between the tokens of a text, by named rule.

A rule says what it takes: of attention, the `rows` of the points, (head, point, key), each a
distribution over all keys, or the `weights` between points, (head, point, point); or the
`states`, the points' vectors as they enter each layer and leave the last, (layer, point,
width). It returns one distance matrix for each head, or for each layer's vectors. To add a
rule, write one function here, name it in RULES, and add conf/distance/<name>.yaml.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform

from pipeline import information
from pipeline.arrays import array, reals
from pipeline.errors import InputError, TextError

Floats = NDArray[np.float64]
Points = NDArray[np.bool_]


class Rule(NamedTuple):
    """What a rule takes, and the function that computes it."""

    takes: Literal["rows", "weights", "states"]
    compute: Callable[..., Floats]


@dataclass(frozen=True)
class DistanceSpec:
    """Which rule, and its options: conf/distance/*.yaml."""

    rule: str
    options: dict[str, float]

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise InputError(f"no rule is called '{self.rule}'; there are {', '.join(RULES)}")
        allowed = list(inspect.signature(RULES[self.rule].compute).parameters)[1:]
        unknown = sorted(set(self.options) - set(allowed))
        if unknown:
            known = ", ".join(allowed) or "none"
            raise InputError(
                f"rule '{self.rule}' has no option {', '.join(unknown)}; it has {known}"
            )
        base = self.options.get("base", 2.0)
        if not base > 1:
            raise InputError(f"base is {base}; a base of logarithms here is greater than 1")

    @property
    def of_states(self) -> bool:
        """Whether the rule compares hidden states: then there is one matrix a layer."""
        return RULES[self.rule].takes == "states"


def jensen_shannon(rows: Floats, base: float = 2.0) -> Floats:
    """Jensen-Shannon distance between attention rows: the root of the divergence.

    rows (head, point, key); in [0, 1] at base 2. Endres and Schindelin 2003 prove it a metric.
    """
    return information.jensen_shannon(rows, base=base)


def resoftmax(rows: Floats, base: float = float(np.e)) -> Floats:
    """Jensen-Shannon distance between rows that went through softmax once more.

    It squeezes all distances, the more the longer the text; kept because the founding
    notebook, and work that follows it, computes it (there in nats).
    """
    return information.jensen_shannon(information.resoftmax(rows), base=base)


def resoftmax_root(rows: Floats, base: float = float(np.e)) -> Floats:
    """Root of the resoftmax distance: the fourth root, as it were, where the root is meant.

    One cell of the founding notebook takes the root of the distance, which is a root already.
    """
    return np.sqrt(resoftmax(rows, base))


def attention_graph(weights: Floats) -> Floats:
    """1 - max(A_ij, A_ji), 0 on the diagonal: the weighted attention graph as a filtration.

    weights (head, point, point); in [0, 1]. Strongly attending tokens are near; it is no
    metric. Kushnareva et al. 2021, "Artificial Text Detection via Examining the Topology of
    Attention Maps".
    """
    weights = _stack(weights, "weights", "head, point, point")
    if weights.shape[1] != weights.shape[2]:
        raise InputError(f"weights have shape {weights.shape}; give (head, point, point)")
    D = 1.0 - np.maximum(weights, weights.swapaxes(-1, -2))
    D[..., range(D.shape[-1]), range(D.shape[-1])] = 0.0
    return np.maximum(D, 0.0)


def hidden_euclidean(states: Floats) -> Floats:
    """Euclidean distance between hidden states: root of the sum of squared differences.

    states (layer, point, width); in the units of the vectors. Layer 0 is the token embeddings.
    """
    states = _stack(states, "states", "layer, point, width")
    return np.stack([squareform(pdist(vectors, "euclidean")) for vectors in states])


def hidden_cosine(states: Floats) -> Floats:
    """Cosine distance between hidden states: 1 - <u, v> / (|u| |v|); no metric.

    states (layer, point, width); in [0, 2]. Computed as half the squared distance of the unit
    vectors, which is the same and keeps its digits where vectors are nearly parallel.
    Raises TextError for a vector of zeros.
    """
    states = _stack(states, "states", "layer, point, width")
    lengths = np.linalg.norm(states, axis=-1, keepdims=True)
    if not lengths.all():
        layer, point, _ = (int(at) for at in np.argwhere(lengths == 0)[0])
        raise TextError(
            f"layer {layer}, point {point}: the hidden state is 0 and has no direction; "
            "use hidden_euclidean"
        )
    return np.stack([squareform(pdist(units, "sqeuclidean")) for units in states / lengths]) / 2


def _stack(values: Floats, name: str, axes: str) -> Floats:
    """Real numbers in three axes, none empty, as float64; tensors of torch too."""
    found = reals(values, name)
    if found.ndim != 3 or 0 in found.shape:
        raise InputError(f"{name} have shape {found.shape}; give ({axes}), none of them 0")
    return np.asarray(found, np.float64)


RULES: dict[str, Rule] = {
    "jensen_shannon": Rule("rows", jensen_shannon),
    "resoftmax": Rule("rows", resoftmax),
    "resoftmax_root": Rule("rows", resoftmax_root),
    "attention_graph": Rule("weights", attention_graph),
    "hidden_euclidean": Rule("states", hidden_euclidean),
    "hidden_cosine": Rule("states", hidden_cosine),
}


def token_distances(
    values: Floats, rule: str, options: Mapping[str, Any], points: Points | None = None
) -> Floats:
    """Distances between the points of each head, or of each layer's vectors.

    values: attention maps (head, query, key), or hidden states (layer, token, width) for the
    rules that take those. points: which tokens are points, (token,); all unless given.
    Returns (head or layer, point, point).
    """
    takes, compute = RULES[rule]
    values = array(values)
    if points is not None and not points.all():
        values = values[:, points]
        values = values[:, :, points] if takes == "weights" else values
    return compute(values, **options)
