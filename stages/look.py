"""One head on one text: its map, numbers, distances, diagrams, graphs, clusters and simplices;
and the vectors of the tokens that two texts share.

    python -m stages.look WHAT --model minilm --layer 3 --head 10 --text "..." [--to FILE]

prints a table, or writes it; --image FILE in place of --text for a vision model. WHAT --help
says what WHAT is and takes. Layers, heads and positions count from 0. Not a Hydra application,
unlike the stages: its grammar wants a text with a comma, a bracket or an equals sign quoted a
second time.
"""

import argparse
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray
from omegaconf import OmegaConf

from pipeline import (
    attention,
    comparison,
    config,
    context,
    graphs,
    heads,
    information,
    models,
    store,
)
from pipeline.attention import Encoding
from pipeline.config import Config
from pipeline.distances import token_distances
from pipeline.engine import say
from pipeline.errors import InputError, TextError
from pipeline.models import Model
from stages.app import load_yaml, params, sentences

Floats = NDArray[np.float64]
Columns = dict[str, Any]
Cells = Sequence[Any]

TABLE_FILES: dict[str, Callable[[pa.Table, Path], None]] = {
    ".csv": pyarrow.csv.write_csv,
    ".parquet": pyarrow.parquet.write_table,
}
GRAPH_FILE = ".graphml"


class TextId(str):
    """A text named by its id in the prepared corpus."""

    __slots__ = ()


@dataclass(frozen=True)
class Head:
    """One head on one text.

    A        the map of the whole text (query, key), or, where distances between hidden
             states are asked for, the vectors (token, width) that enter the layer
    points   positions of the tokens that are points of the metric space
    """

    encoding: Encoding
    A: Floats
    points: NDArray[np.int64]

    @property
    def tokens(self) -> list[str]:
        """Of the whole text."""
        return self.encoding.tokens

    @property
    def labels(self) -> list[str]:
        """Position and token of each point."""
        return [f"{i} {self.tokens[i]}" for i in self.points]


@dataclass(frozen=True)
class Request:
    """What was asked: the model, the settings, and the options of WHAT."""

    model: Model
    settings: Config
    options: argparse.Namespace

    @property
    def title(self) -> str:
        """What is shown, of which model and head."""
        options = self.options
        head = f" layer {options.layer} head {options.head}" if "layer" in options else ""
        return f"{self.model.name}{head}: {options.what}"

    @cached_property
    def texts(self) -> list[str]:
        """The texts, those named by their id as the prepared corpus has them."""
        return [_text(word, self.settings) for word in self.options.text]

    @cached_property
    def heads(self) -> list[Head]:
        """The head on each text."""
        of_states = "distance" in self.options and self.settings.distance.of_states
        take = _vectors if of_states else _map
        contents: list[str | bytes] = [*self.texts, *map(_bytes, self.options.image)]
        return [_head(self.model, self.options, content, take) for content in contents]

    def divergences(self, head: Head) -> Floats:
        """Kullback-Leibler divergences between a head's points, in bits."""
        rows = head.A[head.points]
        if self.options.distribution == "resoftmax":
            rows = information.resoftmax(rows)
        return information.kl_divergence(rows, epsilon=self.options.epsilon)

    def distances(self, head: Head) -> Floats:
        """Distances of a head's points by the configured rule."""
        if len(head.points) < 2:
            raise InputError(f"The text has {len(head.points)} token; a distance needs 2.")
        spec = self.settings.distance
        points = np.isin(np.arange(len(head.tokens)), head.points)
        [D] = token_distances(head.A[None], spec.rule, spec.options, points)
        return np.asarray(D)

    def diagrams(self, head: Head) -> list[Floats]:
        """Diagrams of a head by dimension, as configured."""
        return heads.persistence(self.distances(head)[None], self.settings.homology)[0]


class Shown(NamedTuple):
    """An answer: what a file gets and, where they differ, what is printed; or a graph."""

    table: pa.Table
    printed: list[Cells] | None = None
    note: str = ""
    graph: Any = None


# ---------------------------------------------------------------- what there is to see


def attention_map(request: Request) -> Shown:
    """How much each token (a row, the query) attends to each (a column, the key)."""
    [head] = request.heads
    return _matrix(head, np.arange(len(head.A)), head.A, ("query", "key", "attention"))


def entropy(request: Request) -> Shown:
    """Shannon entropy of each token's attention, in bits."""
    [head] = request.heads
    return Shown(
        pa.table(
            {
                "position": head.points,
                "token": [head.tokens[i] for i in head.points],
                "entropy": information.entropy(head.A[head.points]),
            }
        )
    )


def divergences(request: Request) -> Shown:
    """Kullback-Leibler divergence of each token's attention (a row) from each other's, in bits."""
    [head] = request.heads
    return _matrix(head, head.points, request.divergences(head), ("a", "b", "divergence"))


