"""A revision checked out -> whether its outputs come out again, and if not, what moved and why."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline import files, store
from pipeline.console import say
from pipeline.errors import InputError
from pipeline.runs import differences
from pipeline.runs.differences import Difference
from stages.repository import git, locks, machine
from stages.repository.locks import Entry, Lock
from stages.repository.origins import provenance
from stages.repository.revisions import Checkout

SAME, WITHIN, DIFFERENT, UNKNOWN = "same bytes", "within tolerance", "DIFFERENT", "not verified"
NOT_AT_HAND = "the recorded bytes are not at hand"
HOW = (
    f"Where {NOT_AT_HAND}: `dvc push` where they were made and `dvc fetch` here bring them "
    "(`dvc remote list` shows from where, `dvc remote add -d NAME URL` sets one); "
    "--source recompute makes them anew."
)
STATUS = {SAME: 0, WITHIN: 0, UNKNOWN: 2, DIFFERENT: 1}


@dataclass
class Result:
    """What became of one output, and what there is to say about it."""

    path: str
    verdict: str
    lines: list[str] = field(default_factory=list)


def verify(tree: Checkout, source: str) -> list[Result]:
    """Every output of a revision: as it is kept, or as it comes out of running all again."""
    recorded = _lock(tree)
    return recompute(tree, recorded) if source == "recompute" else pull(tree, recorded)


def _lock(tree: Checkout) -> Lock:
    if not (tree.folder / "dvc.lock").is_file():
        latest = git.ask("log", "-1", "--format=%h", "--", "dvc.lock", home=tree.home)
        cure = f"`git log -- dvc.lock` lists commits that have one (the last here: {latest})"
        none = "no commit here has one: run `make demo` and commit dvc.lock"
        raise InputError(
            f"This revision has no dvc.lock, so nothing was recorded; {cure if latest else none}."
        )
    return tree.lock()


# ---------------------------------------------------------------- by what is kept


def pull(tree: Checkout, recorded: Lock) -> list[Result]:
    """Fetch what dvc.lock names, check it, and ask DVC whether dvc.lock is of this revision."""
    found = tree.tell("checkout", "--quiet", "--force", "--allow-missing")
    if not _complete(tree, recorded) and _has_remote(tree):
        found = tree.tell("pull", "--quiet", "--force", "--allow-missing")
    if not found:
        say("dvc could not bring everything; what is there is checked")
    changes = tree.status()
    results = []
    for stage, entry in _current(tree, recorded).items():
        reasons = _reasons(tree, changes.get(stage, []), entry, recorded)
        results += [_kept(tree, path, md5, reasons) for path, md5 in entry.outs.items()]
    return results


def _complete(tree: Checkout, recorded: Lock) -> bool:
    return all((tree.folder / path).exists() for entry in recorded.values() for path in entry.outs)


def _has_remote(tree: Checkout) -> bool:
    return bool(tree.ask("remote", "list").strip())


def _kept(tree: Checkout, path: str, md5: str, reasons: list[str]) -> Result:
    file = tree.folder / path
    if not file.exists():
        return Result(path, UNKNOWN, [*reasons, _not_at_hand(md5)])
    if reasons:
        return Result(path, DIFFERENT, ["dvc.lock was recorded by another run:", *reasons])
    # DVC hashes a folder from its files; of one file it may trust what it noted before.
    if file.is_file() and files.md5(file) != md5:
        return Result(path, DIFFERENT, ["the kept file is damaged: its bytes are not those hashed"])
    return Result(path, SAME)


def _reasons(tree: Checkout, changes: list[Any], entry: Entry, recorded: Lock) -> list[str]:
    """Why DVC would run a stage of this revision again."""
    made = {path for one in recorded.values() for path in one.outs}
    found = []
    for change in (one for one in changes if isinstance(one, dict)):
        for path in change.get("changed deps", {}):
            if path == "params.yaml":
                found += locks.causes(entry, _with_params(tree, entry), made)
            else:
                found.append(f"{locks.kind(path, made)}: {path}")
    return list(dict.fromkeys(one for one in found if not one.startswith("made from")))


def _with_params(tree: Checkout, entry: Entry) -> Entry:
    """An entry as the revision's own params.yaml would have it."""
    values = differences.flat(locks.load((tree.folder / "params.yaml").read_text("utf-8")))
    now = {key: values[key] for key in entry.params if key in values}
    return Entry(entry.cmd, entry.deps, now, entry.outs)


