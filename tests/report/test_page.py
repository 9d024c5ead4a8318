import re

import pyarrow as pa
import pytest

from pipeline.report import page
from tests.report.test_summary import HEADS, D, table


@pytest.fixture(scope="module")
def html() -> str:
    texts = pa.table(
        {
            "total_tokens": [9, 1, 20],
            "tokens": [9, 0, 12],
            "cut": [False, False, True],
            "reason": [None, "1 token; a distance needs 2", None],
        }
    )
    rejects = pa.table(
        {
            "source": ["a.txt#3"],
            "reason": ["not UTF-8"],
            "excerpt": ["<script>alert('corpus')</script>"],
        }
    )
    rows = pa.concat_tables([table(D, HEADS, 0), table(D / 2, HEADS, 1)])
    made = {"config": {"name": "</pre><script>alert('config')</script>"}}
    return page.build("<b>mine</b>", rejects, {"m": texts}, rows, made)


def test_everything_from_outside_is_escaped(html):
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(&#39;corpus&#39;)" in html
    assert "<b>mine</b>" not in html


def test_counts_are_those_of_the_tables(html):
    row = re.search(r"<tr><td>m</td>(.*?)</tr>", html).group(1)
    numbers = re.findall(r'number">([\d,]+)<', row)
    assert numbers == ["2", "21", "1", "1"]
    assert "1 x 1 token; a distance needs 2" in row


def test_no_request_leaves_the_page(html):
    without_library = re.sub(r"<script>/\*.*?</script>", "", html, flags=re.DOTALL)
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", without_library)
    assert "default-src 'none'" in html


def test_both_dimensions_and_the_lists_are_there(html):
    assert 'id="heads-0"' in html
    assert 'id="heads-1"' in html
    assert html.count("<h3>Most different</h3>") == 2
    assert "<td>m 0.1</td><td>n 0.0</td>" in html


def test_without_javascript_the_page_says_where_the_numbers_are(html):
    assert "<noscript>" in html