def distances(request: Request) -> Shown:
    """Distances between tokens, by the configured rule."""
    [head] = request.heads
    return _matrix(head, head.points, request.distances(head), ("a", "b", "distance"))


def bars(request: Request) -> Shown:
    """Persistence diagrams: when each class is born and dies, by dimension."""
    [head] = request.heads
    found = request.diagrams(head)
    births, deaths = np.concatenate(found).T
    dimensions = np.repeat(np.arange(len(found)), [len(diagram) for diagram in found])
    return Shown(pa.table({"dimension": dimensions, "birth": births, "death": deaths}))


def bottleneck(request: Request) -> Shown:
    """Exact bottleneck distance between the diagrams of two texts, by dimension."""
    pairs = list(zip(*(request.diagrams(head) for head in request.heads), strict=True))
    apart = [float(comparison.bottleneck([a], [b])[0, 0]) for a, b in pairs]
    return Shown(pa.table({"dimension": range(len(apart)), "bottleneck": apart}))


def graph(request: Request) -> Shown:
    """The attention graph: an edge from each query to each key it attends to, loops kept."""
    [head] = request.heads
    made = graphs.attention_graph(head.A, head.tokens, request.options.threshold)
    queries, keys, weights = (
        zip(*made.edges(data="weight"), strict=True) if made.edges else [()] * 3
    )
    columns = _ends(head, ("query", "key"), np.array(queries, int), np.array(keys, int))
    return Shown(pa.table({**columns, "weight": pa.array(weights, pa.float64())}), graph=made)


def symmetrised(request: Request) -> Shown:
    """The symmetrised map, a weighted adjacency matrix: the larger of both directions."""
    [head] = request.heads
    W = graphs.symmetrised(head.A)
    shown = _matrix(head, np.arange(len(W)), W, ("a", "b", "weight"))
    return shown._replace(graph=graphs.symmetrised_graph(head.A, head.tokens))


def clusters(request: Request) -> Shown:
    """Clusters of tokens at --scale, each with its medoid; or how many there are at all scales."""
    [head] = request.heads
    D = request.distances(head)
    tree = graphs.merge_tree(D)
    if request.options.scale is None:
        return _curve(tree)
    labels = graphs.cluster_labels(tree, request.options.scale)
    note = f"{labels.max() + 1} of {len(labels)} tokens, reduction {graphs.reduction(labels):.4g}"
    return Shown(_clusters(head, labels, graphs.representatives(D, labels)), note=note)


def simplices(request: Request) -> Shown:
    """Edges and triangles of the Rips complex, up to --scale, each with the scale it enters at."""
    [head] = request.heads
    length = np.inf if request.options.scale is None else request.options.scale
    found = graphs.simplices(request.distances(head), length)
    members = [head.points[simplex] for simplex in (*found.edges, *found.triangles)]
    return Shown(
        pa.table(
            {
                "dimension": np.repeat([1, 2], [len(found.edges), len(found.triangles)]),
                "scale": np.concatenate([found.lengths, found.scales]),
                "positions": pa.array([_joined(m) for m in members], pa.string()),
                "tokens": pa.array(
                    [_joined(head.tokens[i] for i in m) for m in members], pa.string()
                ),
            }
        )
    )


def contexts(request: Request) -> Shown:
    """Cosine between the vectors of each token that two texts share, in every layer."""
    try:
        return Shown(context.cosines(request.model, *request.texts))
    except TextError as error:
        raise InputError(f"These texts cannot be used: {error}") from error


def _matrix(
    head: Head, positions: NDArray[np.int64], values: Floats, names: tuple[str, str, str]
) -> Shown:
    """A matrix between tokens: a row a pair in a file, a row a token in print."""
    n = len(positions)
    columns = _ends(head, names[:2], np.repeat(positions, n), np.tile(positions, n))
    labels = [f"{i} {head.tokens[i]}" for i in positions]
    printed = [["", *labels]] + [[label, *row] for label, row in zip(labels, values, strict=True)]
    return Shown(pa.table({**columns, names[2]: values.reshape(-1)}), printed)


def _ends(
    head: Head, names: tuple[str, str], first: NDArray[np.int64], second: NDArray[np.int64]
) -> Columns:
    tokens = np.array(head.tokens, object)
    return {
        names[0]: first,
        f"{names[0]}_token": pa.array(tokens[first], pa.string()),
        names[1]: second,
        f"{names[1]}_token": pa.array(tokens[second], pa.string()),
    }


def _curve(tree: Floats) -> Shown:
    scales, numbers = graphs.cluster_curve(tree)
    return Shown(
        pa.table({"scale": scales, "clusters": numbers, "reduction": numbers / (len(tree) + 1)}),
        note="from each scale on",
    )


