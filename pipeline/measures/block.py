"""Some heads of one layer on one text: their rows, distances and diagrams, each computed once.

The bulk run takes a layer at a time; what looks at one head takes a block of one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline import diagrams
from pipeline.attention import Encoding
from pipeline.diagrams import HomologySpec
from pipeline.distances import DistanceSpec, token_distances
from pipeline.errors import InputError, TextError

Floats = NDArray[np.float64]
Points = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Block:
    """Some heads of one layer on one text or image, or the hidden states that enter a layer.

    encoding    the text as tokens
    points      which tokens are points of the metric space: (token,)
    distance    how far apart they are, and
    homology    which diagrams follow
    get_maps    gives the attention maps: (head, query, key), each row a distribution
    get_states  gives the vectors that enter the layer, one space: (1, token, width)
    """

    encoding: Encoding
    points: Points
    distance: DistanceSpec
    homology: HomologySpec
    get_maps: Callable[[], Floats] | None = None
    get_states: Callable[[], Floats] | None = None

    @cached_property
    def maps(self) -> Floats:
        """The attention maps: (head, query, key)."""
        if self.get_maps is None:
            raise InputError("Hidden states have no attention: choose a layer that has.")
        return self.get_maps()

    @cached_property
    def states(self) -> Floats:
        """The vectors that enter the layer: (1, token, width)."""
        if self.get_states is None:
            raise InputError("This block has no hidden states: choose a rule that takes attention.")
        return self.get_states()

    @cached_property
    def rows(self) -> Floats:
        """The attention of the points to all tokens: (head, point, key)."""
        return self.maps if self.points.all() else self.maps[:, self.points]

    @cached_property
    def distances(self) -> Floats:
        """Between points, by the rule: (head, point, point). TextError below two points."""
        check_points(self.points)
        values = self.states if self.distance.of_states else self.maps
        return token_distances(values, self.distance.rule, self.distance.options, self.points)

    @cached_property
    def diagrams(self) -> list[list[Floats]]:
        """Of each head by dimension: (bars, 2), those of at most min_persistence dropped."""
        spec = self.homology
        found = diagrams.rips(self.distances, spec.max_dimension, spec.coefficient_field)
        return [[_longer_than(spec.min_persistence, bars) for bars in head] for head in found]

    @property
    def map(self) -> Floats:
        """The map of the first head: (query, key)."""
        return np.asarray(self.maps[0])

    @property
    def tokens(self) -> list[str]:
        """All tokens of the text."""
        return self.encoding.tokens

    @cached_property
    def positions(self) -> NDArray[np.int64]:
        """Where the points are in the text."""
        return np.flatnonzero(self.points)

    @property
    def labels(self) -> list[str]:
        """Position and token, of every token."""
        return [f"{i} {token}" for i, token in enumerate(self.tokens)]

    @property
    def point_labels(self) -> list[str]:
        """The same, of the points only."""
        return [f"{i} {self.tokens[i]}" for i in self.positions]


def check_points(points: Points) -> None:
    """Raise TextError where a text has too few points for a distance."""
    if (number := int(points.sum())) < 2:
        raise TextError(f"{number} token; a distance needs 2")


def _longer_than(length: float, bars: Floats) -> Floats:
    return bars[bars[:, 1] - bars[:, 0] > length] if length > 0 else bars
