import io
import json

import numpy as np
import pandas as pd
import pytest
import yaml

from pipeline import store
from pipeline.report import measures, plots
from tests.report import small

DRAWN = yaml.safe_load((store.ROOT / "dvc.yaml").read_text("utf-8"))["plots"]


@pytest.fixture(scope="module")
def files() -> dict[str, pd.DataFrame]:
    return {name: pd.read_csv(io.StringIO(text)) for name, text in plots.build(small.run()).items()}


@pytest.mark.parametrize(("name", "drawn"), [pair for plot in DRAWN for pair in plot.items()])
def test_dvc_draws_columns_that_are_there_by_templates_that_are_there(files, name, drawn):
    template = json.loads((store.ROOT / ".dvc/plots" / f"{drawn['template']}.json").read_text())
    for axis in ("x", "y"):
        ((file, column),) = drawn[axis].items()
        assert file == str(store.PLOTS / f"{name}.csv")
        assert files[f"{name}.csv"][column].dtype.kind in "if"
    # CSV comes as text: every column drawn as a number must be read as one.
    columns = set(template["data"]["format"]["parse"])
    assert {next(iter(drawn[axis].values())) for axis in ("x", "y")} <= columns
    assert columns <= set(files[f"{name}.csv"].columns)


def test_every_file_is_drawn(files):
    assert {f"{name}.csv" for plot in DRAWN for name in plot} == set(files)


def test_layers_are_those_of_the_page(files):
    expected = measures.of_layers(small.run()).reset_index(drop=True)
    pd.testing.assert_frame_equal(files["layers.csv"], expected, check_dtype=False, rtol=1e-5)


def test_the_map_keeps_the_distances(files):
    rows = files["head_embedding.csv"]
    found = rows[rows.dimension == 0]
    assert list(zip(found.model, found.layer, found["head"], strict=True)) == small.HEADS
    places = found[["x", "y"]].to_numpy()
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
    assert np.abs(apart - small.D).max() < 0.01
    assert found.depth[found.model == "n"].tolist() == [0, 0, 0.5, 0.5, 1, 1]


def test_histograms_count_every_pair(files):
    rows = files["head_distances.csv"]
    first = rows[rows.dimension == 0].groupby("models")
    assert first["pairs"].sum().to_dict() == {"m": 6, "m to n": 24, "n": 15}
    assert first["share"].sum().tolist() == pytest.approx([1, 1, 1], abs=1e-4)
    assert first.size().tolist() == [plots.BINS] * 3


def test_without_tables_the_files_have_their_header_alone():
    nothing = small.run(heads={}, context={}, head_distances=pd.DataFrame())
    for name, text in plots.build(nothing).items():
        assert text.count("\n") == 1, name
