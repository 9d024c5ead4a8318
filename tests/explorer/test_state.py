from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.explorer.state import LINK_LIMIT, VIEWS, Choices, State, chosen, parse, query

TEXTS = {"1a": "a text of the corpus", "2b": "קח קמח & מלח"}
CHOICES = Choices(["minilm", "gpt2"], ["jensen_shannon", "notebook"], TEXTS, {"i0": None})
DEFAULT = State("minilm", "jensen_shannon", a="one", b="two")

texts = st.text(max_size=200) | st.sampled_from([*TEXTS.values()])
positions = st.integers(0, 999_999)
shares = st.floats(0, 1)
states = st.builds(
    State,
    model=st.sampled_from(CHOICES.models),
    rule=st.sampled_from(CHOICES.rules),
    view=st.sampled_from([*VIEWS]),
    layer=positions,
    head=positions,
    a=texts,
    b=texts,
    image_a=st.sampled_from(["", "i0"]),
    image_b=st.sampled_from(["", "i0"]),
    side=st.sampled_from("ab"),
    symmetrised=st.booleans(),
    threshold=shares,
    scale=shares,
    token_a=st.none() | positions,
    token_b=st.none() | positions,
)


@given(states)
def test_a_link_brings_the_state_back(state):
    written, left_out = query(state, CHOICES)
    assert left_out == []
    assert parse(f"?{written}", DEFAULT, CHOICES) == (state, [])


@given(st.text(max_size=300))
def test_no_link_is_too_strange(search):
    state, _ = parse(search, DEFAULT, CHOICES)
    assert state.view in VIEWS
    assert state.model in CHOICES.models


def test_texts_of_the_corpus_go_by_their_id():
    written, _ = query(State("minilm", "notebook", a=TEXTS["2b"], b=""), CHOICES)
    assert "a_id=2b" in written
    assert "b=&" in written


def test_a_text_too_long_for_a_link_is_left_out_and_said():
    written, left_out = query(State("minilm", "notebook", a="ש" * (LINK_LIMIT // 6 + 1)), CHOICES)
    assert len(written) < 400
    assert left_out == ["Text A is too long for a link; a link leaves it out."]
    # Its place is the default's when the link is opened, as for any field that is not there.
    assert parse(written, DEFAULT, CHOICES)[0].a == "one"


def test_the_longest_link_fits_a_servers_line():
    written, left_out = query(
        State("minilm", "notebook", a="ש" * (LINK_LIMIT // 6), b="x" * LINK_LIMIT), CHOICES
    )
    assert left_out == []
    assert len(written) < 65_000


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("model=bort", "model=bort; expected one of minilm, gpt2"),
        ("view=<b>", "view=<b>; expected one of attention, graph,"),
        ("layer=-1", "layer=-1; expected a whole number from 0"),
        ("head=1e3", "head=1e3; expected a whole number from 0"),
        ("head=%D9%A3", "head=٣; expected a whole number from 0"),
        ("scale=nan", "scale=nan; expected a number from 0 to 1"),
        ("threshold=2", "threshold=2; expected a number from 0 to 1"),
        ("a_id=zz", "a_id=zz; expected the id of a text of this corpus"),
        ("symmetrised=yes", "symmetrised=yes; expected 0 or 1"),
    ],
)
def test_what_makes_no_sense_is_said_and_the_default_stands(field, said):
    state, faults = parse(f"?{field}&unknown=1", DEFAULT, CHOICES)
    assert state == DEFAULT
    assert len(faults) == 1
    assert said in faults[0]


def test_too_many_fields_are_not_read():
    state, faults = parse("&".join(["a=x"] * 100), DEFAULT, CHOICES)
    assert state == DEFAULT
    assert faults == ["The link has too many fields; it was not read."]


def test_empty_controls_are_said():
    came = {"layer": None, "head": 2.5, "threshold": 7, "image_a": None}
    state, faults = chosen(came, DEFAULT, CHOICES)
    assert state == DEFAULT
    assert faults == [
        "Give a layer: a whole number from 0.",
        "Give a head: a whole number from 0.",
        "Give a threshold: a number from 0 to 1.",
    ]


@pytest.mark.parametrize(
    "value", ["", "nobody", None, True, -1, 0.5, float("nan"), 10**30, "\ud800"]
)
def test_no_value_of_a_control_makes_a_state_that_no_link_could(value):
    for name in vars(DEFAULT):
        state, faults = chosen({name: value}, DEFAULT, CHOICES)
        if not faults:
            read, _ = parse(query(state, CHOICES)[0], DEFAULT, CHOICES)
            assert read == (replace(state, **{name: "?"}) if value == "\ud800" else state)


def test_what_is_not_among_the_choices_is_said():
    state, faults = chosen({"rule": "", "view": "?", "model": "bart"}, DEFAULT, CHOICES)
    assert state == DEFAULT
    assert faults[0] == "Give a model: one of minilm, gpt2."
    assert faults[1] == "Give a distance: one of jensen_shannon, notebook."
    assert faults[2].startswith("Give a view: one of attention, graph,")
