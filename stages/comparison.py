"""Diagrams of all models -> distances between heads, and between texts under each head."""

from pipeline import engine, store
from pipeline.config import Config
from pipeline.jobs import comparison
from stages.app import stage


def run(settings: Config) -> str:
    """Do the missing blocks of head pairs and text pairs, then join them."""
    for stray in comparison.drop_strays(settings):
        engine.say(f"comparison: removed {stray}, which the configuration no longer names")
    heads = engine.run(comparison.head_distances(settings))["head_distances"]
    texts = engine.run(comparison.text_distances(settings))["text_distances"]
    home = store.table_path("head_distances").parent
    return f"{heads} rows of head pairs, {texts} rows of text pairs -> {home}"


main = stage(run)

if __name__ == "__main__":
    main()
