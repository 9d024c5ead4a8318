"""The explorer in a browser, with tiny models; what is shown is checked against the pipeline."""

import re
import threading
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlencode, urlsplit

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Request, expect

from pipeline import comparison, graphs, models
from pipeline.config import Config
from pipeline.explorer import app
from pipeline.explorer.app import Desk, Item
from pipeline.explorer.state import VIEWS, State
from pipeline.models import Model
from tests.browser.waits import press_every_button
from tests.packaged import spec

pytestmark = pytest.mark.browser

A, B = "the cat sat on the mat", "the dog sat on the cat and the mat"
HEBREW = "שלום עולם"
PATIENCE = 90_000  # ms: how long a machine under load may take


def look(desk, text, layer, head):
    """A head on a text, as the page shows it."""
    spec = desk.distances["jensen_shannon"]
    return desk.reader.head(desk.reader.model("bert"), text, (layer, head), spec, desk.homology)


@pytest.fixture(scope="module")
def desk(made: Callable[[str], Model], settings: Config) -> Desk:
    """Tiny models, and one whose weights are not here."""

    def load(name: str) -> Model:
        return models.load(name, spec(name)) if name == "gpt2" else made(name)

    return Desk(
        load=load,
        models=["bert", "smollm2", "gpt2"],
        texts={"c0": Item(HEBREW, "he")},
        images={},
        distances={"jensen_shannon": settings.distance},
        homology=settings.homology,
        default=State("bert", "jensen_shannon", a=A, b=B),
    )


@pytest.fixture(scope="module")
def address(desk: Desk) -> Iterator[str]:
    """Where the page is served."""
    expect.set_options(timeout=PATIENCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        server = app.listen(app.build(desk), 0)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.port}/"
        server.shutdown()
        thread.join()
        server.server_close()
    expect.set_options(timeout=5_000)


@pytest.fixture
def show(page: Page, address: str) -> Callable[..., None]:
    """Open the page at a state and wait until it is seen."""

    def opened(**fields: object) -> None:
        page.set_default_timeout(PATIENCE)
        page.goto(f"{address}?{urlencode(fields)}")
        until(page, rule="jensen_shannon")
        if fields.get("view") == "complex":
            expect(page.locator("#space-view")).to_be_visible()
            expect(page.locator("#counts")).not_to_be_empty()

    return opened


def until(page: Page, **fields: str) -> None:
    """Wait until the address says this; it is written when what it says is shown."""
    page.wait_for_function(
        """(fields) => {
            const query = new URLSearchParams(window.location.search);
            return Object.entries(fields).every(([name, value]) => query.get(name) === value);
        }""",
        arg=fields,
        timeout=PATIENCE,
    )


def fields(page: Page) -> dict[str, str]:
    query = parse_qs(urlsplit(page.url).query, keep_blank_values=True)
    return {name: value for name, [value] in query.items()}


def heat(page: Page, labels: list[str]) -> np.ndarray:
    """The values of the first heatmap as plotly has them, once it has these labels."""
    rows = page.wait_for_function(
        """(labels) => {
            const plot = document.querySelector("#view .js-plotly-plot");
            const shown = plot?.layout?.yaxis.ticktext ?? [];
            return plot?.calcdata && labels.join() === Array.from(shown).join()
                && Array.from(plot.calcdata[0][0].z, (row) => Array.from(row));
        }""",
        arg=labels,
    ).json_value()
    return np.array(rows)


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_opens_with_a_picture_and_without_a_word_to_others(page, show, address, view):
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request))
    show(view=view)
    if view == "image":
        expect(page.get_by_role("alert")).to_contain_text("bert reads texts")
    else:
        place = page.locator("#plot" if view == "complex" else "#view")
        expect(place.locator(".main-svg").first).to_be_visible()
        expect(page.get_by_role("alert")).to_have_count(0)
    assert all(request.url.startswith((address, "data:", "blob:")) for request in asked)


@pytest.mark.parametrize("view", ["attention", "complex"])
def test_no_button_sends_anything(page, show, address, view):
    show(view=view, a=A, b=B)
    page.wait_for_selector(".modebar-btn", state="attached")
    titles = press_every_button(page, ours=address)
    assert "Download plot as a PNG" in titles
    assert not [title for title in titles if re.search("share|cloud|edit in", title, re.IGNORECASE)]


def test_typing_and_another_head_show_the_pipelines_numbers(page, show, desk):
    show(view="attention")
    page.get_by_label("Text A", exact=True).fill("the dog")
    until(page, a="the dog")
    page.get_by_label("Head, 0 to 3").fill("2")
    page.get_by_label("Layer, 0 to 2").fill("1")
    until(page, a="the dog", head="2", layer="1")
    head = look(desk, "the dog", 1, 2)
    expect(page.locator(".busy")).to_have_count(0)
    assert heat(page, head.labels) == pytest.approx(head.map, abs=1e-6)


