"""One model under one null -> what each head is on every text, as `diagrams` has it of the model.

Reads data/corpus/CORPUS.parquet; writes outputs/diagrams/MODEL-NULL. Takes `+model=MODEL-NULL`,
the models, `nulls`, `distance` and `homology`, and `engine`: with how many workers.
"""

from pipeline.config import Config
from stages import diagrams
from stages.app import model_stage


def run(settings: Config, model: str) -> str:
    """Do the missing parts of one model under one null, join them, and say what came out."""
    return diagrams.run(settings, model)


main = model_stage(run)

if __name__ == "__main__":
    main()