# ---------------------------------------------------------------- by running again


def recompute(tree: Checkout, recorded: Lock) -> list[Result]:
    """Run every stage again and compare what comes out with what was recorded."""
    if _has_remote(tree):
        say("the recorded tables are fetched, to compare with")
        tree.tell("fetch", "--quiet")
    if (tree.folder / store.SAMPLES).is_dir():  # git's, before they are made anew
        shutil.copytree(tree.folder / store.SAMPLES, tree.work / store.SAMPLES)
    if not tree.tell("repro", "--force", "--no-commit", "--no-run-cache"):
        raise InputError(
            "`dvc repro` of this revision failed, as it says above; --keep FOLDER leaves the "
            "folder to look into. What git does not hold, such as a corpus of your own, is not "
            "there."
        )
    now = tree.lock()
    made = {path for entry in recorded.values() for path in entry.outs}
    results = []
    for stage, entry in _current(tree, recorded).items():
        reasons = locks.causes(entry, now[stage], made)
        reasons = [one for one in reasons if not one.startswith("made from")]
        for path, md5 in entry.outs.items():
            results.append(_again(tree, stage, path, md5, now[stage].outs.get(path, ""), reasons))
    _judge_pages(results)
    return results


def _again(
    tree: Checkout, stage: str, path: str, md5: str, found: str, reasons: list[str]
) -> Result:
    if md5 == found:
        return Result(path, SAME)
    if not path.endswith(".parquet"):
        return Result(path, DIFFERENT, [*reasons])
    sides = _at_hand(tree, path, md5)
    if sides is None:
        return Result(path, DIFFERENT, [*reasons, _not_at_hand(md5)])
    return _compared(tree, stage, path, sides, reasons)


def _compared(
    tree: Checkout, stage: str, path: str, sides: tuple[Path, Path], reasons: list[str]
) -> Result:
    before, after = sides
    found = differences.difference(store.read(before), store.read(after))
    verdict = DIFFERENT if found.verdict == "different" else WITHIN
    why = differences.causes(provenance(before), provenance(after))
    why = list(dict.fromkeys([*reasons, *why]))
    lines = [*described(found), *(why or _machines(tree, stage))]
    if after != (whole := tree.folder / path):
        rows = pq.read_metadata(whole).num_rows
        lines.insert(0, f"by {found.rows:,} of its {rows:,} rows, which git keeps:")
    return Result(path, verdict, lines)


def _at_hand(tree: Checkout, path: str, md5: str) -> tuple[Path, Path] | None:
    """The recorded table and the one found now; or of both the rows that git keeps."""
    whole = tree.recorded(path, md5)
    if whole is not None:
        return whole, tree.folder / path
    if not path.startswith(f"{store.OUTPUTS}/"):
        return None
    kept = tree.samples()
    if kept is None:
        return None
    sample = kept / Path(path).relative_to(store.OUTPUTS)
    before, after = tree.work / sample, tree.folder / sample
    return (before, after) if before.is_file() and after.is_file() else None


def _judge_pages(results: list[Result]) -> None:
    """What is made of tables and of nothing else: where they moved within the tolerance, so did it.

    The page, the data of `dvc plots`, the samples.
    """
    tables = [one for one in results if one.path.endswith(".parquet")]
    if any(one.verdict == WITHIN for one in tables) and status(tables) == 0:
        for page in results:
            if page.verdict == DIFFERENT and page not in tables and not page.lines:
                page.verdict = WITHIN
                page.lines.append("made of tables that moved within the tolerance")


