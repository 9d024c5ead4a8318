"""What a browser asks of the page's server, before Dash sees it.

Dash takes the shape of a request on trust, and fails with an error of its own where it is
another: here each is answered by a sentence.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flask
from dash import Dash
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge

from pipeline.explorer.reader import CHARACTERS
from pipeline.explorer.state import SIDES

UPLOAD = 16 * 2**20  # bytes of an image's file


def _encoded(size: int) -> int:
    return 4 * -(-size // 3)


# Two images in base64, two texts (a character takes 12 bytes at most), and the rest.
BODY = 2 * (_encoded(UPLOAD) + 12 * CHARACTERS) + 2**16


class _Kind(NamedTuple):
    """Values that a control may hold, and how they are called."""

    holds: Callable[[Any], bool]
    expected: str


def _number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _texts(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict)
        and value.keys() <= SIDES.keys()
        and all(text is None or isinstance(text, str) for text in value.values())
    )


def _unicode(value: Any) -> bool:
    try:
        return value is None or (isinstance(value, str) and value.encode() is not None)
    except UnicodeEncodeError:  # half of a surrogate pair, which no answer could repeat
        return False


_TEXT = _Kind(_unicode, "text, which is Unicode, or null")
_NUMBER = _Kind(_number, "a number or null")
_KINDS = {
    "symmetrised.value": _Kind(lambda value: value is None or isinstance(value, bool), "a boolean"),
    "texts.data": _Kind(_texts, "an object of two texts, a and b, or null"),
} | dict.fromkeys(
    (f"{name}.value" for name in ("layer", "head", "threshold", "token_a", "token_b")), _NUMBER
)


def check(app: Dash) -> None:
    """Refuse the request at hand where it asks for a callback in a shape that none has.

    Raises BadRequest, or RequestEntityTooLarge, with the sentence that the answer holds.
    """
    request = flask.request
    if request.method != "POST" or not request.path.endswith("/_dash-update-component"):
        return
    try:
        body = request.get_json()
    except RecursionError as error:
        raise BadRequest("The body of the request is nested too deeply.") from error
    _expect(isinstance(body, dict), "The body", body, "an object")
    output = body.get("output")
    known = {name: found for name, found in app.callback_map.items() if "callback" in found}
    _expect(isinstance(output, str) and output in known, "output", output, "one of this page's")
    _check_values("inputs", body.get("inputs"), known[output]["inputs"])
    _check_values("state", body.get("state", []), known[output]["state"])
    _check_outputs(body.get("outputs"), output)
    changed, inputs = body.get("changedPropIds", []), list(map(_name, known[output]["inputs"]))
    fits = isinstance(changed, list) and all(name in inputs for name in changed)
    _expect(fits, "changedPropIds", changed, "a list of names of inputs")


def _check_values(what: str, came: Any, expected: list[Mapping[str, Any]]) -> None:
    names = list(map(_name, expected))
    fits = (
        isinstance(came, list)
        and all(isinstance(part, dict) for part in came)
        and list(map(_name, came)) == names
    )
    _expect(fits, what, came, f"a list of {', '.join(names) or 'nothing'}")
    for name, part in zip(names, came, strict=True):
        value, kind = part.get("value"), _KINDS.get(name, _TEXT)
        _expect(kind.holds(value), name, value, kind.expected)
        if name.startswith("upload_") and value:
            _check_size(len(value.partition(",")[2]))


def _check_outputs(came: Any, output: str) -> None:
    parts = came if isinstance(came, list) else [came]
    fits = all(isinstance(part, dict) for part in parts)
    names = list(map(_name, parts)) if fits else []
    written = f"..{'...'.join(names)}.." if isinstance(came, list) else "".join(names)
    _expect(written == output, "outputs", came, "those that output names")


def _check_size(characters: int) -> None:
    if characters > _encoded(UPLOAD):
        raise RequestEntityTooLarge(
            f"An image of {characters * 3 / 4 / 2**20:.1f} MB came, and {UPLOAD // 2**20} MB are "
            "the most: take a smaller one."
        )


def _name(part: Mapping[str, Any]) -> str:
    return f"{part.get('id')}.{part.get('property')}"


def _expect(fits: bool, what: str, came: Any, expected: str) -> None:
    if not fits:
        raise BadRequest(f"{what} is {ascii(came)[:60]}; expected {expected}.")


def answer(error: HTTPException) -> flask.Response:
    """A sentence, as text: what came is never read as HTML."""
    sentence = error.description or error.name
    if isinstance(error, RequestEntityTooLarge) and error.description == type(error).description:
        sentence = f"A request of more than {BODY / 2**20:.0f} MB came: take smaller images."
    return flask.Response(f"{sentence}\n", error.code, mimetype="text/plain")