def _clusters(head: Head, labels: NDArray[np.int64], medoids: NDArray[np.int64]) -> pa.Table:
    members = [head.points[labels == label] for label in range(len(medoids))]
    return pa.table(
        {
            "cluster": np.arange(len(medoids)),
            "size": [len(found) for found in members],
            "representative": head.points[medoids],
            "token": [head.tokens[i] for i in head.points[medoids]],
            "positions": [_joined(found) for found in members],
            "tokens": [_joined(head.tokens[i] for i in found) for found in members],
        }
    )


def _joined(values: Iterable[Any]) -> str:
    return " ".join(map(str, values))


# ---------------------------------------------------------------- the command line

LOOKS: dict[str, tuple[Callable[[Request], Shown], tuple[str, ...]]] = {
    "attention": (attention_map, ()),
    "entropy": (entropy, ()),
    "kl": (divergences, ("epsilon", "distribution")),
    "distances": (distances, ("distance",)),
    "diagrams": (bars, ("distance", "homology")),
    "bottleneck": (bottleneck, ("distance", "homology")),
    "graph": (graph, ("threshold",)),
    "symmetrised": (symmetrised, ()),
    "clusters": (clusters, ("distance", "scale")),
    "simplices": (simplices, ("distance", "scale")),
    "context": (contexts, ()),
}
GRAPHS = ("graph", "symmetrised")
PAIRS = ("bottleneck", "context")  # of two texts
TEXTS = ("context",)  # of whole texts, in every layer, whatever the head
OPTIONS: dict[str, dict[str, Any]] = {
    "model": {"required": True, "help": "a model of params.yaml, or of conf/model"},
    "layer": {"required": True, "type": int, "help": "counted from 0"},
    "head": {"required": True, "type": int, "help": "counted from 0"},
    "text": {"action": "append", "default": [], "help": f"twice for {' and '.join(PAIRS)}"},
    "text-id": {
        "action": "append",
        "dest": "text",
        "type": TextId,
        "metavar": "ID",
        "help": "in a text's place: one of the prepared corpus of params.yaml",
    },
    "image": {
        "action": "append",
        "default": [],
        "type": Path,
        "metavar": "FILE",
        "help": "in a text's place, for a vision model",
    },
    "to": {"type": Path, "metavar": "FILE", "help": ".csv or .parquet; .graphml for a graph"},
    "distance": {"metavar": "NAME", "help": "of conf/distance (default: that of params.yaml)"},
    "homology": {"metavar": "NAME", "help": "of conf/homology (default: that of params.yaml)"},
    "scale": {"type": float, "help": "a distance (default: all scales)"},
    "threshold": {"type": float, "default": 0.0, "help": "leave out edges of less weight"},
    "epsilon": {
        "type": float,
        "default": 0.0,
        "help": "added inside each logarithm (default 0, exact; the founding notebook's: 1e-9)",
    },
    "distribution": {
        "choices": ("attention", "resoftmax"),
        "default": "attention",
        "help": "the attention itself, or its softmax as in the founding notebook",
    },
}
COMMON = ("model", "text", "text-id", "to")
OF_A_HEAD = ("model", "layer", "head", "text", "text-id", "image", "to")


class Parser(argparse.ArgumentParser):
    """A command line whose slips are sentences."""

    def error(self, message: str) -> NoReturn:
        """Raise InputError in place of argparse's own exit."""
        raise InputError(f"{message[:1].upper()}{message[1:]}; see {self.prog} --help.")


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line's options; InputError where it makes no sense."""
    parser = Parser("python -m stages.look", description="Look at one head on one text.")
    whats = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    for what, (look, options) in LOOKS.items():
        about = str(look.__doc__)
        one = whats.add_parser(what, help=about, description=about, allow_abbrev=False)
        for name in (*(COMMON if what in TEXTS else OF_A_HEAD), *options):
            one.add_argument(f"--{name}", **OPTIONS[name])
    found = parser.parse_args(words)
    _check(found)
    return found


def _check(options: argparse.Namespace) -> None:
    texts = 2 if options.what in PAIRS else 1
    came = len(options.text) + len(getattr(options, "image", []))
    if came != texts:
        raise InputError(f"{options.what} takes {texts} --text, and {came} came; give as many.")
    allowed = [*TABLE_FILES, *([GRAPH_FILE] if options.what in GRAPHS else [])]
    if options.to and options.to.suffix not in allowed:
        raise InputError(
            f"{options.what} cannot be written to {str(options.to)!r}; "
            f"end the name in {' or '.join(allowed)}."
        )


