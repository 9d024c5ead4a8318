"""Figures as files: what is drawn is what look says, in each format, by the command line."""

import io
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from commands import figure
from commands.one_head import drawings, images, request
from pipeline import models, store
from pipeline.console import sentences
from pipeline.errors import InputError
from tests import tiny
from tests.commands.test_look import OTHER, TEXT, WORDS, metric, minilm, plain
from tests.report.test_summary import HEADS, D, table

pytestmark = [pytest.mark.model, pytest.mark.integration]

SVG = "{http://www.w3.org/2000/svg}"
GOOD = [*WORDS, "--text", TEXT]
BOTH = [*GOOD, "--text", OTHER]


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch):
    monkeypatch.chdir(store.ROOT)
    monkeypatch.setattr(models, "load", lambda *_: minilm())


def drawn(*words):
    """The figure of a command line, drawn to no file."""
    options = figure.parse([*words, "--to", "x.html"])
    return drawings.DRAWINGS[options.what](request.ask(options))


def test_attention():
    [cells] = drawn("attention", *GOOD).data
    tokens, A = plain(TEXT)
    assert np.allclose(cells.z, A, atol=1e-6)
    assert [label.lower() for label in cells.x] == [f"{i} {t}" for i, t in enumerate(tokens)]


def test_two_texts_have_one_scale_of_colours():
    first, second = drawn("attention", *BOTH).data
    assert np.allclose(first.z, plain(TEXT)[1], atol=1e-6)
    assert np.allclose(second.z, plain(OTHER)[1], atol=1e-6)
    top = max(plain(TEXT)[1].max(), plain(OTHER)[1].max())
    assert first.zmax == second.zmax == pytest.approx(top, abs=1e-6)


def test_distances():
    assert np.allclose(drawn("distances", *GOOD).data[0].z, metric(TEXT), atol=1e-5)


def test_the_graph_leaves_out_what_is_below_the_threshold():
    A = plain(TEXT)[1]
    [edges] = drawn("graph", *GOOD, "--threshold", "0.1").select_traces({"mode": "markers+text"})
    assert sorted(edges.customdata) == pytest.approx(sorted(A[A >= 0.1]), abs=1e-6)


@pytest.mark.parametrize("what", ["diagrams", "barcodes"])
def test_bars_of_both_texts_end_at_the_longer_diameter(what):
    [first, second] = drawn(what, *BOTH).layout.shapes[-2:]
    top = 1.08 * max(metric(TEXT).max(), metric(OTHER).max())
    axis = "y0" if what == "diagrams" else "x0"
    assert first[axis] == second[axis] == pytest.approx(top, abs=1e-5)


def test_clusters_of_a_text():
    [line] = drawn("clusters", *GOOD).data
    assert (line.y[0], line.y[-1]) == (len(metric(TEXT)), 1)


def test_the_complex_is_drawn_to_the_scale_asked_for_or_half_way():
    D = metric(TEXT)
    lengths = D[np.triu_indices(len(D), 1)]
    for words, scale in ([], lengths.max() / 2), (["--scale", "0.3"], 0.3):
        [lines] = drawn("complex", *GOOD, *words).select_traces({"mode": "lines"})
        assert len(lines.x) == 3 * (lengths <= scale).sum()


def test_context():
    words = ["--model", "minilm", "--text", "The cat sat on the mat.", "--text", "The cat ran."]
    names = [line.name for line in drawn("context", *words).data]
    assert names == ["0 | 0 [CLS]", "1 | 1 The", "2 | 2 cat", "7 | 4 .", "8 | 5 [SEP]"]
    assert [line.name for line in drawn("context", *words, "--token", "cat").data] == ["2 | 2 cat"]
    with pytest.raises(InputError, match="share no such token"):
        drawn("context", *words, "--token", "dog")


def test_an_image(monkeypatch, tmp_path):
    model = tiny.make("vit", tmp_path)
    monkeypatch.setattr(models, "load", lambda *_: model)
    words = ["--model", "vit", "--layer", "1", "--head", "1", "--image"]
    words.append(load_sample_images().filenames[0])
    A = drawn("attention", *words).data[0].z
    [cells] = drawn("patches", *words, "--query", "5").data
    assert np.array_equal(cells.z, A[5, 1:].reshape(4, 4))
    [nodes] = drawn("sphere", *words).select_traces({"mode": "markers"})
    assert list(nodes.hovertext[:2]) == ["0 [CLS]", "1 0,0"]
    with pytest.raises(InputError, match="no token 17; give one from 0 to 16"):
        drawn("patches", *words, "--query", "17")


