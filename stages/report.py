"""Tables -> the page, and its data for `dvc plots`.

Reads the tables in outputs/ and data/corpus; writes outputs/report/index.html and outputs/plots.
Takes nothing of its own.
"""

from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import console, store
from pipeline.config import Config
from pipeline.files import md5
from pipeline.report import page, plots
from pipeline.report.run import Run
from stages.app import stage
from stages.overrides import overrides

# Without the list of each token's entropy, which no section reads.
OF_HEADS = [name for name in store.SCHEMAS["heads"].names if name != "entropy"]


def run(settings: Config) -> str:
    """Build the page, and its data for other tools, from the tables."""
    of_models = (name for name, table in store.TABLES.items() if table.per == "model")
    for folder in dict.fromkeys(map(store.folder, of_models)):
        for stray in store.drop_strays(folder, settings.models):
            console.say(f"report: removed {stray}, which the configuration no longer names")
    tables = _run(settings)
    html = page.build(tables)
    store.write_text(store.REPORT, html)
    for name, text in plots.build(tables).items():
        store.write_text(store.PLOTS / name, text)
    return f"{len(html) / 1e6:.1f} MB -> {store.REPORT}"


def _run(settings: Config) -> Run:
    models, corpus = list(settings.models), settings.corpus.name
    heads = store.path("head_distances")
    maps = _each("attention", models)
    return Run(
        corpus=corpus,
        records=_frame(store.path("corpus", corpus), store.SCHEMAS["corpus"].names),
        rejects=_frame(store.path("rejects", corpus)),
        texts=_each("texts", models),
        heads={name: store.TextRows(store.path("heads", name), OF_HEADS) for name in models},
        diagrams={name: store.DiagramsFile(store.path("diagrams", name)) for name in models},
        head_distances=_frame(heads),
        text_distances=store.Rows(store.path("text_distances")),
        context=_each("context", models),
        context_equal=_each("context_equal", models),
        equivariance=_each("equivariance", models),
        maps=maps,
        tokens={name: _tokens(name, set(maps[name]["text_id"])) for name in models},
        provenance=store.read_provenance(heads),
        made={str(path): store.read_provenance(path) for path in _made(corpus, models)},
        config={key: value for key, value in asdict(settings).items() if key != "engine"},
        recorded=md5(heads),
        overrides=overrides(settings),
    )


def _made(corpus: str, models: list[str]) -> list[Path]:
    """Of each folder the first table: what one stage writes has one provenance."""
    first = {store.folder(table): table for table in reversed(store.TABLES)}
    return [
        path for table in reversed(first.values()) for path in store.paths(table, corpus, models)
    ]


def _each(table: str, models: list[str]) -> dict[str, pd.DataFrame]:
    return {name: _frame(store.path(table, name)) for name in models}


def _tokens(model: str, text_ids: set[str]) -> pd.DataFrame:
    """Of a few texts; of all, they would be very many."""
    wanted = pa.array(sorted(text_ids), pa.string())
    groups = store.Rows(store.path("tokens", model))
    of_texts = [group.filter(pc.is_in(group["text_id"], wanted)) for group in groups]
    found = pa.concat_tables([store.SCHEMAS["tokens"].empty_table(), *of_texts])
    return pd.DataFrame(found.to_pandas())


def _frame(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame(store.read(path, columns).to_pandas())


main = stage(run)

if __name__ == "__main__":
    main()
