"""Words from outside, and cells, as a browser shows them."""

import re
from itertools import pairwise

import numpy as np
import pytest

from commands.one_head import images
from pipeline.figures import text
from pipeline.figures.style import plain
from tests.browser.waits import press_every_button

pytestmark = pytest.mark.browser

TOKENS = [
    "<b>x</b>",
    "<script>alert(1)</script>",
    "&amp;",
    "%{x}",
    '<a href="javascript:alert(1)">',
    "$x$",
    "<br>",
    "%{customdata}",
]
LABELS = [f"{i} {token}" for i, token in enumerate(TOKENS)]
N = len(TOKENS)
A = np.random.default_rng(0).dirichlet(np.ones(N), N)


@pytest.fixture
def opened(page, tmp_path):
    """A figure in a page without the network; no text in it makes an element."""

    def open_(figure):
        path = tmp_path / "figure.html"
        path.write_text(figure.to_html(include_plotlyjs=True), encoding="utf-8")
        page.context.set_offline(True)
        page.on("dialog", lambda dialog: pytest.fail(f"the page says {dialog.message}"))
        page.goto(path.as_uri())
        page.wait_for_selector(".main-svg .infolayer")
        assert page.locator(".plot-container a[*|href^=javascript]").count() == 0
        assert page.locator(".plot-container script").count() == 0
        return page

    return open_


def shown(page, selector):
    return page.locator(selector).evaluate_all("found => found.map(e => e.textContent)")


def begins(label, seen):
    return seen == label or (seen.endswith("…") and label.startswith(seen[:-1]))


def hover(page, x, y):
    """Point at a place of the first plot, from 0 to 1 from its top left."""
    box = page.locator(".nsewdrag").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] * x, box["y"] + box["height"] * y)
    page.wait_for_selector(".hoverlayer .hovertext")


def lines(page):
    found = ".hoverlayer .hovertext text"
    return page.locator(found).evaluate_all(
        "all => all.flatMap(e => [...e.querySelectorAll('tspan.line')].map(t => t.textContent))"
    )


def test_a_heatmap_shows_tokens_as_they_are(opened):
    figure = text.heatmap(A, LABELS, LABELS, name=TOKENS[0])
    page = opened(figure.update_layout(title=plain("".join(TOKENS))))
    for axis in "xy":
        seen = shown(page, f".{axis}tick text")
        assert len(seen) == N and all(map(begins, LABELS, seen))
    assert shown(page, ".gtitle") == ["".join(TOKENS)]
    assert shown(page, ".cbtitle text") == [TOKENS[0]]


def test_a_cell_says_its_tokens_and_its_value(opened):
    page = opened(text.heatmap(A, LABELS, LABELS))
    for query in range(N):
        key = (query + 3) % N
        hover(page, (key + 0.5) / N, (query + 0.5) / N)
        page.wait_for_function(
            "at => document.querySelector('.hovertext')?.textContent.startsWith(`query ${at} `)",
            arg=query,
        )
        *tokens, value = lines(page)
        assert tokens == [f"query {LABELS[query]}", f"key {LABELS[key]}"]
        assert float(value.removeprefix("attention ")) == pytest.approx(A[query, key], rel=1e-3)


def test_every_cell_of_512_tokens_is_told_and_labels_do_not_touch(opened):
    n = 512
    labels = [f"{i} t{i}" for i in range(n)]
    page = opened(text.heatmap(np.eye(n), labels, labels))
    hover(page, 300.5 / n, 300.5 / n)
    assert lines(page) == ["query 300 t300", "key 300 t300", "attention 1.000"]
    ticks = page.locator(".xtick text").evaluate_all(
        "found => found.map(e => e.getBoundingClientRect()).map(box => [box.left, box.right])"
    )
    assert len(ticks) > 30
    assert all(left[1] <= right[0] for left, right in pairwise(ticks))


def test_an_infinite_cell_says_so(opened):
    values = np.array([[0.0, np.inf], [1.0, 0.0]])
    page = opened(text.heatmap(values, ["0 a", "1 b"], ["0 a", "1 b"], "bits", ("a", "b")))
    hover(page, 0.75, 0.25)
    assert lines(page) == ["a 0 a", "b 1 b", "bits inf"]


def test_a_graph_shows_tokens_as_they_are(opened):
    page = opened(text.graph(A, LABELS))
    seen = shown(page, ".annotation-text")[:N]
    assert all(map(begins, LABELS, seen))


def test_a_legend_shows_names_as_they_are(opened):
    page = opened(text.cosines([0, 1], {token: [1.0, 0.5] for token in TOKENS}))
    assert shown(page, ".legendtext") == TOKENS


def test_a_scene_shows_tokens_as_they_are(opened):
    D = np.abs(np.subtract.outer(np.arange(N), np.arange(N))).astype(float)
    page = opened(text.complex(text.complex_of(D), LABELS, 1.0))
    page.wait_for_selector(".gl-container .annotation-text, .annotation-text")
    seen = shown(page, ".annotation-text")[-N:]
    assert all(map(begins, LABELS, seen))


def test_hebrew_stays_on_the_right_of_its_position(opened):
    labels = ["0 קח", "1 קמח"]
    page = opened(text.heatmap(np.eye(2), labels, labels))
    hover(page, 0.25, 0.25)
    digit, letter = page.locator(".ytick text").first.evaluate(
        """text => ['0', 'ק'].map(c => {
            const all = text.textContent.indexOf(c);
            return text.getExtentOfChar(all).x;
        })"""
    )
    assert digit < letter


def test_a_page_of_a_figure_sends_nothing(page, tmp_path):
    path = tmp_path / "figure.html"
    path.write_bytes(images.page(text.diagram([np.array([[0.0, 0.5], [0.0, np.inf]])], 1.0)))
    said = path.read_text("utf-8")
    assert re.findall(r"https?://(?!www\.w3\.org/)[\w{$][^\s\"']*", said) == []
    page.context.set_offline(True)
    page.goto(path.as_uri())
    page.wait_for_selector(".modebar-btn", state="attached")
    titles = press_every_button(page)
    assert "Download plot as a PNG" in titles
    assert not [title for title in titles if re.search("share|cloud|edit in", title, re.IGNORECASE)]