def test_the_bottleneck_distances_are_the_pipelines(page, show, desk):
    show(view="diagrams", layer=2, head=1)
    found = [look(desk, text, 2, 1).diagrams for text in (A, B)]
    for dimension, (a, b) in enumerate(zip(found[0][0], found[1][0], strict=True)):
        apart = comparison.bottleneck([a], [b])[0, 0]
        row = page.locator("#bottlenecks tbody tr").nth(dimension)
        assert row.locator("td").all_inner_texts()[:2] == [str(dimension), f"{apart:.4g}"]


def test_the_slider_redraws_without_the_server(page, show, desk, record_property):
    show(view="complex", layer=1, head=2, side="b", scale=0)
    D = look(desk, B, 1, 2).distances[0]
    lengths, tree = D[np.triu_indices(len(D), 1)], graphs.merge_tree(D)
    counts, slider = page.locator("#counts"), page.get_by_label("Scale, from 0 to the diameter")
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request))
    slider.focus()
    steps = []
    for key, share in (("PageUp", None), ("ArrowRight", None), ("End", 1.0), ("Home", 0.0)):
        page.keyboard.press(key)
        value = int(slider.input_value()) / 1000
        assert share is None or value == share
        scale = value * D.max()
        said = counts.inner_text()
        steps.append(said)
        edges, clusters = int((lengths <= scale).sum()), graphs.cluster_labels(tree, scale)
        assert re.search(rf"\b{edges} edges?\b", said), said
        assert re.search(rf"in {clusters.max() + 1} clusters?\b", said), said
        marked = page.locator("#marked sup").all_inner_texts()
        joined = np.bincount(clusters)[clusters] > 1
        assert [bool(number) for number in marked] == joined.tolist()
    assert len({*steps}) == 4
    assert asked == []
    redraws = page.evaluate("performance.getEntriesByName('redraw').map((one) => one.duration)")
    record_property("redraw_ms", redraws)
    print(f"redraws in ms: {[round(took, 1) for took in redraws]}")


def test_clusters_have_the_colour_and_the_number_of_their_tokens(page, show, desk):
    show(view="complex", layer=1, head=2, side="b", scale=0.5)
    D = look(desk, B, 1, 2).distances[0]
    labels = graphs.cluster_labels(graphs.merge_tree(D), 0.5 * D.max())
    numbers = page.locator("#marked sup").all_inner_texts()
    together = [i for i, number in enumerate(numbers) if number]
    assert together
    for i in together:
        assert [j for j in together if numbers[j] == numbers[i]] == np.flatnonzero(
            labels == labels[i]
        ).tolist()
    in_text = page.locator("#marked .token").evaluate_all(
        "(tokens) => tokens.map((token) => token.style.getPropertyValue('--cluster'))"
    )
    in_space = page.evaluate("document.getElementById('plot').data[2].marker.color")
    assert [in_text[i] for i in together] == [in_space[i] for i in together]


def test_a_link_brings_the_same_view_back(page, show, browser, address):
    show(view="complex", layer=1, head=3, a=f"{HEBREW} & <b>", side="a", scale=0.3)
    slider = page.get_by_label("Scale, from 0 to the diameter")
    slider.focus()
    page.keyboard.press("ArrowRight")
    until(page, scale="0.301")
    said, words = page.locator("#counts").inner_text(), page.locator("#marked").inner_text()
    page.goto(page.url)
    expect(page.locator("#counts")).to_have_text(said)
    expect(page.locator("#marked")).to_have_text(words, use_inner_text=True)
    assert page.get_by_label("Text A", exact=True).input_value() == f"{HEBREW} & <b>"


def test_a_text_of_the_corpus_is_picked_by_keyboard_and_goes_by_its_id(page, show):
    show(view="attention")
    page.get_by_label("Text B from the corpus").focus()
    page.keyboard.press("Enter")
    choice = page.get_by_role("option", name="שלום").get_by_role("radio")
    choice.wait_for()
    page.keyboard.press("ArrowDown")
    expect(choice).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Text B", exact=True)).to_have_value(HEBREW)
    until(page, b_id="c0")
    assert "b" not in fields(page)


def test_markup_that_is_typed_shows_as_text(page, show):
    evil = "the <script>alert(1)</script> <b>cat</b>"
    page.on("dialog", lambda dialog: pytest.fail("a script of the text ran"))
    show(view="graph", a=evil, model="smollm2")  # whose tokens are pieces of any text
    expect(page.locator("#view .js-plotly-plot").first).to_contain_text("<")
    page.get_by_label("Complex", exact=True).check()
    until(page, view="complex")
    expect(page.locator("#marked .token").first).to_be_visible()
    words = page.locator("#marked .token").evaluate_all(
        "(tokens) => tokens.map((token) => token.firstChild.textContent)"
    )
    assert "<script>alert(1)</script>" in "".join(words)
    assert page.locator("#marked b, #marked script").count() == 0
    assert page.get_by_label("Text A", exact=True).input_value() == evil


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"model": "gpt2"}, "Model gpt2 (openai-community/gpt2"),
        ({"a": ""}, "This text cannot be used: it is empty: write one."),
        (
            {"a": "a", "model": "smollm2", "view": "diagrams"},
            "1 token; a distance needs 2",
        ),
        ({"layer": "99"}, "Model bert has no layer 99: its layers are 0 to 2."),
        ({"head": "99", "view": "diagrams"}, "Model bert has no head 99"),
        ({"model": "<b>bort</b>"}, "The link says model=<b>bort</b>; expected one of bert,"),
    ],
)
def test_what_cannot_be_shown_is_said_in_its_place(page, show, state, said):
    show(**state)
    expect(page.get_by_role("alert").first).to_contain_text(said)
    page.get_by_label("Text B", exact=True).fill("the cat")
    until(page, b="the cat")


