from pipeline.report import equivariance, page
from pipeline.report.equivariance import Cell
from tests.report import small


def test_layers_are_folded_to_the_largest_error():
    (table,) = equivariance.build(small.run())["tables"]
    assert table.settings == [("with", "none"), ("without", "none")]
    assert table.rows["attention"] == [Cell(2, 2, 3e-7, None), Cell(1, 2, 0.5, None)]
    assert table.rows["model"] == [Cell(0, 1, 2.5, None), Cell(0, 0, None, 1)]
    assert table.reasons == ["not possible: <i>why</i>"]


def test_the_page_says_what_holds_what_breaks_and_why_not():
    html = page.build(small.run())
    start = html.index('<table class="equivariance"')
    table = html[start : html.index("</section>", start)]
    assert '<span class="yes">&#10003;</span> 3.0e-07' in table
    assert '<span class="no">&#10007; 1/2</span> 0.5' in table
    assert '<span class="no">&#10007;</span> 2.5' in table
    assert "&ndash;<sup>1</sup>" in table
    assert "<sup>1</sup> not possible: &lt;i&gt;why&lt;/i&gt;" in table


def test_without_a_table_there_is_no_section():
    assert equivariance.build(small.run(equivariance={})) is None
