"""Tables -> the page, and its data for `dvc plots`.

Reads the tables in outputs/ and data/corpus; writes outputs/report/index.html and outputs/plots.
Takes nothing of its own.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import console, store
from pipeline.config import Config
from pipeline.report import page, plots
from pipeline.report.run import Run
from stages.app import stage
from stages.overrides import overrides

# Without the list of each token's entropy, which no section reads.
OF_HEADS = [name for name in store.SCHEMAS["heads"].names if name != "entropy"]


def run(settings: Config) -> str:
    """Build the page, and its data for other tools, from the tables."""
    for folder in (store.ATTENTION, store.CONTEXT, store.EQUIVARIANCE):
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
    heads = store.table_path("head_distances")
    maps = _each(models, store.attention_path)
    return Run(
        corpus=corpus,
        records=_frame(store.corpus_path(corpus), store.SCHEMAS["corpus"].names),
        rejects=_frame(store.rejects_path(corpus)),
        texts=_each(models, lambda name: store.model_path(name, "texts")),
        heads={name: store.TextRows(store.model_path(name, "heads"), OF_HEADS) for name in models},
        diagrams={name: store.DiagramsFile(store.model_path(name, "diagrams")) for name in models},
        head_distances=_frame(heads),
        text_distances=store.Rows(store.table_path("text_distances")),
        context=_each(models, lambda name: store.context_path(name, "context")),
        context_equal=_each(models, lambda name: store.context_path(name, "context_equal")),
        equivariance=_each(models, store.equivariance_path),
        maps=maps,
        tokens={name: _tokens(name, set(maps[name]["text_id"])) for name in models},
        provenance=store.read_provenance(heads),
        made={str(path): store.read_provenance(path) for path in _made(settings)},
        config={key: value for key, value in asdict(settings).items() if key != "engine"},
        recorded=hashlib.md5(heads.read_bytes(), usedforsecurity=False).hexdigest(),
        overrides=overrides(settings),
    )


def _made(settings: Config) -> Iterator[Path]:
    yield store.corpus_path(settings.corpus.name)
    for name in settings.models:
        yield store.model_path(name, "diagrams")
        yield store.attention_path(name)
        yield store.context_path(name, "context")
        yield store.equivariance_path(name)
    yield store.table_path("head_distances")


def _each(models: list[str], path: Callable[[str], Path]) -> dict[str, pd.DataFrame]:
    return {name: _frame(path(name)) for name in models}


def _tokens(model: str, text_ids: set[str]) -> pd.DataFrame:
    """Of a few texts; of all, they would be very many."""
    wanted = pa.array(sorted(text_ids), pa.string())
    groups = store.Rows(store.model_path(model, "tokens"))
    of_texts = [group.filter(pc.is_in(group["text_id"], wanted)) for group in groups]
    found = pa.concat_tables([store.SCHEMAS["tokens"].empty_table(), *of_texts])
    return pd.DataFrame(found.to_pandas())


def _frame(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame(store.read(path, columns).to_pandas())


main = stage(run)

if __name__ == "__main__":
    main()
