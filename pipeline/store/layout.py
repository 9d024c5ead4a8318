"""Where each artefact lives, and the folder of resumable work."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def corpus_path(corpus: str) -> Path:
    """The corpus table of one corpus."""
    return Path("data/corpus") / f"{corpus}.parquet"


def rejects_path(corpus: str) -> Path:
    """The records of one corpus that were set aside."""
    return Path("data/corpus") / f"{corpus}.rejects.parquet"


def model_path(model: str, table: str) -> Path:
    """A per-model table: texts, tokens, heads, clusters or diagrams."""
    return DIAGRAMS / model / f"{table}.parquet"


def attention_path(model: str) -> Path:
    """The kept attention maps of one model."""
    return ATTENTION / model / "attention.parquet"


def context_path(model: str, table: str) -> Path:
    """A per-model table of vectors in two texts: context or context_equal."""
    return CONTEXT / model / f"{table}.parquet"


def equivariance_path(model: str) -> Path:
    """The equivariance table of one model."""
    return EQUIVARIANCE / f"{model}.parquet"


def table_path(table: str) -> Path:
    """A table over all models: head_distances or text_distances."""
    return Path("outputs/tables") / f"{table}.parquet"


def samples_folder(corpus: str) -> Path:
    """Some rows of each table of a run, in git: another corpus's run leaves them alone."""
    return SAMPLES / corpus


def sample_path(table: Path, folder: Path) -> Path:
    """Some rows of a table below outputs, in a folder of samples."""
    return folder / table.relative_to(OUTPUTS)


OUTPUTS = Path("outputs")
DIAGRAMS = Path("outputs/diagrams")
ATTENTION = Path("outputs/attention")
CONTEXT = Path("outputs/context")
EQUIVARIANCE = Path("outputs/equivariance")
REPORT = Path("outputs/report/index.html")
PLOTS = Path("outputs/plots")
SAMPLES = Path("outputs/samples")
LOGS = Path("outputs/logs")


def work_folder() -> Path:
    """The absolute folder of resumable work, the same for all queued experiments of a clone."""
    named = os.environ.get("ATTENTION_TOPOLOGY_WORK")
    if named:
        return Path(named).resolve()
    # A queued experiment runs in a copy below .dvc/tmp/exps: its work belongs to the clone.
    parts = ROOT.parts
    for at in range(len(parts) - 2):
        if parts[at : at + 3] == (".dvc", "tmp", "exps"):
            return Path(*parts[:at]) / ".parts"
    return ROOT / ".parts"
