"""The whole page, from the tables that the real stages make of two tiny models."""

import html as escaping
import json
import re
import shlex
from dataclasses import replace

import pytest

from pipeline import store
from pipeline.report import made_by, what_went_in
from stages import compose, report
from stages.overrides import overrides
from tests import small


@pytest.fixture(scope="module")
def made(small_run):
    """The page, and the run and the configuration that it was made from."""
    folder, found = small_run
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        said = report.run(found)
        assert said.endswith("MB -> outputs/report/index.html")
        yield store.REPORT.read_text("utf-8"), report._run(found), found


@pytest.fixture(scope="module")
def html(made):
    return made[0]


def test_everything_from_outside_is_escaped(html):
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(&#39;reject&#39;)" in html
    assert "&lt;script&gt;alert(&#39;text&#39;)" in html
    assert "<b>and</b>" not in html


def test_figures_are_json_that_no_text_can_leave(html):
    found = re.findall(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)
    assert len(found) > 10
    for text in found:
        assert "<" not in text
        assert {"data", "layout"} <= json.loads(text).keys()


def test_every_figure_says_what_it_shows_and_takes_the_focus(html):
    figures = re.findall(r"<figure ([^>]*)>", html)
    assert figures
    assert all(re.fullmatch(r'tabindex="0" aria-label="[^"]+"', found) for found in figures)
    ids = re.findall(r' id="([^"]*)"', html)
    assert len({*ids}) == len(ids)


def test_the_contents_lead_to_every_section(html):
    links = re.findall(r'<li><a href="#(\w+)">([^<]+)</a>', html)
    assert [name for name, _ in links] == re.findall(r'<section id="(\w+)"', html)
    assert links[:2] == [("chance", "More than chance?"), ("what_went_in", "What went in")]
    assert links[-1] == ("made_by", "What made this")
    assert "pairs" in dict(links)


def test_what_went_in_counts_as_the_tables_do(made):
    _, run, _ = made
    values = what_went_in.build(run)
    gpt2 = next(count for count in values["counts"] if count.model == "gpt2")
    texts = run.texts["gpt2"]
    assert (gpt2.texts, gpt2.cut, gpt2.skipped) == (4, 1, 1)
    assert gpt2.tokens == texts["tokens"].sum() > 48
    changes = [(c.text_id, c.what) for c in values["changes"] if c.model == "gpt2"]
    total = texts.set_index("text_id")["total_tokens"]["t4"]
    assert changes == [
        ("t2", f"skipped: {texts['reason'].dropna().item()}"),
        ("t4", f"cut from {total} tokens to 48"),
    ]
    assert values["changes"][1].excerpt == small.TEXTS["t4"][0][:120] + "…"
    assert (values["records"], values["rejects_all"]) == (5, 1)


def test_the_command_composes_this_very_configuration(made):
    html, _, settings = made
    shown = re.search(r"python -m commands\.demo (.*)", html)[1]
    words = shlex.split(escaping.unescape(shown))
    assert words == overrides(settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(store.ROOT)
        composed = compose.compose(words)[1]
    # The engine changes no number, so the command does not name it.
    assert replace(composed, engine=settings.engine) == settings


def test_a_word_that_a_shell_would_read_is_quoted():
    demo, experiment = made_by._commands(["~model@models.a", "corpus.path='my $file'"])
    assert demo.endswith("""'~model@models.a' 'corpus.path='"'"'my $file'"'"''""")
    assert experiment.startswith("dvc exp run -S '~model@models.a' -S ")


def test_the_page_says_what_made_it(made):
    html, run, settings = made
    table = store.path("head_distances")
    assert store.read_provenance(table)["code"] in html
    for model in settings.models:
        made_from = run.provenance["made_from"][model]
        assert made_from["weights"][model]["weights_sha256"] in html
        for path in (store.path("equivariance", model), store.path("context", model)):
            assert store.read_provenance(path)["code"] in html
    assert f"torch&nbsp;{run.provenance['libraries']['torch']}" in html


def test_the_page_is_the_same_at_another_time_and_knows_no_host(made):
    html, run, settings = made
    assert report.page.build(report._run(settings)) == html
    assert run.recorded in html


def test_no_request_leaves_the_page(html):
    without_library = re.sub(r"<script>/\*.*?</script>", "", html, flags=re.DOTALL)
    assert len(without_library) < len(html) / 2
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", without_library)
    assert "default-src 'none'" in html


def test_both_dimensions_and_the_lists_are_there(html):
    assert 'id="heads-0"' in html
    assert 'id="heads-1"' in html


def test_tables_of_a_model_taken_out_are_dropped(made, capsys):
    _, _, settings = made
    gone = store.folder("context") / "gone" / "context.parquet"
    gone.parent.mkdir()
    gone.touch()
    assert "MB ->" in report.run(settings)
    assert not gone.parent.exists()
    assert "report: removed outputs/context/gone" in capsys.readouterr().err
