"""The job that tests heads and pairs of heads against their nulls.

A part is the heads of one model under one null, or a tile of pairs of heads. What lies beside a
part's rows, the means over them on every text, is added up to the table of whole models.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple
from weakref import finalize

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import head_tests, pairs, store
from pipeline.config import Config, null_name
from pipeline.head_tests import Distance, Measured
from pipeline.jobs import comparison
from pipeline.jobs.comparison import ByHeadJob, Source, Tile
from pipeline.jobs.diagrams import runs
from pipeline.jobs.spill import Spill
from pipeline.pairs import ComparisonSpec, Head
from pipeline.work.parts import Job, Part

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MODELS = ("model_a", "model_b")


class Inputs(NamedTuple):
    """What a part is of: the pairs of a tile, or the heads of a model."""

    null: str
    distance: Distance | None  # between the heads of a pair
    tile: Tile | None
    model: str | None


@dataclass(frozen=True)
class HeadTestsJob(Job):
    """Tests of heads and pairs of heads of the trained models against each null.

    trained   the diagrams of the models by head
    nulls     those of what stands in for them under each null, in the same order
    """

    settings: Config
    trained: ByHeadJob
    nulls: Mapping[str, ByHeadJob]

    def do(self, part: Part) -> Mapping[str, pa.Table]:
        """The rows of a part, and what is added up of them on every text."""
        inputs: Inputs = part.inputs
        made = self._pairs(inputs) if inputs.tile else self._heads(inputs)
        rows, sums = zip(*made, strict=True)
        empty = [store.SCHEMAS[name].empty_table() for name in ("head_tests", "test_sums")]
        return {
            "head_tests": pa.concat_tables([empty[0], *rows]),
            "test_sums": _added(pa.concat_tables([empty[1], *sums])),
        }

    def join(self) -> dict[str, int]:
        """Both tables: rows in the order of nulls, statistics and heads, with their q."""
        rows: dict[str, list[pa.Table]] = {"head_tests": [], "model_tests": []}
        for null in self.settings.nulls:
            for of_pairs in (False, True):
                found = self._of(null, of_pairs)
                if found:
                    of_models = self._models(null, found)
                    rows["head_tests"].append(found[0])
                    rows["model_tests"].append(of_models)
        return {
            name: store.write(path, name, rows[name], self.provenance)
            for name, path in self.outputs.items()
        }

    # ---- parts ----------------------------------------------------------------------------

    def _pairs(self, inputs: Inputs) -> Iterator[tuple[pa.Table, pa.Table]]:
        tile, clusters = inputs.tile, self.trained.source.clusters
        assert tile is not None and inputs.distance is not None
        spec = replace(self.settings.comparison, metric=inputs.distance, order=1.0)
        first, second = tile.pairs()
        heads = self.trained.source.heads
        with TemporaryFile(dir=self.shelf.folder) as file:
            sides = [
                self._observed(tile, spec),
                comparison.spilled(self.nulls[inputs.null], tile, spec, Spill(file)),
            ]
            size = max(pairs.VALUES_AT_ONCE // max(len(clusters), 1), 1)
            for run in runs(len(first), size):
                observed, null = (side.rows(*run) for side in sides)
                measured = Measured(inputs.distance, tile.dimension, observed, null)
                page = slice(*run)
                yield self._rows(inputs.null, measured, heads, first[page], second[page])

    @cached_property
    def _kept(self) -> dict[tuple[Tile, ComparisonSpec], tuple[Spill, Callable[[], Any]]]:
        return {}

    def _observed(self, tile: Tile, spec: ComparisonSpec) -> Spill:
        """Of the trained models; kept for the next null of the same tile."""
        key = tile, spec
        if key not in self._kept:
            for _, close in self._kept.values():
                close()
            self._kept.clear()
            file = TemporaryFile(dir=self.shelf.folder)  # noqa: SIM115, closed with the job
            values = comparison.spilled(self.trained, tile, spec, Spill(file))
            self._kept[key] = values, finalize(self, file.close)
        return self._kept[key][0]

    def _heads(self, inputs: Inputs) -> Iterator[tuple[pa.Table, pa.Table]]:
        assert inputs.model is not None
        source = self.trained.source
        null = self.nulls[inputs.null].source
        sides = [
            self._statistics(of, name)
            for of, name in (
                (source, inputs.model),
                (null, null_name(inputs.model, inputs.null)),
            )
        ]
        which = np.flatnonzero([head.model == inputs.model for head in source.heads])
        for key, observed in sides[0].items():
            measured = Measured(*key, observed, sides[1][key])
            yield self._rows(inputs.null, measured, source.heads, which, None)

    def _statistics(self, source: Source, model: str) -> dict[tuple[str, int | None], Floats]:
        """Each statistic of one model's heads on every text of the corpus: (heads, texts)."""
        file, places = source.files[model], source.places[model]
        heads, dimensions = len(file.heads), file.dimensions
        texts = store.read(self.settings.path("texts", model), ["text_id", "tokens"])
        tokens = dict(zip(*(texts[name].to_pylist() for name in texts.column_names), strict=True))
        found: dict[tuple[str, int | None], Floats] = {}

        def put(key: tuple[str, int | None], text: int, values: Floats) -> None:
            table = found.setdefault(key, np.full((heads, len(places)), np.nan))
            table[:, text] = values

        for text, place in enumerate(places.tolist()):
            if place < 0:
                continue
            rows = file.between(place, place + 1)
            count = np.full(heads, tokens[source.text_ids[text].as_py()])
            for dimension in range(dimensions):
                packed = pairs.pack(rows.take(np.arange(dimension, heads * dimensions, dimensions)))
                for name, values in head_tests.of_diagrams(packed, dimension, count):
                    put((name, dimension), text, values)
        entropy = store.read(self.settings.path("heads", model), ["entropy_mean"])["entropy_mean"]
        if entropy.null_count == 0:
            table = np.full((heads, len(places)), np.nan)
            table[:, places >= 0] = entropy.to_numpy().reshape(-1, heads)[places[places >= 0]].T
            found["entropy", None] = table
        return found

    def _rows(
        self,
        null: str,
        measured: Measured,
        heads: Sequence[Head],
        first: Integers,
        second: Integers | None,
    ) -> tuple[pa.Table, pa.Table]:
        source = self.trained.source
        columns = {
            "corpus": pa.repeat(self.settings.corpus.name, len(first)),
            "null": pa.repeat(null, len(first)),
            **head_tests.tested(measured, source.clusters, self.settings.tests),
            **_names("a", heads, first),
            **_names("b", heads, second if second is not None else [None] * len(first)),
            "q": pa.nulls(len(first), pa.float64()),
            "q_dependent": pa.nulls(len(first), pa.float64()),
        }
        schema = store.SCHEMAS["head_tests"]
        rows = pa.table(columns).select(schema.names).cast(schema)
        return rows, _sums(rows, measured)

    # ---- the join -------------------------------------------------------------------------

    def _of(self, null: str, of_pairs: bool) -> tuple[pa.Table, pa.Table] | None:
        parts = [
            part
            for part in self.parts
            if part.inputs.null == null and bool(part.inputs.tile) == of_pairs
        ]
        if not parts:
            return None
        rows = pa.concat_tables(self.shelf.tables(parts, "head_tests"))
        sums = pa.concat_tables(self.shelf.tables(parts, "test_sums"))
        return head_tests.with_q(rows.take(self._order(rows))), sums

    def _order(self, rows: pa.Table) -> Integers:
        """By statistic, in the order that they have, then by the heads in their order."""
        numbers = {head: at for at, head in enumerate(self.trained.source.heads)}
        sides = [
            [
                numbers.get(Head(*head), -1)
                for head in zip(
                    *(rows[f"{name}_{side}"].to_pylist() for name in Head._fields), strict=True
                )
            ]
            for side in "ab"
        ]
        statistic = rows["statistic"].combine_chunks().dictionary_encode().indices.to_numpy()
        dimension = rows["dimension"].fill_null(-1).to_numpy()
        return np.lexsort((sides[1], sides[0], dimension, statistic))

    def _models(self, null: str, found: tuple[pa.Table, pa.Table]) -> pa.Table:
        """What a null says of all heads of a model, or all pairs of two models, at once."""
        rows, sums = found
        keys = ["statistic", "dimension", *MODELS]
        frame, every = sums.to_pandas(), rows.to_pandas()
        made = []
        for key, of in frame.groupby(keys, sort=False, dropna=False):
            texts = of.groupby("text")[["observed", "null", "rows"]].sum()
            count = len(self.trained.source.text_ids)
            observed, against = (
                (texts[name] / texts["rows"]).reindex(range(count)).to_numpy()[None]
                for name in ("observed", "null")
            )
            name, dimension, model_a, model_b = (None if value != value else value for value in key)
            measured = Measured(
                str(name), None if dimension is None else int(dimension), observed, against
            )
            tested = head_tests.tested(measured, self.trained.source.clusters, self.settings.tests)
            mine = every
            for column, value in zip(keys, (name, dimension, model_a, model_b), strict=True):
                mine = mine[mine[column].isna() if value is None else mine[column] == value]
            made.append(
                pa.table(
                    {
                        "corpus": pa.array([self.settings.corpus.name]),
                        "null": pa.array([null]),
                        "model_a": pa.array([model_a], pa.string()),
                        "model_b": pa.array([model_b], pa.string()),
                        "rows": pa.array([len(mine)]),
                        **tested,
                        "q": pa.nulls(1, pa.float64()),
                        "q_dependent": pa.nulls(1, pa.float64()),
                        **{
                            side: pa.array([share])
                            for side, share in head_tests.shares(pa.table(mine)).items()
                        },
                    }
                )
            )
        schema = store.SCHEMAS["model_tests"]
        empty = schema.empty_table()
        together = [table.select(schema.names).cast(schema) for table in made]
        return head_tests.with_q(pa.concat_tables([empty, *together]))


