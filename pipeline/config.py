"""The schema of a composed configuration, and its check."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from pipeline import corpus, store
from pipeline.context import ContextSpec
from pipeline.corpus import CorpusSpec
from pipeline.diagrams import HomologySpec
from pipeline.distances import DistanceSpec
from pipeline.equivariance import EquivarianceSpec
from pipeline.errors import InputError
from pipeline.head_tests import TestsSpec
from pipeline.maps import AttentionSpec
from pipeline.models import DEVICES, ModelSpec, model_files
from pipeline.nulls import OF_ATTENTION, NullSpec
from pipeline.pairs import ComparisonSpec
from pipeline.work.slurm import ClusterSpec

# A DVC cell, a folder and a key at once; a leading hyphen would make it an option.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
LONGEST_NAME = 100  # characters: a file system takes 255 bytes, and drafts have longer names


# Keys by which Hydra, and the configuration of `logging`, find what they call.
CALLS = ("_target_", "()")
PARTS = ("part_texts", "part_pairs", "part_mb", "part_disk_mb")


@dataclass(frozen=True)
class EngineSpec:
    """How the work is cut, and who does it; changes no number, but for the device's rounding.

    part_texts     texts a part of the diagrams stage
    part_pairs     pairs of heads a part of the comparison stage, at most
    part_mb        megabytes of diagrams that such a part holds, copies included
    part_disk_mb   megabytes of distances that such a part keeps in the work folder meanwhile
    workers        1: this process does the parts; more: so many worker processes do
    threads        threads of a worker's kernels; null: the cores, shared out among the workers
    memory_mb      what a worker may plan to use; null: what is free, shared out likewise
    max_aside      share of the texts that may be skipped; a stage with more ends in an error
    device         where models run: cpu, cuda, or auto: cuda where there is one; which it was
                   moves last bits, and is in each part's digest and in provenance
    """

    part_texts: int
    part_pairs: int
    part_mb: int
    part_disk_mb: int
    workers: int
    threads: int | None
    memory_mb: int | None
    max_aside: float
    device: str

    def __post_init__(self) -> None:
        for name in (*PARTS, "workers", "threads", "memory_mb"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; it must be at least 1")
        if not 0 <= self.max_aside <= 1:
            raise InputError(f"max_aside is {self.max_aside}; give a share, from 0 to 1")
        if self.device not in DEVICES:
            raise InputError(f"device is '{self.device}'; give one of {', '.join(DEVICES)}")


@dataclass(frozen=True)
class Composed:
    """The values of a run, as composed into params.yaml."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    models: dict[str, ModelSpec]
    nulls: dict[str, NullSpec]
    corpus: CorpusSpec
    distance: DistanceSpec
    homology: HomologySpec
    comparison: ComparisonSpec
    tests: TestsSpec
    attention: AttentionSpec
    context: ContextSpec
    equivariance: EquivarianceSpec
    engine: EngineSpec
    cluster: ClusterSpec

    def __post_init__(self) -> None:
        if not self.models:
            raise InputError("models is empty; add one with +model@models.NAME=NAME")
        for kind, names in (("model", self.models), ("null", self.nulls)):
            for name in names:
                if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
                    raise InputError(
                        f"{name[:LONGEST_NAME]!r} cannot name a {kind}: use the letters a to z "
                        "and A to Z, digits, '_' and, but for the first, '-'; "
                        f"{LONGEST_NAME} at most"
                    )
        own = [name for name, spec in self.models.items() if spec.null_rule != "none"]
        if own and self.nulls:
            raise InputError(
                f"{own[0]!r} is a null by its null_rule, and {', '.join(self.nulls)} would stand "
                "in for it too: give nulls by null=[...] alone, or set null=[]"
            )
        for null in self.nulls:
            if twice := self.of_null(null).keys() & self.models.keys():
                raise InputError(
                    f"{min(twice)!r} is a model, and the null {null} of another would be called "
                    "so: give the model another name"
                )
        # Each stage checks its own again; here, before the first of them has worked.
        for name, spec in self.every_model.items():
            model_files.check_spec(name, spec)
            if spec.null_rule in OF_ATTENTION and self.distance.of_states:
                raise InputError(
                    f"Model {name}: its null is {spec.null_rule}, which acts on attention, and "
                    f"the distance {self.distance.rule} is between hidden states: set "
                    "null=[random_weights], or take a distance between attention rows."
                )
        corpus.check_spec(self.corpus)

    def of_null(self, null: str) -> dict[str, ModelSpec]:
        """What stands in for each trained model under one of the nulls: by its own name."""
        spec = self.nulls[null]
        return {
            null_name(name, null): replace(model, null_rule=spec.rule, null_seed=spec.seed)
            for name, model in self.models.items()
        }

    @property
    def null_models(self) -> dict[str, ModelSpec]:
        """What stands in for the models under all nulls."""
        return {name: spec for null in self.nulls for name, spec in self.of_null(null).items()}

    @property
    def every_model(self) -> dict[str, ModelSpec]:
        """The models, and behind them their nulls."""
        return self.models | self.null_models

    def models_of(self, table: str) -> dict[str, ModelSpec]:
        """The models that a table is of: of nulls there are diagrams, and what lies beside them."""
        beside = store.folder(table) == store.folder("diagrams")
        return self.every_model if beside else self.models


def null_name(model: str, null: str) -> str:
    """What a model's null is called in tables, folders and DVC's cells."""
    return f"{model}-{null}"


