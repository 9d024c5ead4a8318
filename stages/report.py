"""Tables -> the page, and its data for `dvc plots`.

Reads the tables in outputs/ and data/corpus; writes outputs/report/index.html and outputs/plots.
Takes nothing of its own.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
        for stray in store.drop_strays(settings.root / folder, settings.every_model):
            console.say(f"report: removed {stray}, which the configuration no longer names")
    tables = _run(settings)
    html = page.build(tables)
    place = settings.root / store.REPORT
    store.write_text(place, html)
    for name, text in plots.build(tables).items():
        store.write_text(settings.root / store.PLOTS / name, text)
    return f"{len(html) / 1e6:.1f} MB -> {place}"


def _run(settings: Config) -> Run:
    def each(table: str) -> dict[str, pd.DataFrame]:
        return {name: _frame(settings.path(table, name)) for name in settings.models}

    models, heads, maps = settings.models, settings.path("head_distances"), each("attention")
    return Run(
        corpus=settings.corpus.name,
        records=_frame(settings.path("corpus"), store.SCHEMAS["corpus"].names),
        rejects=_frame(settings.path("rejects")),
        texts=each("texts"),
        heads={name: store.TextRows(settings.path("heads", name), OF_HEADS) for name in models},
        diagrams={name: store.DiagramsFile(settings.path("diagrams", name)) for name in models},
        head_distances=_frame(heads),
        model_tests=_frame(settings.path("model_tests")),
        text_distances=store.Rows(settings.path("text_distances")),
        context=each("context"),
        context_equal=each("context_equal"),
        equivariance=each("equivariance"),
        maps=maps,
        tokens={
            name: _tokens(settings.path("tokens", name), set(maps[name]["text_id"]))
            for name in models
        },
        provenance=store.read_provenance(heads),
        made=dict(_made(settings)),
        config={key: value for key, value in settings.values.items() if key != "engine"},
        recorded=md5(heads),
        overrides=overrides(settings),
    )


def _made(settings: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of each folder the first table: what one stage writes has one provenance."""
    first = {store.folder(table): table for table in reversed(store.TABLES)}
    for table in reversed(first.values()):
        for path in settings.paths(table):
            yield str(path.relative_to(settings.root)), store.read_provenance(path)


def _tokens(path: Path, text_ids: set[str]) -> pd.DataFrame:
    """Of a few texts; of all, they would be very many."""
    wanted = pa.array(sorted(text_ids), pa.string())
    groups = store.Rows(path)
    of_texts = [group.filter(pc.is_in(group["text_id"], wanted)) for group in groups]
    found = pa.concat_tables([store.SCHEMAS["tokens"].empty_table(), *of_texts])
    return pd.DataFrame(found.to_pandas())


def _frame(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame(store.read(path, columns).to_pandas())


main = stage(run)

if __name__ == "__main__":
    main()