def test_fifty_thousand_characters_are_cut_and_a_link_does_not_hold_them(page, show):
    show(view="complex")
    page.get_by_label("Text A", exact=True).fill("the cat " * 6250)
    expect(page.locator("#view")).to_contain_text("Cut to the first 48 of its 12,502 tokens")
    expect(page.locator("#notice")).to_contain_text("Text A is too long for a link")
    page.wait_for_function("!new URLSearchParams(window.location.search).has('a')")
    assert len(page.url) < 1000


def test_two_people_at_once_see_each_their_own(page, show, browser: Browser, address):
    show(view="attention", a="the dog")
    other = browser.new_context().new_page()
    other.goto(f"{address}?{urlencode({'view': 'diagrams', 'model': 'smollm2', 'a': 'the mat'})}")
    page.get_by_label("Head, 0 to 3").fill("1")
    expect(other.locator("#bottlenecks")).to_be_visible()
    until(page, a="the dog", head="1", view="attention", model="bert")
    until(other, a="the mat", head="0", view="diagrams", model="smollm2")
    other.context.close()


def test_every_control_has_a_name_and_the_keyboard_reaches_it(page, show):
    show(view="graph")
    names = ["Text A", "Text B", "Model", "Head, 0 to 3", "Distance between tokens"]
    for name in [*names, "Leave out edges below"]:
        control = page.get_by_label(re.compile(f"^{name}")).first
        control.focus()
        expect(control).to_be_focused()
    page.get_by_label("Attention", exact=True).focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_label("Graph", exact=True)).to_be_checked()
    page.get_by_label("directed", exact=True).focus()
    page.keyboard.press("ArrowRight")
    until(page, symmetrised="1")


def test_the_keyboard_turns_the_complex_and_the_slider_leaves_it_so(page, show):
    show(view="complex", scale="0.6")
    eye = "Object.values(document.querySelector('#plot')._fullLayout.scene.camera.eye)"
    page.wait_for_function("document.querySelector('#plot')?._fullLayout?.scene?.camera")
    start = np.array(page.evaluate(eye))
    page.locator("#plot").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(f"{eye}[0] !== {start[0]}")
    turned = np.array(page.evaluate(eye))
    assert np.linalg.norm(turned) == pytest.approx(np.linalg.norm(start))
    assert turned[2] == pytest.approx(start[2])
    scale = page.get_by_label("Scale, from 0 to the diameter")
    before = page.locator("#counts").inner_text()
    scale.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "before => document.querySelector('#counts').innerText !== before", arg=before
    )
    assert page.evaluate(eye) == pytest.approx(turned)
    page.locator("#plot").focus()
    page.keyboard.press("-")
    page.wait_for_function(f"Math.hypot(...{eye}) > {1.2 * np.linalg.norm(start)}")


def test_the_keyboard_zooms_a_figure_and_goes_back(page, show):
    show(view="attention")
    page.wait_for_selector("#view .js-plotly-plot .main-svg")
    span = "document.querySelector('#view .js-plotly-plot')._fullLayout.xaxis.range"
    start = page.evaluate(span)
    page.locator("#view [role=img]").first.focus()
    page.keyboard.press("+")
    page.wait_for_function(f"{span}[0] > {start[0]}")
    low, high = page.evaluate(span)
    assert high - low == pytest.approx(0.8 * (start[1] - start[0]))
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"{span}[0] > {low}")
    page.keyboard.press("0")
    page.wait_for_function(f"{span}[0] === {start[0]}")


def test_a_narrow_page_does_not_scroll_sideways(page, show):
    page.set_viewport_size({"width": 700, "height": 900})
    show(view="diagrams")
    for name in ("Complex", "Attention"):
        page.get_by_label(name, exact=True).check()
        until(page, view=name.lower())
        # A figure takes its place's width once it is in it.
        page.wait_for_function("document.documentElement.scrollWidth <= 700")


def test_without_scripts_the_page_says_what_it_is(browser: Browser, address):
    context = browser.new_context(java_script_enabled=False)
    still = context.new_page()
    still.goto(address)
    expect(still.locator("body")).to_contain_text("python -m commands.look")
    context.close()