@dataclass(frozen=True)
class Config(Composed):
    """A run: its values, and the folder that its tables are in.

    What the values name (a corpus, a model's folder) is found from the working directory.
    """

    root: Path = Path()

    @property
    def values(self) -> dict[str, Any]:
        """What params.yaml says."""
        return {key: value for key, value in asdict(self).items() if key != "root"}

    def path(self, table: str, model: str = "") -> Path:
        """Where a table of this run lies; of which model, where there is one of each."""
        of = self.corpus.name if store.TABLES[table].per == "corpus" else model
        return self.root / store.path(table, of)

    def paths(self, table: str) -> list[Path]:
        """Where a table lies of all models; nowhere if on a shelf only."""
        found = store.paths(table, self.corpus.name, self.models_of(table))
        return [self.root / path for path in found]


def check(composed: Mapping[str, Any], root: Path = Path()) -> Config:
    """The composed values as a Config.

    Raises InputError that names every unknown, missing or ill-typed key and what is allowed.
    """
    _refuse_calls(composed)
    _refuse_dots(composed)
    if faults := list(_odd(composed)):
        raise InputError(f"The configuration does not fit: {'; '.join(faults)}.")
    faults = [*_absent(Composed, composed), *_unset(composed)]
    try:
        found = TypeAdapter(Composed).validate_json(json.dumps(composed, default=_no_value))
    except ValidationError as error:
        faults += [_fault(entry) for entry in error.errors() if entry["type"] != "missing"]
    if faults:
        raise InputError(f"The configuration does not fit: {'; '.join(faults)}.")
    return Config(**vars(found), root=root)


def _no_value(value: object) -> None:
    """YAML has values that a configuration has not: bytes (`!!binary`), dates, sets."""
    raise InputError(
        f"{value!r:.80} is of type {type(value).__name__}; a configuration holds numbers, "
        "strings, true, false, null, lists and mappings: put it in quotes, or remove its tag"
    )


def check_keys(composed: Mapping[str, Any]) -> None:
    """Raise InputError for a key that no configuration has, before its value is used.

    Hydra would take its own settings from a file beside ours, and call what they name.
    """
    known = [field.name for field in fields(Composed)]
    if unknown := [key for key in composed if key not in known]:
        raise InputError(
            f"{', '.join(map(repr, unknown))} is not known; a configuration has: {', '.join(known)}"
        )
    _refuse_calls(composed)


def _refuse_dots(composed: Mapping[str, Any]) -> None:
    """A name with a dot composes to a node inside a node, where every value would be missing."""
    models = composed.get("models")
    for name, node in models.items() if isinstance(models, Mapping) else ():
        inner = list(node.items()) if isinstance(node, Mapping) else []
        if inner and all(isinstance(value, Mapping) for _, value in inner):
            raise InputError(
                f"'{name}.{inner[0][0]}' cannot name a model: a name has no '.', which divides keys"
            )


def _refuse_calls(composed: Mapping[str, Any]) -> None:
    if place := calls(composed):
        raise InputError(
            f"'{place}' names code to run; a configuration holds values only: remove it"
        )


def calls(values: Any, place: str = "") -> str | None:
    """Where a configuration names something to call, for Hydra or for `logging`; None: nowhere."""
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(values, Mapping):
        inner = values.items()
    elif isinstance(values, list | tuple):
        inner = enumerate(values)
    for key, value in inner:
        here = f"{place}.{key}" if place else str(key)
        if key in CALLS:
            return here
        if found := calls(value, here):
            return found
    return None


def _absent(kind: Any, values: Any, prefix: str = "") -> Iterator[str]:
    """The keys that are not there; defaults in the code serve callers, not configurations."""
    if not isinstance(values, Mapping):
        return
    if not is_dataclass(kind):
        for key, value in values.items():
            yield from _absent(get_args(kind)[1], value, f"{prefix}{key}.")
        return
    for name, inner in get_type_hints(kind).items():
        if name.startswith("__"):
            continue
        if name not in values:
            yield f"'{prefix}{name}' is missing"
        elif is_dataclass(inner) or get_origin(inner) is dict:
            yield from _absent(inner, values[name], f"{prefix}{name}.")


def _unset(values: Any, key: str = "") -> Iterator[str]:
    """The keys still at "???", which composing lets through."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from _unset(value, f"{key}.{name}" if key else str(name))
    elif values == "???":
        yield f"'{key}' has no value; give one with {key}=VALUE"


def _odd(values: Any, key: str = "") -> Iterator[str]:
    """The values that JSON has no word for, as the bytes of a `!!binary`."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from _odd(value, f"{key}.{name}" if key else str(name))
    elif isinstance(values, list | tuple):
        for number, value in enumerate(values):
            yield from _odd(value, f"{key}.{number}")
    elif values is not None and not isinstance(values, str | bool | int | float):
        kind = type(values).__name__
        yield f"'{key}' is of type {kind}; give text, a number, true, false or null"


def _fault(entry: ErrorDetails) -> str:
    key = ".".join(str(step) for step in entry["loc"])
    match entry["type"]:
        case "unexpected_keyword_argument":
            return f"'{key}' is not known; allowed here: {', '.join(_siblings(entry['loc']))}"
        case "value_error":
            return (
                f"'{key}': {entry['ctx']['error']}"
                if key
                else str(entry["ctx"]["error"]).removesuffix(".")
            )
        case _:
            return f"'{key}' is {entry['input']!r}: {entry['msg'].lower()}"


def _siblings(location: tuple[int | str, ...]) -> list[str]:
    """The keys allowed beside the one at a location."""
    kind: Any = Composed
    for step in location[:-1]:
        kind = get_type_hints(kind)[str(step)] if is_dataclass(kind) else get_args(kind)[1]
    return [field.name for field in fields(kind)]
