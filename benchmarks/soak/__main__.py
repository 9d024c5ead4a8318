"""Attack a small run in every way, and write what it withstood: `python -m benchmarks.soak`."""

import argparse
import importlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.soak import Attack
from pipeline import store
from pipeline.console import say, sentences

KINDS = ("kills", "disks", "flips", "hostile", "crowds", "dvc", "explorer")
COUNTS = {"kills": 300, "disks": 300, "flips": 1000, "inputs": 10_000, "dvc": 6, "rounds": 3}
SEED = 14
MINUTE = 60.0


def main(words: Sequence[str] | None = None) -> None:
    """Carry out the kinds asked for, keeping the page after each; exit status 1 if one failed.

    What was found of other kinds on this machine stays on the page.
    """
    options = _arguments(words)
    with sentences():
        # In a process of its own: it starts threads, after which no process may be forked here.
        with ProcessPoolExecutor(1, get_context("spawn")) as other:
            about = other.submit(record.setting).result()
        done: list[Attack] = []
        for kind in options.only or KINDS:
            done.append(_carried_out(kind, options))
            rows = _kept(options.to, kind, done[-1], about)
            store.write_text(options.to / "soak.md", page(rows, about))
        print(page(rows, about))
        say(f"benchmarks: kept in {options.to}")
    if any(attack.wrong for attack in done):
        sys.exit(1)


def _carried_out(kind: str, options: argparse.Namespace) -> Attack:
    """One kind of attack, in a folder of its own."""
    folder = store.work_folder() / "benchmarks" / "soak" / kind
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # Only what is asked for is imported: each kind needs other packages.
    module = importlib.import_module(f"benchmarks.soak.{kind}")
    counts = {"hostile": options.inputs, "crowds": options.rounds, "explorer": options.people}
    count = counts[kind] if kind in counts else getattr(options, kind)
    of_stages = {"stages": options.stages} if options.stages else {}
    more: dict[str, dict[str, Any]] = {
        "kills": of_stages,
        "disks": of_stages,
        "crowds": {"sizes": options.crowds, **of_stages},
        "explorer": {"seconds": options.seconds},
    }
    started = time.monotonic()
    say(f"{kind}: started")
    attack: Attack = module.attack(count, folder, SEED, teller(), **more.get(kind, {}))
    attack.figures.append(f"{time.monotonic() - started:.0f} s")
    say(f"{kind}: {attack.tried} tried, {len(attack.wrong)} wrong ({attack.figures[-1]})")
    return attack


def teller() -> Callable[[str], None]:
    """Says every line on a terminal, over the one before; elsewhere one a minute.

    A line that begins "kind: 3/300" gets an estimate of the time left.
    """
    terminal, started = sys.stderr.isatty(), time.monotonic()
    last = started

    def tell(line: str) -> None:
        nonlocal last
        now = time.monotonic()
        if terminal:
            sys.stderr.write(f"\r\x1b[K{_estimated(line, now - started)[:120]}")
            sys.stderr.flush()
        elif now - last > MINUTE:
            last = now
            say(_estimated(line, now - started))

    return tell


def _estimated(line: str, spent: float) -> str:
    done, _, total = [*line.split(), "", ""][1].partition("/")
    if not (done.isdigit() and total.isdigit() and int(done)):
        return line
    left = spent / int(done) * (int(total) - int(done))
    return f"{line} (about {left / MINUTE:.0f} min left)"


def _kept(folder: Path, kind: str, attack: Attack, about: dict[str, Any]) -> dict[str, Any]:
    """Keep what an attack found beside what others of this machine have, and return all."""
    file = folder / "soak.json"
    found = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    found = {name: row for name, row in found.items() if row["cpu"] == about["cpu"]}
    said = {key: about[key] for key in ("date", "commit", "cpu")}
    found[kind] = vars(attack) | said
    found = {name: found[name] for name in KINDS if name in found}
    store.write_text(file, json.dumps(found, indent=1) + "\n")
    return found


def page(rows: dict[str, Any], about: dict[str, Any]) -> str:
    """The machine, a table of the kinds, and each thing that was wrong."""
    lines = [
        "# What a run withstood",
        "",
        "Made by `python -m benchmarks.soak`. Tried: how many attacks of a kind were carried out; "
        "wrong: how many did not end as [docs/promises.md](../../docs/promises.md) says; made: "
        "when, and of which commit.",
        "",
        f"- {about['cpu']}, {about['cores']} cores, {about['memory_gb']} GB, {about['system']}",
        f"- Python {about['python']}, "
        + ", ".join(f"{name} {version}" for name, version in store.libraries().items()),
        "",
        "| attack | tried | counted | wrong | made |",
        "|---|--:|---|--:|---|",
    ]
    lines += [
        f"| {row['name']} | {row['tried']:,} | {'; '.join(row['figures'])} | {len(row['wrong'])} "
        f"| {row['date'][:10]}, {row['commit']} |"
        for row in rows.values()
    ]
    wrong = [
        f"- {row['name']}: {' '.join(what.split())}"
        for row in rows.values()
        for what in row["wrong"]
    ]
    return "\n".join([*lines, *(["", "## Wrong", ""] if wrong else []), *wrong]) + "\n"


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    for name, count in COUNTS.items():
        parser.add_argument(f"--{name}", type=int, default=count, help="(default %(default)s)")
    parser.add_argument("--stages", nargs="+", help="of kills, disks and crowds; else all")
    parser.add_argument("--crowds", nargs="+", type=int, default=[2, 4, 8], help="of processes")
    parser.add_argument("--people", type=int, default=30, help="at the explorer at once")
    parser.add_argument("--seconds", type=float, default=600.0, help="that they stay")
    parser.add_argument("--to", type=Path, default=Path(__file__).parents[1] / "results")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