def settings(options: argparse.Namespace) -> Config:
    """params.yaml, with the model and the choices named on the command line."""
    values: Any = OmegaConf.to_container(params(), resolve=True)
    name, known = options.model, values["models"]
    values["models"] = {name: known[name] if name in known else _choice("model", name, known)}
    for group in ("distance", "homology"):
        if chosen := getattr(options, group, None):
            values[group] = _choice(group, chosen)
    return config.check(values)


def _choice(group: str, name: str, more: Iterable[str] = ()) -> Any:
    files = {file.stem: file for file in Path("conf", group).glob("*.yaml")}
    if name not in files:
        raise InputError(
            f"No {group} is called {name!r}; there are {', '.join(sorted({*files, *more}))}."
        )
    return OmegaConf.to_container(load_yaml(files[name], "Correct it."), resolve=True)


def _head(
    model: Model,
    options: argparse.Namespace,
    content: str | bytes,
    take: Callable[[Model, Encoding, argparse.Namespace], Floats],
) -> Head:
    if not 0 <= options.head < model.heads:
        raise InputError(
            f"Model {model.name} has no head {options.head}: "
            f"the heads of each layer are 0 to {model.heads - 1}."
        )
    try:
        encoding = attention.encode(model, content)
        A = take(model, encoding, options)
    except TextError as error:
        what = "image" if isinstance(content, bytes) else "text"
        raise InputError(f"This {what} cannot be used: {error}") from error
    if encoding.cut:
        say(f"The text was cut to {len(encoding.tokens)} of its {encoding.total_tokens} tokens.")
    points = np.flatnonzero(attention.points(model, encoding))
    return Head(encoding, A, points)


def _text(word: str, settings: Config) -> str:
    if not isinstance(word, TextId):
        return word
    path = store.corpus_path(settings.corpus.name)
    rows = store.read(path, ["text_id", "text"]).to_pylist()
    found = next((row["text"] for row in rows if row["text_id"] == word), None)
    if found is None:
        raise InputError(f"{path} has no text {word!r}: take an id from its column text_id.")
    return str(found)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"The image {str(path)!r} cannot be read: {error.strerror}.") from error


def _map(model: Model, encoding: Encoding, options: argparse.Namespace) -> Floats:
    return np.asarray(attention.attention_of(model, encoding, options.layer)[options.head])


def _vectors(model: Model, encoding: Encoding, options: argparse.Namespace) -> Floats:
    if not 0 <= options.layer <= model.layers:
        raise InputError(
            f"Model {model.name} has no hidden states {options.layer}: 0 to {model.layers - 1} "
            f"enter the layer of that number, {model.layers} leave the last."
        )
    return np.asarray(attention.hidden_states(model, encoding)[options.layer])


# ---------------------------------------------------------------- printed and written


def rendered(rows: Sequence[Cells]) -> str:
    """Rows of cells, a header first, as lines: words to the left, numbers to the right."""
    texts = [[_cell(value) for value in row] for row in rows]
    columns = list(zip(*texts, strict=True))
    widths = [max(map(_width, column)) for column in columns]
    left = [any(isinstance(row[at], str) for row in rows[1:]) for at in range(len(columns))]
    lines = ("  ".join(map(_padded, row, widths, left)).rstrip() for row in texts)
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _padded(text: str, width: int, left: bool) -> str:
    blank = " " * (width - _width(text))
    return text + blank if left else blank + text


def _width(text: str) -> int:
    """Columns of a terminal: none for a mark on the letter before it, two for a wide letter."""
    marks = sum(unicodedata.category(c) in ("Mn", "Me") for c in text)
    wide = sum(unicodedata.east_asian_width(c) in ("W", "F") for c in text)
    return len(text) - marks + wide


def write(shown: Shown, path: Path) -> None:
    """Write a table or a graph, atomically, in the form that the name ends in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == GRAPH_FILE:
        graphs.write_graphml(shown.graph, path)
        return
    with drafted(path) as draft:
        TABLE_FILES[path.suffix](shown.table, draft)


@contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """A file beside this one to write to, which takes its place when all went well."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def asked(options: argparse.Namespace) -> Request:
    """The request that a command line makes, its model loaded."""
    chosen = settings(options)
    model = models.load(options.model, chosen.models[options.model], store.work_folder())
    return Request(model, chosen, options)


def main(words: Sequence[str]) -> None:
    """Answer one command line."""
    options = parse(words)
    request = asked(options)
    shown = LOOKS[options.what][0](request)
    if options.to:
        write(shown, options.to)
        say(f"{options.what} -> {options.to}")
        return
    table = shown.table
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    title = f"{request.title}, {shown.note}" if shown.note else request.title
    show(f"{title}\n{rendered(shown.printed or [table.column_names, *rows])}")


def show(text: str) -> None:
    """Print a text; a reader who has seen enough of it, such as `head`, may close the pipe."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # What is left in the buffer goes nowhere, instead of failing again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    with sentences():
        main(sys.argv[1:])