def _names(side: str, heads: Sequence[Head], which: Any) -> dict[str, Any]:
    chosen = [None if at is None else heads[at] for at in which]
    return {
        f"{name}_{side}": pa.array([head and getattr(head, name) for head in chosen], kind)
        for name, kind in (("model", pa.string()), ("layer", pa.int32()), ("head", pa.int32()))
    }


def _sums(rows: pa.Table, measured: Measured) -> pa.Table:
    """Added up over rows of the same models, on every text: each side, and how many rows."""
    frame = rows.select(["statistic", "dimension", *MODELS]).to_pandas()
    both = ~np.isnan(measured.observed + measured.null)
    found = []
    for key, places in frame.groupby(list(frame.columns), sort=False, dropna=False).indices.items():
        of = both[places]
        texts = np.flatnonzero(of.any(0))
        names = [None if value != value else value for value in key]
        found.append(
            pa.table(
                {
                    **{
                        name: pa.array(
                            [value] * len(texts), store.SCHEMAS["test_sums"].field(name).type
                        )
                        for name, value in zip(frame.columns, names, strict=True)
                    },
                    "text": texts,
                    "rows": of[:, texts].sum(0),
                    **{
                        side: np.where(of, values[places], 0.0)[:, texts].sum(0)
                        for side, values in (
                            ("observed", measured.observed),
                            ("null", measured.null),
                        )
                    },
                }
            ).cast(store.SCHEMAS["test_sums"])
        )
    return pa.concat_tables([store.SCHEMAS["test_sums"].empty_table(), *found])


