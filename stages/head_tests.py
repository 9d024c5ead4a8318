"""Diagrams of models and of their nulls -> whether heads, and pairs, differ from chance.

Reads outputs/diagrams and data/corpus/CORPUS.parquet; writes head_tests and model_tests into
outputs/tables. Takes `tests`, `nulls` and `homology`, and `engine`: with how many workers.
"""

from pipeline.config import Config
from pipeline.jobs import head_tests
from pipeline.work import engine
from stages.app import stage


def run(settings: Config) -> str:
    """Do the missing blocks of tests, then join them."""
    job = head_tests.job(settings)
    rows = engine.run(job.trained, *job.nulls.values(), job, spec=settings.engine)
    home = settings.path("head_tests").parent
    return (
        f"{rows['head_tests']} rows of heads and pairs, {rows['model_tests']} of models -> {home}"
    )


main = stage(run)

if __name__ == "__main__":
    main()
