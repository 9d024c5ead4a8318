"""What a person chose <-> the query of a link.

A link holds all of it, so that a view can be sent: texts of the corpus by their id, others as
they are. What makes no sense in a link someone wrote is reported, and the default stands in.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

# Bytes of a text in a link: two of them, and the rest, stay below the 64 kB that a server reads.
LINK_LIMIT = 24_000
VIEWS = {
    "attention": "Attention",
    "graph": "Graph",
    "divergences": "Divergences",
    "diagrams": "Diagrams",
    "complex": "Complex",
    "context": "Context",
    "image": "Image",
}
SIDES = {"a": "A", "b": "B"}


@dataclass(frozen=True)
class State:
    """All that decides what is seen.

    a, b               the texts; image_a, image_b: ids of images of the corpus
    side               whose complex or image is seen
    threshold          edges of a graph that weigh less are left out
    scale              of the complex, as a share of its diameter
    token_a, token_b   positions; None: the tokens that both texts share, or the first
    """

    model: str
    rule: str
    view: str = "attention"
    layer: int = 0
    head: int = 0
    a: str = ""
    b: str = ""
    image_a: str = ""
    image_b: str = ""
    side: str = "a"
    symmetrised: bool = False
    threshold: float = 0.0
    scale: float = 0.25
    token_a: int | None = None
    token_b: int | None = None


class Choices(NamedTuple):
    """What there is to choose from; texts and images by their ids."""

    models: Sequence[str]
    rules: Sequence[str]
    texts: Mapping[str, str]
    images: Mapping[str, Any]


def query(state: State, choices: Choices) -> tuple[str, list[str]]:
    """The query of a link to a state, without its "?", and what the link cannot hold."""
    ids = {text: text_id for text_id, text in choices.texts.items()}
    pairs, left_out = [], []
    for name, value in vars(state).items():
        if name not in SIDES:
            pairs += [(name, _written(value))] if value is not None else []
        elif value in ids:
            pairs.append((f"{name}_id", ids[value]))
        elif len(quote(value, errors="replace")) <= LINK_LIMIT:
            pairs.append((name, value))
        else:
            left_out.append(f"Text {SIDES[name]} is too long for a link; a link leaves it out.")
    return urlencode(pairs, errors="replace"), left_out


def _written(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def parse(search: str, default: State, choices: Choices) -> tuple[State, list[str]]:
    """The state that a link's query holds, and a sentence for each thing that makes no sense."""
    try:
        found = dict(parse_qsl(search.removeprefix("?"), True, errors="replace", max_num_fields=64))
    except ValueError:
        return default, ["The link has too many fields; it was not read."]
    changes, faults = {}, []
    for name, (read, expected) in _readers(choices).items():
        if name in found:
            try:
                changes[name.removesuffix("_id")] = read(found[name])
            except (ValueError, KeyError):
                came = found[name][:60]
                faults.append(f"The link says {name}={came}; expected {expected}. It was not used.")
    return replace(default, **changes), faults


Read = Callable[[str], Any]


def _readers(choices: Choices) -> dict[str, tuple[Read, str]]:
    """How each field of a query is read, and what is expected there."""
    number = "a whole number from 0"
    share = "a number from 0 to 1"
    return {
        "model": _one_of(choices.models),
        "rule": _one_of(choices.rules),
        "view": _one_of(VIEWS),
        "layer": (_whole, number),
        "head": (_whole, number),
        "a": (str, "a text"),
        "b": (str, "a text"),
        "a_id": (choices.texts.__getitem__, "the id of a text of this corpus"),
        "b_id": (choices.texts.__getitem__, "the id of a text of this corpus"),
        "image_a": _one_of(["", *choices.images], "the id of an image of this corpus"),
        "image_b": _one_of(["", *choices.images], "the id of an image of this corpus"),
        "side": _one_of(SIDES),
        "symmetrised": (_flag, "0 or 1"),
        "threshold": (_share, share),
        "scale": (_share, share),
        "token_a": (_whole, number),
        "token_b": (_whole, number),
    }


def _one_of(names: Any, expected: str | None = None) -> tuple[Read, str]:
    known = {name: name for name in names}
    return known.__getitem__, expected or f"one of {', '.join(known)}"


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 7):
        raise ValueError(text)
    return int(text)


def _share(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise ValueError(text)
    return value


def _flag(text: str) -> bool:
    return {"0": False, "1": True}[text]


def chosen(values: Mapping[str, Any], default: State, choices: Choices) -> tuple[State, list[str]]:
    """The state of the page's controls, and a sentence for each that holds nothing usable."""
    changes: dict[str, Any] = {}
    faults = []
    checks = _checks(choices)
    for field in fields(State):
        standing = getattr(default, field.name)
        value = values.get(field.name, standing)
        if value is None and isinstance(standing, str):
            value = ""
        usable, expected = checks[field.name]
        if usable(value):
            changes[field.name] = value
        else:
            faults.append(f"Give a {_called(field.name)}: {expected}.")
    return replace(default, **changes), faults


Check = Callable[[Any], bool]


def _checks(choices: Choices) -> dict[str, tuple[Check, str]]:
    """Which values of a control can be used, and what is expected there."""
    position = _is_position, "a whole number from 0"
    share = _is_share, "a number from 0 to 1"
    token = (lambda value: value is None or _is_position(value)), "a whole number from 0, or none"
    text = (lambda value: isinstance(value, str)), "a text"
    image = _is_of(["", *choices.images])[0], "one of the corpus"
    return {
        "model": _is_of(choices.models),
        "rule": _is_of(choices.rules),
        "view": _is_of(VIEWS),
        "layer": position,
        "head": position,
        "a": text,
        "b": text,
        "image_a": image,
        "image_b": image,
        "side": _is_of(SIDES),
        "symmetrised": ((lambda value: isinstance(value, bool)), "true or false"),
        "threshold": share,
        "scale": share,
        "token_a": token,
        "token_b": token,
    }


def _called(name: str) -> str:
    return {"rule": "distance", "a": "text A", "b": "text B"}.get(name, name.replace("_", " "))


def _is_of(names: Any) -> tuple[Check, str]:
    known = list(names)
    return lambda value: value in known, f"one of {', '.join(known)}"


def _is_position(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**6


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