def _added(sums: pa.Table) -> pa.Table:
    keys = ["statistic", "dimension", *MODELS, "text"]
    values = ["rows", "observed", "null"]
    added = sums.group_by(keys, use_threads=False).aggregate([(name, "sum") for name in values])
    renamed = added.rename_columns([name.removesuffix("_sum") for name in added.column_names])
    return renamed.select(store.SCHEMAS["test_sums"].names).cast(store.SCHEMAS["test_sums"])


def job(settings: Config) -> HeadTestsJob:
    """The tests of all trained models against all nulls."""
    trained = comparison.by_head_job(comparison.source(settings, list(settings.models)))
    nulls = {
        null: comparison.by_head_job(comparison.source(settings, list(settings.of_null(null))))
        for null in settings.nulls
    }
    provenance = {
        "code": store.code_digest("pipeline.head_tests"),
        "config": {
            "tests": asdict(settings.tests),
            "nulls": {name: asdict(spec) for name, spec in settings.nulls.items()},
            "models": list(settings.models),
        },
        "corpus": trained.source.provenance["corpus"],
        "diagrams": {
            name: digest
            for one in (trained, *nulls.values())
            for name, digest in one.source.provenance["diagrams"].items()
        },
        "made_from": {
            name: made
            for one in (trained, *nulls.values())
            for name, made in one.source.provenance["made_from"].items()
        },
        "libraries": store.libraries(),
    }
    return HeadTestsJob(
        title="head tests",
        shelf=trained.shelf,
        parts=list(_parts(trained.source, nulls, provenance)),
        outputs={name: settings.path(name) for name in ("head_tests", "model_tests")},
        provenance=provenance,
        settings=settings,
        trained=trained,
        nulls=nulls,
    )


def _parts(
    source: Source, nulls: Mapping[str, ByHeadJob], provenance: Mapping[str, Any]
) -> Iterator[Part]:
    made_by = store.digest([provenance, store.sha256(Path(__file__))])
    for null in nulls:
        for model in source.names:
            inputs = Inputs(null, None, None, model)
            yield Part(store.digest([made_by, inputs]), f"heads of {model} and {null}", inputs)
    # One null after another: what is observed on a tile is measured once for all.
    for distance in head_tests.DISTANCES:
        for tile, label in comparison.tiles(source):
            for null in nulls:
                inputs = Inputs(null, distance, tile, None)
                yield Part(store.digest([made_by, inputs]), f"{null}, {distance}, {label}", inputs)
