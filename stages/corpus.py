"""Corpus source -> the texts with an id each, and the records that cannot be used.

Reads what `corpus` names, a file or a data set; writes data/corpus/CORPUS.parquet and
CORPUS.rejects.parquet. Takes `corpus`.
"""

from pipeline import corpus, store
from pipeline.config import Config
from stages.app import stage


def run(settings: Config) -> str:
    """Read the corpus; write its records and those skipped."""
    spec = settings.corpus
    table, noun = ("images",) * 2 if spec.format == "images" else ("corpus", "texts")
    records, rejects = corpus.read(spec, store.work_folder() / "datasets")
    provenance = {
        "code": store.code_digest("pipeline.corpus"),
        "config": vars(spec),
        "libraries": store.libraries(),
    }
    path = settings.path("corpus")
    store.write(settings.path("rejects"), "rejects", [rejects], provenance)
    store.write(path, table, [records], provenance)
    return f"{len(records)} {noun}, {len(rejects)} records skipped -> {path}"


main = stage(run)

if __name__ == "__main__":
    main()
