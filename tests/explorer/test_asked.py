"""Requests of any shape: none ends in an error of the server, or in a traceback."""

import base64
import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipeline.explorer import app
from pipeline.explorer.asked import BODY, UPLOAD
from tests.conftest import TEXTS

PATH = "/_dash-update-component"
HERE = {"Host": "127.0.0.1"}
NOT_SAID = ("Traceback", "not an error we foresaw", "KeyError", "Internal Server Error")


@pytest.fixture
def client(desk):
    made = app.build(desk).server
    made.testing = False  # an error of the server is answered by 500, as in use
    return made.test_client()


@pytest.fixture
def bodies(client) -> dict[str, dict[str, Any]]:
    """What the browser asks, by the first output of each callback of the server."""
    return {body["output"].strip("."): body for body in _bodies(client)}


def _bodies(client) -> Iterator[dict[str, Any]]:
    for found in client.get("/_dash-dependencies", headers=HERE).get_json():
        if found["clientside_function"] is None:
            output = found["output"]
            parts = [
                dict(zip(("id", "property"), name.rsplit(".", 1), strict=True))
                for name in output.strip(".").split("...")
            ]
            inputs = [{**part, "value": VALUES.get(part["id"])} for part in found["inputs"]]
            changed = f"{inputs[0]['id']}.{inputs[0]['property']}"
            yield {
                "output": output,
                "outputs": parts,
                "inputs": inputs,
                "state": [],
                "changedPropIds": [changed],
            }


VALUES: dict[str, Any] = {
    "model": "bert", "rule": "jensen_shannon", "view_name": "attention", "layer": 0, "head": 0,
    "side": "a", "symmetrised": False, "threshold": 0.0, "address": "?layer=1", "pick_a": "c0",
    "image_a": "i0", "image_b": "i0", "texts": {"a": TEXTS[0], "b": TEXTS[1]},
}  # fmt: skip


def ask(client, body: Any, **more: Any) -> Any:
    data = body if isinstance(body, str | bytes) else json.dumps(body)
    more = {"headers": HERE, "content_type": "application/json"} | more
    return client.post(PATH, data=data, **more)


def answered(response: Any) -> None:
    """No error of the server; one of the asker's in a sentence, as text."""
    said = response.get_data().decode("utf-8", "replace")
    response.close()
    assert response.status_code < 500, said
    assert not any(words in said for words in NOT_SAID), said
    if response.status_code >= 400:
        assert response.mimetype == "text/plain"
        assert said.endswith(".\n")


def test_what_the_browser_asks_is_answered(client, bodies):
    assert len(bodies) == 4
    for body in bodies.values():
        response = ask(client, body)
        assert response.status_code == 200, response.text
        answered(response)


def seen(bodies: dict[str, dict[str, Any]]) -> dict[str, Any]:
    [body] = [body for name, body in bodies.items() if name.startswith("view.children")]
    return copy.deepcopy(body)


def given(body: dict[str, Any], **values: Any) -> dict[str, Any]:
    for part in body["inputs"]:
        part["value"] = values.get(part["id"], part["value"])
    return body


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", "browser"),
        ("[]", "The body is []; expected an object."),
        ("{}", "output is None; expected one of this page's."),
        ('{"output": "a.b"}', "output is 'a.b'"),
        ('{"output": ["view"]}', "output is ['view']"),
        ("[" * 100_000, "nested too deeply"),
        ("1" * 5000, "browser"),
    ],
)
def test_a_body_of_another_shape_is_said(client, body, said):
    response = ask(client, body)
    assert response.status_code == 400
    assert said in response.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", ["bert"]), ("model", 1), ("model", "\ud800"),
        ("layer", "0"), ("layer", True), ("head", {}),
        ("threshold", "0"), ("symmetrised", "yes"), ("token_a", []), ("texts", "a"),
        ("texts", {"a": 1}), ("texts", {"c": "x"}), ("upload_a", 5), ("image_a", {}),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_is_said(client, bodies, name, value):
    response = ask(client, given(seen(bodies), **{name: value}))
    assert response.status_code == 400
    assert f"{name}." in response.text
    assert "expected" in response.text


@pytest.mark.parametrize("name", ["model", "rule", "view_name", "side"])
@pytest.mark.parametrize("value", ["", "nobody", "<b>x</b>"])
def test_a_name_that_is_not_there_is_said_on_the_page(client, bodies, name, value):
    response = ask(client, given(seen(bodies), **{name: value}))
    assert response.status_code == 200
    assert "Give a " in response.text
    answered(response)


def image(size: int) -> str:
    return "data:image/png;base64," + base64.b64encode(bytes(size)).decode()


def test_an_image_may_be_as_large_as_the_page_says_and_no_larger(client, bodies):
    most = given(seen(bodies), model="vit", upload_a=image(UPLOAD), upload_b=image(UPLOAD))
    assert ask(client, most).status_code == 200
    more = ask(client, given(seen(bodies), upload_a=image(UPLOAD + 3)))
    assert more.status_code == 413
    assert "16 MB are the most" in more.text
    whole = ask(client, b" " * (BODY + 1))
    assert whole.status_code == 413
    assert "take smaller images" in whole.text


