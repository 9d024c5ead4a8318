"""A configuration -> the words that compose it from conf/, as `commands.compose` takes them.

Every group of conf/ is a folder of files with values only, so the words are: the file of each
group that comes nearest, then each value in which the configuration differs from it. An
experiment is named by what it changes.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline import store
from pipeline.config import Config
from stages import compose

CONF = store.ROOT / "conf"
GROUPS = (
    *("corpus", "distance", "homology", "comparison", "tests", "attention", "context"),
    "equivariance",
)
PLAIN = re.compile(r"[A-Za-z_][\w./%@-]*")

Values = dict[str, Any]


def overrides(settings: Config) -> list[str]:
    """The words; none where the configuration is the default one.

    `engine` changes no number, and is left out.
    """
    wanted: Values = json.loads(json.dumps(settings.values))
    chosen = _defaults()
    found = list(_of_models(wanted["models"], chosen["models"]))
    found += _of_nulls(wanted["nulls"], chosen["null"])
    for group in GROUPS:
        found += _of_group(group, group, group, chosen[group], wanted[group])
    return found


def _defaults() -> dict[str, Any]:
    """What the defaults list chooses: the file of each group, and of each model."""
    chosen: dict[str, Any] = {"models": {}}
    for entry in _load(CONF / "config.yaml")["defaults"]:
        for key, name in entry.items() if isinstance(entry, Mapping) else ():
            group, _, place = key.partition("@models.")
            if place:
                chosen["models"][place] = name
            else:
                chosen[group] = name
    return chosen


def _of_models(wanted: Values, chosen: dict[str, str]) -> Iterator[str]:
    for name, file in chosen.items():
        if name in wanted:
            word = f"model@models.{name}"
            yield from _of_group("model", f"models.{name}", word, file, wanted[name])
        else:
            yield f"~model@models.{name}"
    for name in (name for name in wanted if name not in chosen):
        word = f"+model@models.{name}"
        yield from _of_group("model", f"models.{name}", word, None, wanted[name])


def _of_nulls(wanted: Values, chosen: list[str]) -> Iterator[str]:
    """Nulls by their files, as they stand there, and what is otherwise of each."""
    if list(wanted) != chosen:
        yield f"null=[{','.join(name for name in wanted if name in compose.choices('null', CONF))}]"
    for name, values in wanted.items():
        known = name in compose.choices("null", CONF)
        written = compose.as_written("null", name, CONF) if known else {}
        if known:
            yield from _changes(f"nulls.{name}", written, values)
        else:
            yield f"+nulls.{name}={_word(values)}"


def _of_group(group: str, place: str, word: str, file: str | None, wanted: Values) -> list[str]:
    """The words for one group at its place; file: what the defaults list chooses."""
    files = compose.choices(group, CONF)
    changes = {
        name: list(_changes(place, compose.as_written(group, name, CONF), wanted)) for name in files
    }
    # The default file wins a tie: it needs no word.
    nearest = min(files, key=lambda name: (len(changes[name]) + (name != file), name))
    return [f"{word}={nearest}"] * (nearest != file) + changes[nearest]


def _changes(place: str, base: Any, wanted: Values) -> Iterator[str]:
    for key in base:
        if key not in wanted:
            yield f"~{place}.{key}"
    for key, value in wanted.items():
        here = f"{place}.{key}"
        if key not in base:
            yield f"+{here}={_word(value)}"
        elif isinstance(value, dict) and isinstance(base[key], dict):
            yield from _changes(here, base[key], value)
        elif _resolved(base[key], wanted) != value:
            yield f"{here}={_word(value)}"


def _resolved(value: Any, beside: Values) -> Any:
    """A value of a file, or the one beside it that it points to: ${.key}."""
    found = re.fullmatch(r"\$\{\.(\w+)\}", value) if isinstance(value, str) else None
    return beside.get(found[1]) if found else value


def _word(value: Any) -> str:
    """A value as Hydra's grammar reads it back."""
    if isinstance(value, str):
        if PLAIN.fullmatch(value) and value.lower() not in ("null", "true", "false", "inf", "nan"):
            return value
        escaped = re.sub(r"(\\*)'", lambda found: 2 * found[1] + "\\'", value)
        ended = re.sub(r"(\\+)$", lambda found: 2 * found[1], escaped)
        return f"'{ended}'"
    if isinstance(value, list):
        return f"[{','.join(map(_word, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_word(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value)


def _load(path: Path) -> Any:
    """What a file of conf/ holds, as it stands there."""
    return OmegaConf.to_container(OmegaConf.load(path), resolve=False)
