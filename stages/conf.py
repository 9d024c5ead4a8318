"""The ways a run can look right and not be: each found cheaply, and said.

Checks params.yaml: its keys, its values, and what changed in conf/. DVC runs it before all
else where conf/, a model or the corpus changed: `dvc repro` does not compose, and would call a
params.yaml of yesterday up to date; and the names in it become folders and commands. Every
other stage depends on the file this writes, outputs/checked.txt, whose content is always the
same. Takes nothing.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline import store
from pipeline.console import sentences
from pipeline.errors import InputError
from stages import app, compose
from stages.repository import git, locks

CURE = (
    "Run `python -m commands.compose` with the overrides you mean, or `dvc exp run`, which "
    "composes by itself."
)


CHECKED = store.OUTPUTS / "checked.txt"


def main() -> None:
    """Check the configuration, and write that this was done."""
    app.settings()
    compose.check_conf(Path("conf"))
    check_params()
    store.write_text(CHECKED, "params.yaml was checked.\n")


def check_params() -> None:
    """Raise InputError where conf/ was changed since the last commit and params.yaml was not."""
    changed = git.lines("diff", "--name-only", "HEAD", "--", "conf")
    stale = [name for name in changed if _stale(name)]
    if stale:
        raise InputError(
            f"params.yaml still holds what {', '.join(stale)} said at the last commit. {CURE}"
        )


def _stale(name: str) -> bool:
    """Whether params.yaml has a file's values of the last commit, and not those of now."""
    group, choice = Path(name).parent.name, Path(name).stem
    if choice == compose.BASE:
        return any(_stale(str(Path(name).with_stem(one))) for one in compose.choices(group))
    if group == "model":
        return _stale_model(choice)
    words = [] if group == "conf" else [f"{group}={choice}"]
    with _last_commit() as conf:
        default, before = _composed([], conf), _composed(words, conf)
    moved = _differing(before, _composed(words, Path("conf")))
    params = _flat(_values(_text(compose.PARAMS)))
    # Whoever chose this file has all that tells it from the default, and what it said.
    telling = moved | _differing(default, before)
    return bool(moved) and all(params.get(key) == before.get(key) for key in telling)


@contextmanager
def _last_commit() -> Iterator[Path]:
    """The folder conf/ as the last commit has it."""
    with tempfile.TemporaryDirectory() as folder:
        for name in git.lines("ls-tree", "-r", "--name-only", "HEAD", "--", "conf"):
            file = Path(folder) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(_show(name), "utf-8")
        yield Path(folder) / "conf"


def _composed(words: Sequence[str], conf: Path) -> dict[str, Any]:
    """Every value of what a folder composes to, by its place; none where it does not compose."""
    try:
        return _flat(_values(compose.written(words, conf).decode()))
    except InputError:
        return {}


def _flat(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        place = f"{above}.{key}"
        found |= _flat(value, place) if isinstance(value, dict) else {place: value}
    return found


def _differing(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    return {key for key in {*one, *other} if one.get(key) != other.get(key)}


def _stale_model(choice: str) -> bool:
    """A model's values stand under a name that the file does not tell."""
    with _last_commit() as conf:
        before, after = (_choice(choice, folder) for folder in (conf, compose.CONF))
    nodes = _values(_text(compose.PARAMS)).get("models", {}).values()
    return any(_holds(node, before) and not _holds(node, after) for node in nodes if node)


def _choice(model: str, conf: Path) -> dict[str, Any]:
    """What a folder of configuration says of a model; nothing where it has no such file."""
    return (
        compose.as_written("model", model, conf) if model in compose.choices("model", conf) else {}
    )


def _holds(node: dict[str, Any], values: dict[str, Any]) -> bool:
    # What refers to another value ("${...}") stands resolved in params.yaml.
    plain = {k: v for k, v in values.items() if "${" not in str(v)}
    return bool(plain) and all(node.get(key) == value for key, value in plain.items())


def _values(text: str) -> dict[str, Any]:
    return dict(locks.load(text) or {})


def _text(file: Path) -> str:
    return file.read_text("utf-8") if file.is_file() else ""


def _show(name: str) -> str:
    return git.ask("show", f"HEAD:{name}") or ""


if __name__ == "__main__":
    with sentences():
        main()
