"""The page in a real browser, from disk, with the network off, against the tables."""

import re
from pathlib import Path

import pandas as pd
import pytest

from pipeline import store
from stages import report
from tests.browser.waits import becomes, press_every_button

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def made(small_run):
    """The address of a small page, and the distances between heads that it shows."""
    folder, found = small_run
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        report.run(found)
        table = store.read(store.path("head_distances")).to_pandas()
        yield store.REPORT.absolute().as_uri(), pd.DataFrame(table)


@pytest.fixture
def opened(page, made):
    """The page, opened with the network off; a request ends the test."""
    asked: list[str] = []

    def answer(route):
        if not route.request.url.startswith("file:"):
            asked.append(route.request.url)
        route.continue_()

    page.context.set_offline(True)
    page.route("**/*", answer)
    page.goto(made[0])
    yield page
    assert asked == []


def drawn(page, name: str):
    """A figure of the page, once it is drawn."""
    figure = page.locator(f"#{name}")
    figure.scroll_into_view_if_needed()
    page.wait_for_selector(f"#{name} .main-svg")
    return figure


def test_a_cell_says_what_the_table_says(opened, made):
    figure = drawn(opened, "heads-0")
    plot = figure.locator(".nsewdrag").last.bounding_box()
    # A quarter in from the left and a third from the top: no cell of the diagonal.
    opened.mouse.move(plot["x"] + plot["width"] / 4 + 2, plot["y"] + plot["height"] / 3 + 2)
    opened.wait_for_selector("#heads-0 .hoverlayer .hovertext")
    said = " ".join(figure.locator(".hoverlayer .hovertext").all_text_contents())
    heads = re.findall(r"(bert|gpt2) (\d+)\.(\d+)", said)[:2]
    row = of_pair(made[1], *[(model, int(layer), int(head)) for model, layer, head in heads])
    assert f"{row['mean']:.4f}" in said
    # Three digits of the upper half: the lower end of an interval is cut at 0.
    half = re.search(rf"± ([\d.]+){row['texts']} texts", said)[1]
    assert float(half) == pytest.approx(row["ci_high"] - row["mean"], rel=0.005)


def test_the_keyboard_zooms_a_figure_switches_a_curve_and_saves_a_picture(opened):
    drawn(opened, "heads-0")
    layout = "document.querySelector('#heads-0')._fullLayout"
    span = f"Object.entries({layout}).find(([name]) => /^xaxis/.test(name))[1].range"
    _, high = opened.evaluate(span)
    opened.locator("figure:has(#heads-0)").focus()
    opened.keyboard.press("+")
    becomes(opened, f"{span}[1] < {high}")
    opened.keyboard.press("0")
    becomes(opened, f"{span}[1] === {high}")
    with opened.expect_download() as saved:
        opened.keyboard.press("s")
    assert saved.value.suggested_filename.endswith(".png")
    opened.locator("#layers .plot").first.scroll_into_view_if_needed()
    opened.wait_for_selector("#layers .js-plotly-plot .legendtoggle")
    opened.locator("#layers figure:has(.legendtoggle)").first.focus()
    opened.keyboard.press("1")
    becomes(
        opened,
        """[...document.querySelectorAll("#layers .js-plotly-plot")].some(
            (plot) => plot._fullData.some((trace) => trace.visible === "legendonly"))""",
    )


def of_pair(table: pd.DataFrame, a: tuple, b: tuple) -> dict:
    for first, second in ((a, b), (b, a)):
        chosen = table[table["dimension"] == 0]
        for side, (model, layer, head) in (("a", first), ("b", second)):
            chosen = chosen[chosen[f"model_{side}"] == model]
            chosen = chosen[(chosen[f"layer_{side}"] == layer) & (chosen[f"head_{side}"] == head)]
        if len(chosen):
            return chosen.iloc[0].to_dict()
    raise AssertionError(f"{a} and {b} are no pair of the table")


def test_a_map_shows_the_tokens_of_its_text_as_they_are(opened):
    opened.locator("#pairs").scroll_into_view_if_needed()
    figure = drawn(opened, "pair-0-1-1-map")
    ticks = figure.locator(".ytick text, .yaxislayer-above text").all_text_contents()
    assert ticks
    assert all(re.match(r"\d", tick.strip("\u2066\u2068\u2069\u200e")) for tick in ticks)


def test_a_script_in_a_text_is_shown(opened):
    said = opened.locator("main").inner_text()
    assert "<script>alert('text')</script> the cat" in said
    assert "<script>alert('reject')</script>" in said
    assert opened.locator("script", has_text="alert('").count() == 0


def test_everything_is_drawn_before_it_is_printed(opened):
    waiting = opened.locator(".plot")
    assert waiting.count() > 0
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert waiting.count() == 0
    figures = opened.locator("main figure").count()
    assert opened.locator("main figure .js-plotly-plot").count() == figures


def test_the_keyboard_reaches_the_sections_and_the_figures(opened):
    opened.keyboard.press("Tab")
    assert opened.locator(":focus").inner_text() == "To the content"
    opened.keyboard.press("Enter")
    assert opened.locator(":focus").get_attribute("id") == "content"
    reached = set()
    for _ in range(30):
        opened.keyboard.press("Tab")
        reached.add(opened.evaluate("document.activeElement.tagName"))
    assert {"FIGURE", "BUTTON"} <= reached
    opened.locator("nav a", has_text="What made this").press("Enter")
    assert opened.url.endswith("#made_by")


@pytest.mark.parametrize("width", [1280, 700])
def test_nothing_is_wider_than_the_window(opened, width):
    opened.set_viewport_size({"width": width, "height": 900})
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    # What was drawn before the window had this width follows a moment later.
    becomes(opened, f"document.documentElement.scrollWidth <= {width}")


def test_without_javascript_the_page_says_what_it_is(browser, made):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(made[0])
    said = page.locator("header noscript strong")
    assert said.is_visible()
    assert said.inner_text() == "JavaScript is off here, and it draws the figures of this page."
    assert not page.locator("figure").first.is_visible()
    assert page.get_by_role("heading", level=1).inner_text().startswith("How far apart the heads")
    assert page.get_by_role("cell", name="bert", exact=True).first.is_visible()
    context.close()


def test_no_button_sends_anything(opened):
    for plot in opened.locator("figure > div").all():
        plot.scroll_into_view_if_needed()
    becomes(opened, "document.querySelectorAll('.plot').length === 0")
    titles = press_every_button(opened)
    assert len(titles) > 20
    assert any(title.startswith("Download plot") for title in titles)
    assert not [title for title in titles if re.search("share|cloud|edit in", title, re.IGNORECASE)]


def test_no_server_is_named_and_no_form_can_be_sent(made):
    text = Path(made[0].removeprefix("file://")).read_text("utf-8")
    assert re.findall(r"https?://(?!www\.w3\.org/)[\w{$][^\s\"']*", text) == []
    assert "form-action 'none'" in text
    assert "connect-src 'none'" in text
