"""Two experiments: one after the other, by DVC's queue with two workers, and at once in one clone.

However they were run, the tables that each records must be the same. At once is not promised by
DVC: one of the two may end in an error of its own; then the other's tables are right, and the same
command again succeeds.
"""

import json
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from benchmarks.soak import Attack
from tests import clone
from tests.clone import Clone

# Each makes diagrams, distances and the page anew.
PAIR = ("distance=notebook", "distance=attention_graph")
PATIENCE = 900.0  # seconds for a queue to be empty
TABLES = ("outputs/tables/head_distances.parquet", "outputs/tables/text_distances.parquet")
Recorded = dict[str, dict[str, str]]  # the MD5 of each table, by the rule of distance


def attack(count: int, folder: Path, seed: int, say: Callable[[str], None]) -> Attack:
    """Run the pair so many times, in each way by turns, each time in a fresh copy of a clone."""
    del seed
    found = Attack("dvc exp run, twice")
    ran = clone.small(folder)
    ran.run("python", "-m", "dvc", "repro")
    ran.commit("A run")
    whole, work = folder / "whole", folder / "work"
    shutil.copytree(ran.folder, whole, symlinks=True)
    shutil.copytree(work, folder / "work-before")
    expected: Recorded = {}
    ways: Counter[str] = Counter()
    for number in range(count):
        way = (_in_turn, _queued, _at_once)[number % 3]
        say(f"dvc: {number}/{count} {way.__name__.strip('_').replace('_', ' ')}")
        for place, before in ((ran.folder, whole), (work, folder / "work-before")):
            shutil.rmtree(place)
            shutil.copytree(before, place, symlinks=True)
        note, wrong = way(ran)
        recorded = _recorded(ran)
        expected = expected or recorded
        if len(recorded) != len(PAIR) or recorded != expected:
            wrong.append(f"recorded {json.dumps(recorded)}, expected {json.dumps(expected)}")
        found.tried += 1
        ways[note] += 1
        found.wrong += [f"{note}: {what}" for what in wrong]
    found.figures = [f"{number} {way}" for way, number in sorted(ways.items())]
    return found


def _in_turn(ran: Clone) -> tuple[str, list[str]]:
    answers = [ran.say("dvc", "exp", "run", "-S", one) for one in PAIR]
    return "one after the other", [_end(answer) for answer in answers if answer.returncode]


def _queued(ran: Clone) -> tuple[str, list[str]]:
    for one in PAIR:
        ran.run("dvc", "exp", "run", "--queue", "-S", one)
    ran.run("dvc", "queue", "start", "-j", "2")
    until = time.monotonic() + PATIENCE
    try:
        while time.monotonic() < until:
            status = ran.run("dvc", "queue", "status")
            if status.count("Success") + status.count("Failed") == len(PAIR):
                break
            time.sleep(3)
    finally:
        ran.say("dvc", "queue", "stop", "--kill")
    wrong = [] if status.count("Success") == len(PAIR) else [" ".join(status.split())]
    return "by the queue, with two workers", wrong


def _at_once(ran: Clone) -> tuple[str, list[str]]:
    both = [
        subprocess.Popen(
            ["dvc", "exp", "run", "-S", one],
            cwd=ran.folder,
            env=ran.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for one in PAIR
    ]
    said = [process.communicate()[0] for process in both]
    failed = [number for number, process in enumerate(both) if process.returncode]
    note = "at once in one clone" + (f", of which {len(failed)} in DVC's error" if failed else "")
    wrong = []
    for number in failed:
        # Whoever failed is run again; what it said stays known.
        again = ran.say("dvc", "exp", "run", "-S", PAIR[number])
        if again.returncode:
            wrong.append(f"after {' '.join(said[number].split())[-200:]} again {_end(again)}")
    return note, wrong


def _end(answer: "subprocess.CompletedProcess[str]") -> str:
    said = " ".join((answer.stdout + answer.stderr).split())
    return f"exit status {answer.returncode}: {said[-300:]}"


def _recorded(ran: Clone) -> Recorded:
    """What the experiments of a clone record of their tables."""
    names = clone.git(ran.folder, "for-each-ref", "--format=%(refname)", "refs/exps").split()
    found: Recorded = {}
    for name in (name for name in names if "/exec/" not in name and "/stash" not in name.lower()):
        lock = yaml.safe_load(clone.git(ran.folder, "show", f"{name}:dvc.lock"))
        params = yaml.safe_load(clone.git(ran.folder, "show", f"{name}:params.yaml"))
        found[params["distance"]["rule"] + _options(params)] = _tables(lock)
    return found


def _options(params: dict[str, Any]) -> str:
    return json.dumps(params["distance"]["options"], sort_keys=True)


def _tables(lock: dict[str, Any]) -> dict[str, str]:
    outs = (out for stage in lock["stages"].values() for out in stage.get("outs", []))
    return {out["path"]: out["md5"] for out in outs if out["path"] in TABLES}
