import numpy as np
import pytest

from pipeline.figures.tiles import Tile, tiles


def tile(title: str, rows: int, columns: int) -> Tile:
    values = np.arange(rows * columns, dtype=float).reshape(rows, columns)
    names = [str(i) for i in range(rows)], [str(i) for i in range(columns)]
    return Tile(title, values, np.full(values.shape, 3), *names)


def test_cells_are_as_high_in_every_matrix_of_a_row():
    figure = tiles([tile("a", 2, 3), tile("b", 8, 3)], ("layer", "head"), "%{z}")
    heights = [
        high - low for low, high in (figure.layout.yaxis.domain, figure.layout.yaxis2.domain)
    ]
    assert heights[0] / 2 == pytest.approx(heights[1] / 8)
    assert figure.layout.yaxis.domain[1] == figure.layout.yaxis2.domain[1]


def test_all_matrices_share_one_scale():
    figure = tiles([tile("a", 2, 3), tile("b", 3, 3), tile("c", 1, 1)], ("r", "c"), "%{z}")
    assert {trace.coloraxis for trace in figure.data} == {"coloraxis"}


def test_numbers_are_written_where_they_fit():
    few, many = tiles([tile("a", 3, 3), tile("b", 20, 20)], ("", ""), "%{z}", numbers=True).data
    assert few.texttemplate == "%{z:.3f}"
    assert many.texttemplate is None


def test_titles_are_shown_as_they_are():
    figure = tiles([tile("<b>a</b>", 1, 1)], ("", ""), "%{z}")
    assert figure.layout.annotations[0].text == "&lt;b&gt;a&lt;/b&gt;"
    assert "<b>" not in figure.data[0].hovertemplate
