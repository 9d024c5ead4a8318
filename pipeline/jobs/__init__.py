"""What the parts of each bulk stage are, how one is done, where the joined tables go.

A job knows nothing of who does its parts: that is the engine's business.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a module of the jobs imports numba and scipy, which takes a second
    from pipeline.config import Config
    from pipeline.work.parts import Job

# The stages whose work is cut into parts, and whether they have a job for each model.
BULK = {"diagrams": True, "context": True, "comparison": False}


def models(settings: "Config", stage: str) -> Sequence[str | None]:
    """Whose jobs a bulk stage has, [None]: it has no cells. Of nulls there are diagrams only."""
    if not BULK[stage]:
        return [None]
    return list(settings.every_model if stage == "diagrams" else settings.models)


def of(settings: "Config", stage: str, model: str | None = None) -> "Sequence[Job]":
    """The jobs of a bulk stage, in their order: of one model, or of all where none is named."""
    if BULK[stage] and model is None:
        return [job for name in models(settings, stage) for job in of(settings, stage, name)]
    from pipeline.jobs import comparison, context, diagrams

    match stage, model:
        case "diagrams", str():
            return [diagrams.job(settings, model)]
        case "context", str():
            return [context.job(settings, model)]
        case _:
            return comparison.jobs(settings)
