"""dvc.lock: what each stage ran on and what came out, as hashes; two of them -> what changed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.errors import InputError
from pipeline.runs.differences import ABSENT, changed, flat

CODE = ("pipeline", "stages", "commands")


@dataclass(frozen=True)
class Entry:
    """One stage's entry.

    deps, outs   path -> MD5, that of a folder ends in .dir
    params       key, joined by dots -> value
    """

    cmd: str
    deps: dict[str, str]
    params: dict[str, Any]
    outs: dict[str, str]


Lock = dict[str, Entry]


def parse(text: str) -> Lock:
    """The entries of a dvc.lock by the name of their stage."""
    try:
        return {name: _entry(value) for name, value in load(text)["stages"].items()}
    except (YAMLError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"dvc.lock cannot be read ({type(error).__name__}: {' '.join(str(error).split())}). "
            "Take it back from git: `git checkout dvc.lock`."
        ) from error


def load(text: str) -> Any:
    """What a YAML file of DVC's holds: it writes YAML 1.2, where 1e-06 is a number."""
    return YAML(typ="safe").load(text)


def _entry(value: Mapping[str, Any]) -> Entry:
    params: dict[str, Any] = {}
    for file in value.get("params", {}).values():
        params |= flat(file)
    return Entry(
        cmd=str(value["cmd"]),
        deps={one["path"]: one.get("md5", "") for one in value.get("deps", [])},
        params=params,
        outs={one["path"]: one.get("md5", "") for one in value.get("outs", [])},
    )


def causes(recorded: Entry, found: Entry, made: set[str]) -> list[str]:
    """A sentence for each thing that a stage ran on then and not now.

    made: the outputs of all stages, whose changes have a cause further up.
    """
    return list(_causes(recorded, found, made))


def _causes(recorded: Entry, found: Entry, made: set[str]) -> Iterator[str]:
    if recorded.cmd != found.cmd:
        yield f"other command: {recorded.cmd} -> {found.cmd}"
    for key in sorted({*recorded.params, *found.params}):
        if recorded.params.get(key, ABSENT) != found.params.get(key, ABSENT):
            yield f"other configuration {key}: {changed(recorded.params, found.params, key)}"
    for path in sorted({*recorded.deps, *found.deps}):
        if recorded.deps.get(path) != found.deps.get(path):
            yield f"{kind(path, made)}: {path}"


def kind(path: str, made: set[str]) -> str:
    """What a change of a dependency means."""
    if any(f"{out}/".startswith(f"{path}/") for out in made):
        return "made from another"
    if path == "constraints.txt":
        return "other pins"
    return "other code" if path.split("/")[0] in CODE else "other input"