def _machines(tree: Checkout, stage: str) -> list[str]:
    """The machine as the likely cause: what the run logs say of then and of now."""
    alike = (
        "made alike (code, configuration, corpus, weights, libraries): what is left is the machine"
    )
    here = machine.shown(machine.describe())
    logs = _log_of(tree.home, stage)
    others = sorted({machine.shown(line) for line in logs if "cpu" in line} - {here})
    known = [f"the run log knows this stage on another machine: {other}" for other in others]
    return [alike, f"this machine: {here}", *(known or ["the run log here knows no other machine"])]


def _log_of(home: Path, stage: str) -> list[dict[str, Any]]:
    log = home / store.LOGS / "runs.jsonl"
    lines = log.read_text("utf-8").splitlines() if log.is_file() else []
    name, _, model = stage.partition("@")
    found = (json.loads(line) for line in lines)
    return [one for one in found if (one["stage"], one["model"] or "") == (name, model)]


# ---------------------------------------------------------------- what is said


def _current(tree: Checkout, recorded: Lock) -> Lock:
    """The entries of stages that the revision has; InputError for a stage without one."""
    names = tree.stages()
    missing = [name for name in names if name not in recorded]
    if missing:
        raise InputError(
            f"dvc.lock has no entry for {', '.join(missing)}: it was committed before they ran."
        )
    _say_strays(names, recorded)
    return {name: recorded[name] for name in names}


def _say_strays(names: list[str], recorded: Lock) -> None:
    """Say which entries are of stages that are no more, as of a model taken out."""
    strays = [stage for stage in recorded if stage not in names]
    if strays:
        say(f"warning: dvc.lock has stages that the revision has not: {', '.join(strays)}")


def _not_at_hand(md5: str) -> str:
    return f"{NOT_AT_HAND} (md5 {md5})"


def described(found: Difference) -> list[str]:
    """A difference in sentences: what is not common, how far values moved, the worst."""
    lines = [f"{count} rows only {side}" for count, side in _sides(found) if count]
    lines += [f"columns only recorded: {', '.join(found.dropped)}"] * bool(found.dropped)
    lines += [f"columns only found now: {', '.join(found.added)}"] * bool(found.added)
    for column in found.columns:
        size = f", by {column.distance:.2g} at most" if column.kind in ("number", "diagram") else ""
        mark = "within" if column.fits else "beyond"
        lines.append(f"{column.name}: {column.rows} of {found.rows} rows{size}; {mark} tolerance")
    lines += [f"equal values in other bytes, all {found.rows} rows"] * (found.verdict == "equal")
    for move in found.worst:
        of = " ".join(f"{key}={value}" for key, value in move.row.items())
        lines.append(f"  {move.column} at {of}: {_cut(move.recorded)} -> {_cut(move.found)}")
    return lines


def cure(results: Sequence[Result]) -> str:
    """How to get recorded bytes that are not at hand; nothing where all are."""
    absent = any(line.startswith(NOT_AT_HAND) for one in results for line in one.lines)
    return HOW if absent else ""


def _sides(found: Difference) -> list[tuple[int, str]]:
    return [(found.lost, "in the recorded table"), (found.gained, "in the one found now")]


def _cut(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def report(results: Sequence[Result]) -> str:
    """All outputs, each with its verdict, and the verdict of the whole."""
    lines, before = list[str](), list[str]()
    for one in results:
        said = ["as the one above"] if one.lines and one.lines == before else one.lines
        lines += [f"{one.verdict:16}  {one.path}", *(f"{'':18}{line}" for line in said)]
        before = one.lines
    counts = [f"{sum(one.verdict == v for one in results)} {v}" for v in STATUS]
    tolerance = f"tolerance {differences.TOLERANCE:g} (docs/reproduce.md)"
    return "\n".join([*lines, f"{len(results)} outputs: {', '.join(counts)}; {tolerance}"])


def status(results: Sequence[Result]) -> int:
    """The exit status: a difference found outweighs what could not be verified."""
    found = {STATUS[one.verdict] for one in results}
    return 1 if 1 in found else max(found, default=2)
