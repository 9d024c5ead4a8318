"""The words in which a person asks for a head on a text; they load nothing."""

from pathlib import Path
from typing import Any

TABLE_FILES = (".csv", ".parquet")
GRAPH_FILE = ".graphml"
PAIRS = ("bottleneck", "context")  # of two texts


class TextId(str):
    """A text named by its id in the prepared corpus."""

    __slots__ = ()


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
OF_A_HEAD = ("model", "layer", "head", "text", "text-id", "image")
