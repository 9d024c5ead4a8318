"""One model -> what the order of the tokens changes in each part of it.

Reads the model; writes outputs/equivariance/MODEL.parquet. Takes +model=NAME, one of
params.yaml, and `equivariance`.
"""

from dataclasses import asdict

import pyarrow.compute as pc

from pipeline import equivariance, models, store
from pipeline.config import Config
from stages.app import model_stage


def run(settings: Config, model: str) -> str:
    """Check one model, write the table, and say what holds."""
    spec = settings.models[model]
    provenance = {
        "code": store.code_digest("pipeline.equivariance"),
        "config": {"model": asdict(spec), "equivariance": asdict(settings.equivariance)},
        "weights": {model: models.identify(model, spec)},
        # Errors of rounding are what it measures: one kind of device, whatever there is.
        "device": "cpu",
        "libraries": store.libraries(),
    }
    loaded = models.load(model, spec, store.work_folder())
    table = equivariance.table(loaded, settings.equivariance)
    path = settings.path("equivariance", model)
    rows = store.write(path, "equivariance", [table], provenance)
    holds, skipped = pc.sum(table["holds"]).as_py() or 0, rows - table["reason"].null_count
    fails = rows - holds - skipped
    return f"{rows} rows: {holds} hold, {fails} do not, {skipped} skipped -> {path}"


main = model_stage(run)

if __name__ == "__main__":
    main()
