"""The tables of one run, as the sections of the page read them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pandas as pd
import pyarrow as pa


class TextRows(Protocol):
    """One model's table, some texts at a time: see `store.TextRows`."""

    def __contains__(self, text_id: str) -> bool: ...

    def __iter__(self) -> Iterator[pa.Table]:
        """All rows, whole texts at a time."""

    def rows(self, text_id: str) -> pa.Table:
        """All rows of one text."""


def _no_tests() -> pd.DataFrame:
    return pd.DataFrame(columns=["null", "statistic", "null_std"])


@dataclass(frozen=True, eq=False)  # by identity, so that what is computed from it can be kept
class Run:
    """The tables of one run; each per-model mapping has all models, in their order.

    corpus           its name
    records          the corpus table without images: text_id, text, language, group, source
    rejects          records skipped before any model saw them
    texts            per model
    heads            per model, without the list of each token's entropy; read by runs of texts
    diagrams         per model; read by runs of texts, so that neither is ever whole in memory
    head_distances   all pairs of heads
    model_tests      models against their nulls (empty: there are none)
    text_distances   pairs of texts under each head; read by row groups
    context          per model
    context_equal    per model
    equivariance     per model
    maps             per model: full attention maps of the chosen texts (empty: none were kept)
    tokens           per model: tokens of those texts
    provenance       of head_distances
    made             of every file the page was made from, its provenance
    config           the configuration, without what changes no number
    recorded         hash of the file of head_distances in dvc.lock; no page can show its own
    overrides        the words that compose this configuration from conf/
    """

    corpus: str
    records: pd.DataFrame
    rejects: pd.DataFrame
    texts: Mapping[str, pd.DataFrame]
    heads: Mapping[str, TextRows]
    diagrams: Mapping[str, TextRows]
    head_distances: pd.DataFrame
    model_tests: pd.DataFrame = field(default_factory=_no_tests)
    text_distances: Iterable[pa.Table] = ()
    context: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    context_equal: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    equivariance: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    maps: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    tokens: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    made: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    recorded: str = ""
    overrides: Sequence[str] = ()

    @property
    def models(self) -> list[str]:
        """Names of the models, in the order of the configuration."""
        return list(self.texts)
