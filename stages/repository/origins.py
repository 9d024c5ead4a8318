"""A file of ours -> what made it, the commits that record it, and how to make it again."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import store
from pipeline.errors import InputError
from pipeline.runs.differences import flat
from stages.repository import git, locks

# git leaves experiments out of a commit's names, and shows theirs in full.
NAMED = [f"--decorate-refs=refs/{kind}" for kind in ("heads", "tags", "remotes", "exps")]
EXPERIMENT = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]+/")


class Place(NamedTuple):
    """A commit whose dvc.lock holds a file, and as what."""

    commit: str
    date: str
    subject: str
    names: str
    stage: str
    cmd: str
    path: str


def provenance(file: Path) -> dict[str, Any]:
    """What a Parquet file says of itself; nothing for any other file."""
    with file.open("rb") as opened:
        if opened.read(4) != b"PAR1":
            return {}
    store.verify(file)
    try:
        metadata = pq.read_schema(file).metadata or {}
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"{file} is damaged ({error}); take it from DVC: `dvc checkout`."
        ) from error
    return dict(json.loads(metadata.get(store.PROVENANCE, b"{}")))


def described(made: Mapping[str, Any]) -> list[str]:
    """A provenance, readable: one value a line, then what it was made from."""
    if not made:
        return ["It carries no provenance: only Parquet tables of this project do."]
    if list(made) == ["part"]:
        return [f"A part of unfinished work ({made['part']}), no result: its table is in outputs/."]
    return list(_lines(made, {}, ""))


def _lines(made: Mapping[str, Any], said: Mapping[str, Any], indent: str) -> Iterator[str]:
    own = flat({key: value for key, value in made.items() if key != "made_from"})
    for key, value in own.items():
        # What it was made from mostly had the same libraries and corpus.
        if key not in said or said[key] != value:
            yield f"{indent}{key:34} {_value(value)}"
    for name, inner in made.get("made_from", {}).items():
        yield f"{indent}made from the tables of {name}, with what is above and:"
        yield from _lines(inner, own, f"{indent}  ")


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def places(home: Path, md5: str) -> Iterator[Place]:
    """The commits, of all branches, tags and experiments, that wrote a file into dvc.lock."""
    log = ("log", "--all", f"-S{md5}", "--format=%H%x09%cs%x09%D%x09%s", *NAMED, "--", "dvc.lock")
    for line in filter(None, git.lines(*log, home=home)):
        commit, date, refs, subject = line.split("\t", 3)
        names = EXPERIMENT.sub("experiment ", refs)
        text = git.ask("show", f"{commit}:dvc.lock", home=home)
        # A commit that took the file out is found too.
        for stage, entry in locks.parse(text).items() if text else ():
            for path, hashed in entry.outs.items():
                if hashed == md5:
                    yield Place(commit, date, subject, names, stage, entry.cmd, path)


def recorded(found: Sequence[Place], md5: str) -> list[str]:
    """The commits, newest first."""
    if not found and not git.known():
        return [f"Which commits hold these bytes (md5 {md5}) is known in a git repository only."]
    if not found:
        return [f"No commit's dvc.lock here holds these bytes (md5 {md5})."]
    lines = ["Recorded by these commits, and those after them until dvc.lock changes:"]
    for one in found:
        names = f" ({one.names})" if one.names else ""
        lines.append(f"  {one.commit[:12]} {one.date}{names} {one.subject}: {one.path}")
    return lines


def again(found: Sequence[Place]) -> list[str]:
    """The commands that make the file again."""
    if not found:
        return []
    last = found[0]
    return [
        "To make it again, compared with what is recorded:",
        f"  python -m commands.reproduce --rev {last.commit[:12]} --source recompute",
        f"Its stage alone, in a checkout of {last.commit[:12]}:",
        f"  dvc repro --force --single-item {last.stage}    # runs: {last.cmd}",
    ]
