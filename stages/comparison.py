"""Diagrams of all models -> distances between heads, and between texts under each head.

Reads outputs/diagrams and data/corpus/CORPUS.parquet; writes head_distances and text_distances
into outputs/tables. Takes `comparison` and `homology`, and `engine`: with how many workers.
"""

from pipeline import console, jobs, store
from pipeline.config import Config
from pipeline.work import engine
from stages.app import stage


def run(settings: Config) -> str:
    """Do the missing blocks of head pairs and text pairs, then join them."""
    for stray in store.drop_strays(settings.root / store.folder("diagrams"), settings.every_model):
        console.say(f"comparison: removed {stray}, which the configuration no longer names")
    rows = engine.run(*jobs.of(settings, "comparison"), spec=settings.engine)
    home = settings.path("head_distances").parent
    return (
        f"{rows['head_distances']} rows of head pairs, {rows['text_distances']} rows of text "
        f"pairs -> {home}"
    )


main = stage(run)

if __name__ == "__main__":
    main()