def test_an_upload_that_is_no_base64_is_no_image(client, bodies):
    response = ask(client, given(seen(bodies), model="vit", upload_a="data:;base64,é"))
    assert "not an image" in response.text
    answered(response)


ODD: list[Any] = [
    None, "", "?", "x" * 300, "\x00", "\ud800", "<script>", "../..", True, 0, -1, 1.5,
    10**30, 1e308, float("nan"), [], {}, [[]], [None], {"a": None}, {"id": "a"},
    [{"id": "a", "property": "value"}],
]  # fmt: skip


def changed(rng: random.Random, whole: Any) -> Any:
    """The same JSON but for one part of it, which is gone, doubled, odd or renamed."""
    parts = [*whole] if isinstance(whole, dict) else [*range(len(whole))]
    key = rng.choice(parts)
    if isinstance(whole[key], dict | list) and whole[key] and rng.random() < 0.7:
        whole[key] = changed(rng, whole[key])
        return whole
    kind = rng.choice(["odd", "odd", "gone", "more"])
    if kind == "odd":
        whole[key] = rng.choice(ODD)
    elif kind == "gone":
        del whole[key]
    elif isinstance(whole, list):
        whole.append(rng.choice(ODD))
    else:
        whole[rng.choice(["x", "id", "value", "job"])] = rng.choice(ODD)
    return whole


def of_a_body(rng: random.Random, client, bodies) -> Any:
    body = copy.deepcopy(rng.choice([*bodies.values()]))
    for _ in range(rng.choice([1, 1, 2])):
        body = changed(rng, body)
    return ask(client, body)


def of_broken_json(rng: random.Random, client, bodies) -> Any:
    text = bytearray(json.dumps(rng.choice([*bodies.values()])).encode())
    for _ in range(rng.choice([1, 3])):
        text[rng.randrange(len(text))] = rng.randrange(256)
    text = text[: rng.choice([len(text), rng.randrange(len(text))])]
    kind = rng.choice(["application/json", "application/json", "text/plain", "", "a/b;charset=x"])
    return ask(client, bytes(text), content_type=kind)


PATHS = [
    "/", "/x", "/%00", "/..%2f..%2fetc/passwd", "/assets/explorer.js", "/assets/../app.py",
    "/assets/%00", "/_dash-layout", "/_dash-dependencies", "/_reload-hash", "/_favicon.ico",
    "/_dash-component-suites/os/path.py", "/_dash-component-suites/dash/x.js",
    "/_dash-component-suites/dash/%00", "/_dash-component-suites/plotly/..%2f..", "/%ff%fe",
    "/_dash-update-component", "//x//y", "/_dash-component-suites/", "/" + "a" * 3000,
]  # fmt: skip


def of_a_path(rng: random.Random, client, bodies) -> Any:
    odd = rng.choice(["", "?", "?a=%ff", "?job=1&cacheKey=x", "?cancelJob=2", "?" + "a=1&" * 500])
    method = rng.choice(["GET", "GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "TRACE"])
    response = client.open(rng.choice(PATHS) + odd, method=method, headers=HERE)
    if method == "HEAD":  # which has no words
        assert response.status_code < 500
        response.close()
        response = client.get("/_dash-layout", headers=HERE)
    return response


def of_headers(rng: random.Random, client, bodies) -> Any:
    name = rng.choice(["Host", "Origin", "Cookie", "Content-Type", "Accept-Encoding", "Range",
                       "If-None-Match", "If-Modified-Since", "Content-Encoding", "Referer",
                       "Transfer-Encoding", "X-Forwarded-Host", "Authorization"])  # fmt: skip
    value = rng.choice(["", "x", "[::1", "127.0.0.1:x", "é", "a=b;" * 200, "bytes=9-1", "null",
                        "W/\"x\"", "gzip, *;q=x", "Thu, 99 Foo", "localhost:99999999"])  # fmt: skip
    body = json.dumps(rng.choice([*bodies.values()]))
    if rng.random() < 0.5:
        return client.get(rng.choice(PATHS[:12]), headers={**HERE, name: value})
    return ask(client, body, headers={**HERE, name: value})


def of_an_address(rng: random.Random, client, bodies) -> Any:
    body = copy.deepcopy(next(b for b in bodies.values() if b["inputs"][0]["id"] == "address"))
    names = ["model", "rule", "view", "layer", "head", "a", "a_id", "image_a", "side",
             "symmetrised", "threshold", "scale", "token_a", "nobody"]  # fmt: skip
    odd = ["", "-1", "1e999", "nan", "%00", "%ff", "%ud800", "0x1", "9" * 400, "[]", "bert", "٣",
           "1_0", "<b>", "&&", "=", "\ud800", "../.."]  # fmt: skip
    pairs = [f"{rng.choice(names)}={rng.choice(odd)}" for _ in range(rng.randrange(1, 6))]
    body["inputs"][0]["value"] = "?" + "&".join(pairs)
    return ask(client, body)


@pytest.mark.parametrize(
    ("make", "number"),
    [(of_a_body, 700), (of_broken_json, 250), (of_a_path, 200), (of_headers, 150),
     (of_an_address, 200)],
)  # fmt: skip
def test_no_request_ends_in_an_error_of_the_server(
    client, bodies, make: Callable[..., Any], number
):
    rng = random.Random(14)
    for _ in range(number):
        answered(make(rng, client, bodies))