def test_heads(monkeypatch, tmp_path):
    path = tmp_path / "head_distances.parquet"
    pq.write_table(table(D, HEADS), path)
    monkeypatch.setattr(store, "path", lambda table: path)
    figure.main(["heads", "--to", str(tmp_path / "heads.html")])
    assert "mean distance of heads, dimension 0" in (tmp_path / "heads.html").read_text()
    with pytest.raises(InputError, match="no dimension 7; 0 is"):
        figure.main(["heads", "--dimension", "7", "--to", "x.html"])


# ---------------------------------------------------------------- files


def test_a_page_needs_no_browser_and_no_network(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    path = tmp_path / "new" / "x.html"
    figure.main(["attention", *GOOD, "--to", str(path), "--title", "<b>&"])
    page = path.read_text()
    assert not re.search(r"<(script|link)[^>]*(src|href)=", page)
    assert r"\u0026lt;b\u0026gt;\u0026amp;" in page or "&lt;b&gt;&amp;" in page
    assert [file.name for file in path.parent.iterdir()] == ["x.html"]


def test_without_a_browser_the_sentence_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    says = "No Chrome or Chromium is here.*apt-get install chromium.*html needs none"
    with pytest.raises(InputError, match=says):
        figure.main(["attention", *GOOD, "--to", str(tmp_path / "x.svg")])
    monkeypatch.setenv("BROWSER_PATH", "/nowhere/chromium")
    with pytest.raises(InputError, match="'/nowhere/chromium' is no browser"):
        figure.main(["attention", *GOOD, "--to", str(tmp_path / "x.svg")])
    assert list(tmp_path.iterdir()) == []


needs_browser = pytest.mark.skipif(
    not any(map(shutil.which, images.BROWSERS)), reason="there is no browser here"
)


def twice(tmp_path, suffix, *words):
    """What two runs of a command write."""
    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for path in paths:
        figure.main([*words, "--to", str(path)])
    return [path.read_bytes() for path in paths]


@pytest.mark.browser
@needs_browser
def test_an_svg_has_the_same_bytes_again_and_tokens_as_text(tmp_path):
    words = [*WORDS, "--text", "a <b> $x$ & x", "--text", OTHER]
    first, second = twice(tmp_path, ".svg", "attention", *words, "--title", "<i>t</i>")
    assert first == second
    assert b"defs-000000" in first
    texts = [found.text for found in ElementTree.fromstring(first).iter(f"{SVG}text")]
    tokens = ["0 [CLS]", "1 a", "2 <", "3 b", "4 >", "5 $", "6 x", "7 $", "8 &", "9 x", "10 [SEP]"]
    assert texts[: len(tokens)] == tokens
    assert "<i>t</i>" in texts


@pytest.mark.browser
@needs_browser
def test_a_png_has_the_same_bytes_again_and_the_size_asked_for(tmp_path):
    words = ["--width", "300", "--height", "200", "--density", "2"]
    first, second = twice(tmp_path, ".png", "diagrams", *GOOD, *words)
    assert first == second
    assert Image.open(io.BytesIO(first)).size == (600, 400)


@pytest.mark.browser
@needs_browser
def test_a_pdf_has_the_same_bytes_again(tmp_path):
    first, second = twice(tmp_path, ".pdf", "clusters", *GOOD)
    assert first == second
    assert first.startswith(b"%PDF-")


# ---------------------------------------------------------------- slips


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "required: WHAT; see python -m commands.figure --help"),
        (["attention", *GOOD], "required: --to"),
        (["attention", *WORDS, "--to", "x.svg"], "attention takes 1 or 2 --text, and 0 came"),
        (["complex", *BOTH, "--to", "x.svg"], "complex takes 1 --text, and 2 came"),
        (["patches", *WORDS, "--to", "x.svg"], "patches takes 1 --image, and 0 came"),
        (["context", *GOOD, "--to", "x.svg"], "nrecognized arguments: --layer 3 --head 10"),
        (
            ["attention", *GOOD, "--to", "x.gif"],
            r"'x\.gif'; end the name in \.svg, \.pdf, \.png or",
        ),
        (["attention", *GOOD, "--to", "x.svg", "--width", "0"], "--width is 0; give a number"),
        (["attention", *GOOD, "--to", "x.html", "--layer", "6"], "no layer 6"),
        (["complex", *GOOD, "--to", "x.html", "--scale", "-1"], "The scale is -1.0"),
    ],
)
def test_a_slip_is_a_sentence(words, says, capsys):
    with pytest.raises(SystemExit), sentences():
        figure.main(words)
    said = capsys.readouterr().err
    assert said.startswith("error: ") and len(said.splitlines()) == 1
    assert re.search(says, said), said
    assert not Path("x.html").exists()
