import pytest

from pipeline.figures.curves import Curve, Panel, curves


def curve(name: str, count: int, number: int = 0) -> Curve:
    values = [float(i) for i in range(count)]
    low, high = [v - 0.25 for v in values], [v + 0.5 for v in values]
    return Curve(name, number, range(count), values, low, high)


def lines(figure):
    return [trace for trace in figure.data if trace.customdata is not None]


def test_the_band_runs_along_the_upper_end_and_back_along_the_lower():
    band = curves([Panel("p", [curve("a", 3)])]).data[0]
    assert list(band.x) == [0, 1, 2, 2, 1, 0]
    assert list(band.y) == [0.5, 1.5, 2.5, 1.75, 0.75, -0.25]


def test_one_depth_is_counted_in_layers():
    figure = curves([Panel("p", [curve("a", 3), curve("b", 3, 1)])])
    assert [list(line.x) for line in lines(figure)] == [[0, 1, 2]] * 2
    assert figure.layout.xaxis.title.text == "layer"


def test_unequal_depths_run_from_first_to_last():
    figure = curves([Panel("p", [curve("a", 3), curve("b", 5, 1), curve("c", 1, 2)])])
    assert [list(line.x) for line in lines(figure)] == [[0, 0.5, 1], [0, 0.25, 0.5, 0.75, 1], [0]]
    assert list(figure.layout.xaxis.ticktext) == ["first layer", "middle", "last layer"]
    assert [detail[0] for detail in lines(figure)[1].customdata] == [0, 1, 2, 3, 4]


def test_a_name_stands_in_the_legend_once():
    figure = curves([Panel("p", [curve("a", 3)]), Panel("q", [curve("a", 3)])])
    assert [trace.showlegend for trace in figure.data] == [False, True, False, False]


@pytest.mark.parametrize("word", ["<b>x</b>", "%{y}", "a&amp;b"])
def test_words_from_outside_are_shown_as_they_are(word):
    figure = curves([Panel(word, [curve(word, 2)])])
    shown = lines(figure)[0]
    for text in (shown.name, shown.hovertemplate, figure.layout.annotations[0].text):
        assert word not in text
