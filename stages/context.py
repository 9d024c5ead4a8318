"""Corpus and one model -> the context tables: its vectors of one token in two texts.

Reads data/corpus/CORPUS.parquet and the model; writes outputs/context/MODEL. Takes
+model=NAME, one of params.yaml, `context`: which texts, and `engine`: with how many workers.
"""

from pipeline import console, jobs, store
from pipeline.config import Config
from pipeline.jobs import context
from pipeline.work import engine
from stages.app import model_stage


def run(settings: Config, model: str) -> str:
    """Do the missing runs of text pairs of one model, join them, and say what came out."""
    if context.of_images(settings):
        console.say(f"context {model}: images share no tokens; its tables stay empty")
    (job,) = jobs.of(settings, "context", model)
    rows = engine.run(job, spec=settings.engine)["context"]
    drawn = context.pairs(settings)
    texts = len({text for pair in drawn for text in pair})
    equal = settings.path("context_equal", model)
    counts = store.read(equal, ["texts", "text_pairs"]).slice(0, 1).to_pylist()
    used = counts[0] if counts else {"texts": 0, "text_pairs": 0}
    return (
        f"{rows} rows of shared tokens, {used['text_pairs']} text pairs, "
        f"{len(drawn) - used['text_pairs']} left out, {texts - used['texts']} texts skipped "
        f"-> {equal.parent}"
    )


main = model_stage(run)

if __name__ == "__main__":
    main()
