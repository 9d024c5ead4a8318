"""Tables -> outputs/report/index.html."""

from pipeline import store
from pipeline.config import Config
from pipeline.report import page
from stages.app import stage


def run(settings: Config) -> str:
    """Build the page from the tables."""
    heads = store.table_path("head_distances")
    html = page.build(
        settings.corpus.name,
        store.read(store.rejects_path(settings.corpus.name)),
        {model: store.read(store.model_path(model, "texts")) for model in settings.models},
        store.read(heads),
        store.read_provenance(heads),
    )
    store.write_text(store.REPORT, html)
    return f"{len(html) / 1e6:.1f} MB -> {store.REPORT}"


main = stage(run)

if __name__ == "__main__":
    main()
