"""Heads, layers, parallel texts and contexts, as a person sees them who points at them."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page

from pipeline.figures.heads import label
from pipeline.report import measures
from pipeline.report import page as pages
from tests.browser.waits import becomes
from tests.report import small

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    file: Path = tmp_path_factory.mktemp("page") / "index.html"
    file.write_text(pages.build(small.run()), encoding="utf-8")
    return file.as_uri()


@pytest.fixture
def opened(page: Page, url: str) -> Page:
    page.goto(url)
    return page


def pointed_at(page: Page, figure: str, subplot: str, x: object, y: object) -> str:
    """What is shown where the mouse stands at these coordinates of a figure's axes."""
    plot = page.locator(f"#{figure}")
    plot.scroll_into_view_if_needed()
    page.wait_for_selector(f"#{figure} .main-svg")
    where = plot.evaluate(
        """(plot, [subplot, x, y]) => {
            const axes = plot._fullLayout._plots[subplot];
            const at = (axis, value) => axis._offset + axis.d2p(value);
            const box = plot.getBoundingClientRect();
            return [box.left + at(axes.xaxis, x), box.top + at(axes.yaxis, y)];
        }""",
        [subplot, x, y],
    )
    # From elsewhere: plotly answers to a mouse that moves.
    page.mouse.move(where[0] - 3, where[1] - 3)
    page.mouse.move(*where, steps=3)
    page.wait_for_selector(f"#{figure} .hoverlayer .hovertext")
    # A label of one line has no line of its own.
    lines = plot.locator(".hoverlayer .hovertext text").evaluate_all(
        """labels => labels.flatMap((label) => {
            const found = [...label.querySelectorAll("tspan.line")];
            return (found.length ? found : [label]).map((line) => line.textContent);
        })"""
    )
    return "\n".join(lines)


@pytest.mark.parametrize("dimension", [0, 1])
def test_a_cell_of_the_matrix_says_what_the_table_says(opened, dimension):
    rows = small.run().head_distances
    row = rows[(rows.dimension == dimension) & (rows.model_a != rows.model_b)].iloc[7]
    a = label(row.model_a, row.layer_a, row.head_a)
    b = label(row.model_b, row.layer_b, row.head_b)
    said = pointed_at(opened, f"heads-{dimension}", "x4y4", a, b)
    assert a in said
    assert b in said
    mean, half = re.search(r"mean (\S+) ± (\S+)", said).groups()
    assert float(mean) == pytest.approx(row["mean"], rel=1e-3)
    assert float(half) == pytest.approx(row.ci_high - row["mean"], rel=1e-2)
    assert f"{row.texts} texts" in said


@pytest.mark.parametrize("colour", ["by-model", "by-layer"])
def test_a_point_of_the_map_says_its_head(opened, colour):
    (found,) = measures.embeddings(small.run(), 1)
    x, y = found.places[4].tolist()
    assert label(*found.heads[4]) in pointed_at(opened, f"{colour}-1-0", "xy", x, y)


def test_a_point_of_a_curve_says_layer_mean_and_band(opened):
    rows = measures.of_layers(small.run())
    row = rows[(rows.model == "n") & (rows.measure == "entropy") & (rows.layer == 1)].iloc[0]
    said = pointed_at(opened, "by-layer", "xy", 0.5, row["mean"])
    assert "layer 1" in said
    assert [float(n) for n in re.findall(r"\d+\.\d+", said)] == pytest.approx(
        [row["mean"], row.low, row.high], rel=1e-3
    )


def test_a_cell_of_parallel_texts_says_its_mean_and_pairs(opened):
    said = pointed_at(opened, "parallel-0", "x2y2", "1", "2")
    expected = sum(small.text_distance(0, 2, 1, pair) for pair in ((0, 1), (0, 2), (1, 2))) / 3
    assert "layer 2, head 1" in said
    assert float(re.search(r"mean (\S+)", said)[1]) == pytest.approx(expected, rel=1e-3)
    assert "3 pairs of texts" in said


@pytest.mark.parametrize("width", [1280, 700])
def test_nothing_is_wider_than_the_window(opened, width):
    opened.set_viewport_size({"width": width, "height": 900})
    for name in ("heads", "layers", "parallel", "context", "equivariance"):
        opened.locator(f"#{name}").scroll_into_view_if_needed()
    becomes(opened, f"document.documentElement.scrollWidth <= {width}")
