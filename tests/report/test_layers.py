from pipeline.report import layers
from tests.report import small


def test_a_panel_a_measure_and_a_curve_a_model():
    figure = layers.build(small.run())["figure"]
    titles = [note.text for note in figure.layout.annotations]
    assert titles == [
        "entropy",
        "distance between tokens",
        "total persistence, dimension 0",
        "total persistence, dimension 1",
    ]
    lines = [trace for trace in figure.data if trace.customdata is not None]
    assert [(line.name, line.xaxis) for line in lines] == [
        (model, f"x{panel}" if panel > 1 else "x") for panel in (1, 2, 3, 4) for model in "mn"
    ]
    # Entropy of model n, layer 2: 1 + 20 + mean of 0..3 + mean of 0, 0.5.
    assert lines[1].y[2] == 1 + 20 + 1.5 + 0.25
    assert [detail[0] for detail in lines[1].customdata] == [0, 1, 2]


def test_the_words_say_how_deep_and_over_what():
    values = layers.build(small.run())
    assert values["depth"] == ["m: 2 layers, 4 texts", "n: 3 layers, 4 texts"]
    assert values["relative"]
    assert not layers.build(small.run(heads={"m": small.run().heads["m"]}))["relative"]


def test_without_heads_there_is_no_section():
    assert layers.build(small.run(heads={})) is None
