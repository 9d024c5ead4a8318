import re

import numpy as np
import pandas as pd
import pytest

from pipeline.report import context, page
from tests.report import small


def test_cosines_of_each_kind_of_token():
    found = context.of_layers(small.run()).set_index(["model", "kind", "layer"])
    row = found.loc["m", "outside the shared prefix", 1]
    cosines = [0.1, 0.2, 0.45]  # a pair without a cosine counts nowhere
    assert row["tokens"] == 3
    assert row["mean"] == pytest.approx(np.mean(cosines))
    assert row["low"] == pytest.approx(np.quantile(cosines, 0.1))
    assert found.loc["m", "inside the shared prefix", 0]["mean"] == 1
    assert "special tokens inside it" not in found.index.get_level_values("kind")


def test_layers_with_the_same_counts_are_one_row():
    (equal,) = context.build(small.run())["equal"]
    assert [row.name for row in equal.rows] == ["0", "1 to 2", "3"]
    assert equal.rows[1].counts == {"within": [0, 2], "across": [0, 0], "prefix": [5, 5]}
    assert equal.tolerances == ["0", "1e-06"]


def test_what_breaks_the_definition_is_marked():
    html = page.build(small.run())
    cells = re.findall(
        r'<td class="number([^"]*)">([\d,]+)</td>', html[html.index('<table class="equal"') :]
    )
    marks = {count: mark.split() for mark, count in cells[:6]}
    assert "broken" in marks["7"]
    assert "near" in marks["9"]
    assert not {"broken", "near"} & set(marks["5"])  # a shared prefix is no violation


def test_without_the_tables_there_is_no_section():
    assert context.build(small.run(context={}, context_equal={})) is None
    nothing = {"m": small.run().context["m"][:0]}
    values = context.build(small.run(context=nothing))
    assert values["figure"] is None
    assert len(values["equal"]) == 1
    assert isinstance(context.of_layers(small.run(context=nothing)), pd.DataFrame)
