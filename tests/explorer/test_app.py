import base64
import json
import re
import socket
import threading
from dataclasses import replace

import numpy as np
import pytest
from plotly.utils import PlotlyJSONEncoder

from pipeline import attention, comparison, context
from pipeline.diagrams import rips
from pipeline.distances import token_distances
from pipeline.errors import InputError
from pipeline.explorer import app, views
from pipeline.explorer.app import render
from pipeline.explorer.state import VIEWS
from pipeline.explorer.views import Scene
from tests.conftest import TEXTS


def words(component) -> str:
    """All text of some components, as the page would get it."""
    return json.dumps(component, cls=PlotlyJSONEncoder)


def test_every_view_of_a_text_is_seen(desk):
    for view in VIEWS:
        seen = render(desk, {"view": view})
        alerts = re.findall(r'"role": "alert"', words(seen.view))
        assert len(alerts) == (view == "image")
        assert (seen.space is not None) == (view == "complex")


def test_every_view_of_an_image_is_seen(desk):
    for view in VIEWS:
        seen = render(desk, {"view": view, "model": "vit"})
        assert seen.reads == "images"
        assert '"role": "alert"' not in words(seen.view)


def scene(desk, **changes) -> Scene:
    state = replace(desk.default, **changes)
    model = desk.reader.model(state.model)
    contents = {"a": state.a, "b": state.b}
    spec = desk.distances[state.rule]
    return Scene(desk.reader, model, state, contents, spec, desk.homology)


def test_the_bottleneck_distance_is_the_pipelines(desk, made):
    model = made("bert")
    found = []
    for text in TEXTS:
        A = attention.attention_of(model, attention.encode(model, text), 2)[1]
        D = token_distances(A[None], "jensen_shannon", {"base": 2.0})
        found.append(rips(D)[0])
    rows = views.bottlenecks(scene(desk, layer=2, head=1))
    assert [row[0] for row in rows] == [0, 1]
    for dimension, apart, a, b in rows:
        first, second = found[0][dimension], found[1][dimension]
        assert apart == pytest.approx(comparison.bottleneck([first], [second])[0, 0], abs=1e-7)
        assert (a, b) == (len(first), len(second))
        assert f"{apart:.4g}" in words(
            render(desk, {"view": "diagrams", "layer": 2, "head": 1}).view
        )


def test_cosines_are_those_of_the_context_stage(desk, made):
    table = context.cosines(made("bert"), *TEXTS).to_pylist()
    expected = [row["cosine"] for row in table if (row["position_a"], row["position_b"]) == (1, 1)]
    a, b = (scene(desk).states(side) for side in "ab")
    assert context.cosine(a.values[:, [1]], b.values[:, [1]])[:, 0] == pytest.approx(
        expected, abs=1e-12
    )


def test_a_vector_of_zeros_has_no_cosine():
    assert np.isnan(context.cosine(np.zeros((1, 1, 2)), np.ones((1, 1, 2)))).all()


def test_a_chosen_pair_of_tokens_is_shown_alone(desk):
    seen = words(render(desk, {"view": "context", "token_a": 2, "token_b": 3}).view)
    assert "2 cat \\u00b7 3 sat" in seen


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"token_a": 1}, "Choose a token of both"),
        ({"token_a": 1, "token_b": 99}, "B has no token 99"),
        ({"a": "quantum", "b": "שלום"}, "share no token"),
        ({"a": ""}, "Text A: This text cannot be used: it is empty: write one."),
    ],
)
def test_contexts_that_cannot_be_shown_say_why(desk, changes, said):
    assert said in words(render(desk, {"view": "context", **changes}).view)


def test_one_bad_text_leaves_the_other_seen(desk):
    seen = words(render(desk, {"a": "", "view": "attention"}).view)
    assert "it is empty: write one." in seen
    assert "Heatmap of the attention of text B" in seen


def test_a_text_that_is_cut_says_so(desk):
    seen = words(render(desk, {"a": "the cat " * 50}).view)
    assert "Cut to the first 48 of its 102 tokens" in seen


