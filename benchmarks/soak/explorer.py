"""The explorer under many people: each opens the page, and changes what it shows again and again.

Every answer must be a page's, none an error; memory must stay within the bound that was set.
"""

import http.client
import json
import random
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.soak import Attack, run
from pipeline.explorer.state import VIEWS

MEMORY_MB = 256
# What answers in the making may hold beside the maps and states that are kept: for all people.
BESIDE_MB = 400
PAUSE = 2.0  # seconds at most that a person looks at what came
PATH = "/_dash-update-component"
ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)/")
NOT_SAID = ("Traceback", "not an error we foresaw", "Internal Server Error")
WORDS = " ".join(text for text, _ in run.SENTENCES).split()


def attack(
    count: int, folder: Path, seed: int, say: Callable[[str], None], seconds: float = 600.0
) -> Attack:
    """Let so many people use the page for so long."""
    found = Attack("explorer")
    run.prepare(folder / "run")
    with _served(folder / "run") as (server, port):
        first = Person(port, random.Random(seed), found)
        for view in VIEWS:  # so that what is made once is made
            first.look(view)
        before, warmed = _peak(server.pid), len(first.times)
        people = [Person(port, random.Random(seed + 1 + number), found) for number in range(count)]
        until = time.monotonic() + seconds
        crowd = [threading.Thread(target=person.stay, args=(until,)) for person in people]
        for thread in crowd:
            thread.start()
        while any(thread.is_alive() for thread in crowd):
            time.sleep(1)
            left = max(until - time.monotonic(), 0)
            say(
                f"explorer: {count} people, {sum(len(one.times) for one in people)} requests, "
                f"{left:.0f} s left"
            )
        if server.poll() is not None:
            found.wrong.append(f"the server ended with exit status {server.returncode}")
            return found
        peak = _peak(server.pid)
    times = sorted(time for person in people for time in person.times)
    found.tried = warmed + len(times)
    if peak - before > MEMORY_MB + BESIDE_MB:
        found.wrong.append(f"memory grew from {before} to {peak} MB with a bound of {MEMORY_MB}")
    found.figures = [
        f"{count} people for {seconds:.0f} s",
        f"median {1000 * statistics.median(times):.0f} ms, 99 % within "
        f"{1000 * times[int(0.99 * (len(times) - 1))]:.0f} ms",
        f"peak memory {peak} MB, {before} MB after the first page of each view, with "
        f"--memory-mb {MEMORY_MB}",
    ]
    return found


@contextmanager
def _served(folder: Path) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """The command in a run's folder, on a free port."""
    words = ["--no-open", "--port", "0", "--memory-mb", str(MEMORY_MB)]
    server = subprocess.Popen(
        [sys.executable, "-m", "commands.explore", *words],
        cwd=folder,
        env=run.whole_environment(folder),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        said = []
        for line in server.stderr:
            said.append(line)
            if found := ADDRESS.search(line):
                break
        else:
            raise RuntimeError(f"the explorer did not start: {''.join(said)}")
        # Else it would wait when the pipe is full.
        threading.Thread(target=server.stderr.read, daemon=True).start()
        yield server, int(found[1])
    finally:
        server.terminate()
        server.wait()


class Person:
    """Somebody at the page. times: the seconds of each request."""

    def __init__(self, port: int, draw: random.Random, found: Attack) -> None:
        self._port, self._draw, self._found = port, draw, found
        self.times: list[float] = []
        for path in ("/", "/_dash-layout"):
            self._ask("GET", path)
        asked = json.loads(self._ask("GET", "/_dash-dependencies") or "[]")
        self._bodies = [_body(one) for one in asked if one["clientside_function"] is None]

    def stay(self, until: float) -> None:
        """Change something, look, and again."""
        while time.monotonic() < until:
            self.look(self._draw.choice(list(VIEWS)))
            time.sleep(self._draw.uniform(0.0, PAUSE))

    def look(self, view: str) -> None:
        """Ask what the page asks when a control changes."""
        draw = self._draw
        values = {
            "model": run.MODEL, "rule": "jensen_shannon", "view_name": view,
            "layer": draw.randrange(3), "head": draw.randrange(4), "side": draw.choice("ab"),
            "symmetrised": draw.random() < 0.5, "threshold": 0.0,
            "address": f"?layer={draw.randrange(3)}&head={draw.randrange(4)}&view={view}",
            "texts": {side: " ".join(draw.choices(WORDS, k=draw.randint(2, 20))) for side in "ab"},
        }  # fmt: skip
        for body in self._bodies:
            for part in body["inputs"]:
                part["value"] = values.get(part["id"])
            self._ask("POST", PATH, json.dumps(body))

    def _ask(self, method: str, path: str, body: str | None = None) -> str:
        """One request; what is wrong with its answer is written down."""
        started = time.perf_counter()
        try:
            line = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
            line.request(method, path, body, {"Content-Type": "application/json"})
            answer = line.getresponse()
            text = answer.read().decode("utf-8", "replace")
            line.close()
        except OSError as error:
            self._found.wrong.append(f"{method} {path}: {error!r}")
            return ""
        self.times.append(time.perf_counter() - started)
        if answer.status not in (200, 204) or any(words in text for words in NOT_SAID):
            self._found.wrong.append(f"{method} {path}: {answer.status} {text[:200]}")
        return text


def _body(asked: dict[str, Any]) -> dict[str, Any]:
    """What a browser sends for one callback."""
    outputs = [
        dict(zip(("id", "property"), name.rsplit(".", 1), strict=True))
        for name in asked["output"].strip(".").split("...")
    ]
    first = asked["inputs"][0]
    return {
        "output": asked["output"],
        "outputs": outputs,
        "inputs": [dict(part) for part in asked["inputs"]],
        "state": [],
        "changedPropIds": [f"{first['id']}.{first['property']}"],
    }


def _peak(process: int) -> int:
    """The most memory that a process ever held, in MB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("VmHWM:")]
    return int(line.split()[1]) // 1024