def test_what_is_typed_is_shown_as_text(desk):
    evil = "<script>alert(1)</script> the <b>cat</b>"
    seen = render(desk, {"a": evil, "view": "attention"})
    labels = re.findall(r'"ticktext": (\[.*?\])', words(seen.view))
    assert labels
    assert not any("<script" in label or "<b>" in label for label in labels)


def test_no_image_is_not_an_error_of_the_server(desk):
    broken = "data:image/png;base64," + base64.b64encode(b"no image").decode()
    seen = render(desk, {"model": "vit", "view": "image", "upload_a": broken, "upload_b": "?,!"})
    said = words(seen.view)
    assert said.count("not an image") == 2
    assert "A link does not hold an image of yours." in words(seen.notice)


def test_a_model_that_is_not_at_hand_is_said(desk):
    def load(name):
        raise InputError(f"Model {name} is not here; get it.")

    lacking = app.Desk(**{name: getattr(desk, name) for name in FIELDS} | {"load": load})
    assert "Model gpt2 is not here; get it." in words(render(lacking, {"model": "gpt2"}).view)


FIELDS = ("load", "models", "texts", "images", "distances", "homology", "default")


def test_the_complex_has_its_numbers(desk):
    data = render(desk, {"view": "complex", "side": "b"}).space
    n = len(data["labels"])
    assert n == 11
    assert len(data["lengths"]) == n * (n - 1) // 2
    assert data["diameter"] == data["lengths"][-1]
    assert len(data["tree"]) == n - 1
    spelled = "".join(gap + token for gap, token, _, own in data["words"] if not own)
    assert spelled.strip() == TEXTS[1]


def test_the_words_keep_what_stands_between_them(desk):
    text = "  the cat\n  sat "
    head = scene(desk, a=text).head("a")
    spelled = list(views.spelled(text, head))
    assert "".join(gap + token for gap, token, _, own in spelled if not own) == text.rstrip()
    assert [point for _, _, point, _ in spelled] == list(range(len(head.labels)))


# ---------------------------------------------------------------- the server


@pytest.fixture
def client(desk):
    return app.build(desk).server.test_client()


def test_the_page_loads_nothing_from_elsewhere(client):
    page = client.get("/", headers={"Host": "127.0.0.1"})
    assert page.status_code == 200
    sources = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert len(sources) > 3
    assert all(source.startswith("/") for source in sources)
    for rule in ("default-src 'self'", "form-action 'none'", "frame-ancestors 'none'"):
        assert rule in page.headers["Content-Security-Policy"]
    assert page.headers["X-Frame-Options"] == "DENY"
    assert "Access-Control-Allow-Origin" not in page.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "127.0.0.1:8050"}, 200),
        ({"Host": "localhost:8050"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:8050"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "localhost:8050", "Origin": "http://evil.example"}, 403),
        ({"Host": "localhost:8050", "Origin": "null"}, 403),
        ({"Host": "localhost:8050", "Origin": "http://localhost:8050"}, 200),
    ],
)
def test_only_this_machine_is_answered(client, headers, status):
    assert client.get("/_dash-layout", headers=headers).status_code == status


@pytest.mark.parametrize("address", [b"http://[", b"//[", b"http://[::1", b"\xff", b"http://]/"])
def test_a_first_line_without_an_address_is_answered(desk, address, capfd):
    server = app.listen(app.build(desk), 0)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        with socket.create_connection((server.host, server.port), 10) as opened:
            opened.sendall(b"GET " + address + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert opened.recv(100).startswith(b"HTTP/1")
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
    assert "Traceback" not in capfd.readouterr().err


def test_a_port_that_is_taken_is_said(desk):
    page = app.build(desk)
    server = app.listen(page, 0)
    assert server.host == "127.0.0.1"
    with pytest.raises(InputError, match="take another: --port"):
        app.listen(page, server.port)
    server.server_close()
